"""vitrail generate: text from a language model."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrail.commands.shared import console
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.decode.generate import Generated, Piece
    from vitrail.decode.search_config import SearchConfig


@dataclass(frozen=True)
class Prompts:
    """What results begin with."""

    prompt: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Beginning of a line. Several: each is continued.", show_default=False)
    ] = None
    prompts: Annotated[Path | None, typer.Option(metavar="FILE", help="Beginnings, one a line; - is stdin.", show_default=False)] = None

    def read(self) -> list[str]:
        """All of them; an empty one where none is given. Raises UsageError, DataError."""
        from vitrail.data.reading.lines import lines

        if self.prompts is not None and self.prompt:
            raise UsageError("--prompt together with --prompts", expected="one of the two")
        return list(lines(self.prompts)) if self.prompts is not None else self.prompt or [""]


@dataclass(frozen=True)
class Lengths:
    """How much to write."""

    samples: Annotated[int, typer.Option(min=1, max=10_000, help="Continuations of each beginning.")] = 1
    lines: Annotated[int, typer.Option(min=1, help="Lines to write.")] = 1
    max_tokens: Annotated[int, typer.Option(min=1, max=10_000, help="Tokens of a line, at most.")] = 200
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End where this would follow, and leave it out. Several times: any of them.", show_default=False),
    ] = None


@dataclass(frozen=True)
class Choosing:
    """How to choose the next token, besides drawing."""

    beams: Annotated[int | None, typer.Option(min=1, help="Search for the likeliest text, do not draw.", show_default=False)] = None
    no_repeat_ngram: console.NoRepeat = None


@dataclass(frozen=True)
class Shown:
    """How results are printed."""

    stream: Annotated[bool, typer.Option("--stream", help="Print each text while it is written.")] = False
    json: console.Json = False


DRAWN = console.Drawing(temperature=1.0, top_k=0, top_p=0.95)
"""How a language model draws where nothing else is asked for."""


@console.with_groups
def generate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a run of a language model, or its model folder.")],
    *,
    beginnings: Prompts,
    lengths: Lengths,
    choosing: Choosing,
    drawing: console.Drawing = DRAWN,
    computing: console.Computing,
    shown: Shown,
) -> None:
    """Write text with a language model: vitrail generate runs/lm --prompt "The cat".

    Each result is a line, the beginning included; with --lines, a blank line separates the results.
    """
    search, prompts = _search(lengths, drawing, choosing), beginnings.read()
    if shown.stream and shown.json:
        raise UsageError("--stream together with --json", expected="one of the two")
    if shown.stream and search.sampling is None and search.beams > 1:
        raise UsageError(f"--stream with --beams {search.beams}", expected="drawing, or --beams 1: the best of several is known at the end")
    from vitrail.decode.generate import Generator
    from vitrail.decode.textual.spelling import StopStrings

    stop = StopStrings.of(lengths.stop or ()).strings
    generator = Generator.load(
        model, engine=computing.engine, precision=computing.precision, threads=computing.threads, device=computing.device
    )
    generator.announce(console.say)
    ends = "\n\n" if lengths.lines > 1 else "\n"
    if shown.stream:
        _stream(generator.pieces(prompts, search=search, lines=lengths.lines, seed=drawing.seed, stop=stop), ends=ends)
        return
    for row in generator.generate(prompts, search=search, lines=lengths.lines, seed=drawing.seed, stop=stop):
        for one in row:
            console.write(f"{console.json_line(_record(one))}\n" if shown.json else one.text + ends)


def _stream(pieces: "Iterable[Piece]", *, ends: str) -> None:
    """Print pieces as they come. Ctrl-C ends the line that was begun."""
    begun = False
    try:
        for piece in pieces:
            begun = piece.ended is None
            console.write(piece.text if begun else piece.text + ends)
    except KeyboardInterrupt:
        if begun:
            console.write("\n")
        raise


def _search(lengths: Lengths, drawing: console.Drawing, choosing: Choosing) -> "SearchConfig":
    """How to search or to draw. Raises UsageError for what cannot be."""
    from vitrail.config import build
    from vitrail.decode.search_config import SearchConfig

    beams = choosing.beams
    if beams is not None and lengths.samples > beams:
        raise UsageError(f"--samples {lengths.samples} with --beams {beams}", expected="at least as many beams")
    if beams is not None and drawing != DRAWN:
        raise UsageError("how to draw, with --beams, which draws nothing", expected="one of the two")
    if drawing.seed < 0:
        raise UsageError(f"--seed {drawing.seed}", expected="0 or more")
    sampling = None if beams is not None else drawing.settings(instead="with --beams 1")
    table = {"beams": beams or 1, "n_best": lengths.samples, "sampling": sampling, "max_extra": lengths.max_tokens}
    table |= console.never_twice(choosing.no_repeat_ngram)
    return build(SearchConfig, table, origin="generate")


def _record(one: "Generated") -> dict[str, Any]:
    return {
        "prompt": one.prompt,
        "text": one.text,
        "log_probability": one.log_probability,
        "tokens": list(one.tokens),
        "ended": one.ended,
        "truncated": one.truncated,
    }
