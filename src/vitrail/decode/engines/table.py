"""The engines that there are, by name."""

from collections.abc import Collection, Mapping

from vitrail.decode.engines.engine import Engine
from vitrail.decode.engines.torch import TorchEngine
from vitrail.errors import UsageError

ENGINES: Mapping[str, type[Engine]] = {"torch": TorchEngine}
"""The first one that will do is what `auto` takes."""


def engine_kind(name: str, *, among: Collection[str] = ()) -> type[Engine]:
    """The engine of a name, or for `auto` the first.

    Args:   among: the names of those that will do; () for any.
    Raises: UsageError for one that there is not, or that will not do.
    """
    fit = [one for one in ENGINES if not among or one in among]
    if name == "auto":
        return ENGINES[fit[0]]
    if name not in ENGINES:
        raise UsageError(f"engine {name!r}", expected=f"auto or {' or '.join(ENGINES)}")
    if name not in fit:
        raise UsageError(f"engine {name} does not support inspection", expected=" or ".join(fit), remedy="engine auto")
    return ENGINES[name]
