"""Named probe points in a model, and hooks on them."""

import os
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from threading import Lock
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vitrail.errors import ModelError

ModuleType = TypeVar("ModuleType", bound=nn.Module)

Hook = Callable[[Any, tuple[Any, ...]], Any]
"""`hook(output, inputs)`: is called with the output and the inputs of a submodule. A returned value replaces the output; None keeps it."""

_HOOKS: ContextVar[Mapping[nn.Module, tuple[Hook, ...]]] = ContextVar("hooks", default={})  # noqa: B039  (never changed in place)
"""Hooks of this thread or task, by module: calls of the same model from others are neither recorded nor changed."""
_installed: dict[nn.Module, tuple[int, RemovableHandle]] = {}
"""Hooked modules: the number of their users, and the handle that removes `_run_hooks`."""
_installing = Lock()


class Probe(nn.Identity):
    """A named place where a tensor passes unchanged. It costs almost nothing without a hook.

    Its name is its path in the model, such as `decoder.0.cross_attention.weights`.
    """

    @property
    def is_hooked(self) -> bool:
        """Whether the caller has a hook here: then code may compute values that it would otherwise skip."""
        if not self._forward_hooks:
            return False
        return self in _HOOKS.get() or any(hook is not _run_hooks for hook in tuple(self._forward_hooks.values()))

    def __call__(self, values: Tensor) -> Tensor:
        """Return the tensor; nn.Module's call, which made decoding one sentence 17 % slower, is used only with a hook."""
        if self._forward_hooks or self._forward_pre_hooks or self._backward_hooks:
            return super().__call__(values)
        return values


def shorten_lookups(model: nn.Module) -> None:
    """Make every probe of a model a plain attribute of the module that it belongs to. It stays a submodule as well.

    nn.Module finds a submodule only after a failed lookup of a plain attribute: 560 of the 710 ns that a probe without a hook takes in a
    tight loop. The gain for greedy decoding is in docs/experiments.md. Assigning another module to the name removes both, as
    nn.Module.__setattr__ does.
    """
    for module in model.modules():
        module.__dict__.update((name, child) for name, child in module.named_children() if isinstance(child, Probe))


def without_bookkeeping(module: ModuleType) -> ModuleType:
    """The same module, for as long as none of its parts is exchanged: the same parameters and results, and less work in Python.

    nn.Module looks for hooks in each call, and for a parameter or submodule only after a failed lookup of a plain attribute. In a step of a
    search with few rows this takes longer than the tensors (docs/experiments.md). Here all are plain attributes, a call is `forward`, and
    torch's simplest layers are calls of what computes them. What has a hook, is compiled, or is not known to be safe, stays as it is, and
    so does every Probe.
    """
    return _plain(module)


def _plain(module: nn.Module) -> Any:
    kind = type(module)
    if module._forward_hooks or module._forward_pre_hooks or _is_compiled(module):  # pyright: ignore[reportPrivateUsage]
        return module
    if kind in _LAYERS:
        return _Layer(module)
    if (kind.__module__.split(".")[0] != "vitrail" and kind is not nn.Embedding) or kind.__call__ is not nn.Module.__call__:
        return module
    found = object.__new__(_plain_class(kind))
    plain = vars(found)
    plain |= vars(module) | module._parameters | module._buffers | {"_shown": module}  # pyright: ignore[reportPrivateUsage]
    for name, child in module._modules.items():  # pyright: ignore[reportPrivateUsage]
        if type(child) is nn.ModuleList:
            plain[name] = tuple(map(_plain, child))
        else:
            plain[name] = None if child is None else _plain(child)
    return found


_LAYERS: dict[type[nn.Module], Callable[[Any], Callable[[Tensor], Tensor]]] = {
    nn.Linear: lambda layer: partial(F.linear, weight=layer.weight, bias=layer.bias),
    nn.LayerNorm: lambda layer: partial(
        torch.layer_norm, normalized_shape=layer.normalized_shape, weight=layer.weight, bias=layer.bias, eps=layer.eps
    ),
    nn.RMSNorm: lambda layer: partial(torch.rms_norm, normalized_shape=layer.normalized_shape, weight=layer.weight, eps=layer.eps),
}
"""What computes torch's layers in evaluation."""


class _Layer(partial[Tensor]):
    """A layer as the call that computes it, without a step through Python; all its other attributes are the layer's own."""

    _shown: nn.Module

    def __new__(cls, shown: Any) -> "_Layer":
        """See above."""
        made: Any = super().__new__(cls, _LAYERS[type(shown)](shown))
        made._shown = shown
        return made

    def __getattr__(self, name: str) -> Any:
        """What is asked of the layer beside its call."""
        return getattr(self._shown, name)


