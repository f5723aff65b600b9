"""The order of the rooms, read from the imports: each imports itself and what stands left of it."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "vitrail"
ORDER = (
    *(
        "errors",
        "cores",
        "streams",
        "config",
        "files",
        "heartbeat",
        "contention",
        "runtime",
        "languages",
        "scoring",
        "nn",
        "data",
        "models",
        "decode",
        "train",
    ),
    *("evaluation", "inspection", "export", "serving", "bench", "commands", "cli"),
)
# The public names and `python -m vitrail`, which may name any room.
ABOVE_ALL = {"vitrail", "__init__", "__main__"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "requests"}
FORBIDDEN_CALLS = {"eval", "exec", "print", "torch.load", "torch.save", "numpy.load", "np.load"}


class Import(NamedTuple):
    module: str
    line: int
    at_top: bool


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every import; `at_top` when it runs as soon as the module is imported."""

    def visit(node: ast.AST, at_top: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names=names):
                yield from (Import(name.name, node.lineno, at_top) for name in names)
            case ast.ImportFrom(module=module, level=level, names=names):
                assert level == 0 and module is not None, "imports name their module in full"
                # `from vitrail.train import state` imports a module, `from vitrail.errors import DataError` a name: either is enough here.
                yield from (Import(f"{module}.{name.name}", node.lineno, at_top) for name in names)
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=otherwise):
                for child in otherwise:
                    yield from visit(child, at_top)
            case _:
                inside = at_top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                for child in ast.iter_child_nodes(node):
                    yield from visit(child, inside)

    return visit(tree, True)


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


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_keeps_the_rules_of_its_room(path: Path) -> None:
    assert room(path) in ABOVE_ALL | set(ORDER), "a new room needs its place in ORDER"
    assert faults(path.read_text(encoding="utf-8"), room=room(path)) == []


def test_the_command_line_and_preparation_start_without_torch() -> None:
    """Every module that cli.py and data/ load at once, however far down; batches.py alone makes tensors."""
    trees = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in modules()}
    starts = [name for name in trees if name == "vitrail.cli" or name.startswith("vitrail.data")]
    assert "vitrail.data.batches" in starts
    for start in starts:
        if start != "vitrail.data.batches":
            assert "torch" not in {module.split(".")[0] for module in reached(start, trees)}, f"{start} loads torch"


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


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
    text = "from vitrail import __version__\nfrom vitrail.errors import DataError\nfrom vitrail.data.text import x\nmodel.eval()\n"
    assert faults(text, room="data") == []


def test_imports_inside_functions_and_for_types_are_not_at_the_top() -> None:
    tree = ast.parse("import a\nif TYPE_CHECKING:\n    import b\ntry:\n    import c\nexcept ImportError:\n    pass\ndef f():\n    import d")
    assert [(one.module, one.at_top) for one in imports(tree)] == [("a", True), ("c", True), ("d", False)]
