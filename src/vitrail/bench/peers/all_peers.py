"""Which peers each kind of model has: a row for each kind."""

from collections.abc import Callable, Sequence
from typing import Any

from vitrail.bench.peers.recurrent_peers import recurrent_peers
from vitrail.bench.peers.systems import Peer, System
from vitrail.bench.peers.transformer_peers import transformer_peers
from vitrail.models.architectures import ModelConfig
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.runtime.device import Precision

_PEERS: dict[type, Callable[[Any], tuple[Peer, ...]]] = {TransformerConfig: transformer_peers, RecurrentConfig: recurrent_peers}


def peers_of(model: ModelConfig) -> tuple[Peer, ...]:
    """The peers of a model."""
    return _PEERS[type(model)](model)


def all_systems(model: ModelConfig, precision: Precision) -> tuple[System, ...]:
    """Vitrail as it trains and in fp32; the peers in every combination of settings that affects their speed."""
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
