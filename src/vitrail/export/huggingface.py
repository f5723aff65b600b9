"""Language models in Hugging Face's layouts, and back: BERT, RoBERTa with pre-norm, ESM; GPT-2, GPT-NeoX."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitrail.config import reason
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, Vocabularies
from vitrail.errors import ModelError, UsageError
from vitrail.export.layouts import MaskedType, Weight, from_layout, gpt2_layout, masked_layout, masked_root, neox_layout, ours_in, to_layout
from vitrail.export.tokenizer_json import tokenizer_config, tokenizer_json
from vitrail.export.translators.staging import publish_checked
from vitrail.files import make_folder, write_file
from vitrail.models.architectures import read_config
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.causal import CausalConfig
from vitrail.models.configs.masked import MaskedConfig
from vitrail.models.model_folder import LoadedFolder, load_folder, save_model
from vitrail.nn.positions import sinusoids

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_POOLING = "1_Pooling"
_MOST = 1e-4
"""Largest difference of a logit that is still rounding."""
_EPSILON = 1e-5
"""What our norms add to the variance."""


class _Layout(NamedTuple):
    """How one of our models is written there."""

    config: dict[str, Any]
    table: list[Weight]
    extra: dict[str, Tensor]
    """Weights that have no counterpart here."""


def export_huggingface(model: Path, output: Path, *, check: bool = False) -> float | None:
    """Write the model of a run's folder or a model folder for `transformers`; of a masked model, for `sentence-transformers` as well.

    Args:   check: whether `transformers` computes its logits before the folder gets its name; then their largest difference is returned.
    Raises: ModelError for a damaged folder, and for logits that differ; UsageError for a model that those layouts cannot hold, naming each
    setting, and where transformers is not installed. Nothing is left then.
    """
    loaded = load_folder(model)
    layout = _layout(loaded)
    vocabulary, masked = loaded.vocabularies.target, isinstance(loaded.config, MaskedConfig)
    tokenizer = tokenizer_json(vocabulary, mask=masked, ends=masked)
    longest = loaded.config.context if isinstance(loaded.config, MaskedConfig | CausalConfig) else 0
    ours = {"vitrail": {"model": loaded.config.model_dump(mode="json"), "facts": loaded.facts}}
    weights = to_layout(layout.table, unique_tensors(loaded.model)) | layout.extra
    files = {
        CONFIG: _json(layout.config | ours),
        WEIGHTS: safetensors.torch.save(weights, metadata={"format": "pt"}),
        "tokenizer.json": _json(tokenizer),
        "tokenizer_config.json": _json(tokenizer_config(mask=masked, longest=longest)),
        **{name: one.to_bytes() for name, one in loaded.vocabularies.files().items()},
        **({name: _json(content) for name, content in sentence_files(longest).items()} if masked else {}),
    }

    def write(folder: Path) -> None:
        for name, content in files.items():
            write_file(folder / name, content)
        if isinstance(loaded.config, MaskedConfig):
            write_pooling(folder, width=loaded.config.width, mode="cls" if loaded.config.pooling == "first" else "mean")

    def compared(folder: Path) -> float | None:
        found = largest_difference(model, folder) if check else 0.0
        if found > _MOST:
            raise ModelError(f"{output}: logits differ by {found:.2e}", expected=f"at most {_MOST:.0e}", remedy="report this as a fault")
        return found if check else None

    return publish_checked(output, write=write, check=compared)


def import_huggingface(folder: Path, output: Path) -> None:
    """Write the model folder of what `export_huggingface` wrote, perhaps trained further there.

    Raises: ModelError for a folder of another kind, or one that lacks our vocabulary.
    """
    config, theirs = _read_config(folder / CONFIG), read_weights(folder / WEIGHTS)
    vocabularies = Vocabularies.load(folder)
    shape = _shape(config, origin=folder / CONFIG)
    positions = _positions(shape, theirs)
    if (before := _with_sinusoids(shape, config, positions, origin=folder / CONFIG)) is not None:
        shape, positions = before, {}
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in unique_tensors(build_model(shape, vocabularies)).items()}
    tensors = from_layout(_table(shape), theirs, shapes) | positions
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise ModelError(f"{folder}: lacks {', '.join(missing[:5])}", expected="a model that vitrail export wrote")
    facts = ours_in(config.get("vitrail", {}), origin=folder / CONFIG).facts
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
    """How a model is written there. Raises: UsageError for one that no layout can hold."""
    config, size, tensors = loaded.config, loaded.vocabularies.target.size, unique_tensors(loaded.model)
    match config:
        case MaskedConfig():
            type = _masked_type(config)
            _require(config, norm="layer", activation="gelu", **({"norm_position": "pre"} if type == "esm" else {"embedding_norm": True}))
            described, extra = _masked_config(config, vocabulary=size + 1), dict[str, Tensor]()
            if type != "esm":
                rows = _position_rows(config, tensors, "source_positions.weight")
                rows = rows if type == "bert" else torch.cat([rows[:1] * 0, rows])  # this layout counts positions from pad + 1
                root = f"{masked_root(type)}.embeddings"
                extra = {f"{root}.position_embeddings.weight": rows, f"{root}.token_type_embeddings.weight": rows[:1] * 0}
                described["max_position_embeddings"] = len(rows)
            return _Layout(described, _table(config), extra)
        case CausalConfig(positions="rotary"):
            _require(config, norm="layer", norm_position="pre", activation="gelu", embedding_norm=False)
            return _Layout(_neox_config(config, vocabulary=size), _table(config), {})
        case CausalConfig():
            _require(config, norm="layer", norm_position="pre", activation="gelu", embedding_norm=False)
            rows = _position_rows(config, tensors, "target_positions.weight")
            return _Layout(_gpt2_config(config, rows=len(rows), vocabulary=size), _table(config), {"transformer.wpe.weight": rows})
        case _:
            raise UsageError(f"model.kind = {config.kind}", expected="masked-language or causal-language, for --to huggingface")


def _masked_type(config: MaskedConfig) -> MaskedType:
    if config.positions == "rotary":
        return "esm"
    return "bert" if config.norm_position == "post" else "roberta-prelayernorm"


def _table(config: MaskedConfig | CausalConfig) -> list[Weight]:
    match config:
        case MaskedConfig(encoder_layers=layers, width=width, tie=tied, embedding_norm=normed):
            return masked_layout(_masked_type(config), layers=layers, width=width, tied=tied, embedding_norm=normed)
        case CausalConfig(layers=layers, width=width, tie=tied, positions="rotary"):
            return neox_layout(layers=layers, heads=config.heads, width=width, tied=tied)
        case CausalConfig(layers=layers, width=width, tie=tied):
            return gpt2_layout(layers=layers, width=width, tied=tied)


def _require(config: MaskedConfig | CausalConfig, **wanted: Any) -> None:
    """Refuse what the layout cannot hold."""
    faults = [f"model.{name} = {getattr(config, name)}" for name, value in wanted.items() if getattr(config, name) != value]
    if config.positions == "none":
        faults.append("model.positions = none")
    if config.heads * config.width_of_head != config.width:
        faults.append(f"model.head_width = {config.head_width}")
    if faults:
        expected = ", ".join(f"{name} = {value}" for name, value in wanted.items())
        raise UsageError(
            f"{', '.join(faults)}: not what the layout for positions = {config.positions} computes",
            expected=f"{expected}, and heads that share the width",
            remedy="train with these settings (--set model.NAME=VALUE)",
        )


def _position_rows(config: MaskedConfig | CausalConfig, tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if config.positions == "learned":
        return tensors[name].float()
    return sinusoids(config.context, config.width, steps=config.sinusoid_steps)


_CLASSES: dict[MaskedType, str] = {
    "bert": "BertForMaskedLM",
    "roberta-prelayernorm": "RobertaPreLayerNormForMaskedLM",
    "esm": "EsmForMaskedLM",
}


def _masked_config(config: MaskedConfig, *, vocabulary: int) -> dict[str, Any]:
    type = _masked_type(config)
    rotary = {"position_embedding_type": "rotary", "token_dropout": False, "emb_layer_norm_before": config.embedding_norm}
    return {
        "architectures": [_CLASSES[type]],
        "model_type": type,
        "vocab_size": vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.encoder_layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feed_forward,
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "max_position_embeddings": config.context,
        "type_vocab_size": 1,
        "layer_norm_eps": _EPSILON,
        "pad_token_id": PAD,
        "bos_token_id": SOS,
        "eos_token_id": EOS,
        "mask_token_id": vocabulary - 1,
        "tie_word_embeddings": config.tie,
        **(rotary if type == "esm" else {}),
    }


def _neox_config(config: CausalConfig, *, vocabulary: int) -> dict[str, Any]:
    return {
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        "vocab_size": vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feed_forward,
        "hidden_act": "gelu",
        "hidden_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "max_position_embeddings": config.context,
        "layer_norm_eps": _EPSILON,
        "use_parallel_residual": False,
        "rotary_pct": 1.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
        "attention_bias": True,
        "bos_token_id": EOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
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


def write_pooling(folder: Path, *, width: int, mode: Literal["cls", "mean"]) -> None:
    """Write how sentence-transformers makes one vector of many, in a folder of its own."""
    make_folder(folder / _POOLING)
    write_file(folder / _POOLING / CONFIG, _json({"word_embedding_dimension": width, "pooling_mode": mode, "include_prompt": True}))


def sentence_files(longest: int) -> dict[str, Any]:
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


_SIZES = {
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "tie": "tie_word_embeddings",
}
_GPT2_SIZES = {
    "width": "n_embd",
    "heads": "n_head",
    "feed_forward": "n_inner",
    "max_positions": "n_positions",
    "tie": "tie_word_embeddings",
    "layers": "n_layer",
}


def _shape(config: Mapping[str, Any], *, origin: Path) -> MaskedConfig | CausalConfig:
    """Our configuration of a model in one of the layouts. Raises: ModelError for another one."""
    fixed: dict[str, Any] = {"norm": "layer", "norm_position": "pre", "activation": "gelu", "head_width": None}
    match config.get("model_type"):
        case "bert" | "roberta-prelayernorm" | "esm" as type:
            sizes = _SIZES | {"encoder_layers": "num_hidden_layers"}
            fixed |= {"kind": "masked-language", "positions": "rotary" if type == "esm" else "learned"}
            fixed |= {"norm_position": "post" if type == "bert" else "pre"}
            fixed |= {"embedding_norm": bool(config.get("emb_layer_norm_before")) if type == "esm" else True}
        case "gpt2":
            sizes = _GPT2_SIZES
            fixed |= {"kind": "causal-language", "positions": "learned", "embedding_norm": False}
        case "gpt_neox":
            sizes = _SIZES | {"layers": "num_hidden_layers"}
            fixed |= {"kind": "causal-language", "positions": "rotary", "embedding_norm": False}
        case other:
            raise ModelError(f"{origin}: model_type {other!r}", expected="bert, roberta-prelayernorm, esm, gpt2 or gpt_neox")
    own = ours_in(config.get("vitrail", {}), origin=origin).model
    try:
        read = {name: config[theirs] for name, theirs in sizes.items()}
        most = read["max_positions"] - (config["model_type"] == "roberta-prelayernorm")
        read["max_positions"] = most if fixed["positions"] == "learned" else own.get("max_positions", most)
        context = min(own.get("context", most), most)
        found = read_config(own | fixed | read | {"context": context})
    except (KeyError, ValidationError) as error:
        raise ModelError(f"{origin}: {reason(error)}", expected="the configuration of a model that vitrail export wrote") from None
    assert isinstance(found, MaskedConfig | CausalConfig)
    return found


def _positions(shape: MaskedConfig | CausalConfig, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vectors of positions, where they are learned; those of the one kind of segment are added to them."""
    if shape.positions != "learned":
        return {}
    try:
        if isinstance(shape, CausalConfig):
            return {"target_positions.weight": theirs["transformer.wpe.weight"].float()}
        type = _masked_type(shape)
        root = f"{masked_root(type)}.embeddings"
        rows = theirs[f"{root}.position_embeddings.weight"] + theirs[f"{root}.token_type_embeddings.weight"][:1]
    except KeyError as error:
        raise ModelError(f"{error.args[0]}: missing", expected="a model that vitrail export wrote") from None
    return {"source_positions.weight": rows[0 if type == "bert" else 1 :].float().clone()}


def _with_sinusoids(
    shape: MaskedConfig | CausalConfig, config: Mapping[str, Any], positions: Mapping[str, Tensor], *, origin: Path
) -> MaskedConfig | CausalConfig | None:
    """The configuration of a model whose positions were sinusoids here, and still are; None for any other."""
    own = ours_in(config.get("vitrail", {}), origin=origin).model
    if own.get("positions") not in ("sinusoidal", "tensor2tensor"):
        return None
    kept = {"positions": own["positions"], "max_positions": own.get("max_positions", shape.max_positions)}
    before = shape.model_copy(update=kept)
    same = [torch.equal(rows, sinusoids(len(rows), shape.width, steps=before.sinusoid_steps)) for rows in positions.values()]
    return before if same and all(same) else None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {error}", expected="the configuration of a model in Hugging Face's layout") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path}: is no table", expected="the configuration of a model in Hugging Face's layout")
    return found  # pyright: ignore[reportUnknownVariableType]


def read_weights(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as content:
            return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: {error}", expected="weights in safetensors", remedy="save the model there with safetensors") from None


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
