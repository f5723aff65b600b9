"""The engines that read texts, by name. Each is imported when it is needed: torch takes seconds."""

from typing import Any

from vitrail.decode.encoding.engine import EncoderEngine, How
from vitrail.decode.engines.table import suitable
from vitrail.errors import UsageError
from vitrail.models.stored import StoredModel


def _engine_named(name: str) -> type[EncoderEngine]:
    if name == "native":
        from vitrail.decode.encoding.native import NativeEncoder

        return NativeEncoder
    from vitrail.decode.encoding.torch import TorchEncoder

    return TorchEncoder


def make_encoder(name: str, stored: StoredModel, how: How, *, among: tuple[str, ...] = ()) -> EncoderEngine:
    """The engine of a name, or for `auto` the first that can compute with a model, which says why others could not.

    Args:   among: the names of suitable engines; () for any.
    Raises: UsageError for an unknown engine, and where none can.
    """
    obstacles: list[str] = []
    for one in suitable(name, among=among):
        kind = _engine_named(one)
        obstacle = kind.obstacle(stored, how)
        if not obstacle:
            made = kind.of(stored, how)
            made.why = made.why or "; ".join(obstacles)
            return made
        obstacles.append(f"not {one}: {obstacle}")
    raise UsageError(f"engine {obstacles[-1].removeprefix('not ')}", remedy="engine auto, or torch")


def with_torch(model: Any) -> EncoderEngine:
    """An engine that has a model of torch."""
    from vitrail.decode.encoding.torch import TorchEncoder

    return TorchEncoder(model)
