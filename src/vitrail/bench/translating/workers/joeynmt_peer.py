"""Our Transformer as a model of JoeyNMT, with its `search`. All weights are ours, the table of positions too."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail.bench.translating.workers.serve import Carried

_PAD, _UNK, _SOS, _EOS = 0, 1, 2, 3


class _Vocabulary:
    """What JoeyNMT asks of a vocabulary, with our ids."""

    pad_index, unk_index, bos_index, eos_index, sep_index = _PAD, _UNK, _SOS, _EOS, None
    lang_tags: tuple[str, ...] = ()
    specials = (_PAD, _UNK, _SOS, _EOS)

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def lookup(self, token: int) -> int:
        """Its id."""
        return token


class JoeyPeer:
    """Settings: threads, batch (sentences, sorted by length)."""

    versions: Mapping[str, str]

    def __init__(self, carried: "Carried") -> None:
        self._torch: Any = import_module("torch")
        self.versions = {"joeynmt": version("joeynmt"), "torch": self._torch.__version__}
        self._search: Any = import_module("joeynmt.search").search
        self._carried, self._model = carried, _build(self._torch, carried)

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
            written, _, _ = self._search(
                self._model,
                batch,
                max_output_length=2 * batch.src.shape[1] + 50,
                beam_size=beams,
                beam_alpha=self._carried.description["length_penalty"],
                generate_unk=False,
            )
            for number, row in zip(numbers, written.tolist(), strict=True):
                found[number] = [token for token in (row[: row.index(_EOS)] if _EOS in row else row) if token > _EOS]
        return self._carried.target.decode(found)

    def score(self, source: Sequence[int], target: Sequence[int]) -> list[float]:
        """The log-probabilities of the tokens of one given translation, with its end."""
        torch = self._torch
        asked = torch.tensor([[_SOS, *target]])
        with torch.inference_mode():
            seen = torch.ones(1, 1, asked.shape[1], dtype=torch.bool)
            batch = self._batch([[*source, _EOS]])
            memory, last, _, _ = self._model(return_type="encode", **vars(batch))
            read = {"encoder_output": memory, "encoder_hidden": last, "src_mask": batch.src_mask, "trg_mask": seen}
            logits = self._model(return_type="decode", trg_input=asked, unroll_steps=None, decoder_hidden=None, **read)[0][0]
        return logits.log_softmax(1).gather(1, torch.tensor([[*target, _EOS]]).t()).flatten().tolist()

    def _batch(self, rows: Sequence[Sequence[int]]) -> Any:
        longest = max(map(len, rows))
        ids = self._torch.tensor([[*row, *[_PAD] * (longest - len(row))] for row in rows])
        lengths = self._torch.tensor([len(row) for row in rows])
        return SimpleNamespace(src=ids, src_length=lengths, src_mask=(ids != _PAD)[:, None], has_trg=False)


def make(folder: Path, carried: "Carried") -> JoeyPeer:
    """The system."""
    del folder
    return JoeyPeer(carried)


def _build(torch: Any, carried: "Carried") -> Any:
    config, tensors = carried.description, carried.tensors
    side = {
        "type": "transformer",
        "hidden_size": config["width"],
        "ff_size": config["feed_forward"],
        "num_heads": config["heads"],
        "layer_norm": "pre" if config["pre"] else "post",
        "activation": config["activation"],
        "embeddings": {"embedding_dim": config["width"], "scale": True},
    }
    wanted = {name: {**side, "num_layers": config[f"{name}_layers"]} for name in ("encoder", "decoder")}
    sizes = [len(tensors[f"{name}_embedding.weight"]) for name in ("source", "target")]
    model = import_module("joeynmt.model").build_model(wanted, *map(_Vocabulary, sizes)).eval()
    state = {"src_embed.lut.weight": tensors["source_embedding.weight"], "trg_embed.lut.weight": tensors["target_embedding.weight"]}
    state["decoder.output_layer.weight"] = tensors["output_weight"]
    for name in ("encoder", "decoder"):
        state[f"{name}.pe.pe"] = tensors["positions"][None]
        for layer in range(config[f"{name}_layers"]):
            state |= _layer(name, layer, tensors)
        if config["pre"]:
            state |= _pair(f"{name}.layer_norm", tensors, f"{name}_norm.norm")
        getattr(model, name).pe.pe = torch.zeros(1, *tensors["positions"].shape)
    model.load_state_dict({name: torch.from_numpy(one) for name, one in state.items()})
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = config["epsilon"]
    return model


def _pair(name: str, tensors: Mapping[str, Any], ours: str) -> dict[str, Any]:
    return {f"{name}.weight": tensors[f"{ours}.weight"], f"{name}.bias": tensors[f"{ours}.bias"]}


def _layer(side: str, layer: int, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of one layer by their names."""
    at, ours = f"{side}.layers.{layer}", f"{side}.{layer}"
    decodes = side == "decoder"
    parts = {"trg_trg_att": "self_attention", "src_trg_att": "cross_attention"} if decodes else {"src_src_att": "self_attention"}
    norms = ["x_layer_norm", "dec_layer_norm", "feed_forward.layer_norm"] if decodes else ["layer_norm", "feed_forward.layer_norm"]
    found: dict[str, Any] = {}
    for theirs, own in parts.items():
        for name, part in (("q_layer", "query"), ("k_layer", "key"), ("v_layer", "value"), ("output_layer", "output")):
            found |= _pair(f"{at}.{theirs}.{name}", tensors, f"{ours}.{own}.{part}")
    for number, part in (("0", "expand"), ("3", "contract")):
        found |= _pair(f"{at}.feed_forward.pwff_layer.{number}", tensors, f"{ours}.feed_forward.{part}")
    for number, name in enumerate(norms, start=1):
        found |= _pair(f"{at}.{name}", tensors, f"{ours}.residual_{number}.norm.norm")
    return found
