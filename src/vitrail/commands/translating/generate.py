"""vitrail generate: text from a language model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrail.commands.shared import console
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.decode.generate import Generated
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


DRAWN = console.Drawing(temperature=1.0, top_k=0, top_p=0.95)
"""How a language model draws where nothing else is asked for."""


@console.with_groups
def generate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a run of a language model, or its model folder.")],
    *,
    beginnings: Prompts,
    lengths: Lengths,
    beams: Annotated[int | None, typer.Option(min=1, help="Search for the likeliest text, do not draw.", show_default=False)] = None,
    drawing: console.Drawing = DRAWN,
    machine: console.Machine,
    json: console.Json = False,
) -> None:
    """Write text with a language model: vitrail generate runs/lm --prompt "The cat".

    Each result is a line, the beginning included; with --lines, a blank line separates the results.
    """
    from vitrail.decode.generate import Generator

    search, prompts = _search(lengths, drawing, beams=beams), beginnings.read()
    generator = Generator.load(model, threads=machine.threads, device=machine.device)
    for row in generator.generate(prompts, search=search, lines=lengths.lines, seed=drawing.seed):
        for one in row:
            if json:
                console.show(console.json_line(_record(one)))
            else:
                console.write_lines([one.text, ""] if lengths.lines > 1 else [one.text])


def _search(lengths: Lengths, drawing: console.Drawing, *, beams: int | None) -> "SearchConfig":
    """How to search or to draw. Raises UsageError for what cannot be."""
    from vitrail.config import build
    from vitrail.decode.search_config import SearchConfig

    if beams is not None and lengths.samples > beams:
        raise UsageError(f"--samples {lengths.samples} with --beams {beams}", expected="at least as many beams")
    if beams is not None and drawing != DRAWN:
        raise UsageError("how to draw, with --beams, which draws nothing", expected="one of the two")
    if drawing.seed < 0:
        raise UsageError(f"--seed {drawing.seed}", expected="0 or more")
    sampling = None if beams is not None else drawing.settings(instead="with --beams 1")
    table = {"beams": beams or 1, "n_best": lengths.samples, "sampling": sampling, "max_extra": lengths.max_tokens}
    return build(SearchConfig, table, origin="generate")


def _record(one: "Generated") -> dict[str, Any]:
    return {
        "prompt": one.prompt,
        "text": one.text,
        "log_probability": one.log_probability,
        "tokens": list(one.tokens),
        "truncated": one.truncated,
    }
