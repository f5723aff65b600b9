"""Our Transformer in CTranslate2, by its public `TransformerSpec`."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.data.vocabularies.subwords import EOS, SOS, SPECIAL, UNK, Subwords
from vitrail.models.base import all_tensors
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import LoadedModel
from vitrail.nn.positions import sinusoids

OURS = "vitrail.json"
"""What only we know of a model: its configuration and facts."""
POSITIONS = 1024
"""Rows of the table of positions; that program cuts longer sources at 1,024 tokens unless it is told otherwise."""
EPSILON = 1e-5
"""What our norms add to the variance."""
Floats = npt.NDArray[np.float32]
Tensors = Mapping[str, Floats]
_NEVER = -10_000.0
_ACTIVATIONS = {"relu": "RELU", "gelu": "GELU", "silu": "SWISH", "swiglu": "SWISH"}


class AlignmentHeads(NamedTuple):
    """Heads of one layer of the decoder, whose average aligns words."""

    layer: int
    heads: tuple[int, ...]


def obstacle(config: Any) -> str:
    """What CTranslate2 cannot carry of a model of this configuration, with what it can; empty where it carries all."""
    if not isinstance(config, TransformerConfig) or config.kind != "transformer":
        return f"model.kind = {config.kind}: CTranslate2 has Transformers that translate"
    if config.decoder == "ssru":
        return "model.decoder = ssru: CTranslate2 has decoders with self-attention"
    if config.norm == "batch":
        return "model.norm = batch: CTranslate2 has layer and rms norms"
    if config.positions == "rotary" and config.width_of_head % 2:
        return f"rotary positions with heads of width {config.width_of_head}: CTranslate2 has even widths"
    if config.head_width is not None and config.head_width * config.heads != config.width:
        return f"model.head_width = {config.head_width}: CTranslate2's translators have heads that share the width"
    return ""


def names_of(vocabulary: Subwords) -> list[str]:
    """What each token is called there: its piece; where two would have the same name, the later ones have their number behind it."""
    taken, found = set[str](), list[str]()
    for id, piece in enumerate([*SPECIAL, *vocabulary.pieces(range(len(SPECIAL), vocabulary.size))]):
        found.append(piece if piece not in taken else f"{piece}<{id}>")
        taken.add(found[-1])
    return found


def make_spec(loaded: LoadedModel, *, align: AlignmentHeads | None = None, banned: Sequence[int] = ()) -> Any:
    """The model as CTranslate2's specification, in float32. Precondition: `obstacle(loaded.config)` is empty; ctranslate2 is installed.

    Args: align: heads whose average that program returns as attention; they become the first of their layer, which changes no translation.
    banned: tokens that get so low a bias that they are never chosen, for programs that forbid none.
    """
    config = loaded.config
    assert isinstance(config, TransformerConfig)
    specs: Any = import_module("ctranslate2").specs
    tensors: dict[str, Floats] = {name: np.array(value.float().numpy()) for name, value in all_tensors(loaded.model).items()}
    if align is not None:
        _heads_first(tensors, f"decoder.{align.layer}", align.heads, config)
    spec = _empty(specs, config, align)
    writer = _Writer(tensors, config)
    for side, part in (("source", spec.encoder), ("target", spec.decoder)):
        writer.embeddings(part, side)
    for layer, part in enumerate(spec.encoder.layer):
        writer.attention(part.self_attention, f"encoder.{layer}", ("self_attention", "residual_1"))
        writer.feed_forward(part.ffn, f"encoder.{layer}", "residual_2")
    for layer, part in enumerate(spec.decoder.layer):
        writer.attention(part.self_attention, f"decoder.{layer}", ("self_attention", "residual_1"))
        writer.attention(part.attention, f"decoder.{layer}", ("cross_attention", "residual_2"), crosses=True)
        writer.feed_forward(part.ffn, f"decoder.{layer}", "residual_3")
    if config.norm_position == "pre":
        writer.norm(spec.encoder.layer_norm, "encoder_norm")
        writer.norm(spec.decoder.layer_norm, "decoder_norm")
    spec.decoder.start_from_zero_embedding = config.decoder_start == "zeros"
    spec.decoder.projection.weight = writer.output()
    if "output_bias" in tensors or banned:
        bias = tensors.get("output_bias", np.zeros(len(writer.output()), np.float32))
        bias[list(banned)] = _NEVER
        spec.decoder.projection.bias = bias
    spec.register_source_vocabulary(names_of(loaded.vocabularies.source))
    spec.register_target_vocabulary(names_of(loaded.vocabularies.target))
    spec.config.add_source_eos, spec.config.decoder_start_token = True, SPECIAL[SOS]
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = SPECIAL[UNK], SPECIAL[SOS], SPECIAL[EOS]
    spec.config.layer_norm_epsilon = EPSILON
    spec.validate()
    return spec


def _empty(specs: Any, config: TransformerConfig, align: AlignmentHeads | None) -> Any:
    """A specification of our shape without weights."""
    rotary = {"rotary_dim": 0, "rotary_interleave": False} if config.positions == "rotary" else {}
    shape: dict[str, Any] = {
        "pre_norm": config.norm_position == "pre",
        "activation": getattr(specs.Activation, _ACTIVATIONS[config.activation]),
        "ffn_glu": config.activation == "swiglu",
        "rms_norm": config.norm == "rms",
        "layernorm_embedding": config.embedding_norm,
        **rotary,
    }
    # The first layer's attention is what is returned where none is named.
    chosen = {} if align is None else {"alignment_layer": align.layer, "alignment_heads": len(align.heads)}
    encoder = specs.TransformerEncoderSpec(config.encoder_layers, config.heads, **shape)
    decoder = specs.TransformerDecoderSpec(config.decoder_layers, config.heads, **shape, **chosen)
    if rotary:
        del encoder.position_encodings
    return specs.TransformerSpec(encoder, decoder)


class _Writer:
    """Puts weights into parts of a specification."""

    def __init__(self, tensors: Tensors, config: TransformerConfig) -> None:
        self._tensors, self._config = tensors, config

    def output(self) -> Floats:
        """The output's matrix."""
        return self._tensors["output_weight"]

    def embeddings(self, part: Any, side: str) -> None:
        """The embeddings of a side, its positions and the norm of both."""
        place = part.embeddings[0] if side == "source" else part.embeddings
        place.weight = self._tensors[f"{side}_embedding.weight"]
        part.scale_embeddings = True
        match self._config.positions:
            case "sinusoidal" | "tensor2tensor":
                part.position_encodings.encodings = sinusoids(POSITIONS, self._config.width, steps=self._config.sinusoid_steps).numpy()
            case "learned":
                part.position_encodings.encodings = self._tensors[f"{side}_positions.weight"]
            case "none":
                part.position_encodings.encodings = np.zeros((POSITIONS, self._config.width), np.float32)
            case "rotary":
                pass
        if self._config.embedding_norm:
            self.norm(part.layernorm_embedding, f"{side}_norm")

    def linear(self, part: Any, names: Sequence[str]) -> None:
        """Our linear layers as one."""
        part.weight = np.concatenate([self._tensors[f"{name}.weight"] for name in names])
        part.bias = np.concatenate([self._tensors[f"{name}.bias"] for name in names])

    def norm(self, part: Any, name: str) -> None:
        """A layer norm or RMS norm."""
        part.gamma = self._tensors[f"{name}.norm.weight"]
        if self._config.norm == "layer":
            part.beta = self._tensors[f"{name}.norm.bias"]

    def attention(self, part: Any, at: str, names: tuple[str, str], *, crosses: bool = False) -> None:
        """An attention and its norm."""
        query, key, value, output = (f"{at}.{names[0]}.{one}" for one in ("query", "key", "value", "output"))
        groups = [[query], [key, value], [output]] if crosses else [[query, key, value], [output]]
        for linear, group in zip(part.linear, groups, strict=True):
            self.linear(linear, group)
        self.norm(part.layer_norm, f"{at}.{names[1]}.norm")

    def feed_forward(self, part: Any, at: str, residual: str) -> None:
        """A feed-forward layer and its norm."""
        self.linear(part.linear_0, [f"{at}.feed_forward.expand"])
        if self._config.activation == "swiglu":
            self.linear(part.linear_0_noact, [f"{at}.feed_forward.gate"])
        self.linear(part.linear_1, [f"{at}.feed_forward.contract"])
        self.norm(part.layer_norm, f"{at}.{residual}.norm")


