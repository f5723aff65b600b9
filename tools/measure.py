"""How the sources are kept, in numbers with an aim beside each: `make measure`.

`python tools/measure.py --details` lists the places, `--strict` exits with 1 on a miss. Read from the text of the sources, but for the
files of a batch and of a translation, which are watched at work (`traced.py`), and the options of verbs, which typer is asked for.
"""

import argparse
import ast
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from source import SOURCE, circles, import_graph, imports, module_files, module_trees
from unused import definitions, unused_methods, unused_names

ROOT = SOURCE.parents[1]
PLACES = re.compile(r"encoder|decoder|attention|feed_forward|residual|_cell\b|\bmemory\b|norm_position|\bgate")
"""What names of places in a model are made of."""
TEXT_METHODS = {"startswith", "endswith", "removeprefix", "removesuffix", "split", "partition", "rpartition"}


class Measure(NamedTuple):
    """One line of the table."""

    what: str
    aim: int
    found: int
    places: list[str]
    note: str = ""

    @property
    def missed(self) -> bool:
        """More than there should be."""
        return self.found > self.aim


def counted(what: str, aim: int, places: list[str], note: str = "") -> Measure:
    """A measure that is the number of its places."""
    return Measure(what, aim, len(places), places, note)


def short(module: str) -> str:
    """`data.text` for `vitrail.data.reading.parallel_text`."""
    return module.removeprefix("vitrail.")


def outside_models(trees: Mapping[str, ast.Module]) -> Iterator[tuple[str, ast.Module]]:
    """The modules that should not know which architecture they have."""
    return ((name, tree) for name, tree in trees.items() if not name.startswith("vitrail.models"))


# ---- what is traced --------------------------------------------------------------------------------------------------------------


def traced() -> list[Measure]:
    """Files of a batch and of a translation."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tools" / "traced.py")]
    files = json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return [
        counted("files that one training batch passes", 8, files["batch"]),
        counted("files that one translation passes", 9, files["translation"]),
    ]


WALK = """
import json, typer
from dataclasses import fields
from vitrail.cli import app

def walk(command, name):
    for key, one in getattr(command, "commands", {}).items():
        walk(one, f"{name} {key}".strip())
    alone = getattr(command, "default", command)
    if not getattr(alone, "commands", None) and not command.hidden:
        groups = {}
        for group in getattr(alone.callback, "groups", ()):
            for kind in group.__mro__:
                groups |= dict.fromkeys(kind.__dict__.get("__annotations__", ()), f"{kind.__module__}.{kind.__name__}")
        options = [[one.opts[0], groups.get(one.name)] for one in alone.params if one.opts[0].startswith("-")]
        print(json.dumps([name, options]))

walk(typer.main.get_command(app), "")
"""
"""Prints a line for each verb: its options, each with the group that declares it."""


def verbs() -> list[Measure]:
    """Options of each verb, but those of a group that at least two verbs have (`commands/shared/console.py`): declared once for all."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    lines = subprocess.run([sys.executable, "-c", WALK], env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    options: dict[str, list[tuple[str, str | None]]] = dict(map(json.loads, lines))
    homes = Counter(group for found in options.values() for group in {group for _, group in found if group is not None})
    own = {name: [option for option, group in found if group is None or homes[group] < 2] for name, found in options.items()}
    most = max(own, key=lambda name: len(own[name]))
    places = [f"{name}: {len(options)}: {' '.join(options)}" for name, options in sorted(own.items(), key=lambda item: -len(item[1]))]
    return [Measure("options of a verb, beside those of groups that verbs share", 12, len(own[most]), places, most)]


# ---- what is read ----------------------------------------------------------------------------------------------------------------


def hook_doors(trees: Mapping[str, ast.Module]) -> Measure:
    """Files that hook a module of torch, or put another `forward` in its place."""
    found: list[str] = []
    for name, tree in trees.items():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(attr=attribute)) if re.fullmatch(r"register_\w*hook\w*", attribute):
                    found.append(f"{short(name)}:{node.lineno} {attribute}")
                case ast.Assign(targets=[ast.Attribute(attr="forward")]):
                    found.append(f"{short(name)}:{node.lineno} forward = ...")
                case _:
                    pass
    files = {one.partition(":")[0] for one in found}
    return Measure("files that hook a model", 1, len(files), found)


def forced(trees: Mapping[str, ast.Module]) -> Measure:
    """Files outside models/ that run a decoder over a given translation: `decode(target, encoded)`."""
    found: list[str] = []
    for name, tree in outside_models(trees):
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(attr="decode"), args=[_, ast.Call() | ast.Name() | ast.Attribute()]):
                    found.append(f"{short(name)}:{node.lineno} {ast.unparse(node)}")
                case _:
                    pass
    files = {one.partition(":")[0] for one in found}
    return Measure("files that run a decoder over a given translation", 1, len(files), found)


def architecture_questions(trees: Mapping[str, ast.Module]) -> Measure:
    """Outside models/: names of one architecture, its settings asked for by key, and texts that names of its places are held against."""
    found: list[str] = []
    for name, tree in outside_models(trees):
        own = {
            one.module.rpartition(".")[2]
            for one in imports(tree)
            if re.match(r"vitrail\.models\.kinds\.(transformer|recurrent|language)\.", one.module)
        }
        for node in ast.walk(tree):
            if question := _question(node, own):
                found.append(f"{short(name)}:{node.lineno} {question}")  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    return counted("questions outside models/ which architecture it is", 0, found)


