"""A folder with a translator in ONNX: two graphs, vocabularies, settings, a program that runs them, and how to run it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitrail.data.cleaning.normalise import Normalisation
from vitrail.data.vocabularies.mapped import MappedPieces
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, CharacterVocabulary, SentencePieceSubwords, Subwords, Vocabularies
from vitrail.decode.textual.facts import search_of
from vitrail.errors import ModelError, UsageError
from vitrail.export.onnx.page import PAGE, page_html
from vitrail.export.onnx.parts import Graphs
from vitrail.export.onnx.recurrent import recurrent_graphs
from vitrail.export.onnx.running import DECODER, ENCODER, OnnxModel
from vitrail.export.onnx.transformer import transformer_graphs
from vitrail.export.translators.parity import CheckTexts, GivenPairs, Parity, check_texts, compare, own_translations
from vitrail.export.translators.staging import publish_checked
from vitrail.files import write_file
from vitrail.models.base import all_tensors
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import LoadedModel, load_model

FORMAT = "vitrail onnx 1"
SENTENCES = 200
MOST_LOGITS = 1e-4
"""Largest difference of a logit that is still rounding, for logits of up to 1; as a share of the largest beyond that."""
SETTINGS, PROGRAM, README = "settings.json", "translate.py", "README.md"
_LARGEST_BYTES = 2**31 - 2**20
"""A file of ONNX is one message of protobuf, which has less than 2 GiB."""


def export_onnx(
    model: Path, output: Path, *, page: Path | None = None, check: bool = True, given: GivenPairs | None = None
) -> Parity | None:
    """Write the translator of a run's folder or a model folder in ONNX, and translate with both.

    Args:   page: the folder of npm's onnxruntime-web; then a page that translates is written, too.
    Raises: UsageError for a model that cannot be carried, naming what, and where onnx or, for the check, onnxruntime is not installed;
    ModelError where onnxruntime computes otherwise: then nothing is written.
    """
    for package in ("onnx", "onnxruntime") if check else ("onnx",):
        if find_spec(package) is None:
            raise UsageError(f"{package} is not installed", remedy="pip install 'vitrail[onnx]'" + (", or --no-check" if check else ""))
    loaded = load_model(model)
    graphs = make_graphs(loaded)
    contents = _contents(loaded, graphs, page)

    def write(folder: Path) -> None:
        for name, content in contents.items():
            write_file(folder / name, content)

    def compared(folder: Path) -> Parity | None:
        if not check:
            return None
        texts = check_texts(model, count=SENTENCES, given=given)
        _require_logits(loaded, OnnxModel(folder, given=graphs.given, carried=graphs.carried), texts)
        found = compare(model, theirs(folder), program=f"onnxruntime {version('onnxruntime')}", texts=texts)
        found.require(exact=True)
        return found

    return publish_checked(output, write=write, check=compared)


def make_graphs(loaded: LoadedModel) -> Graphs:
    """The graphs of a translator. Raises UsageError for weights beyond what a file holds."""
    tensors = {name: np.array(value.float().numpy()) for name, value in all_tensors(loaded.model).items()}
    # Each file has at most all weights; tied ones are there once.
    total = sum(value.nbytes for value in tensors.values())
    if total > _LARGEST_BYTES:
        raise UsageError(
            f"{total / 2**30:.1f} GiB of weights", expected="less than 2 GiB, as a file of ONNX holds", remedy="--to ctranslate2"
        )
    match loaded.config:
        case TransformerConfig(decoder="ssru"):
            raise UsageError(
                "model.decoder = ssru", expected="attention, for --to onnx", remedy="vitrail export --to bergamot, for a student"
            )
        case TransformerConfig() as config:
            return transformer_graphs(config, tensors)
        case RecurrentConfig() as config:
            return recurrent_graphs(config, tensors)


def _contents(loaded: LoadedModel, graphs: Graphs, page: Path | None) -> dict[str, bytes]:
    entries, pieces = _vocabularies(loaded.vocabularies)
    settings = _settings(loaded, graphs, entries)
    pages = {} if page is None else {PAGE: page_html(loaded, settings, graphs[:2], page)}
    return {
        ENCODER: graphs.encoder,
        DECODER: graphs.decoder,
        SETTINGS: (json.dumps(settings, indent=1, ensure_ascii=False) + "\n").encode(),
        PROGRAM: files("vitrail.export.onnx").joinpath("assets", PROGRAM).read_bytes(),
        README: _readme(loaded, graphs, [*pieces, *pages]).encode(),
        **pieces,
        **pages,
    }


def _vocabularies(vocabularies: Vocabularies) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What settings.json says of both sides, and their SentencePiece models."""
    names = list(vocabularies.files())
    entries = dict[str, Any]()
    pieces = dict[str, bytes]()
    for side, vocabulary, name in (("source", vocabularies.source, names[0]), ("target", vocabularies.target, names[-1])):
        entry, model = _vocabulary(vocabulary, name.partition(".")[0] + SentencePieceSubwords.suffix)
        entries[side] = entry
        if model is not None:
            pieces[entry["file"]] = model
    return entries, pieces


