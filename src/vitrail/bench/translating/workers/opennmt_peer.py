"""Our Transformer as a model of OpenNMT-py, with its `Translator`: pre-norm alone, as its layers are. All weights are ours, the table of
positions too."""

import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail.bench.translating.workers.serve import Carried

_PAD, _UNK, _SOS, _EOS = 0, 1, 2, 3
_NAMES = {"<blank>": _PAD, "<unk>": _UNK, "<s>": _SOS, "</s>": _EOS}
"""Its names of our ids."""


class _Vocabulary:
    """What its translator asks of a vocabulary, with our ids."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def lookup_token(self, token: str) -> int:
        """The id of a special token."""
        return _NAMES[token]


class OpenNMTPeer:
    """Settings: threads, batch (sentences, sorted by length)."""

    versions: Mapping[str, str]

    def __init__(self, carried: "Carried") -> None:
        warnings.simplefilter("ignore")
        self._torch: Any = import_module("torch")
        self.versions = {"OpenNMT-py": version("OpenNMT-py"), "torch": self._torch.__version__}
        self._carried, self._model = carried, _build(self._torch, carried)
        translating: Any = import_module("onmt.translate.translator")
        scorer: Any = import_module("onmt.translate.beam_search").GNMTGlobalScorer
        vocabulary = _Vocabulary(len(carried.tensors["output_weight"]))
        self._translator: Any = translating.Translator(
            self._model,
            {"src": vocabulary, "tgt": vocabulary},
            dump_beam="",
            ban_unk_token=True,
            global_scorer=scorer(carried.description["length_penalty"], 0.0, "wu", "none"),
        )

    def translate(self, texts: Sequence[str], beams: int, settings: Mapping[str, Any]) -> list[str]:
        """See `serve.Peer`."""
        self._torch.set_num_threads(settings["threads"])
        rows = [[*row, _EOS] for row in self._carried.source.encode(list(texts))]
        order = sorted(range(len(rows)), key=lambda number: -len(rows[number]))
        found: list[list[int]] = [[] for _ in rows]
        size = settings.get("batch", 64)
        for first in range(0, len(rows), size):
            numbers = order[first : first + size]
            batch = self._batch([rows[number] for number in numbers])
            self._translator.beam_size, self._translator.max_length = beams, 2 * batch["src"].shape[1] + 50
            written = self._translator.translate_batch(batch, False)["predictions"]
            for number, best in zip(numbers, written, strict=True):
                found[number] = [token for token in best[0].tolist() if token > _EOS]
        return self._carried.target.decode(found)

    def score(self, source: Sequence[int], target: Sequence[int]) -> list[float]:
        """The log-probabilities of the tokens of one given translation, with its end."""
        torch = self._torch
        with torch.inference_mode():
            batch = self._batch([[*source, _EOS]])
            memory, _, lengths = self._model.encoder(batch["src"], batch["srclen"])
            self._model.decoder.init_state(batch["src"], memory, None)
            hidden, _ = self._model.decoder(torch.tensor([[_SOS, *target]])[:, :, None], memory, src_len=lengths)
            logits = self._model.generator(hidden[0])
        return logits.log_softmax(1).gather(1, torch.tensor([[*target, _EOS]]).t()).flatten().tolist()

    def _batch(self, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        longest = max(map(len, rows))
        ids = self._torch.tensor([[*row, *[_PAD] * (longest - len(row))] for row in rows])
        return {"src": ids[:, :, None], "srclen": self._torch.tensor([len(row) for row in rows])}


def make(folder: Path, carried: "Carried") -> OpenNMTPeer:
    """The system. Raises ValueError for a model that OpenNMT-py does not have."""
    del folder
    if not carried.description["pre"]:
        raise ValueError("its layers have the norm before each part, not behind")
    return OpenNMTPeer(carried)


def _build(torch: Any, carried: "Carried") -> Any:
    config, tensors = carried.description, carried.tensors
    activation = import_module("onmt.modules.position_ffn").ActivationFunction
    shared = {
        "d_model": config["width"],
        "heads": config["heads"],
        "d_ff": config["feed_forward"],
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "max_relative_positions": 0,
        "pos_ffn_activation_fn": activation.relu if config["activation"] == "relu" else activation.gelu,
        "add_qkvbias": True,
    }
    more = {"copy_attn": False, "self_attn_type": "scaled-dot", "aan_useffn": False}
    more |= {"full_context_alignment": False, "alignment_layer": 0, "alignment_heads": 0}
    make_embeddings: Any = import_module("onmt.modules.embeddings").Embeddings
    encoder_kind: Any = import_module("onmt.encoders.transformer").TransformerEncoder
    decoder_kind: Any = import_module("onmt.decoders.transformer").TransformerDecoder
    embeddings = [
        make_embeddings(config["width"], len(tensors[f"{side}_embedding.weight"]), _PAD, position_encoding=True)
        for side in ("source", "target")
    ]
    encoder = encoder_kind(config["encoder_layers"], embeddings=embeddings[0], **shared)
    decoder = decoder_kind(config["decoder_layers"], embeddings=embeddings[1], **shared, **more)
    model = import_module("onmt.models.model").NMTModel(encoder, decoder)
    model.generator = torch.nn.Linear(config["width"], len(tensors["output_weight"]), bias=False)
    state = {"generator.weight": tensors["output_weight"]}
    for half, side in (("encoder", "source"), ("decoder", "target")):
        at = f"{half}.embeddings.make_embedding"
        state |= {f"{at}.emb_luts.0.weight": tensors[f"{side}_embedding.weight"], f"{at}.pe.pe": tensors["positions"][:, None]}
        state |= _pair(f"{half}.layer_norm", tensors, f"{half}_norm.norm")
        for layer in range(config[f"{half}_layers"]):
            state |= _layer(half, layer, tensors)
        getattr(model, half).embeddings.make_embedding.pe.pe = torch.zeros(*tensors["positions"][:, None].shape)
    model.load_state_dict({name: torch.from_numpy(one) for name, one in state.items()})
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = config["epsilon"]
    return model.eval()


def _pair(name: str, tensors: Mapping[str, Any], ours: str) -> dict[str, Any]:
    return {f"{name}.weight": tensors[f"{ours}.weight"], f"{name}.bias": tensors[f"{ours}.bias"]}


def _layer(half: str, layer: int, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of one layer by their names."""
    decodes = half == "decoder"
    at, ours = f"{half}.{'transformer_layers' if decodes else 'transformer'}.{layer}", f"{half}.{layer}"
    parts = {"self_attn": "self_attention"} | ({"context_attn": "cross_attention"} if decodes else {})
    norms = ["layer_norm_1", "layer_norm_2"] if decodes else ["layer_norm"]
    found: dict[str, Any] = {}
    for theirs, own in parts.items():
        for name, part in (("linear_query", "query"), ("linear_keys", "key"), ("linear_values", "value"), ("final_linear", "output")):
            found |= _pair(f"{at}.{theirs}.{name}", tensors, f"{ours}.{own}.{part}")
    for name, part in (("w_1", "expand"), ("w_2", "contract")):
        found |= _pair(f"{at}.feed_forward.{name}", tensors, f"{ours}.feed_forward.{part}")
    for number, name in enumerate([*norms, "feed_forward.layer_norm"], start=1):
        found |= _pair(f"{at}.{name}", tensors, f"{ours}.residual_{number}.norm.norm")
    return found