def _question(node: ast.AST, own: set[str]) -> str | None:
    """What a node asks, if it asks. Args: own: names that belong to one architecture."""
    match node:
        case ast.Call(func=ast.Name(id="isinstance"), args=[_, kinds]) if own & {
            one.id for one in ast.walk(kinds) if isinstance(one, ast.Name)
        }:
            return ast.unparse(node)
        case ast.MatchClass(cls=ast.Name(id=kind)) if kind in own:
            return f"case {kind}"
        case ast.Compare(left=ast.Attribute(attr="kind"), comparators=[ast.Constant(value="transformer" | "recurrent" | "language")]):
            return ast.unparse(node)
        case ast.Call(func=ast.Attribute(attr="get", value=ast.Call(func=ast.Attribute(attr="model_dump")))):
            return ast.unparse(node)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=attr), args=[first, *_]) if PLACES.search(_text(first)):
            return f"re.{attr}({ast.unparse(first)})"
        case ast.Call(func=ast.Attribute(attr=attr), args=[first, *_]) if attr in TEXT_METHODS and PLACES.search(_text(first)):
            return ast.unparse(node)
        case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()], comparators=[ast.Name() | ast.Attribute()]) if PLACES.search(_text(left)):
            return ast.unparse(node)
        case _:
            return None


def _text(node: ast.AST) -> str:
    """The fixed texts in an expression."""
    return " ".join(one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str))


def import_circles(trees: Mapping[str, ast.Module]) -> Measure:
    """Files that import each other, also lazily and for types."""
    return counted("circles of files that import each other", 0, [" <-> ".join(map(short, one)) for one in circles(import_graph(trees))])


def folders() -> Measure:
    """Modules of the fullest folder."""
    sizes: dict[str, int] = defaultdict(int)
    for path in module_files():
        sizes[path.parent.relative_to(SOURCE.parent).as_posix()] += path.name != "__init__.py"
    places = [f"{folder}: {size}" for folder, size in sorted(sizes.items(), key=lambda item: -item[1]) if size > 9]
    return Measure("modules of the fullest folder", 9, max(sizes.values()), places, f"{len(places)} folders above" if places else "")


def long_functions(trees: Mapping[str, ast.Module]) -> Measure:
    """Functions above 100 lines."""
    found = [
        f"{short(name)}:{node.lineno} {node.name}: {size} lines"
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (size := (node.end_lineno or 0) - node.lineno + 1) > 100
    ]
    return counted("functions above 100 lines", 0, found)


def shared_names(trees: Mapping[str, ast.Module]) -> list[Measure]:
    """Public names that are defined in two places. A verb and its module may be called like what they call, and a script has a `main`."""
    homes: dict[str, dict[str, list[str]]] = {"modules": defaultdict(list), "classes": defaultdict(list), "functions": defaultdict(list)}
    for module, name, node in definitions(trees):
        kind = {ast.ClassDef: "classes", ast.FunctionDef: "functions"}.get(type(node))
        if kind and not module.startswith("vitrail.commands") and name != "main":
            places = homes[kind][name]
            if short(module) not in places:  # overloads are one function
                places.append(short(module))
    for module in trees:
        if not module.startswith("vitrail.commands"):
            homes["modules"][module.rpartition(".")[2]].append(short(module))
    return [
        counted(
            f"names of {kind} used for two things",
            0,
            [f"{name}: {', '.join(places)}" for name, places in sorted(found.items()) if len(places) > 1],
        )
        for kind, found in homes.items()
    ]


def unused(trees: Mapping[str, ast.Module]) -> list[Measure]:
    """Public names that nothing in src uses. Those that README or the pages name are for users, and are listed apart."""
    pages = "".join(path.read_text(encoding="utf-8") for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
    alone = [short(name) for name in [*unused_names(trees), *unused_methods(trees)]]
    told = [name for name in alone if re.search(rf"`[^`]*\b{name.rpartition('.')[2]}\b|\b{name.rpartition('.')[2]}\(", pages)]
    return [
        counted("public names that nothing in src uses", 0, [name for name in alone if name not in told]),
        Measure("  of those that the pages name", len(told), len(told), told),
    ]


# ---- the table -------------------------------------------------------------------------------------------------------------------

READ: tuple[Callable[[Mapping[str, ast.Module]], Measure], ...] = (
    hook_doors,
    forced,
    architecture_questions,
    import_circles,
    long_functions,
)


def measures() -> list[Measure]:
    """The whole table."""
    trees = module_trees()
    return [*traced(), *(one(trees) for one in READ), folders(), *verbs(), *shared_names(trees), *unused(trees)]


def to_text(rows: list[Measure], *, details: bool) -> str:
    """A line each; with `details` the places below."""
    wide = max(len(row.what) for row in rows)
    lines = [f"{'':<5} {'':<{wide}}  found    aim"]
    for row in rows:
        note = f"  ({row.note})" if row.note else ""
        lines.append(f"{'MISS' if row.missed else 'ok':<5} {row.what:<{wide}}  {row.found:>5}  {row.aim:>5}{note}")
        lines += [f"          {place}" for place in row.places] if details else []
    missed = sum(row.missed for row in rows)
    return "\n".join([*lines, f"{missed} of {len(rows)} miss their aim" if missed else "all aims are met"]) + "\n"


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description="Measure the sources against their aims.")
    parser.add_argument("--details", action="store_true", help="list the places")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where an aim is missed")
    chosen = parser.parse_args()
    rows = measures()
    sys.stdout.write(to_text(rows, details=chosen.details))
    return int(chosen.strict and any(row.missed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
