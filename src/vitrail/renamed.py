"""Old names of documented modules and functions: they work for one more release, with a DeprecationWarning."""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])

MODULES = {
    "vitrail.inspection.attribution": "vitrail.inspection.causes.attribution",
    "vitrail.inspection.change": "vitrail.inspection.causes.change",
    "vitrail.inspection.doctor": "vitrail.doctor",
    "vitrail.inspection.doctor.examine": "vitrail.doctor.examine",
    "vitrail.inspection.figures": "vitrail.inspection.drawing.figures",
    "vitrail.inspection.lens": "vitrail.inspection.causes.lens",
    "vitrail.inspection.whole": "vitrail.inspection.complete",
    "vitrail.models.folder": "vitrail.models.model_folder",
    "vitrail.train.api": "vitrail.api",
}
"""Old module -> new one."""


def warn(old: str, new: str) -> None:
    """Warn the caller's caller that a name has changed."""
    warnings.warn(f"{old} is now {new}; the old name goes away with the next release", DeprecationWarning, stacklevel=3)


def names(package: str, moved: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` for its old names. Args: moved: name -> module in which it is now, or module:new name."""

    def find(name: str) -> Any:
        if name not in moved:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, _, new = moved[name].partition(":")
        warn(f"{package}.{name}", f"{home}.{new or name}")
        return getattr(import_module(home), new or name)

    return find


def keywords(**moved: str) -> Callable[[_Function], _Function]:
    """Decorate a function so that it accepts old keyword names too. Args: moved: old name = new name."""

    def decorate(function: _Function) -> _Function:
        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            for old, new in moved.items():
                if old in named:
                    warn(f"{old}=", f"{new}=")
                    named[new] = named.pop(old)
            return function(*arguments, **named)

        return call  # pyright: ignore[reportReturnType]

    return decorate


class _Renamed(MetaPathFinder, Loader):
    """Imports an old module as an empty one that gets every name from the new one."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        return ModuleSpec(fullname, self, is_package=any(one.startswith(f"{fullname}.") for one in MODULES))

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        new = MODULES[module.__name__]
        warn(module.__name__, new)
        source = import_module(new)
        module.__getattr__ = lambda name: getattr(source, name)  # pyright: ignore[reportAttributeAccessIssue]


def install() -> None:
    """Make the old modules importable. Searched last: existing modules are found first."""
    sys.meta_path.append(_Renamed())
