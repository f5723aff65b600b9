"""The page's script: JavaScript modules joined into one text, so that a page is one file and nobody needs Node.js.

Each module becomes a function that returns what it exports; its own names stay its own. Understood are the forms

    import {a, b} from "./other.js";    import * as other from "./other.js";
    export function a ...    export async function a ...    export const a ...    export class A ...

each at the beginning of a line, an import on a line of its own. Every other form is refused.
"""

import posixpath
import re
from collections.abc import Callable

_IMPORT = re.compile(r'^import (?:\* as (\w+)|(\{\w+(?:, \w+)*\})) from "(\.[\w./]+\.js)";\n', re.M)
_EXPORT = re.compile(r"^export ((?:async function|function|const|class) (\w+))", re.M)
_COMMENT = re.compile(r"^[ \t]*(?:/\*(?:(?!\*/).)*\*/|//[^\n]*)[ \t]*\n", re.M | re.S)
"""Comments that fill whole lines. They are for readers of the sources."""
_OTHER = re.compile(r"^\s*(?:import|export)\b.*|\bimport *\(.*", re.M)


def join_scripts(entry: str, *, read: Callable[[str], str]) -> str:
    """All modules that an entry needs, itself included, each after those that it imports; the module NAME is then `Vitrail["NAME"]`.

    Args:   read: the text of a module by its name, such as "views/a.js".
    Raises: ValueError for modules that import each other in a circle, a name that is imported and not exported, and other forms.
    """
    joined: list[str] = ['"use strict";\nvar Vitrail = {};\n']  # var: a page may be written anew into its window
    exports: dict[str, set[str]] = {}

    def add(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"a circle of imports: {' -> '.join((*above, name))}")
        if name in exports:
            return
        text = _COMMENT.sub("", read(name))
        for _, names, path in _IMPORT.findall(text):
            other = _beside(name, path)
            add(other, (*above, name))
            if missing := set(re.findall(r"\w+", names)) - exports[other]:
                raise ValueError(f"{name}: {other} does not export {', '.join(sorted(missing))}")
        body = _IMPORT.sub(lambda found: f'const {found[1] or found[2]} = Vitrail["{_beside(name, found[3])}"];\n', text)
        own = [found[1] for found in _EXPORT.findall(body)]
        body = _EXPORT.sub(r"\1", body)
        if other := _OTHER.search(body):
            raise ValueError(f"{name}: {other[0].strip()!r} is no form that is understood here")
        exports[name] = set(own)
        joined.append(f'Vitrail["{name}"] = (() => {{\n{body}return {{{", ".join(own)}}};\n}})();\n')

    add(entry, ())
    return "".join(joined)


def _beside(name: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
