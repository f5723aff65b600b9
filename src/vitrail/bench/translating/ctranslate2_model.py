"""Our Transformer in CTranslate2, by its public `TransformerSpec`: a peer to measure against."""

import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail.data.vocabularies.subwords import EOS, SOS, UNK
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import LoadedModel
from vitrail.nn.positions import sinusoids

_POSITIONS = 1024
Tensors = Mapping[str, npt.NDArray[np.float32]]


def obstacle(config: Any) -> str:
    """Why CTranslate2 gets no such model from us; empty where it does."""
    if not isinstance(config, TransformerConfig) or config.kind != "transformer":
        return "it has no such model"
    plain = config.norm == "layer" and config.activation in ("relu", "gelu") and config.positions == "sinusoidal"
    if not plain or config.embedding_norm or config.width_of_head * config.heads != config.width:
        return "only layer norm, relu or gelu, sinusoidal positions and heads of width / heads are carried over"
    return ""


class CTranslate2Model:
    """The same model in CTranslate2, with a worker for each thread: its fastest way on a processor.

    Args: compute: int8 or float32.
    """

    def __init__(self, loaded: LoadedModel, *, compute: str, threads: int) -> None:
        self._program: Any = import_module("ctranslate2")
        with tempfile.TemporaryDirectory() as folder:
            spec = _spec(self._program, loaded)
            spec.validate()
            spec.save(folder)
            self._translator = self._program.Translator(folder, device="cpu", compute_type=compute, inter_threads=threads, intra_threads=1)

    def translate(self, sources: Sequence[Sequence[int]], *, beams: int, longest: int, length_penalty: float) -> list[list[int]]:
        """Token ids in, token ids out."""
        found = self._translator.translate_batch(
            [[_name(token) for token in source] for source in sources],
            beam_size=beams,
            max_batch_size=32,
            max_decoding_length=longest,
            length_penalty=length_penalty,
        )
        return [[int(name) for name in one.hypotheses[0] if name.isdecimal()] for one in found]

    def score(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> list[list[float]]:
        """The log-probabilities of the tokens of given translations, each with its end."""
        named = [[[_name(token) for token in row] for row in rows] for rows in (sources, targets)]
        return [list(one.log_probs) for one in self._translator.score_batch(*named)]


def _name(token: int) -> str:
    return {UNK: "<unk>", SOS: "<s>", EOS: "</s>"}.get(token, str(token))


def _spec(program: Any, loaded: LoadedModel) -> Any:
    config = loaded.config
    assert isinstance(config, TransformerConfig)
    specs: Any = program.specs
    activation = specs.Activation.RELU if config.activation == "relu" else specs.Activation.GELU
    spec = specs.TransformerSpec.from_config(
        (config.encoder_layers, config.decoder_layers), config.heads, pre_norm=config.norm_position == "pre", activation=activation
    )
    tensors: dict[str, npt.NDArray[np.float32]] = {
        name: tensor.detach().float().numpy() for name, tensor in loaded.model.named_parameters(remove_duplicate=False)
    }
    table = sinusoids(_POSITIONS, config.width).numpy()
    for side, part in (("source", spec.encoder), ("target", spec.decoder)):
        embeddings = part.embeddings[0] if side == "source" else part.embeddings
        embeddings.weight = tensors[f"{side}_embedding.weight"]
        part.scale_embeddings, part.position_encodings.encodings = True, table
    for layer, part in enumerate(spec.encoder.layer):
        _attention(part.self_attention, tensors, f"encoder.{layer}", ("self_attention", "residual_1"))
        _feed_forward(part.ffn, tensors, f"encoder.{layer}", "residual_2")
    for layer, part in enumerate(spec.decoder.layer):
        _attention(part.self_attention, tensors, f"decoder.{layer}", ("self_attention", "residual_1"))
        _attention(part.attention, tensors, f"decoder.{layer}", ("cross_attention", "residual_2"), crosses=True)
        _feed_forward(part.ffn, tensors, f"decoder.{layer}", "residual_3")
    if config.norm_position == "pre":
        _norm(spec.encoder.layer_norm, tensors, "encoder_norm")
        _norm(spec.decoder.layer_norm, tensors, "decoder_norm")
    spec.decoder.projection.weight = tensors["output_weight"]
    spec.register_source_vocabulary([_name(token) for token in range(loaded.vocabularies.source.size)])
    spec.register_target_vocabulary([_name(token) for token in range(loaded.vocabularies.target.size)])
    spec.config.add_source_eos, spec.config.decoder_start_token = True, "<s>"
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = "<unk>", "<s>", "</s>"
    return spec


def _linear(part: Any, tensors: Tensors, names: Sequence[str]) -> None:
    part.weight = np.concatenate([tensors[f"{name}.weight"] for name in names])
    part.bias = np.concatenate([tensors[f"{name}.bias"] for name in names])


def _norm(part: Any, tensors: Tensors, name: str) -> None:
    part.gamma, part.beta = tensors[f"{name}.norm.weight"], tensors[f"{name}.norm.bias"]


def _attention(part: Any, tensors: Tensors, at: str, names: tuple[str, str], *, crosses: bool = False) -> None:
    query, key, value, output = (f"{at}.{names[0]}.{one}" for one in ("query", "key", "value", "output"))
    groups = [[query], [key, value], [output]] if crosses else [[query, key, value], [output]]
    for linear, group in zip(part.linear, groups, strict=True):
        _linear(linear, tensors, group)
    _norm(part.layer_norm, tensors, f"{at}.{names[1]}.norm")


def _feed_forward(part: Any, tensors: Tensors, at: str, residual: str) -> None:
    _linear(part.linear_0, tensors, [f"{at}.feed_forward.expand"])
    _linear(part.linear_1, tensors, [f"{at}.feed_forward.contract"])
    _norm(part.layer_norm, tensors, f"{at}.{residual}.norm")
