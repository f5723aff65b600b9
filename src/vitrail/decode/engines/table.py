"""The engines by name."""

from collections.abc import Collection, Mapping

from vitrail.decode.engines.engine import Engine
from vitrail.decode.engines.torch import TorchEngine
from vitrail.errors import UsageError

ENGINES: Mapping[str, type[Engine]] = {"torch": TorchEngine}
"""`auto` takes the first suitable one."""


def engine_kind(name: str, *, among: Collection[str] = ()) -> type[Engine]:
    """The engine of a name, or the first for `auto`.

    Args:   among: the names of suitable engines; () for any.
    Raises: UsageError for an unknown or unsuitable engine.
    """
    fit = [one for one in ENGINES if not among or one in among]
    if name == "auto":
        return ENGINES[fit[0]]
    if name not in ENGINES:
        raise UsageError(f"engine {name!r}", expected=f"auto or {' or '.join(ENGINES)}")
    if name not in fit:
        raise UsageError(f"engine {name} does not support inspection", expected=" or ".join(fit), remedy="engine auto")
    return ENGINES[name]
