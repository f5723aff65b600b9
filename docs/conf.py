"""How Sphinx makes the pages: `make docs`. The reference is built from the docstrings, a page for each room."""

import inspect
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import vitrail

project = "Vitrail"
author = "the authors of Vitrail"
version = release = vitrail.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Vitrail {release}"  # pages are not called "search": Sphinx has a page of that name
html_copy_source = False
html_show_copyright = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "exclude-members": "model_config, model_post_init"}

HERE = Path(__file__).parent
PACKAGE = Path(vitrail.__file__).parent
LEFT_OUT = {"commands", "__main__", "cli"}
"""What users meet as the program: `vitrail --help` tells it."""
SECTIONS = ("Args", "Returns", "Raises", "Source", "Differs from it", "Precondition", "Cost", "Note")
"""What a paragraph of a docstring may begin with."""


def write_reference(app: Sphinx) -> None:
    """A page for each room, with all of its modules; nothing is written where nothing changed."""
    folder = HERE / "reference"
    folder.mkdir(exist_ok=True)
    rooms: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] not in LEFT_OUT and parts != ("__init__",):
            rooms.setdefault(parts[0], []).append(".".join(("vitrail", *parts)).removesuffix(".__init__"))
    for room, modules in rooms.items():
        blocks = [f"## `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n" for name in modules]
        text = "\n".join([f"# `vitrail.{room}`\n", *blocks])
        page = folder / f"{room}.md"
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
    for page in folder.glob("*.md"):
        if page.stem not in rooms:
            page.unlink()


def to_rst(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with `code` between single backticks; Sphinx reads reStructuredText."""
    text = inspect.cleandoc("\n".join(lines))
    if re.fullmatch(r"Alias for field number \d+", text.strip()):
        text = ""
    blocks = [_block(block) for block in re.split(r"\n\s*\n", text)]
    lines[:] = "\n\n".join(blocks).split("\n")


def _block(text: str) -> str:
    """A paragraph, a section with what it says of each argument, or lines that are indented and stay as they are."""
    if all(line.startswith("    ") for line in text.split("\n")):
        return "::\n\n" + text
    found: list[str] = []
    for line in text.split("\n"):
        section = re.match(rf"({'|'.join(SECTIONS)}):\s*(.*)", line)
        if section:
            found += ["", f":{section[1]}: {_escaped(section[2])}"]
        elif found and any(one.startswith(":") for one in found):
            argument = re.match(r" {4}((?:\w+(?:, )?)+): (.*)", line)
            found += ["", f"    **{argument[1]}**: {_escaped(argument[2])}"] if argument else [f"    {_escaped(line.strip())}"]
        elif line.startswith("  "):
            found.append(f"| {_escaped(line.strip())}" if found and found[-1].startswith("| ") else f"\n| {_escaped(line.strip())}")
        else:
            found += [""] * bool(found and found[-1].lstrip().startswith("| ")) + [_escaped(line)]
    return "\n".join(found)


def _escaped(line: str) -> str:
    """Code in double backticks; what reStructuredText would take for markup, as plain text."""
    code, text = re.compile(r"`+[^`]+`+"), re.compile(r"([*_|\\`])")
    parts = re.split(f"({code.pattern})", line)
    return "".join(f"``{part.strip('`')}``\\ " if code.fullmatch(part) else text.sub(r"\\\1", part) for part in parts)


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-process-docstring", to_rst)

# The strings of a Literal are taken for names: `Literal["pairs"]` for the several attributes of that name.
suppress_warnings = ["ref.python"]
