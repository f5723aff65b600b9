"""The sources as data: modules, what imports what, circles among them. Read from the text; nothing of the package is imported."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).resolve().parents[1] / "src" / "vitrail"


class Import(NamedTuple):
    """One imported name."""

    module: str
    """In full: `vitrail.train.resume.checkpoints`, or a name in a module, `vitrail.errors.DataError`."""
    line: int
    at_top: bool
    """It runs as soon as the module is imported: not inside a function, and not for types alone."""


def module_files() -> list[Path]:
    """Every file of the package."""
    return sorted(SOURCE.rglob("*.py"))


def module_name(path: Path) -> str:
    """`vitrail.data.reading.parallel_text`; of a package's `__init__`, the package."""
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


@cache
def module_trees() -> Mapping[str, ast.Module]:
    """Every module's syntax tree."""
    return {module_name(path): ast.parse(path.read_text(encoding="utf-8"), path.as_posix()) for path in module_files()}


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every import of a module, wherever it stands."""

    def visit(node: ast.AST, at_top: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names=names):
                yield from (Import(name.name, node.lineno, at_top) for name in names)
            case ast.ImportFrom(module=module, level=level, names=names):
                assert level == 0 and module is not None, "imports name their module in full"
                # `from vitrail.train import state` imports a module, `from vitrail.errors import DataError` a name: either is enough here.
                yield from (Import(f"{module}.{name.name}", node.lineno, at_top) for name in names)
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=for_types, orelse=otherwise):
                for child in for_types:
                    yield from visit(child, False)
                for child in otherwise:
                    yield from visit(child, at_top)
            case _:
                inside = at_top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                for child in ast.iter_child_nodes(node):
                    yield from visit(child, inside)

    return visit(tree, True)


def module_of(name: str, trees: Mapping[str, ast.Module]) -> str | None:
    """The module that an imported name is, or is in. None: not one of these."""
    return name if name in trees else parent if (parent := name.rpartition(".")[0]) in trees else None


def import_graph(trees: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Module -> modules that it imports, lazily and for types included."""
    graph: dict[str, set[str]] = {}
    for name, tree in trees.items():
        found = {module_of(one.module, trees) for one in imports(tree)}
        graph[name] = {other for other in found if other is not None and other != name}
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """The sets of modules that reach each other, each sorted."""
    reach = {name: _reached(name, graph) for name in graph}
    found = {tuple(sorted({name} | {other for other in reach[name] if name in reach[other]})) for name in graph if name in reach[name]}
    return sorted(found)


def _reached(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [*graph[start]]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph[name]
    return seen
