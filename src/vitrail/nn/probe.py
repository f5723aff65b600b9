"""Look inside by listening: named places in a model, and a way to hear what passes through them."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vitrail.errors import ModelError


class Probe(nn.Identity):
    """A named place where a tensor passes unchanged. It costs next to nothing until somebody listens.

    Its name is its path in the model, such as `decoder.0.cross_attention.weights`.
    """

    @property
    def heard(self) -> bool:
        """Whether somebody listens: then code may compute what it would otherwise skip."""
        return bool(self._forward_hooks)

    def __call__(self, values: Tensor) -> Tensor:
        """Pass a tensor on; through nn.Module, which made decoding one sentence 17 % slower, only where a hook wants to hear it."""
        if self._forward_hooks or self._forward_pre_hooks or self._backward_hooks:
            return super().__call__(values)
        return values


def shorten_lookups(model: nn.Module) -> None:
    """Make every probe of a model a plain attribute of the module that it belongs to. It stays a submodule as well.

    nn.Module finds a submodule only after a plain attribute of that name has been looked for in vain: 560 of the 710 ns that passing a
    silent probe takes in a tight loop. What it brings to greedy decoding is in docs/experiments.md.
    Assigning another module to the name takes both away, as nn.Module.__setattr__ does.
    """
    for module in model.modules():
        module.__dict__.update((name, child) for name, child in module.named_children() if isinstance(child, Probe))


def _is_compiled(module: nn.Module) -> bool:
    """Whether torch.compile(module) made it, or module.compile() changed it."""
    wrapped = isinstance(module, torch._dynamo.OptimizedModule)  # pyright: ignore[reportPrivateUsage]
    return wrapped or module._compiled_call_impl is not None  # pyright: ignore[reportPrivateUsage]


def refuse_compiled(model: nn.Module) -> None:
    """Raise ModelError for a model that is compiled, wholly or in part: its probes would be silent."""
    if any(_is_compiled(module) for module in model.modules()):
        raise ModelError(
            "a compiled model cannot be traced: its probes are silent", remedy="trace the model as it was before torch.compile"
        )


@contextmanager
def trace(model: nn.Module, *, only: Callable[[str], bool] | None = None) -> Generator[dict[str, list[Tensor]]]:
    """Record what passes through a model's Probes, all or those whose names `only` takes: name -> one tensor per call, detached, in order.

    While it is open, attention whose probes are heard takes the explicit path, which computes every intermediate value; it agrees with
    the fused one.
    Raises ModelError for a model that is compiled, wholly or in part: its probes would be silent.
    """
    refuse_compiled(model)
    seen: dict[str, list[Tensor]] = {}

    def listener(name: str):
        def listen(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen.setdefault(name, []).append(output.detach())

        return listen

    probes = {name: module for name, module in model.named_modules() if isinstance(module, Probe) and (only is None or only(name))}
    handles = [module.register_forward_hook(listener(name)) for name, module in probes.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