def _vocabulary(vocabulary: Subwords, file: str) -> tuple[dict[str, Any], bytes | None]:
    match vocabulary:
        case SentencePieceSubwords():
            return {"kind": "sentencepiece", "file": file}, vocabulary.to_bytes()
        case MappedPieces():
            entry = {"kind": "mapped", "file": file, "tokens": list(vocabulary.tokens), "silent": vocabulary.silent}
            return entry, vocabulary.sentencepiece_model
        case CharacterVocabulary():
            return {"kind": "character", "tokens": [vocabulary.decode([id]) for id in range(EOS + 1, vocabulary.size)]}, None
        case _:
            raise UsageError(
                "a vocabulary of whole words",
                expected="bpe, unigram or character, whose rules the program beside the graphs has",
                remedy="train with --set data.subwords.kind=bpe",
            )


def _settings(loaded: LoadedModel, graphs: Graphs, vocabularies: Mapping[str, Any]) -> dict[str, Any]:
    facts = loaded.facts
    reading = Normalisation.from_fact(facts.get("source_normalization"))
    search = search_of(facts, None, None, origin=SETTINGS)
    names = ("beams", "length_penalty", "max_ratio", "max_extra", "allow_unknown")
    return {
        "format": FORMAT,
        "source_language": facts.get("source_language", ""),
        "target_language": facts.get("target_language", ""),
        "reading": reading.version,
        "kept_marks": reading.kept,
        "pass_through": reading.pass_through,
        "positions": _positions(loaded),
        "search": {name: getattr(search, name) for name in names},
        "given": list(graphs.given),
        "carried": [one._asdict() for one in graphs.carried],
        "vocabularies": vocabularies,
    }


def _positions(loaded: LoadedModel) -> int:
    """Positions of a text at most; 0 where it may be of any length."""
    config = loaded.config
    return config.max_positions if isinstance(config, TransformerConfig) and config.positions == "learned" else 0


def theirs(folder: Path) -> Any:
    """Translate with the folder's own program: onnxruntime, sentencepiece and numpy, in a process of its own."""

    def translate(texts: CheckTexts, beams: int) -> list[str]:
        asked = ["--beams", str(beams), "--length-penalty", "0", "--max-tokens", str(texts.longest)]
        command = [sys.executable, str(folder / PROGRAM), *asked]
        done = subprocess.run(command, input="".join(f"{text}\n" for text in texts.sources).encode(), capture_output=True)
        if done.returncode:
            raise ModelError(f"{PROGRAM} failed: {done.stderr.decode(errors='replace').strip()[-2000:]}", remedy="report this as a fault")
        return done.stdout.decode().split("\n")[:-1]

    return translate


@torch.inference_mode()
def largest_difference(loaded: LoadedModel, there: OnnxModel, texts: CheckTexts) -> float:
    """The largest difference of any logit, for sentences with themselves as translations; a share of the largest logit beyond 1."""
    source, target = own_translations(loaded, texts.tokens)
    ours = loaded.model.read_out(loaded.model.decode(target, loaded.model.encode(source)))
    found = torch.from_numpy(there.logits(source.numpy(), target.numpy()))
    real = target != PAD
    return float((ours - found)[real].abs().max() / ours[real].abs().max().clamp(min=1))


def _require_logits(loaded: LoadedModel, there: OnnxModel, texts: CheckTexts) -> None:
    found = largest_difference(loaded, there, texts._replace(tokens=texts.tokens[:16]))
    if found > MOST_LOGITS:
        raise ModelError(f"onnxruntime computes logits that differ by {found:.2e}", expected=f"at most {MOST_LOGITS:.0e}")


def _readme(loaded: LoadedModel, graphs: Graphs, others: list[str]) -> str:
    facts = loaded.facts
    pair = f"{facts.get('source_language', '?')} to {facts.get('target_language', '?')}"
    given = ", ".join(f"`{name}`" for name in graphs.given[:3]) or "nothing"
    carried = graphs.carried[0]
    what = {".spm": "a SentencePiece model", ".html": "a page that translates: open it in a browser; nothing is loaded from elsewhere"}
    more = "".join(f"\n| {name} | {what[Path(name).suffix]} |" for name in others)
    return f"""# A translator ({pair}) in ONNX

Written by `vitrail export --to onnx`. To run it: `pip install onnxruntime sentencepiece numpy`, then

```
python {PROGRAM} < source.txt > translation.txt
```

Each line is one sentence. `--beams 1` is greedy search; `python {PROGRAM} --help` tells the rest. Unlike `vitrail translate`, it does not
divide texts of several sentences, and has no guard of repetitions.

| file | what it is |
|---|---|
| {ENCODER} | `source` (sentences, positions; rows end in {EOS}, </s>, then padding {PAD}) to `memory` and what the decoder reads |
| {DECODER} | one step: `last` (rows; first {SOS}, <s>), what the encoder gave, states of the step before, to `logits` and states |
| {SETTINGS} | which outputs the decoder reads (`given`), which it carries on (`carried`), search settings, vocabularies |{more}

Given by the encoder are {given} ...; `{carried.written}` of a step is `{carried.read}` of the next, and so on. Ids are int64.
The encoder's outputs of one sentence serve all rows of a step, so that beams need no copies of it.
"""
