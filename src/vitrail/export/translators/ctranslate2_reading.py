"""Translators from folders of CTranslate2 whose weights are floats: `model.bin` read by its bounds."""

import math
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from vitrail.config import reason
from vitrail.data.vocabularies.mapped import MappedPieces
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, SPECIAL, UNK, Subwords, Vocabularies
from vitrail.errors import ModelError
from vitrail.export.layouts import ours_in
from vitrail.export.translators.ctranslate2_spec import EPSILON, OURS
from vitrail.export.translators.seq2seq_tokens import NEVER, read_json, rows_in_order
from vitrail.files import read_manifest
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import save_model
from vitrail.nn.positions import sinusoids

BINARY, CONFIG, NAME = "model.bin", "config.json", "TransformerSpec"
_VERSION, _REVISION = 6, 7
_MOST_VARIABLES, _MOST_AXES = 1 << 16, 8
_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
_SIZES = (4, 1, 2, 4, 2, 2)
_PIECES = (("joint.spm",), ("source.spm", "target.spm"), ("sentencepiece.model",), ("spiece.model",))
_ACTIVATIONS = {0: "relu", 2: "silu", 3: "gelu"}


class Binary(NamedTuple):
    """What a `model.bin` holds; aliases are there under each of their names."""

    variables: dict[str, Tensor]

    def number(self, name: str, default: float) -> float:
        """A scalar, or what it is where none is written."""
        found = self.variables.get(name)
        return default if found is None else float(found.float().flatten()[0])


def is_ctranslate2(folder: Path) -> bool:
    """Whether a folder holds a model of CTranslate2."""
    return (folder / BINARY).is_file() and (folder / CONFIG).is_file()


def read_binary(path: Path) -> Binary:
    """Read a `model.bin`. Raises ModelError where it is damaged, of another version, no Transformer that translates, or not of floats."""
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", expected="a model of CTranslate2") from None
    reader = _Reader(data, path)
    version = reader.number("I")
    if version != _VERSION:
        raise ModelError(
            f"{path}: version {version}", expected=f"version {_VERSION}", remedy="convert the model again with ctranslate2 4.8"
        )
    name, revision = reader.text(), reader.number("I")
    if name != NAME or revision != _REVISION:
        raise ModelError(f"{path}: {name} of revision {revision}", expected=f"{NAME} of revision {_REVISION}")
    found: dict[str, Tensor] = {}
    for _ in range(reader.count()):
        label = reader.text()
        found[label] = reader.array(label)
    for _ in range(reader.count()):
        alias, label = reader.text(), reader.text()
        if label not in found:
            raise ModelError(f"{path}: {alias} is another name of {label}, which is not there", remedy="copy the model again")
        found[alias] = found[label]
    return Binary(found)


class _Reader:
    """Reads one value after the other, and never behind the end."""

    def __init__(self, data: memoryview, path: Path) -> None:
        self._data, self._path, self._at = data, path, 0

    def take(self, size: int) -> memoryview:
        """The next bytes."""
        if size > len(self._data) - self._at:
            raise ModelError(f"{self._path}: ends within a value", remedy="copy the model again")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, form: str) -> int:
        """A whole number of a form of `struct`."""
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def count(self) -> int:
        """A number of variables."""
        found = self.number("I")
        if found > _MOST_VARIABLES:
            raise ModelError(f"{self._path}: {found:,} variables", expected=f"at most {_MOST_VARIABLES:,}", remedy="copy the model again")
        return found

    def text(self) -> str:
        """A name."""
        return bytes(self.take(self.number("H"))).rstrip(b"\0").decode("utf-8", "replace")

    def array(self, name: str) -> Tensor:
        """A variable, floats of 16 bits in 32."""
        axes = self.number("B")
        shape = [self.number("I") for _ in range(min(axes, _MOST_AXES))]
        kind, size = self.number("B"), self.number("I")
        if axes > _MOST_AXES or kind >= len(_TYPES) or math.prod(shape) * _SIZES[kind] != size:
            raise ModelError(f"{self._path}: {name} is damaged", remedy="copy the model again")
        values = torch.frombuffer(bytearray(self.take(size)), dtype=getattr(torch, _TYPES[kind])) if size else torch.empty(0)
        if axes > 0 and not values.is_floating_point() and name.endswith("weight"):
            raise ModelError(
                f"{self._path}: {name} holds numbers of {_TYPES[kind]}",
                expected="weights of float32, float16 or bfloat16",
                remedy="convert the model again without quantization",
            )
        return (values.float() if values.is_floating_point() else values).reshape(shape)


