"""Our Transformer in CTranslate2, by its public `TransformerSpec`."""

import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail.bench.translating.workers.serve import Carried


class CTranslate2Peer:
    """Settings: compute (int8, float32), inter and intra (workers, threads of each), batch and batch_type; tokens of every translation, if
    they are fixed."""

    versions: Mapping[str, str]

    def __init__(self, carried: "Carried") -> None:
        self._program: Any = import_module("ctranslate2")
        self.versions = {"ctranslate2": self._program.__version__}
        self._carried = carried
        self._translator: Any = None
        self._made: tuple[Any, ...] = ()

    def _ready(self, settings: Mapping[str, Any]) -> Any:
        wanted = (settings["compute"], settings["inter"], settings["intra"])
        if wanted != self._made:
            with tempfile.TemporaryDirectory() as folder:
                spec = _spec(self._program, self._carried)
                spec.validate()
                spec.save(folder)
                self._translator = self._program.Translator(
                    folder, device="cpu", compute_type=wanted[0], inter_threads=wanted[1], intra_threads=wanted[2]
                )
            self._made = wanted
        return self._translator

    def translate(self, texts: Sequence[str], beams: int, settings: Mapping[str, Any]) -> list[str]:
        """See `serve.Peer`."""
        translator = self._ready(settings)
        pieces = self._carried.source.encode(list(texts), out_type=str)
        found = translator.translate_batch(
            pieces,
            beam_size=beams,
            max_batch_size=settings.get("batch", 32),
            batch_type=settings.get("batch_type", "examples"),
            max_decoding_length=settings.get("tokens") or 2 * max(map(len, pieces)) + 50,
            min_decoding_length=settings.get("tokens") or 1,
            length_penalty=self._carried.description["length_penalty"],
        )
        return self._carried.target.decode([one.hypotheses[0] for one in found])

    def score(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], settings: Mapping[str, Any]) -> list[list[float]]:
        """The log-probabilities of the tokens of given translations, each with its end."""
        translator = self._ready(settings)
        sides = (self._carried.source, sources), (self._carried.target, targets)
        named = [[[vocabulary.id_to_piece(token) for token in row] for row in rows] for vocabulary, rows in sides]
        return [list(one.log_probs) for one in translator.score_batch(*named)]


def make(folder: Path, carried: "Carried") -> CTranslate2Peer:
    """The system."""
    del folder
    return CTranslate2Peer(carried)


def _spec(program: Any, carried: "Carried") -> Any:
    config, tensors = carried.description, carried.tensors
    specs: Any = program.specs
    activation = specs.Activation.RELU if config["activation"] == "relu" else specs.Activation.GELU
    layers = (config["encoder_layers"], config["decoder_layers"])
    spec = specs.TransformerSpec.from_config(layers, config["heads"], pre_norm=config["pre"], activation=activation)
    for side, part in (("source", spec.encoder), ("target", spec.decoder)):
        embeddings = part.embeddings[0] if side == "source" else part.embeddings
        embeddings.weight = tensors[f"{side}_embedding.weight"]
        part.scale_embeddings, part.position_encodings.encodings = True, tensors["positions"]
    for layer, part in enumerate(spec.encoder.layer):
        _attention(part.self_attention, tensors, f"encoder.{layer}", ("self_attention", "residual_1"))
        _feed_forward(part.ffn, tensors, f"encoder.{layer}", "residual_2")
    for layer, part in enumerate(spec.decoder.layer):
        _attention(part.self_attention, tensors, f"decoder.{layer}", ("self_attention", "residual_1"))
        _attention(part.attention, tensors, f"decoder.{layer}", ("cross_attention", "residual_2"), crosses=True)
        _feed_forward(part.ffn, tensors, f"decoder.{layer}", "residual_3")
    if config["pre"]:
        _norm(spec.encoder.layer_norm, tensors, "encoder_norm")
        _norm(spec.decoder.layer_norm, tensors, "decoder_norm")
    spec.decoder.projection.weight = tensors["output_weight"]
    spec.register_source_vocabulary([carried.source.id_to_piece(token) for token in range(carried.source.get_piece_size())])
    spec.register_target_vocabulary([carried.target.id_to_piece(token) for token in range(carried.target.get_piece_size())])
    spec.config.add_source_eos, spec.config.decoder_start_token = True, "<s>"
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = "<unk>", "<s>", "</s>"
    return spec


def _linear(part: Any, tensors: Mapping[str, Any], names: Sequence[str]) -> None:
    join: Any = import_module("numpy").concatenate
    part.weight = join([tensors[f"{name}.weight"] for name in names])
    part.bias = join([tensors[f"{name}.bias"] for name in names])


def _norm(part: Any, tensors: Mapping[str, Any], name: str) -> None:
    part.gamma, part.beta = tensors[f"{name}.norm.weight"], tensors[f"{name}.norm.bias"]


def _attention(part: Any, tensors: Mapping[str, Any], at: str, names: tuple[str, str], *, crosses: bool = False) -> None:
    query, key, value, output = (f"{at}.{names[0]}.{one}" for one in ("query", "key", "value", "output"))
    groups = [[query], [key, value], [output]] if crosses else [[query, key, value], [output]]
    for linear, group in zip(part.linear, groups, strict=True):
        _linear(linear, tensors, group)
    _norm(part.layer_norm, tensors, f"{at}.{names[1]}.norm")


def _feed_forward(part: Any, tensors: Mapping[str, Any], at: str, residual: str) -> None:
    _linear(part.linear_0, tensors, [f"{at}.feed_forward.expand"])
    _linear(part.linear_1, tensors, [f"{at}.feed_forward.contract"])
    _norm(part.layer_norm, tensors, f"{at}.{residual}.norm")