@cache
def _plain_class(kind: type[nn.Module]) -> type[nn.Module]:
    """A class of the same methods."""

    def set_both(self: Any, name: str, value: object) -> None:
        """What a module changes of itself, such as a table that grows, is also changed in the one that is shown."""
        vars(self)[name] = value
        setattr(self._shown, name, value)

    make: Any = type(kind)
    return make(kind.__name__, (kind,), {"__call__": kind.forward, "__setattr__": set_both, "__module__": kind.__module__})


def _is_compiled(module: nn.Module) -> bool:
    """Whether it comes from torch.compile(module) or module.compile()."""
    compiler = sys.modules.get("torch._dynamo")  # seconds to import, and not there unless something was compiled
    return (compiler is not None and isinstance(module, compiler.OptimizedModule)) or module._compiled_call_impl is not None  # pyright: ignore[reportPrivateUsage]


def refuse_compiled(model: nn.Module) -> None:
    """Raise ModelError for a model that is compiled, wholly or in part: hooks do not run in it."""
    if any(_is_compiled(module) for module in model.modules()):
        raise ModelError(
            "a compiled model cannot be traced: hooks do not run in it", remedy="trace the model as it was before torch.compile"
        )


@contextmanager
def listen(model: nn.Module, hooks: Iterable[tuple[str, Hook]]) -> Generator[None]:
    """Run hooks on parts of a model for calls from this thread (or asyncio task) while this is open; they may change outputs.

    This is the only mechanism: tracing, gradients, statistics and edits are hooks. Another thread may use the same model meanwhile: no hook
    runs on its calls. Several hooks of a part run in order, each on the output of the one before; those of an outer `listen` run first. All
    are removed at the end.

    Args:   hooks: (path of a Probe or of any other submodule, hook).
    Raises: ModelError for a model that is compiled, wholly or in part: hooks do not run in it.
    """
    refuse_compiled(model)
    _wait_with_forks()
    ours, modules = dict(_HOOKS.get()), list[nn.Module]()
    for name, hook in hooks:
        module = model.get_submodule(name)
        ours[module] = (*ours.get(module, ()), hook)
        modules.append(module)
    _install(modules)
    token = _HOOKS.set(ours)
    try:
        yield
    finally:
        _HOOKS.reset(token)
        _uninstall(modules)


def _run_hooks(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    """The only hook registered with torch: it calls those of this thread."""
    for hook in _HOOKS.get().get(module, ()):
        answer = hook(output, inputs)
        output = output if answer is None else answer
    return output


def _install(modules: Iterable[nn.Module]) -> None:
    with _installing:
        for module in modules:
            count, handle = _installed.get(module) or (0, module.register_forward_hook(_run_hooks))
            _installed[module] = (count + 1, handle)


def _uninstall(modules: Iterable[nn.Module]) -> None:
    with _installing:
        for module in modules:
            count, handle = _installed.pop(module)
            if count > 1:
                _installed[module] = (count - 1, handle)
            else:
                handle.remove()


@cache
def _wait_with_forks() -> None:
    """No process is forked while another thread holds the lock: in the child nobody would ever release it."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_installing.acquire, after_in_parent=_installing.release, after_in_child=_installing.release)


@contextmanager
def trace(model: nn.Module, *, only: Callable[[str], bool] | None = None) -> Generator[dict[str, list[Tensor]]]:
    """Record the values of a model's Probes, all or those whose names `only` accepts: name -> one tensor per call, detached, in order.

    Only calls from this thread are recorded; see `listen`. Meanwhile attention with hooked probes takes the explicit path, which computes
    every intermediate value; it agrees with the fused one. Raises ModelError for a model that is compiled, wholly or in part: hooks do not
    run in it.
    """
    seen: dict[str, list[Tensor]] = {}

    def listener(name: str) -> Hook:
        def hear(output: Tensor, inputs: tuple[Tensor, ...]) -> None:
            seen.setdefault(name, []).append(output.detach())

        return hear

    with listen(model, ((name, listener(name)) for name in probes_of(model) if only is None or only(name))):
        yield seen


def listen_backward(values: Tensor, hook: Callable[[Tensor], None]) -> None:
    """Call a hook with the gradient of these values; never if they need no gradient."""
    if values.requires_grad:
        values.register_hook(hook)


def probes_of(model: nn.Module) -> list[str]:
    """The names of all Probes of a model, in the order of its parts."""
    return [name for name, module in model.named_modules() if isinstance(module, Probe)]
