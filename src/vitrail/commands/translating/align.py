"""vitrail align: word alignment of sentences and their given translations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vitrail.commands.shared import console
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.decode.translate import Translator
    from vitrail.inspection.alignment.alignment_error import Gold
    from vitrail.inspection.alignment.links import Links
    from vitrail.inspection.alignment.word_alignment import Aligner, ChosenHeads

_WINDOW = 1024
"""Pairs aligned together."""
_FEW = 50
"""Sentences below which the choice of heads is noisy."""


@dataclass(frozen=True)
class GoldOptions:
    """The gold links to compare with."""

    gold: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Gold links: lines such as 0-0 1?2 (- sure, ? possible), or a line for each link: sentence source target S or P.",
            show_default=False,
        ),
    ] = None
    first: Annotated[int, typer.Option(min=0, max=1, help="With --gold: the number of the first word.")] = 0


@console.with_groups
def align(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run or a model folder.")],
    source: Annotated[Path, typer.Option(metavar="FILE", help="Sentences, one a line.")],
    target: Annotated[Path, typer.Option(metavar="FILE", help="Their translations, line by line.")],
    *,
    known: GoldOptions,
    method: Annotated[
        Literal["target", "intersection", "union", "grow-diag"], typer.Option(help="Which links are made of attention.")
    ] = "grow-diag",
    computing: console.Computing,
    json: console.Json = False,
) -> None:
    """Align words by cross-attention, as fast_align prints them: 0-0 1-2. With --gold, print the alignment error rate instead.

    vitrail align runs/en-fr --source test.en --target test.fr > test.links
    """
    from vitrail.decode.engines.engine import MOST_ALIGNED
    from vitrail.decode.search_config import TranslateConfig
    from vitrail.decode.translate import Translator
    from vitrail.evaluation.report import read_sentences
    from vitrail.inspection.alignment.links import to_pharaoh
    from vitrail.inspection.alignment.word_alignment import Aligner

    if json and known.gold is None:
        raise UsageError("--json without --gold", expected="lines such as 0-0 1-2", remedy="leave it out")
    if known.first and known.gold is None:
        raise UsageError("--first without --gold", remedy="add --gold FILE")
    config = TranslateConfig(precision=computing.precision)
    translator = Translator.load(model, engine=computing.engine, device=computing.device, threads=computing.threads, config=config)
    sources = read_sentences(source)
    targets = read_sentences(target, like=sources, beside=source)
    right = None if known.gold is None else _read_gold(known.gold, sources, targets, first=known.first)
    translator.engine.announce(translator.search, say=console.say)
    heads = _heads(translator, model, sources, targets)
    console.say(f"alignment: {heads.how}")
    aligner = Aligner(translator, heads, method=method)
    found = _links(aligner, sources, targets)
    if right is None:
        for links in found:
            console.write_lines([to_pharaoh(links)])
    else:
        _judge(list(found), right, json=json)
    if aligner.too_long:
        shown = ", ".join(str(number + 1) for number in aligner.too_long[:5]) + (", ..." if len(aligner.too_long) > 5 else "")
        told = f"of more than {MOST_ALIGNED:,} tokens on a side have no links (lines {shown}): cut them into sentences"
        console.say(f"warning: {len(aligner.too_long):,} pairs {told}")


def _heads(translator: "Translator", model: Path, sources: Sequence[str], targets: Sequence[str]) -> "ChosenHeads":
    """The run's heads, so that a sentence is aligned the same way in any text; for a model folder, heads chosen on the text itself."""
    from vitrail.inspection.alignment.word_alignment import SENTENCES, choose_heads, heads_for

    heads = heads_for(translator, model)
    if heads.judged_by != "nothing":
        return heads
    heads = choose_heads(translator, sources[:SENTENCES], targets[:SENTENCES])
    if heads.sentences < _FEW:
        console.say(
            f"warning: heads chosen on {heads.sentences} sentences, too few to choose well: name a run, which has a development set, or "
            f"align {SENTENCES} sentences or more together"
        )
    return heads


def _links(aligner: "Aligner", sources: Sequence[str], targets: Sequence[str]) -> Iterator["Links"]:
    for at in range(0, len(sources), _WINDOW):
        yield from aligner.align_texts(sources[at : at + _WINDOW], targets[at : at + _WINDOW])


def _read_gold(gold: Path, sources: Sequence[str], targets: Sequence[str], *, first: int) -> list["Gold"]:
    from vitrail.inspection.alignment.alignment_error import read_alignments
    from vitrail.inspection.alignment.word_alignment import count_spaced_words

    lengths = list(zip(map(count_spaced_words, sources), map(count_spaced_words, targets), strict=True))
    return read_alignments(gold, first=first, lengths=lengths)


def _judge(found: Sequence["Links"], right: Sequence["Gold"], *, json: bool) -> None:
    from vitrail.inspection.alignment.alignment_error import count_links

    counts = count_links(found, sure=[one.sure for one in right], possible=[one.possible for one in right])
    if json:
        console.show_json({**counts._asdict(), "error_rate": counts.error_rate, "precision": counts.precision, "recall": counts.recall})
    else:
        shown = f"AER {counts.error_rate:.3f}  precision {counts.precision:.3f}  recall {counts.recall:.3f}"
        console.show(f"{shown}  ({len(found):,} sentences, {counts.sure:,} sure links)")