def _heads_first(tensors: dict[str, Floats], at: str, heads: Sequence[int], config: TransformerConfig) -> None:
    """Reorder the heads of a block's attention to the source, in place: these first. Heads are summed, so that their order says nothing."""
    order = [*heads, *(head for head in range(config.heads) if head not in heads)]
    places = (np.array(order)[:, None] * config.width_of_head + np.arange(config.width_of_head)).reshape(-1)
    for name in ("query", "key", "value"):
        tensors[f"{at}.cross_attention.{name}.weight"] = tensors[f"{at}.cross_attention.{name}.weight"][places]
        tensors[f"{at}.cross_attention.{name}.bias"] = tensors[f"{at}.cross_attention.{name}.bias"][places]
    tensors[f"{at}.cross_attention.output.weight"] = tensors[f"{at}.cross_attention.output.weight"][:, places]


class CTranslate2Model:
    """A model in CTranslate2, with a worker for each thread: its fastest way on a processor. Token ids in, token ids out.

    Args: folder: as `ctranslate2_folder` writes it. compute: how it computes: int8, float32, ...; "default": as it was written.
    """

    def __init__(self, folder: Path, *, names: tuple[Sequence[str], Sequence[str]], compute: str = "default", threads: int = 1) -> None:
        program: Any = import_module("ctranslate2")
        self._translator = program.Translator(str(folder), device="cpu", compute_type=compute, inter_threads=threads, intra_threads=1)
        self._sources, self._targets = names
        self._ids = {name: id for id, name in enumerate(self._targets)}

    def translate(self, sources: Sequence[Sequence[int]], *, beams: int, longest: int, length_penalty: float) -> list[list[int]]:
        """The best translation of each source. The special tokens are left out, and never chosen."""
        found = self._translator.translate_batch(
            [[self._sources[token] for token in source] for source in sources],
            beam_size=beams,
            max_batch_size=32,
            max_decoding_length=longest,
            min_decoding_length=0,
            length_penalty=length_penalty,
            disable_unk=True,
        )
        return [[self._ids[name] for name in one.hypotheses[0] if self._ids[name] > EOS] for one in found]

    def score(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> list[list[float]]:
        """The log-probabilities of the tokens of given translations, each with its end."""
        named = [[[names[token] for token in row] for row in rows] for names, rows in ((self._sources, sources), (self._targets, targets))]
        return [list(one.log_probs) for one in self._translator.score_batch(*named)]

    def attention(self, source: Sequence[int], *, longest: int) -> tuple[list[int], Floats]:
        """A translation and the weights of its attention (T S), without those of <eos>; greedily."""
        (found,) = self._translator.translate_batch(
            [[self._sources[token] for token in source]], beam_size=1, max_decoding_length=longest, return_attention=True
        )
        return [self._ids[name] for name in found.hypotheses[0]], np.array(found.attention[0], dtype=np.float32)


def save_spec(spec: Any, folder: Path, *, compute: str, write: Callable[[Path], None] | None = None) -> None:
    """Write a specification into an existing folder, with weights of a type. `write` adds further files there."""
    spec.optimize(quantization=compute)
    spec.save(str(folder))
    if write is not None:
        write(folder)
