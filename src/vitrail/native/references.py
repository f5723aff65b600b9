"""Named tuples that compiled functions hand to each other by reference.

By value, a call copies every number of a tuple: a model, its memory and a search have more than 150 arrays of seven words each, and a call
of a function with all of them takes half a microsecond. By reference it takes three pointers. A field of a reference is a reference, too,
or a value where it is small; see `goes_by_reference`.
"""

from typing import Any, cast

from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import register_model

from vitrail.native.lowering import inlined

_FEW = 8
"""Numbers that a call hands over as they are."""


class Reference(types.Type):
    """Where a named tuple is in memory."""

    def __init__(self, held: Any) -> None:
        self.held = held
        super().__init__(name=f"reference to {held}")


@register_model(Reference)
class _ReferenceModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, manager.lookup(kind.held).get_value_type().as_pointer())


def goes_by_reference(kind: Any) -> bool:
    """Whether it is a named tuple with arrays or tuples in it, or one of many numbers."""
    if not isinstance(kind, types.BaseNamedTuple):
        return False
    parts: tuple[Any, ...] = tuple(cast(Any, kind))
    return len(parts) > _FEW or any(isinstance(part, types.Array | types.BaseTuple) for part in parts)


def by_reference(kind: Any) -> Any:
    """The type that a function gets for a named tuple; other types are what they are."""
    return Reference(kind) if goes_by_reference(kind) else kind


@infer_getattr
class _Fields(AttributeTemplate):
    key = Reference

    def generic_resolve(self, kind: Any, name: str) -> Any:
        return by_reference(kind.held[kind.held.fields.index(name)]) if name in kind.held.fields else None


@lower_getattr_generic(Reference)
def _field(context: Any, builder: Any, kind: Any, value: Any, name: str) -> Any:
    number = kind.held.fields.index(name)
    place = cgutils.gep_inbounds(builder, value, 0, number)
    return place if goes_by_reference(kind.held[number]) else builder.load(place)


@inlined
def refer(typingctx: Any, value: Any) -> Any:
    """A reference to a named tuple that a function was given by value; it is good until that function ends."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        place = cgutils.alloca_once(builder, args[0].type)
        builder.store(args[0], place)
        return place

    return Reference(value)(value), code
