"""The record of one translation or text as a page: a single HTML file with all its views, which needs no network and no server."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitrail.errors import UsageError
from vitrail.files import holds
from vitrail.inspection.contents import InspectionContents
from vitrail.inspection.page.payload import encode_payload, make_payload
from vitrail.inspection.page.scripts import join_scripts

LANGUAGES = ("en", "fr")
"""Of the page's own words."""

ASSETS = Path(__file__).parent / "assets"
"""JavaScript modules and styles."""

_ENTRY = "main.js"
"""The module that names the views; the styles beside them follow by name."""

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
<script>{script}</script>
</body>
</html>
"""

_POLICY = "default-src 'none'; script-src 'sha256-{script}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

_WITHOUT_SCRIPT = {
    "en": "This page draws what a model computed; it needs JavaScript to do so. It sends nothing anywhere.",
    "fr": "Cette page dessine ce qu'un modèle a calculé ; il lui faut JavaScript. Elle n'envoie rien nulle part.",
}


is_page = holds(b"<title>Vitrail</title>", b"Content-Security-Policy")
"""Whether a file is a page that `to_html` made."""


def to_html(inspection: InspectionContents, *, language: str = "en") -> str:
    """One self-contained page with every view that the record has something for.

    Nothing that a text says can run: it is base64 in the page and text nodes on the screen, and only the script written here is let
    through by the page's content security policy, by its SHA-256.
    Args:   language: of the page's own words, one of `LANGUAGES`; a reader can change it.
    Raises: UsageError for another language.
    Cost:   about 2 MB at most; see `payload.BUDGET`.
    """
    return page_of(lambda others: make_payload(inspection, reserved=others), language=language)


def page_of(payload: Callable[[int], dict[str, Any]], *, language: str) -> str:
    """The page of a payload. Args: payload: makes it, given the bytes that all else in the page takes. Raises UsageError."""
    if language not in LANGUAGES:
        raise UsageError(f"a page in {language!r}", expected=" or ".join(LANGUAGES))
    script = join_scripts(_ENTRY, read=lambda name: _read(ASSETS / name))
    style = "\n".join(_read(sheet) for sheet in (ASSETS / "style.css", *sorted(ASSETS.glob("views/*.css"))))
    others = len("".join([_PAGE, style, script]).encode())
    return _PAGE.format(
        language=language,
        policy=_POLICY.format(script=_digest(script)),
        style=style,
        without_script=_WITHOUT_SCRIPT[language],
        record=encode_payload(payload(others)),
        script=script,
    )


def _read(asset: Path) -> str:
    return asset.read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
