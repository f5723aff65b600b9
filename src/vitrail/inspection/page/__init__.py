"""The record of one translation as a page: a single HTML file with all its views, which needs no network and no server."""

import base64
import hashlib
from importlib import resources
from importlib.resources.abc import Traversable

from vitrail.errors import UsageError
from vitrail.files import holds
from vitrail.inspection.contents import InspectionContents
from vitrail.inspection.page.payload import encode_payload, make_payload

LANGUAGES = ("en", "fr")
"""Of the page's own words."""

SCRIPTS = ("record.js", "tools.js", "charts.js", "shell.js")
"""What the views stand on, in this order; the files under `views` follow by name, each in a function of its own; so do their styles."""

_PAGE = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Vitrail</title>
<style>{style}</style>
</head>
<body>
<noscript><p>{without_script}</p></noscript>
<script type="application/json" id="vitrail-record">{record}</script>
{scripts}
</body>
</html>
"""

_WITHOUT_SCRIPT = {
    "en": "This page draws what a translator computed; it needs JavaScript to do so. It sends nothing anywhere.",
    "fr": "Cette page dessine ce qu'un traducteur a calculé ; il lui faut JavaScript. Elle n'envoie rien nulle part.",
}


is_page = holds(b"<title>Vitrail</title>", b"Content-Security-Policy")
"""Whether a file is a page that `to_html` made."""


def to_html(inspection: InspectionContents, *, language: str = "en") -> str:
    """One self-contained page with every view that the record has something for.

    Nothing that a text says can run: it is base64 in the page and text nodes on the screen, and only the scripts written here are let
    through by the page's content security policy, each by its SHA-256.
    Args:   language: of the page's own words, one of `LANGUAGES`; a reader can change it.
    Raises: UsageError for another language.
    Cost:   about 2 MB at most; see `payload.BUDGET`.
    """
    if language not in LANGUAGES:
        raise UsageError(f"a page in {language!r}", expected=" or ".join(LANGUAGES))
    scripts = [*_scripts(), f'Vitrail.start("{language}");']
    style = "\n".join(sheet.read_text(encoding="utf-8") for sheet in (_asset("style.css"), *_views(".css")))
    others = len("".join([_PAGE, style, *scripts]).encode())
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return _PAGE.format(
        language=language,
        policy=f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'",
        style=style,
        without_script=_WITHOUT_SCRIPT[language],
        record=encode_payload(make_payload(inspection, reserved=others)),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _scripts() -> list[str]:
    """The shell's files as they are; each view in a function, so that what it declares is its own."""
    shell = [_read(_asset(name)) for name in SCRIPTS]
    return [*shell, *(f'(() => {{\n"use strict";\n{_read(view)}\n}})();' for view in _views(".js"))]


def _views(ending: str) -> list[Traversable]:
    found = [entry for entry in _asset("views").iterdir() if entry.name.endswith(ending)]
    return sorted(found, key=lambda entry: entry.name)


def _read(asset: Traversable) -> str:
    return asset.read_text(encoding="utf-8")


def _asset(name: str) -> Traversable:
    return resources.files(__name__) / "assets" / name


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
