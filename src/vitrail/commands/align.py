"""vitrail align: links between the words of texts and of their given translations."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vitrail.commands import console
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.inspection.alignment import ChosenHeads
    from vitrail.inspection.links import Links
    from vitrail.inspection.translator import InspectableTranslator

_WINDOW = 1024
"""Pairs aligned together."""


def align(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run or a model folder.")],
    source: Annotated[Path, typer.Option(metavar="FILE", help="Sentences, one a line.")],
    target: Annotated[Path, typer.Option(metavar="FILE", help="Their translations, line by line.")],
    gold: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Links to be held against, as in 0-0 1?2: - sure, ? only possible.", show_default=False),
    ] = None,
    first: Annotated[int, typer.Option(min=0, max=1, help="With --gold: what it calls the first word.")] = 0,
    method: Annotated[
        Literal["target", "intersection", "union", "grow-diag"], typer.Option(help="Which links are made of attention.")
    ] = "grow-diag",
    threads: console.Threads = 0,
    device: console.Device = "cpu",
    json: console.Json = False,
) -> None:
    """Align words by cross-attention, as fast_align prints them: 0-0 1-2. With --gold, tell the alignment error rate instead.

    vitrail align runs/en-fr --source test.en --target test.fr > test.links
    """
    import vitrail
    from vitrail.evaluation.report import read_lines
    from vitrail.inspection.alignment import SENTENCES, choose_heads
    from vitrail.inspection.links import to_pharaoh

    translator = vitrail.load(model, device=device, threads=threads)
    sources = read_lines(source)
    targets = read_lines(target, like=sources, beside=source)
    heads = choose_heads(translator, sources[:SENTENCES], targets[:SENTENCES])
    console.say(f"alignment: {heads.how}")
    found = _links(translator, heads, sources, targets, method=method)
    if gold is None:
        if json:
            raise UsageError("--json without --gold", expected="lines such as 0-0 1-2", remedy="leave it out")
        for links in found:
            console.write_lines([to_pharaoh(links)])
        return
    _judge(list(found), gold, first=first, json=json)


def _links(
    translator: "InspectableTranslator",
    heads: "ChosenHeads",
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    method: Literal["target", "intersection", "union", "grow-diag"],
) -> Iterator["Links"]:
    from vitrail.inspection.alignment import Aligner, make_pair
    from vitrail.inspection.words import between_spaces

    aligner = Aligner(translator, heads, method=method)
    for at in range(0, len(sources), _WINDOW):
        window = zip(sources[at : at + _WINDOW], targets[at : at + _WINDOW], strict=True)
        yield from aligner.align([make_pair(translator, one, other, words=between_spaces) for one, other in window])


def _judge(found: Sequence["Links"], gold: Path, *, first: int, json: bool) -> None:
    from vitrail.inspection.alignment_error import count_links, read_alignments

    right = read_alignments(gold, first=first)
    counts = count_links(found, sure=[one.sure for one in right], possible=[one.possible for one in right])
    if json:
        console.show_json({**counts._asdict(), "error_rate": counts.error_rate, "precision": counts.precision, "recall": counts.recall})
    else:
        shown = f"AER {counts.error_rate:.3f}  precision {counts.precision:.3f}  recall {counts.recall:.3f}"
        console.show(f"{shown}  ({len(found):,} sentences, {counts.sure:,} sure links)")
