"""Translators for Hugging Face's transformers, and from there: Marian and OPUS-MT (post-norm), Pegasus (pre-norm)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor

from vitrail.config import reason
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, UNK
from vitrail.errors import ModelError, UsageError
from vitrail.export.huggingface import CONFIG, WEIGHTS, read_weights
from vitrail.export.layouts import from_layout, ours_in, to_layout
from vitrail.export.translators.parity import CheckTexts, GivenPairs, Parity, check_texts, compare, own_translations
from vitrail.export.translators.seq2seq_layout import (
    BIAS,
    MAX_LENGTH,
    OUTPUT,
    POSITIONS,
    SHARED,
    SOURCE,
    TARGET,
    read_shape,
    require_known,
    seq2seq_config,
    seq2seq_layout,
    type_for,
)
from vitrail.export.translators.seq2seq_tokens import (
    NEVER,
    read_foreign_vocabularies,
    read_json,
    read_own_vocabularies,
    tokenizer_files,
)
from vitrail.export.translators.staging import publish_checked
from vitrail.files import write_file
from vitrail.models.architectures import read_config
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import LoadedModel, load_model, save_model
from vitrail.nn.positions import sinusoids

SENTENCES = 200
MOST_LOGITS = 1e-4
"""Largest difference of a logit that is still rounding."""
_SAME_TABLE = 1e-4
_OURS_ALONE = {"dropout", "attention_dropout", "activation_dropout", "max_positions", "head_width", "decoder_start"}
README = "README.md"


def export_seq2seq(model: Path, output: Path, *, check: bool = True, given: GivenPairs | None = None) -> Parity | None:
    """Write the translator of a run's folder or a model folder for `transformers`, and translate with both.

    Raises: UsageError for a model that those layouts cannot hold, naming each setting, and where transformers is not installed for the
    check; ModelError where it computes otherwise: then nothing is written.
    """
    loaded = load_model(model)
    files = _files(loaded)

    def write(folder: Path) -> None:
        for name, content in files.items():
            write_file(folder / name, content)

    def compared(folder: Path) -> Parity | None:
        found = None
        if check:
            texts = check_texts(model, count=SENTENCES, given=given)
            _require_logits(loaded, folder, texts)
            found = compare(model, theirs(folder), program=_program(), texts=texts)
            found.require(exact=True)
        write_file(folder / README, _card(loaded, found).encode())
        return found

    return publish_checked(output, write=write, check=compared)


def _files(loaded: LoadedModel) -> dict[str, bytes]:
    type = type_for(loaded.config, loaded.vocabularies)
    config, vocabularies, facts = loaded.config, loaded.vocabularies, loaded.facts
    assert isinstance(config, TransformerConfig)
    languages = (str(facts.get("source_language", "")), str(facts.get("target_language", "")))
    table = seq2seq_config(type, config, sizes=(vocabularies.source.size, vocabularies.target.size))
    ours = {"vitrail": {"model": config.model_dump(mode="json"), "facts": facts}}
    tensors = unique_tensors(loaded.model)
    if config.decoder_start == "zeros":  # <s> begins there, too, and nothing else reads its row
        name = "target_embedding.weight" if config.tie == "none" else "output_weight"
        tensors[name] = tensors[name].clone()
        tensors[name][SOS] = 0
    weights = to_layout(seq2seq_layout(config), tensors)
    if type == "pegasus":  # its loader makes tables that are not there, and warns of it
        weights |= {name: sinusoids(MAX_LENGTH, config.width) for name in POSITIONS}
    if config.output_bias:
        weights[BIAS] = tensors["output_bias"].float()[None].contiguous()
    return {
        CONFIG: _json(table | ours),
        WEIGHTS: safetensors.torch.save(weights, metadata={"format": "pt"}),
        "generation_config.json": _json(_generation(facts)),
        **tokenizer_files(vocabularies, languages),
    }


def _generation(facts: Mapping[str, Any]) -> dict[str, Any]:
    search = facts.get("search", {})
    return {
        "num_beams": search.get("beams", 5),
        "length_penalty": search.get("length_penalty", 1.0),
        "early_stopping": True,
        "max_length": MAX_LENGTH,
        "pad_token_id": PAD,
        "bos_token_id": SOS,
        "eos_token_id": EOS,
        "decoder_start_token_id": SOS,
        "suppress_tokens": [PAD, SOS] if search.get("allow_unknown") else [PAD, UNK, SOS],
    }


def _program() -> str:
    from importlib.metadata import version

    return f"transformers {version('transformers')}"


def _loaded_there(folder: Path) -> Any:
    """The model as transformers loads it. Raises UsageError where that is not installed."""
    try:
        import transformers
    except ImportError:
        raise UsageError("transformers is not installed", remedy="pip install 'vitrail[hf]', or --no-check") from None
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True).eval()


def theirs(folder: Path) -> Any:
    """Translate with transformers, text to text, with nothing of ours."""
    model = _loaded_there(folder)
    import transformers

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def translate(texts: CheckTexts, beams: int) -> list[str]:
        order = sorted(range(len(texts.sources)), key=lambda number: len(texts.sources[number]))
        found = [""] * len(order)
        for at in range(0, len(order), 16):
            numbers = order[at : at + 16]
            rows = tokenizer([texts.sources[number] for number in numbers], return_tensors="pt", padding=True)
            how = {"num_beams": beams, "max_length": None} | ({"length_penalty": 0.0, "early_stopping": True} if beams > 1 else {})
            with torch.inference_mode():
                made = model.generate(**rows, **how, max_new_tokens=texts.longest, do_sample=False)
            for number, text in zip(numbers, tokenizer.batch_decode(made, skip_special_tokens=True), strict=True):
                found[number] = text
        return found

    return translate


def _require_logits(loaded: LoadedModel, folder: Path, texts: CheckTexts) -> None:
    found = largest_difference(loaded, _loaded_there(folder), texts.tokens[:16])
    if found > MOST_LOGITS:
        raise ModelError(f"transformers computes logits that differ by {found:.2e}", expected=f"at most {MOST_LOGITS:.0e}")


@torch.inference_mode()
def largest_difference(
    loaded: LoadedModel, there: Any, tokens: Sequence[Sequence[int]], *, places: Sequence[Sequence[int]] | None = None
) -> float:
    """The largest difference of any logit for sentences that are their own translations. Args: places: their ids of ours, on both sides."""
    source, target = own_translations(loaded, tokens)
    ours = loaded.model.read_out(loaded.model.decode(target, loaded.model.encode(source)))
    maps = [torch.tensor(rows) for rows in places] if places else [torch.arange(1 << 20)] * 2
    logits = there(input_ids=maps[0][source], attention_mask=(source != PAD).long(), decoder_input_ids=maps[1][target]).logits
    # The logit of <s>, which is never written, may be another one where its row is another one there.
    config = loaded.config
    moved = bool(places) or (isinstance(config, TransformerConfig) and config.decoder_start == "zeros")
    known = [id for id in range(ours.shape[2]) if not (moved and id == SOS)]
    theirs = logits[:, :, maps[1][known]]
    real = target != PAD
    return float((ours[:, :, known] - theirs)[real].abs().max())


def is_seq2seq(folder: Path) -> bool:
    """Whether a folder holds a translator in one of the layouts, not a language model."""
    return (folder / CONFIG).exists() and bool(read_json(folder / CONFIG).get("is_encoder_decoder"))


def import_seq2seq(folder: Path, output: Path) -> None:
    """Write the model folder of a translator in Marian's or Pegasus's layout: of ours, or of another program's.

    Raises: ModelError for another layout, one with settings that ours has not, or missing files; UsageError; NotWritten.
    """
    config = read_json(folder / CONFIG)
    require_known(config, origin=folder / CONFIG)
    if not (folder / WEIGHTS).exists() and list(folder.glob("*.bin")):
        raise ModelError(
            f"{folder}: has its weights in pickle (.bin), which runs what it reads",
            expected=WEIGHTS,
            remedy="where you trust it: AutoModelForSeq2SeqLM.from_pretrained(...).save_pretrained(..., safe_serialization=True)",
        )
    weights = read_weights(folder / WEIGHTS)
    if "vitrail" in config:
        _import_own(folder, output, config, weights)
    else:
        _import_foreign(folder, output, config, weights)


def _import_own(folder: Path, output: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """What `export_seq2seq` wrote, perhaps trained further there."""
    vocabularies = read_own_vocabularies(folder)
    own = ours_in(config["vitrail"], origin=folder / CONFIG)
    try:
        kept = read_config(own.model)
    except ValidationError as error:
        raise ModelError(f"{folder / CONFIG}: vitrail: {reason(error)}", remedy="export the model again") from None
    if not isinstance(kept, TransformerConfig):
        raise ModelError(f"{folder / CONFIG}: kind {kept.kind}", expected="a Transformer that translates")
    found = read_shape(config, origin=folder / CONFIG, tie=kept.tie, bias=kept.output_bias)
    # Sizes and kinds are theirs, as the weights are; what says nothing of them is as it was here.
    theirs_own = found.model_dump(exclude=_OURS_ALONE)
    shape = kept.model_copy(update=theirs_own)
    with torch.device("meta"):
        shapes = {name: tuple(one.shape) for name, one in unique_tensors(build_model(shape, vocabularies)).items()}
    tensors = from_layout(seq2seq_layout(shape), weights, shapes)
    if shape.output_bias:
        tensors["output_bias"] = weights[BIAS].float().flatten()
    save_model(output, tensors=tensors, config=shape, vocabularies=vocabularies, facts=own.facts)


def _import_foreign(folder: Path, output: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    read = read_foreign_vocabularies(folder, config)
    tables = _tables(config, weights, origin=folder / WEIGHTS)
    scaled = bool(config.get("scale_embedding", False))
    shared = config.get("model_type") == "pegasus" or config.get("share_encoder_decoder_embeddings", True)
    tied = config.get("tie_word_embeddings", True)
    # Ours multiplies embeddings by sqrt(D): where theirs does not, the output cannot share them.
    tie = ("all" if shared else "target") if tied and scaled else "none"
    raw_bias = weights.get(BIAS, torch.zeros(1)).float().flatten()
    bias = read.adds_start or bool(raw_bias.any())
    shape = read_shape(config, origin=folder / CONFIG, tie=tie, bias=bias)
    shape = _with_positions(shape, weights)
    factor = 1.0 if scaled else shape.width**-0.5
    tensors = {
        "source_embedding.weight": _rows(tables[SOURCE], read.source) * factor,
        "target_embedding.weight": _rows(tables[TARGET], read.target) * factor,
        "output_weight": _rows(tables[OUTPUT], read.target),
    }
    if bias:
        whole = raw_bias if len(raw_bias) > 1 else torch.zeros(len(tables[OUTPUT]))
        tensors["output_bias"] = _rows(whole[:, None], read.target).flatten()
        if read.adds_start:
            tensors["output_bias"][SOS] = NEVER
    with torch.device("meta"):
        shapes = {name: tuple(one.shape) for name, one in unique_tensors(build_model(shape, read.vocabularies)).items()}
    layers = [weight for weight in seq2seq_layout(shape) if weight.theirs not in (SHARED, SOURCE, TARGET, OUTPUT)]
    tensors |= from_layout(layers, weights, shapes)
    if shape.positions == "learned":
        tensors |= {f"{side}_positions.weight": weights[name].float() for side, name in zip(("source", "target"), POSITIONS, strict=True)}
    kept = {name: value.contiguous() for name, value in tensors.items() if name in shapes}
    save_model(output, tensors=kept, config=shape, vocabularies=read.vocabularies, facts=_facts(folder, config, unknown=read.target[UNK]))


def _rows(table: Tensor, places: Sequence[int | None]) -> Tensor:
    """Rows in our order; zeros where they have none."""
    found = table.float()[[0 if place is None else place for place in places]]
    found[[number for number, place in enumerate(places) if place is None]] = 0
    return found


def _tables(config: Mapping[str, Any], weights: Mapping[str, Tensor], *, origin: Path) -> dict[str, Tensor]:
    """Embeddings of both sides and of the output, whichever are written: shared ones are there once, under one of several names."""
    others = {
        SOURCE: (SOURCE, SHARED, TARGET, OUTPUT),
        TARGET: (TARGET, SHARED, OUTPUT, SOURCE),
        OUTPUT: (OUTPUT, TARGET, SHARED, SOURCE),
    }
    sizes = {SOURCE: config.get("vocab_size"), TARGET: config.get("decoder_vocab_size") or config.get("vocab_size")}
    found: dict[str, Tensor] = {}
    for name, names in others.items():
        rows = sizes.get(name, sizes[TARGET])
        table = next((weights[other] for other in names if other in weights), None)
        if table is None or table.ndim != 2 or list(table.shape) != [rows, config.get("d_model")]:
            shown = None if table is None else tuple(table.shape)
            raise ModelError(f"{origin}: {name}: {shown}", expected=f"({rows}, {config.get('d_model')})", remedy="copy the model again")
        found[name] = table
    return found


def _with_positions(shape: TransformerConfig, weights: Mapping[str, Tensor]) -> TransformerConfig:
    """Sinusoidal positions, unless there is a table of others."""
    given = [weights[name] for name in POSITIONS if name in weights]
    if len(given) < 2 or all(_is_sinusoidal(one) for one in given):
        return shape
    return shape.model_copy(update={"positions": "learned", "max_positions": len(given[0])})


def _is_sinusoidal(table: Tensor) -> bool:
    return table.shape[1] % 2 == 0 and bool((table.float() - sinusoids(*table.shape)).abs().max() < _SAME_TABLE * len(table))


def _facts(folder: Path, config: Mapping[str, Any], *, unknown: int | None) -> dict[str, Any]:
    generation = dict(config)
    if (folder / "generation_config.json").exists():
        generation |= read_json(folder / "generation_config.json")
    banned = {*(generation.get("suppress_tokens") or []), *(row[0] for row in generation.get("bad_words_ids") or [] if len(row) == 1)}
    names = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    beams = generation.get("num_beams")
    search = {"beams": beams if type(beams) is int and 1 <= beams <= 100 else 5, "repeat_ngram": 0, "allow_unknown": unknown not in banned}
    sides = (("source", "source_lang"), ("target", "target_lang"))
    languages = {f"{side}_language": str(names[key]) for side, key in sides if names.get(key)}
    return {"imported": str(config.get("model_type")), **languages, "search": search}


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _card(loaded: LoadedModel, found: Parity | None) -> str:
    facts = loaded.facts
    source, target = (str(facts.get(f"{side}_language", "")) for side in ("source", "target"))
    named = f"language:\n- {source}\n- {target}\n" if source and target else ""
    lines = [f"- {name}: {value}" for name, value in facts.items() if name not in ("init", "search", "source_normalization")]
    text = f"""---
{named}library_name: transformers
pipeline_tag: translation
tags:
- translation
- vitrail
---

# A translator{f" ({source} to {target})" if named else ""} trained with Vitrail

```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForSeq2SeqLM.from_pretrained(".")
rows = tokenizer(["A sentence."], return_tensors="pt", padding=True)
print(tokenizer.batch_decode(model.generate(**rows), skip_special_tokens=True))
```

One sentence at a time; with spaces alone between words, and without invisible marks. The length penalty there divides by length^p,
Vitrail's by ((5 + length) / 6)^p.

"""
    if found is not None:
        text += f"```\n{found.to_text()}\n```\n\n"
    return text + "\n".join(lines) + "\n"
