"""How long decoding takes with silent probes against the same code without them: `OMP_NUM_THREADS=1 python tests/nn/probe_cost.py`."""

import ast
import copy
import inspect
import random
import statistics
import sys
import time

import torch
from torch import nn

from vitrail.data.vocabularies.subwords import SOS
from vitrail.models.configs.transformer import PRESETS
from vitrail.models.kinds.transformer import Transformer
from vitrail.nn.probe import Probe, shorten_lookups

ROUNDS, STEPS, VOCABULARY = 120, 20, 8000


class Without(ast.NodeTransformer):
    """`self.name(x)` becomes `x` for the named probes, and `.heard` False."""

    def __init__(self, probes: set[str]) -> None:
        self.probes = probes

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Leave the call away."""
        self.generic_visit(node)
        match node.func:
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if name in self.probes:
                return node.args[0]
            case _:
                return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Nobody listens."""
        self.generic_visit(node)
        return ast.Constant(False) if node.attr == "heard" else node


def twin(model: Transformer) -> Transformer:
    """A copy that shares its tensors: where these lie in memory makes a difference, too."""
    return copy.deepcopy(model, memo={id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


def without_probes(model: Transformer) -> Transformer:
    """A copy of a model whose classes never mention a probe."""
    plain = twin(model)
    made: dict[type, type] = {}
    for module in plain.modules():
        kind = type(module)
        probes = {name for name, child in module.named_children() if isinstance(child, Probe)}
        if probes and kind not in made:
            tree = ast.fix_missing_locations(Without(probes).visit(ast.parse(inspect.getsource(kind))))
            names = dict(vars(sys.modules[kind.__module__]))
            exec(compile(tree, kind.__name__, "exec"), names)
            made[kind] = names[kind.__name__]
        if probes:
            module.__class__ = made[kind]
    return plain


@torch.inference_mode()
def decode(model: Transformer, source: torch.Tensor) -> list[int]:
    """Translate one sentence greedily, `STEPS` tokens."""
    state, last = model.start(model.encode(source)), torch.tensor([SOS])
    found: list[int] = []
    for _ in range(STEPS):
        step = model.step(last, state)
        state, last = step.state, step.logits.argmax(1)
        found.append(int(last))
    return found


def main() -> None:
    """Alternate between the models; ratios are of runs in the same round, as a busy machine changes its pace."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Transformer(PRESETS["tiny"], source_vocabulary=VOCABULARY, target_vocabulary=VOCABULARY).eval()
    short = twin(model)
    shorten_lookups(short)
    models = {"without": without_probes(model), "without, again": without_probes(model), "submodules": model, "shortened": short}
    source = torch.randint(4, VOCABULARY, (1, 12))
    for probe in (part for part in models["without"].modules() if isinstance(part, Probe)):
        probe.register_forward_hook(_never)
    assert len({tuple(decode(one, source)) for one in models.values()}) == 1
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name in random.sample(list(models), len(models)):
            before = time.thread_time()
            decode(models[name], source)
            seconds[name].append(time.thread_time() - before)
    for name, times in seconds.items():
        ratios = sorted(one / other for one, other in zip(times, seconds["without"], strict=True))
        low, high = ratios[ROUNDS // 4], ratios[3 * ROUNDS // 4]
        step = 1000 * statistics.median(times) / STEPS
        sys.stdout.write(f"{name:14} {step:.3f} ms a step, median x{statistics.median(ratios):.3f} (quartiles x{low:.3f}-{high:.3f})\n")


def _never(module: nn.Module, inputs: object, output: object) -> None:
    raise AssertionError("a probe was passed")


if __name__ == "__main__":
    main()
