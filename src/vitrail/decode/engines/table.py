"""The engines by name."""

from collections.abc import Collection, Mapping, Sequence

import torch

from vitrail.decode.engines.engine import Engine
from vitrail.decode.engines.native_engine import NativeEngine
from vitrail.decode.engines.torch import TorchEngine
from vitrail.decode.search_config import BatchConfig
from vitrail.errors import UsageError
from vitrail.models.model_folder import LoadedModel

ENGINES: Mapping[str, type[Engine]] = {"native": NativeEngine, "torch": TorchEngine}
"""`auto` takes the first that can compute with the models."""


def suitable(name: str, *, among: Collection[str] = ()) -> list[type[Engine]]:
    """The engines to try for a name, best first; several for `auto`.

    Args:   among: the names of suitable engines; () for any.
    Raises: UsageError for an unknown or unsuitable engine.
    """
    fit = [one for one in ENGINES if not among or one in among]
    if name == "auto":
        return [ENGINES[one] for one in fit]
    if name not in ENGINES:
        raise UsageError(f"engine {name!r}", expected=f"auto or {' or '.join(ENGINES)}")
    if name not in fit:
        raise UsageError(f"engine {name} does not support inspection", expected=" or ".join(fit), remedy="engine auto")
    return [ENGINES[name]]


def make_engine(kinds: Sequence[type[Engine]], loaded: Sequence[LoadedModel], *, device: torch.device, config: BatchConfig) -> Engine:
    """The first of the engines that can compute with these models, which says why others could not.

    Raises UsageError where none can; ModelError where the models cannot form an ensemble.
    """
    obstacles: list[str] = []
    for kind in kinds:
        obstacle = kind.obstacle(loaded, device=device)
        if not obstacle:
            made = kind.of(loaded, device=device, config=config, alone=len(kinds) == 1)
            made.why = "; ".join(obstacles)
            return made
        obstacles.append(f"not {kind.name}: {obstacle}")
    raise UsageError(f"engine {obstacles[-1].removeprefix('not ')}", remedy="engine auto, or torch")
