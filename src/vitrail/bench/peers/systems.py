"""What `vitrail bench train` measures: ours, and the models of other makers that are of the same kind."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from vitrail.models.build import ModelConfig
from vitrail.models.recurrent import RecurrentConfig
from vitrail.models.transformer import TransformerConfig
from vitrail.runtime.device import Precision

Maker = Literal["vitrail", "torch", "marian", "joeynmt"]
Way = Literal["as it comes", "fused attention", "explicit attention", "packed sequences", "padded sequences"]
"""Where a maker leaves a choice that changes its speed: torch's attention kernels, or what its recurrent kernels are given."""

_HUGGING_FACE = "pip install 'vitrail[hf]'"
_JOEY = "pip install --no-deps --target FOLDER joeynmt==2.3.0 'importlib_metadata<8.6' zipp subword-nmt mock, then PYTHONPATH=FOLDER"


@dataclass(frozen=True)
class System:
    """Something to measure: whose model, and under which settings."""

    maker: Maker
    precision: Precision
    keep_memory: bool
    way: Way = "as it comes"

    def to_text(self) -> str:
        """The settings that a maker was measured with."""
        memory = "freed memory kept" if self.keep_memory else "memory as by default"
        return memory if self.way == "as it comes" else f"{memory}, {self.way}"


class Peer(NamedTuple):
    """Another maker's model of the same kind as ours."""

    maker: Maker
    title: str
    ways: tuple[Way, ...]
    packages: tuple[str, ...] = ()
    """What must be installed for it."""
    remedy: str = ""
    lacks: str = ""
    """Why it cannot be this model, if it cannot."""

    def obstacle(self) -> str:
        """Why it cannot be measured here; empty where it can."""
        if self.lacks:
            return self.lacks
        return "" if all(map(is_installed, self.packages)) else f"not installed: {self.remedy}"


def is_installed(package: str) -> bool:
    """Whether a package can be imported; it is not imported."""
    return importlib.util.find_spec(package) is not None


def peers_of(model: ModelConfig) -> tuple[Peer, ...]:
    """Whom a model is held against."""
    match model:
        case TransformerConfig():
            attention: tuple[Way, ...] = ("fused attention", "explicit attention")
            return (
                Peer("torch", "torch.nn.Transformer", attention),
                Peer("marian", "Hugging Face MarianMT", attention, ("transformers",), _HUGGING_FACE),
            )
        case RecurrentConfig():
            layer = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"}[model.cell]
            needed = ("joeynmt", "importlib_metadata", "subword_nmt")
            sequences: tuple[Way, ...] = ("packed sequences", "padded sequences")
            return (
                Peer("torch", f"torch.nn.{layer} loop", sequences, lacks=_peers_lack(model)),
                Peer("joeynmt", "JoeyNMT", ("as it comes",), needed, _JOEY, _joey_lacks(model)),
            )


def _peers_lack(model: RecurrentConfig) -> str:
    """Settings that neither peer has."""
    extras = {
        "model.norm": model.norm != "none",
        "model.residual": model.residual,
        "model.reverse_source": model.reverse_source,
        "model.variational": model.variational,
        "model.word_dropout": model.word_dropout > 0,
        "model.truncate": model.truncate is not None,
    }
    found = [name for name, used in extras.items() if used]
    return f"has no {', '.join(found)}" if found else ""


def _joey_lacks(model: RecurrentConfig) -> str:
    """What JoeyNMT 2.3.0 has no recurrent model for."""
    if lacks := _peers_lack(model):
        return lacks
    if model.attention not in ("bahdanau", "luong-general"):
        return "has bahdanau and luong-general attention, and no recurrent model with another or without"
    if model.cell == "rnn":
        return "has the cells gru and lstm alone"
    return "" if model.bidirectional else "has bidirectional encoders alone"


def all_systems(model: ModelConfig, precision: Precision) -> tuple[System, ...]:
    """Vitrail as it trains and in fp32; the peers in every combination of settings that could make them fastest."""
    ours = [System("vitrail", chosen, keep_memory=True) for chosen in dict.fromkeys((precision, "fp32"))]
    precisions: Sequence[Precision] = ("fp32", "bf16")
    peers = [
        System(peer.maker, chosen, keep, way)
        for peer in peers_of(model)
        for chosen in precisions
        for keep in (False, True)
        for way in peer.ways
    ]
    return (*ours, *peers)
