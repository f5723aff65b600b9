"""Public names of the package that nothing in it uses, read from the text: what only tests call is either to be shipped or to go."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

from source import imports

CALLED_BY_OTHERS = re.compile(r"forward|extra_repr|visit_\w+|model_\w+|emit|default|write|flush|read\w+|seek\w*")
"""Methods that libraries call by name."""
TURNED_INTO_OTHERS = re.compile(r"validator|serializer|overload|\.command|\.callback")
"""Decorators after which a library calls the function."""

Trees = Mapping[str, ast.Module]


def definitions(trees: Trees) -> Iterator[tuple[str, str, ast.stmt]]:
    """Every public class, function and named value of a module: (module, name, statement)."""
    for module, tree in trees.items():
        for node in tree.body:
            match node:
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                    names = [name]
                case ast.Assign(targets=targets):
                    names = [one.id for one in targets if isinstance(one, ast.Name)]
                case ast.AnnAssign(target=ast.Name(id=name)):
                    names = [name]
                case _:
                    names = []
            yield from ((module, name, node) for name in names if not name.startswith("_"))


def used_elsewhere(trees: Trees) -> set[tuple[str, str]]:
    """(module, name) of every name that another module imports, or reaches through its module.

    What a package's `__init__` hands on counts where somebody takes it from there; what `vitrail` itself hands on is for users.
    """
    taken: set[tuple[str, str]] = set()
    handed_on: dict[tuple[str, str], tuple[str, str]] = {}
    for module, tree in trees.items():
        aliases: dict[str, str] = {}
        read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        for one in imports(tree):
            home, _, name = one.module.rpartition(".")
            if one.module in trees:
                aliases[name] = one.module
            elif home.startswith(f"{module}.") and module != "vitrail" and name not in read:
                handed_on[module, name] = (home, name)
            else:
                taken.add((home, name))
        reached = [(node.value, node.attr) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        taken |= {(aliases[value.id], attr) for value, attr in reached if isinstance(value, ast.Name) and value.id in aliases}
    return taken | {home for name, home in handed_on.items() if name in taken}


def used_at_home(tree: ast.Module) -> dict[str, list[int]]:
    """Name -> the lines on which a module reads it, also within quoted annotations."""
    lines: dict[str, list[int]] = defaultdict(list)
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                lines[name].append(node.lineno)
            case ast.Constant(value=str(text)) if re.fullmatch(r"[\w\[\]., |]+", text):
                for name in re.findall(r"\w+", text):
                    lines[name].append(node.lineno)
            case _:
                pass
    return lines


def unused_names(trees: Trees) -> list[str]:
    """`module.name` of what stands at the top of a module and is used nowhere outside of itself."""
    elsewhere = used_elsewhere(trees)
    home = {module: used_at_home(tree) for module, tree in trees.items()}
    found: list[str] = []
    for module, name, node in definitions(trees):
        inside = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        called = isinstance(node, ast.FunctionDef) and any(TURNED_INTO_OTHERS.search(ast.unparse(by)) for by in node.decorator_list)
        if module != "vitrail" and not called and (module, name) not in elsewhere and all(line in inside for line in home[module][name]):
            found.append(f"{module}.{name}")
    return found


def unused_methods(trees: Trees) -> list[str]:
    """`module.Class.method` of public methods whose name nothing in the package says but their definitions."""
    said = {node.attr for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return [
        f"{module}.{name}.{one.name}"
        for module, name, node in definitions(trees)
        if isinstance(node, ast.ClassDef)
        for one in node.body
        if isinstance(one, ast.FunctionDef)
        and not one.name.startswith("_")
        and one.name not in said
        and "renamed.warn(" not in ast.unparse(one)  # an old name
        and not CALLED_BY_OTHERS.fullmatch(one.name)
        and not any(TURNED_INTO_OTHERS.search(ast.unparse(by)) for by in one.decorator_list)
    ]
