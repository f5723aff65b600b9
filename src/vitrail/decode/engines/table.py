"""The engines by name. Each is imported when it is needed: torch takes seconds."""

from collections.abc import Callable, Collection, Mapping, Sequence

from vitrail.decode.engines.engine import Engine
from vitrail.decode.search_config import BatchConfig
from vitrail.errors import UsageError
from vitrail.models.stored import StoredModel
from vitrail.runtime.machine import Device


def _native() -> type[Engine]:
    from vitrail.decode.engines.native_engine import NativeEngine

    return NativeEngine


def _torch() -> type[Engine]:
    from vitrail.decode.engines.torch import TorchEngine

    return TorchEngine


ENGINES: Mapping[str, Callable[[], type[Engine]]] = {"native": _native, "torch": _torch}
"""`auto` takes the first that can compute with the models."""


def engine_named(name: str) -> type[Engine]:
    """The class of an engine. Raises UsageError for an unknown one."""
    _require_known(name)
    return ENGINES[name]()


def _require_known(name: str) -> None:
    if name not in ENGINES:
        raise UsageError(f"engine {name!r}", expected=f"auto or {' or '.join(ENGINES)}")


def suitable(name: str, *, among: Collection[str] = ()) -> list[str]:
    """The engines to try for a name, best first; several for `auto`.

    Args:   among: the names of suitable engines; () for any.
    Raises: UsageError for an unknown or unsuitable engine.
    """
    fit = [one for one in ENGINES if not among or one in among]
    if name == "auto":
        return fit
    _require_known(name)
    if name not in fit:
        raise UsageError(f"engine {name} does not support inspection", expected=" or ".join(fit), remedy="engine auto")
    return [name]


def make_engine(names: Sequence[str], stored: Sequence[StoredModel], *, device: Device, threads: int | None, config: BatchConfig) -> Engine:
    """The first of the engines that can compute with these models, which says why others could not.

    Raises UsageError where none can, ModelError where the models cannot form an ensemble.
    """
    obstacles: list[str] = []
    for name in names:
        kind = engine_named(name)
        obstacle = kind.obstacle(stored, device=device)
        if not obstacle:
            made = kind.of(stored, device=device, threads=threads, config=config, alone=len(names) == 1)
            made.why = "; ".join(obstacles)
            return made
        obstacles.append(f"not {name}: {obstacle}")
    raise UsageError(f"engine {obstacles[-1].removeprefix('not ')}", remedy="engine auto, or torch")