def import_ctranslate2(folder: Path, output: Path) -> None:
    """Write the model folder of a translator of CTranslate2: of ours, or of one that its converters made, with its SentencePiece models.

    Raises: ModelError for a model that ours cannot hold, and damaged or missing files; UsageError; NotWritten.
    """
    settings, binary = read_json(folder / CONFIG), read_binary(folder / BINARY)
    own = ours_in(read_json(folder / OURS) if (folder / OURS).exists() else {}, origin=folder / OURS)
    reading = _Reading(binary, folder)
    if own.model:
        vocabularies = Vocabularies.load(folder, listed=read_manifest(folder))
        rows = [list[int | None](range(one.size)) for one in (vocabularies.source, vocabularies.target)]
        never: list[int] = []
    else:
        from_zero = bool(binary.number("decoder/start_from_zero_embedding", 0))
        vocabularies, rows, never = _foreign_vocabularies(folder, settings, starts_from_zero=from_zero)
    config = reading.config(kept=own.model, never=never, shared=vocabularies.shares_ids, settings=settings)
    tensors = reading.tables(config, rows, never) | reading.blocks(config)
    _heads_back(tensors, folder, config)
    try:
        with torch.device("meta"):
            shapes = {name: tuple(one.shape) for name, one in unique_tensors(build_model(config, vocabularies)).items()}
    except (RuntimeError, TypeError) as error:
        raise ModelError(f"{folder}: {str(error).splitlines()[0]}", remedy="copy the model again") from None
    wrong = [name for name, shape in shapes.items() if name not in tensors or tuple(tensors[name].shape) != shape]
    if wrong:
        raise ModelError(f"{folder / BINARY}: {wrong[0]} is missing, or of another shape", remedy="copy the model again")
    facts = own.facts or {"imported": "ctranslate2", "search": {"repeat_ngram": 0, "allow_unknown": True}}
    kept = {name: tensors[name].contiguous() for name in shapes}
    save_model(output, tensors=kept, config=config, vocabularies=vocabularies, facts=facts)


def _foreign_vocabularies(
    folder: Path, settings: Mapping[str, Any], *, starts_from_zero: bool
) -> tuple[Vocabularies, list[list[int | None]], list[int]]:
    names = next((names for names in _PIECES if all((folder / name).is_file() for name in names)), None)
    if names is None:
        raise ModelError(f"{folder}: has no SentencePiece model", expected="joint.spm, or source.spm and target.spm, beside model.bin")
    lists = [_tokens(folder, side) for side in ("source", "target")]
    sides: list[Subwords] = []
    rows: list[list[int | None]] = []
    for tokens, name in zip(lists, (names[0], names[-1]), strict=True):
        places = {token: place for place, token in enumerate(tokens)}
        start = places.get(SPECIAL[SOS] if starts_from_zero else str(settings.get("decoder_start_token")))
        special = [places.get(SPECIAL[PAD]), places.get(str(settings.get("unk_token"))), start, places.get(str(settings.get("eos_token")))]
        if special[UNK] is None or special[EOS] is None:
            raise ModelError(f"{folder}: no unknown token or no end in its vocabulary", expected="unk_token and eos_token of config.json")
        order, others = rows_in_order(tokens, special)
        rows.append(order)
        sides.append(MappedPieces.of((folder / name).read_bytes(), others, origin=str(folder / name)))
    same = sides[0].to_bytes() == sides[1].to_bytes()
    found = rows[1][: EOS + 1]
    copied = found[SOS] in (found[PAD], found[UNK], found[EOS])
    never = [*([PAD] if found[PAD] is None else []), *([SOS] if copied else [])]
    return Vocabularies(sides[0], sides[0] if same else sides[1], joint=same), rows, never


def _tokens(folder: Path, side: str) -> list[str]:
    import json

    path = next((path for path in (folder / f"{side}_vocabulary.json", folder / "shared_vocabulary.json") if path.is_file()), None)
    try:
        found: Any = json.loads(path.read_bytes()) if path is not None else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found) or len(set(found)) < len(found):  # pyright: ignore
        raise ModelError(f"{folder}: no list of the {side} vocabulary", expected=f"{side}_vocabulary.json or shared_vocabulary.json")
    return found  # pyright: ignore[reportUnknownVariableType]


