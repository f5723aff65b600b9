"""Output and options that several commands share."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

_LINE_ENDS = {sign: f"\\u{sign:04x}" for sign in (0x85, 0x2028, 0x2029)}
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a setting, such as model.dropout=0.3. `vitrail config` lists them.", show_default=False
    ),
]
Recipe = Annotated[str, typer.Option(metavar="NAME|FILE", help="A shipped recipe, or a TOML file like one.", show_default=False)]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings in TOML; stronger than the recipe.", show_default=False)
]
Source = Annotated[Path | None, typer.Option(metavar="FILE", help="Sentences of the source language, one a line.", show_default=False)]
Target = Annotated[Path | None, typer.Option(metavar="FILE", help="Their translations, line by line.", show_default=False)]
_FORM = "FILE[,FILE][,KEY=VALUE...]"
Dev = Annotated[
    list[str] | None,
    typer.Option(
        "--dev",
        metavar=_FORM,
        help="Dev text, to choose the best step, in the form of --corpus. May be repeated: the first chooses, the others are scored too.",
        show_default=False,
    ),
]
Test = Annotated[
    str, typer.Option("--test", metavar=_FORM, help="Test text, to report the score on, in the form of --corpus.", show_default=False)
]
DevSource = Annotated[Path | None, typer.Option(metavar="FILE", help="Dev text, to choose the best step.", show_default=False)]
DevTarget = Annotated[Path | None, typer.Option(metavar="FILE", help="Its translation.", show_default=False)]
TestSource = Annotated[Path | None, typer.Option(metavar="FILE", help="Test text, to report the score on.", show_default=False)]
TestTarget = Annotated[Path | None, typer.Option(metavar="FILE", help="Its translation.", show_default=False)]
Corpus = Annotated[
    list[str] | None,
    typer.Option(
        metavar=_FORM,
        help="A TSV, CSV, JSON, JSONL, TMX, PO or XLIFF file, or two plain files; then its settings: format=tsv, columns=3:4,"
        " languages=en:fr, name=web, weight=3, holdout=no. Given several times: corpora are mixed.",
        show_default=False,
    ),
]
Languages = Annotated[
    str, typer.Option(metavar="FROM,TO", help="Languages, such as en,fr, if the file names do not show them.", show_default=False)
]
Text = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="Plain text, for a language model. Given several times: read one after the other.", show_default=False
    ),
]
Threads = Annotated[int, typer.Option(min=0, help="Processor threads; 0: one a core.")]
DeviceName = Literal["auto", "cpu", "cuda"]
EngineName = Literal["auto", "torch"]
Engine = Annotated[EngineName, typer.Option(help="What computes the translations.")]
Device = Annotated[DeviceName, typer.Option(help="Where to compute.")]


def say(line: str) -> None:
    """Print a line for people on stderr."""
    typer.echo(line, err=True)


def show(text: str) -> None:
    """Print a part of the result on stdout, in UTF-8 in every locale."""
    write_lines([text.removesuffix("\n")])


def show_json(value: Any) -> None:
    """Print the result as JSON on stdout."""
    show(json.dumps(value, indent=2, ensure_ascii=False))


def json_line(value: Any) -> str:
    """JSON on one line for every reader: U+0085, U+2028 and U+2029, which some readers take for line ends, are escaped."""
    return json.dumps(value, ensure_ascii=False).translate(_LINE_ENDS)


def write_lines(lines: Iterable[str]) -> None:
    """Print lines on stdout, in UTF-8 in every locale, flushed."""
    sys.stdout.flush()
    sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
    sys.stdout.buffer.flush()
