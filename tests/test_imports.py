"""The order of the rooms, read from the imports: each imports itself and what stands left of it; and no file imports itself on a detour.

Imports inside functions and for types alone count like all others: they are what one must know to read a file.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from source import SOURCE, circles, import_graph, imports, module_files, module_trees

ORDER = (
    *("errors", "version", "renamed", "config", "files", "runtime", "languages", "scoring", "reports"),
    *("nn", "native", "phrasebook", "data", "vectors", "models", "decode", "train", "evaluation", "ladder", "doctor", "inspection"),
    *("export", "serving", "bench", "experiments", "api", "commands", "cli"),
)
# The public names and `python -m vitrail`, which may name any room.
ABOVE_ALL = {"vitrail", "__init__", "__main__"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "requests"}
FORBIDDEN_CALLS = {"eval", "exec", "print", "torch.load", "torch.save", "numpy.load", "np.load"}


def calls(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


def room(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def faults(text: str, *, room: str) -> list[str]:
    """What the text of a module of a room may not do."""
    tree = ast.parse(text)
    found: list[str] = []
    for module, line, _ in imports(tree):
        parts = module.split(".")
        if parts[0] in FORBIDDEN_MODULES:
            found.append(f"{line}: imports {parts[0]}")
        inner = parts[1] if parts[0] == "vitrail" and len(parts) > 1 else None
        if inner is not None and not inner.startswith("__") and room not in ABOVE_ALL:
            if inner not in ORDER:
                found.append(f"{line}: {module} is in no room")
            elif ORDER.index(inner) > ORDER.index(room):
                found.append(f"{line}: {room} imports {inner}")
    return found + [f"{line}: calls {name}" for name, line in calls(tree) if name in FORBIDDEN_CALLS]


@pytest.mark.parametrize("path", module_files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_keeps_the_rules_of_its_room(path: Path) -> None:
    assert room(path) in ABOVE_ALL | set(ORDER), "a new room needs its place in ORDER"
    assert faults(path.read_text(encoding="utf-8"), room=room(path)) == []


def test_files_import_each_other_in_no_circles() -> None:
    assert circles(import_graph(module_trees())) == []


def test_the_command_line_and_preparation_start_without_torch() -> None:
    """Every module that cli.py, a verb and data/ load at once, however far down; what makes batches alone makes tensors."""
    trees = dict(module_trees())
    starts = [name for name in trees if name == "vitrail.cli" or name.startswith(("vitrail.commands", "vitrail.data"))]
    tensors = {"vitrail.data.batches", "vitrail.data.blocks", "vitrail.data.windows"}
    assert tensors <= set(starts)
    tensors |= {name for name in starts if name.startswith("vitrail.data.examples.")}
    for start in starts:
        if start not in tensors:
            assert "torch" not in {module.split(".")[0] for module in reached(start, trees)}, f"{start} loads torch"


def test_the_native_engine_translates_without_torch_and_numba() -> None:
    """Every module that a translator, its native engine and the command load at once."""
    trees = dict(module_trees())
    engine = "vitrail.decode.engines.native_engine"
    starts = ("translate", "generate", "sentences.embedding")
    for start in (
        *(f"vitrail.decode.{name}" for name in starts),
        engine,
        "vitrail.commands.translating.translate",
        "vitrail.native.machine_code",
    ):
        found = {module.split(".")[0] for module in reached(start, trees)}
        assert not found & {"torch", "numba", "llvmlite"}, start
        assert not any("safetensors.torch" in module for module in reached(start, trees)), start


def reached(start: str, trees: dict[str, ast.Module]) -> set[str]:
    """The names of all modules imported when `start` is, ours and others'."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in trees:
            waiting += [module for module, _, at_top in imports(trees[name]) if at_top]
            waiting += [name.rpartition(".")[0]] if "." in name else []
        elif name.startswith("vitrail.") and name.rpartition(".")[0] in trees:
            waiting.append(name.rpartition(".")[0])
    return seen


@pytest.mark.parametrize(
    ("text", "room", "fault"),
    [
        ("from vitrail.data.batches import Batch", "nn", "nn imports data"),
        ("def f():\n    from vitrail.train import loop", "decode", "decode imports train"),
        ("import vitrail.cli", "train", "train imports cli"),
        ("import pickle", "nn", "imports pickle"),
        ("from requests.adapters import HTTPAdapter", "data", "imports requests"),
        ("x = torch.load('m.pt')", "models", "calls torch.load"),
        ("print('x')", "train", "calls print"),
        ("eval('1')", "cli", "calls eval"),
    ],
)
def test_faults_are_found(text: str, room: str, fault: str) -> None:
    (found,) = faults(text, room=room)
    assert fault in found


def test_what_is_allowed_is_no_fault() -> None:
    text = "from vitrail import __version__\nfrom vitrail.errors import DataError\nfrom vitrail.data.batches import x\nmodel.eval()\n"
    assert faults(text, room="data") == []


def test_imports_inside_functions_and_for_types_are_not_at_the_top() -> None:
    tree = ast.parse("import a\nif TYPE_CHECKING:\n    import b\ntry:\n    import c\nexcept ImportError:\n    pass\ndef f():\n    import d")
    found = [(one.module, one.at_top) for one in imports(tree)]
    assert found == [("a", True), ("b", False), ("c", True), ("d", False)]


def test_a_circle_is_found_however_it_is_closed() -> None:
    texts = {
        "vitrail": "def load():\n    from vitrail.a import f",  # names every room and stands in no circle as long as none imports it
        "vitrail.a": "from vitrail.b import f\nimport os",
        "vitrail.b": "def g():\n    from vitrail.c import h",
        "vitrail.c": "if TYPE_CHECKING:\n    from vitrail.a import T",
        "vitrail.d": "from vitrail.a import f\nfrom vitrail import e",
        "vitrail.e": "import vitrail.a",
    }
    graph = import_graph({name: ast.parse(text) for name, text in texts.items()})
    assert graph["vitrail.d"] == {"vitrail.a", "vitrail.e"} and graph["vitrail"] == {"vitrail.a"}
    assert circles(graph) == [("vitrail.a", "vitrail.b", "vitrail.c")]
    graph["vitrail.c"].clear()
    assert circles(graph) == []
    graph["vitrail.a"].add("vitrail")
    assert circles(graph) == [("vitrail", "vitrail.a")]