class _Reading:
    """Our tensors from the variables of a file."""

    def __init__(self, binary: Binary, folder: Path) -> None:
        self._binary, self._variables, self._path = binary, binary.variables, folder / BINARY

    def _of(self, name: str) -> Tensor:
        found = self._variables.get(name)
        if found is None:
            raise ModelError(f"{self._path}: lacks {name}", expected="a Transformer that translates, with weights of floats")
        return found

    def _embedding(self, side: str) -> Tensor:
        name = f"{side}/embeddings/weight"
        return self._of(name if name in self._variables else f"{side}/embeddings_0/weight")

    def config(self, *, kept: Mapping[str, Any], never: Sequence[int], shared: bool, settings: Mapping[str, Any]) -> TransformerConfig:
        """Our configuration. Args: kept: that of a model of ours. never: tokens that get a bias against them."""
        if kept:
            try:
                return TransformerConfig.model_validate(kept)
            except ValidationError as error:
                raise ModelError(f"{self._path.parent / OURS}: {reason(error)}", remedy="export the model again") from None
        variables, number = self._variables, self._binary.number
        glu = "encoder/layer_0/ffn/linear_0_noact/weight" in variables
        activation = _ACTIVATIONS.get(int(number("encoder/activation", 0)), "")
        norm = "layer" if "encoder/layer_0/ffn/layer_norm/beta" in variables else "rms"
        refused = {
            "an activation that ours has not": not activation or (glu and activation != "silu"),
            "relative positions": any("relative" in name for name in variables),
            "heads that share keys": any("num_heads_kv" in name for name in variables),
            "norms of queries and keys": any("/q_norm" in name for name in variables),
            "another epsilon of its norms": (settings.get("layer_norm_epsilon") or (EPSILON if norm == "layer" else 1e-6)) != EPSILON,
        }
        if found := [name for name, is_there in refused.items() if is_there]:
            raise ModelError(f"{self._path}: has {', '.join(found)}", expected="what vitrail export --to ctranslate2 writes")
        sources, targets, output = self._embedding("encoder"), self._embedding("decoder"), self._of("decoder/projection/weight")
        tied = targets.shape == output.shape and bool(torch.equal(targets, output)) and self._scaled("decoder") == 1
        both = shared and sources.shape == targets.shape and bool(torch.equal(sources, targets)) and self._scaled("encoder") == 1
        try:
            return TransformerConfig.model_validate(
                {
                    "width": targets.shape[1],
                    "heads": int(number("encoder/num_heads", 8)),
                    "feed_forward": len(self._of("encoder/layer_0/ffn/linear_0/weight")),
                    "encoder_layers": self._layers("encoder"),
                    "decoder_layers": self._layers("decoder"),
                    "activation": "swiglu" if glu else activation,
                    "norm": norm,
                    "norm_position": "pre" if number("encoder/pre_norm", 1) else "post",
                    "embedding_norm": "encoder/layernorm_embedding/gamma" in variables,
                    "tie": ("all" if both else "target") if tied else "none",
                    "decoder_start": "zeros" if number("decoder/start_from_zero_embedding", 0) else "token",
                    "output_bias": bool(never) or "decoder/projection/bias" in variables,
                    **self._positions(targets.shape[1]),
                }
            )
        except ValidationError as error:
            raise ModelError(f"{self._path}: {reason(error)}") from None

    def _layers(self, side: str) -> int:
        places = (re.match(rf"{side}/layer_(\d+)/", name) for name in self._variables)
        return len({place[1] for place in places if place})

    def _scaled(self, side: str) -> float:
        """By what ours must multiply its embeddings: they are scaled by sqrt(D) there, by another number, or not."""
        width, scale = self._embedding(side).shape[1], self._variables.get(f"{side}/scale_embeddings")
        if scale is None or (not scale.is_floating_point() and bool(scale.flatten()[0])):
            return 1.0
        return float(scale.float().flatten()[0]) / width**0.5

    def _positions(self, width: int) -> dict[str, Any]:
        rotary = self._variables.get("encoder/layer_0/self_attention/rotary_dim")
        if rotary is not None:
            if self._binary.number("encoder/layer_0/self_attention/rotary_interleave", 1):
                raise ModelError(f"{self._path}: rotary positions of neighbours", expected="of halves (rotary_interleave false)")
            return {"positions": "rotary"}
        table = self._of("encoder/position_encodings/encodings")
        if not table.any():
            return {"positions": "none"}
        for name, steps in (("sinusoidal", width // 2), ("tensor2tensor", width // 2 - 1)):
            if width % 2 == 0 and steps and bool((table - sinusoids(*table.shape, steps=steps)).abs().max() < 1e-4 * len(table)):
                return {"positions": name}
        return {"positions": "learned", "max_positions": len(table)}

    def tables(self, config: TransformerConfig, rows: Sequence[Sequence[int | None]], never: Sequence[int]) -> dict[str, Tensor]:
        """Embeddings, output, positions and their norms."""
        found = {
            "source_embedding.weight": _taken(self._embedding("encoder"), rows[0]) * self._scaled("encoder"),
            "target_embedding.weight": _taken(self._embedding("decoder"), rows[1]) * self._scaled("decoder"),
            "output_weight": _taken(self._of("decoder/projection/weight"), rows[1]),
        }
        if config.output_bias:
            bias = self._variables.get("decoder/projection/bias", torch.zeros(len(found["output_weight"])))
            found["output_bias"] = _taken(bias[:, None], rows[1]).flatten()
            found["output_bias"][list(never)] = NEVER
        for side, part in (("source", "encoder"), ("target", "decoder")):
            if config.positions == "learned":
                found[f"{side}_positions.weight"] = self._of(f"{part}/position_encodings/encodings")
            if config.embedding_norm:
                found |= self._norm(f"{side}_norm", f"{part}/layernorm_embedding")
            if config.norm_position == "pre":
                found |= self._norm(f"{part}_norm", f"{part}/layer_norm")
        return found

    def blocks(self, config: TransformerConfig) -> dict[str, Tensor]:
        """All layers."""
        found: dict[str, Tensor] = {}
        for side, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
            kinds = [("self_attention", "self_attention"), *([("cross_attention", "attention")] if side == "decoder" else [])]
            for layer in range(layers):
                at, there = f"{side}.{layer}", f"{side}/layer_{layer}"
                for number, (ours, name) in enumerate(kinds, start=1):
                    parts = ["query", "key", "value"]
                    groups = [parts] if ours == "self_attention" else [parts[:1], parts[1:]]
                    for place, group in enumerate([*groups, ["output"]]):
                        found |= self._linear([f"{at}.{ours}.{part}" for part in group], f"{there}/{name}/linear_{place}")
                    found |= self._norm(f"{at}.residual_{number}.norm", f"{there}/{name}/layer_norm")
                names = [("expand", "linear_0"), ("contract", "linear_1")]
                names += [("gate", "linear_0_noact")] if config.activation == "swiglu" else []
                for ours, name in names:
                    found |= self._linear([f"{at}.feed_forward.{ours}"], f"{there}/ffn/{name}")
                found |= self._norm(f"{at}.residual_{len(kinds) + 1}.norm", f"{there}/ffn/layer_norm")
        return found

    def _linear(self, ours: Sequence[str], theirs: str) -> dict[str, Tensor]:
        """One layer there, several here."""
        weight = self._of(f"{theirs}/weight")
        bias = self._variables.get(f"{theirs}/bias", torch.zeros(len(weight)))
        parts = zip(ours, weight.chunk(len(ours)), bias.chunk(len(ours)), strict=True)
        return {f"{name}.{kind}": value for name, *both in parts for kind, value in zip(("weight", "bias"), both, strict=True)}

    def _norm(self, ours: str, theirs: str) -> dict[str, Tensor]:
        found = {f"{ours}.norm.weight": self._of(f"{theirs}/gamma")}
        return found | ({f"{ours}.norm.bias": self._variables[f"{theirs}/beta"]} if f"{theirs}/beta" in self._variables else {})


def _taken(table: Tensor, rows: Sequence[int | None]) -> Tensor:
    """Rows in our order; zeros where there is none."""
    if max((row for row in rows if row is not None), default=0) >= len(table):
        raise ModelError(f"a table of {len(table)} rows", expected="a row for each token of its vocabulary", remedy="copy the model again")
    found = table[[0 if row is None else row for row in rows]]
    found[[place for place, row in enumerate(rows) if row is None]] = 0
    return found


def _heads_back(tensors: dict[str, Tensor], folder: Path, config: TransformerConfig) -> None:
    """Undo the order of heads that our export made for alignment, in place."""
    path = folder / "alignment.json"
    match read_json(path) if path.exists() else {}:
        case {"layer": int(layer), "heads": [*heads]} if 0 <= layer < config.decoder_layers and set(heads) <= set(range(config.heads)):
            order = [*heads, *(head for head in range(config.heads) if head not in heads)]
        case _:
            return
    width = config.width_of_head
    places = torch.from_numpy((np.argsort(order)[:, None] * width + np.arange(width)).reshape(-1))
    at = f"decoder.{layer}"
    for name in ("query", "key", "value"):
        for part in ("weight", "bias"):
            tensors[f"{at}.cross_attention.{name}.{part}"] = tensors[f"{at}.cross_attention.{name}.{part}"][places]
    tensors[f"{at}.cross_attention.output.weight"] = tensors[f"{at}.cross_attention.output.weight"][:, places]
