"""Language models in Hugging Face's layouts, and back: those of BERT and of RoBERTa with pre-norm, with sentence vectors, and of GPT-2."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, Vocabularies
from vitrail.errors import ModelError, UsageError
from vitrail.export.layouts import Weight, encoder_root, from_layout, gpt2_layout, masked_layout, to_layout
from vitrail.export.tokenizer_json import tokenizer_config, tokenizer_json
from vitrail.files import make_folder, publish_folder, write_file
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.kinds.causal import CausalConfig
from vitrail.models.kinds.masked import MaskedConfig
from vitrail.models.model_folder import LoadedFolder, load_folder, save_model
from vitrail.nn.positions import sinusoids

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_POOLING = "1_Pooling"
_EPSILON = 1e-5
"""What our norms add to the variance."""


class _Layout(NamedTuple):
    """How one of our models is written there."""

    config: dict[str, Any]
    table: list[Weight]
    extra: dict[str, Tensor]
    """Weights that have no counterpart here."""


def export_huggingface(model: Path, output: Path) -> None:
    """Write the model of a run's folder or a model folder for `transformers`; of a masked model, for `sentence-transformers` as well.

    Raises: ModelError for a damaged folder; UsageError for a model that those layouts cannot hold, naming each setting.
    """
    loaded = load_folder(model)
    layout = _layout(loaded)
    vocabulary, masked = loaded.vocabularies.target, isinstance(loaded.config, MaskedConfig)
    tokenizer = tokenizer_json(vocabulary, mask=masked, ends=masked)
    longest = int(layout.config["max_position_embeddings" if masked else "n_positions"])
    ours = {"vitrail": {"model": loaded.config.model_dump(mode="json"), "facts": loaded.facts}}
    weights = to_layout(layout.table, unique_tensors(loaded.model)) | layout.extra
    with publish_folder(output) as out:
        out.write(CONFIG, _json(layout.config | ours))
        out.write(WEIGHTS, safetensors.torch.save(weights, metadata={"format": "pt"}))
        out.write("tokenizer.json", _json(tokenizer))
        out.write("tokenizer_config.json", _json(tokenizer_config(mask=masked, longest=longest)))
        for name, one in loaded.vocabularies.files().items():
            out.write(name, one.to_bytes())
        if masked:
            for name, content in _sentence_files(longest).items():
                out.write(name, _json(content))
    if isinstance(loaded.config, MaskedConfig):
        make_folder(output / _POOLING)
        first = loaded.config.pooling == "first"
        pooling = {"word_embedding_dimension": loaded.config.width, "pooling_mode": "cls" if first else "mean", "include_prompt": True}
        write_file(output / _POOLING / CONFIG, _json(pooling))


def import_huggingface(folder: Path, output: Path) -> None:
    """Write the model folder of what `export_huggingface` wrote, perhaps trained further there.

    Raises: ModelError for a folder of another kind, or one that lacks our vocabulary.
    """
    config, theirs = _read_config(folder / CONFIG), _read_weights(folder / WEIGHTS)
    vocabularies = Vocabularies.load(folder)
    shape, positions = _shape(config, theirs, origin=folder / CONFIG)
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in unique_tensors(build_model(shape, vocabularies)).items()}
    table = _table(shape)
    tensors = from_layout(table, theirs, shapes) | {f"{positions}.weight": _positions(config, theirs)}
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise ModelError(f"{folder}: lacks {', '.join(missing[:5])}", expected="a model that vitrail export wrote")
    facts = config.get("vitrail", {}).get("facts", {})
    save_model(output, tensors=tensors, config=shape, vocabularies=vocabularies, facts=facts)


def largest_difference(model: Path, output: Path) -> float:
    """The largest difference of any logit between a model and its export, as `transformers` computes it, on random rows of all lengths.

    Raises: UsageError where transformers is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise UsageError("transformers is not installed", remedy="pip install 'vitrail[hf]', or --no-check") from None
    loaded = load_folder(model)
    assert isinstance(loaded.config, MaskedConfig | CausalConfig)
    masked = isinstance(loaded.config, MaskedConfig)
    kind = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    theirs = kind.from_pretrained(output, local_files_only=True).eval()
    generator, worst = torch.Generator().manual_seed(0), 0.0
    most = loaded.vocabularies.target.size + masked
    with torch.inference_mode():
        for length in sorted({1, 2, loaded.config.context // 2, loaded.config.context}):
            tokens = torch.randint(EOS + 1, most, (4, length), generator=generator)
            worst = max(worst, float((_logits(loaded, tokens) - theirs(tokens).logits).abs().max()))
    return worst


def _logits(loaded: LoadedFolder, tokens: Tensor) -> Tensor:
    model: Any = loaded.model
    if isinstance(loaded.config, MaskedConfig):
        return model.read_out(model.encode(tokens).memory)
    return model.hidden(tokens) @ model.output_weight.t()


def _layout(loaded: LoadedFolder) -> _Layout:
    config = loaded.config
    match config:
        case MaskedConfig():
            _require(config, norm="layer", activation="gelu", embedding_norm=True)
            rows = _position_rows(config, unique_tensors(loaded.model), "source_positions.weight")
            # The layout with pre-norm counts positions from pad + 1.
            rows = rows if config.norm_position == "post" else torch.cat([rows[:1] * 0, rows])
            root = f"{encoder_root(post=config.norm_position == 'post')}.embeddings"
            extra = {f"{root}.position_embeddings.weight": rows, f"{root}.token_type_embeddings.weight": rows[:1] * 0}
            described = _masked_config(config, rows=len(rows), vocabulary=loaded.vocabularies.target.size + 1)
            return _Layout(described, _table(config), extra)
        case CausalConfig():
            _require(config, norm="layer", norm_position="pre", activation="gelu", embedding_norm=False)
            rows = _position_rows(config, unique_tensors(loaded.model), "target_positions.weight")
            described = _gpt2_config(config, rows=len(rows), vocabulary=loaded.vocabularies.target.size)
            return _Layout(described, _table(config), {"transformer.wpe.weight": rows})
        case _:
            raise UsageError(f"model.kind = {config.kind}", expected="masked-language or causal-language, for --to huggingface")


def _table(config: MaskedConfig | CausalConfig) -> list[Weight]:
    if isinstance(config, MaskedConfig):
        return masked_layout(layers=config.encoder_layers, width=config.width, tied=config.tie, post=config.norm_position == "post")
    return gpt2_layout(layers=config.layers, width=config.width, tied=config.tie)


def _require(config: MaskedConfig | CausalConfig, **wanted: Any) -> None:
    """Refuse what the layout cannot hold."""
    faults = [f"model.{name} = {getattr(config, name)}" for name, value in wanted.items() if getattr(config, name) != value]
    if config.positions not in ("learned", "sinusoidal"):
        faults.append(f"model.positions = {config.positions}")
    if config.heads * config.width_of_head != config.width:
        faults.append(f"model.head_width = {config.head_width}")
    if faults:
        expected = ", ".join(f"{name} = {value}" for name, value in wanted.items())
        raise UsageError(
            f"{', '.join(faults)}: not what this layout computes",
            expected=f"{expected}, positions = learned or sinusoidal",
            remedy="train with these settings (--set model.NAME=VALUE)",
        )


def _position_rows(config: MaskedConfig | CausalConfig, tensors: Mapping[str, Tensor], name: str) -> Tensor:
    return tensors[name].float() if config.positions == "learned" else sinusoids(config.context, config.width)


def _masked_config(config: MaskedConfig, *, rows: int, vocabulary: int) -> dict[str, Any]:
    post = config.norm_position == "post"
    return {
        "architectures": ["BertForMaskedLM" if post else "RobertaPreLayerNormForMaskedLM"],
        "model_type": "bert" if post else "roberta-prelayernorm",
        "vocab_size": vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.encoder_layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feed_forward,
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "max_position_embeddings": rows,
        "type_vocab_size": 1,
        "layer_norm_eps": _EPSILON,
        "pad_token_id": PAD,
        "bos_token_id": SOS,
        "eos_token_id": EOS,
        "tie_word_embeddings": config.tie,
    }


def _gpt2_config(config: CausalConfig, *, rows: int, vocabulary: int) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": vocabulary,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.feed_forward,
        "n_positions": rows,
        "activation_function": "gelu",
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.attention_dropout,
        "layer_norm_epsilon": _EPSILON,
        "bos_token_id": EOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "tie_word_embeddings": config.tie,
    }


def _sentence_files(longest: int) -> dict[str, Any]:
    """The files of sentence-transformers, but for the settings of pooling in their own folder."""
    package = "sentence_transformers.models"
    return {
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": f"{package}.Transformer"},
            {"idx": 1, "name": "1", "path": _POOLING, "type": f"{package}.Pooling"},
        ],
        "sentence_bert_config.json": {"max_seq_length": longest, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    }


def _shape(config: Mapping[str, Any], theirs: Mapping[str, Tensor], *, origin: Path) -> tuple[MaskedConfig | CausalConfig, str]:
    """Our configuration of a model in one of the layouts, and the name of its positions."""
    own: dict[str, Any] = dict(config.get("vitrail", {}).get("model", {}))
    match config.get("model_type"):
        case "bert" | "roberta-prelayernorm" as type:
            fixed = {"norm": "layer", "norm_position": "post" if type == "bert" else "pre", "activation": "gelu"}
            fixed |= {"embedding_norm": True, "positions": "learned"}
            sizes = {"width": "hidden_size", "encoder_layers": "num_hidden_layers", "heads": "num_attention_heads"}
            sizes |= {"feed_forward": "intermediate_size", "max_positions": "max_position_embeddings", "tie": "tie_word_embeddings"}
            read = {name: config[theirs] for name, theirs in sizes.items()}
            read["max_positions"] -= type != "bert"
            context = min(own.get("context", read["max_positions"]), read["max_positions"])
            shape = MaskedConfig.model_validate({**own, **fixed, **read, "kind": "masked-language", "context": context})
            return shape, "source_positions"
        case "gpt2":
            fixed = {"norm": "layer", "norm_position": "pre", "activation": "gelu", "embedding_norm": False, "positions": "learned"}
            sizes = {"width": "n_embd", "layers": "n_layer", "heads": "n_head", "feed_forward": "n_inner", "max_positions": "n_positions"}
            read = {name: config[theirs] for name, theirs in (sizes | {"tie": "tie_word_embeddings"}).items()}
            context = min(own.get("context", read["max_positions"]), read["max_positions"])
            shape = CausalConfig.model_validate({**own, **fixed, **read, "kind": "causal-language", "context": context})
            return shape, "target_positions"
        case other:
            raise ModelError(
                f"{origin}: model_type {other!r}", expected="bert, roberta-prelayernorm or gpt2, as vitrail export writes them"
            )


def _positions(config: Mapping[str, Any], theirs: Mapping[str, Tensor]) -> Tensor:
    """The vectors of positions; those of the one kind of segment are added to them."""
    if config["model_type"] == "gpt2":
        return theirs["transformer.wpe.weight"].float()
    post = config["model_type"] == "bert"
    root = f"{encoder_root(post=post)}.embeddings"
    rows = theirs[f"{root}.position_embeddings.weight"] + theirs[f"{root}.token_type_embeddings.weight"][:1]
    return rows[0 if post else 1 :].float().clone()


def _read_config(path: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {error}", expected="the configuration of a model in Hugging Face's layout") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path}: is no table", expected="the configuration of a model in Hugging Face's layout")
    return found  # pyright: ignore[reportUnknownVariableType]


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as content:
            return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: {error}", expected="weights in safetensors", remedy="save the model there with safetensors") from None


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
