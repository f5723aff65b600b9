"""vitrail fill: what a masked language model guesses in place of masks."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.commands.shared import console
from vitrail.errors import UsageError


@console.with_groups
def fill(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a run of a masked language model, or its model folder.")],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="Texts with [MASK] in them; none: lines of stdin.", show_default=False)
    ] = None,
    *,
    top: Annotated[int, typer.Option(min=1, max=1_000, help="Guesses for each mask.")] = 5,
    computing: console.Computing,
    json: console.Json = False,
) -> None:
    """Guess hidden words: vitrail fill runs/bert "A man in a [MASK] shirt."

    Each guess is a line: its probability, the token (▁ is a space before it), and the whole text with it.
    """
    from dataclasses import asdict

    from vitrail.data.reading.lines import lines
    from vitrail.decode.sentences.masked import MaskFiller

    filler = MaskFiller.load(
        model, engine=computing.engine, precision=computing.precision, threads=computing.threads, device=computing.device
    )
    filler.encoder.announce(console.say)
    asked = texts or lines(Path("-"))
    empty = True
    for text in asked:
        empty = False
        for place, guesses in enumerate(filler.fill(text, top=top)):
            if json:
                console.show(console.json_line({"text": text, "mask": place, "guesses": [asdict(guess) for guess in guesses]}))
            else:
                console.write_lines([f"{guess.probability:.3f}\t{guess.token}\t{guess.text}" for guess in guesses])
    if empty:
        raise UsageError("no text", expected='a text with [MASK], such as "A man in a [MASK] shirt."')
