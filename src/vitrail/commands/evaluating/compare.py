"""vitrail compare: several architectures on the same text within the same budget, or runs that exist, side by side."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitrail.commands.shared import console
from vitrail.commands.shared.data_options import AnyTextOptions, TextOptions, make_request, phrasebook_texts
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.ladder.ladder_plan import LadderSpec
    from vitrail.ladder.rungs import Ladder
    from vitrail.phrasebook.corpus import Phrasebook


@dataclass(frozen=True)
class Book:
    """The built-in phrasebook as text."""

    phrasebook: Annotated[bool, typer.Option("--phrasebook", help="The text is the built-in phrasebook, as it is where none is named.")] = (
        False
    )
    pairs: Annotated[int, typer.Option(min=100, help="Training pairs of the phrasebook.")] = 40_000


@dataclass(frozen=True)
class Rungs:
    """What is trained, and for how long."""

    rung: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=KEY=VALUE,...]",
            help="A rung: rnn, lstm, gru, lstm-bahdanau, lstm-luong, transformer (together the default); of plain text rnn-lm, gru-lm,"
            " lstm-lm, gpt-mini; a preset, or a name of your own with preset=NAME among its settings.",
            show_default=False,
        ),
    ] = None
    budget: Annotated[
        str, typer.Option(metavar="TEXT", help='Of each rung: "10 minutes", "3 epochs", "2000 steps", "5e14 FLOPs".', show_default=False)
    ] = ""
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each rung.")] = 1
    match: Annotated[bool, typer.Option(help="Choose widths that give all rungs as many parameters as the Transformer.")] = True


@console.with_groups
def compare(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="[RUN]...", help="Runs that exist: measured, not trained.")] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder of the comparison.")] = Path("comparison"),
    texts: AnyTextOptions,
    book: Book,
    settings: console.Settings,
    rungs: Rungs,
    json: console.Json = False,
) -> None:
    """Train a ladder of architectures on the same text within the same budget, and report what each step bought.

    vitrail compare --source a.en --target a.fr --budget "10 minutes" -o ladders/a, or existing runs: vitrail compare runs/a runs/b -o ab
    vitrail compare --text a.txt --budget "10 minutes" -o ladders/b does the same with language models: bits a byte and perplexities.
    Writes report.html, report.md and report.json. The same command again goes on where it was stopped. A rung that has learned nothing
    yet is told, with what would be long enough, and compared with none.
    """
    if runs:
        tests = {"--test", "--test-source", "--test-target"}
        named = [option for option in console.given_options(texts) if option not in tests]
        unread = [*named, *(option for group in (settings, rungs) for option in console.given_options(group))]
        if unread or book.pairs != Book.pairs:
            raise UsageError(
                f"runs that exist, and how to train others: {', '.join(unread) or '--pairs'}",
                expected="either runs, or text and settings to train rungs with",
            )
        ladder = _compare_runs(runs, texts, output, phrasebook=book.phrasebook)
    else:
        ladder = _train(texts, book, settings, rungs, output)
    _show(ladder, output, json=json)


def _train(texts: AnyTextOptions, chosen: Book, settings: console.Settings, rungs: Rungs, output: Path) -> "Ladder":
    from vitrail.ladder.comparison import require_own_comparison
    from vitrail.ladder.ladder_plan import Budget, LadderSpec, parse_rung, standard_rungs

    task = "language" if texts.text else "translation"
    wanted = tuple(parse_rung(one, task=task) for one in rungs.rung) if rungs.rung else tuple(standard_rungs(task).values())
    limit = Budget.parse(rungs.budget) if rungs.budget else None
    named = console.given_options(texts)
    if named and console.given_options(chosen):
        raise UsageError(f"{console.given_options(chosen)[0]} and another text", expected="one of the two")
    require_own_comparison(output, [one.name for one in wanted])
    book, used = None if named else _make_phrasebook(chosen.pairs), texts
    if book is not None:
        used, settings = _write_phrasebook(book, output), replace(settings, recipe=settings.recipe or "phrasebook")
    return _climb(LadderSpec(make_request(used, settings), wanted, limit, rungs.seeds, rungs.match), output, book)


def _make_phrasebook(pairs: int) -> "Phrasebook":
    from vitrail.phrasebook.corpus import phrasebook

    return phrasebook(train_pairs=pairs)


def _write_phrasebook(book: "Phrasebook", folder: Path) -> TextOptions:
    from vitrail.data.preparing.holder import holds_comparison
    from vitrail.phrasebook.corpus import write_phrasebook

    text = folder / "phrasebook"
    write_phrasebook(text, book, used=holds_comparison(folder))
    return phrasebook_texts(text)


def _climb(ask: "LadderSpec", folder: Path, book: "Phrasebook | None") -> "Ladder":
    from vitrail.ladder.comparison import run_ladder
    from vitrail.runtime.machine import describe_machine

    return run_ladder(ask, folder, book=book, machine=describe_machine().to_text(), say=console.say)


def _compare_runs(runs: list[Path], texts: TextOptions, folder: Path, *, phrasebook: bool) -> "Ladder":
    from vitrail.data.preparing.prepared import Texts as Sides
    from vitrail.evaluation.report import read_sentences
    from vitrail.ladder.comparison import compare_runs, is_language_run
    from vitrail.runtime.machine import describe_machine

    if is_language_run(runs[0]):
        return _compare_language_runs(runs, texts, folder, phrasebook=phrasebook)
    test, book = None, _make_phrasebook(0) if phrasebook else None
    if (texts.test_source is None) != (texts.test_target is None):
        raise UsageError("one side of the test text", expected="--test-source FILE and --test-target FILE")
    if texts.test:
        from vitrail.commands.shared.data_options import parse_corpus
        from vitrail.data.reading.parallel_text import ParallelText

        pairs = list(ParallelText.model_validate(parse_corpus(texts.test, option="--test")).pairs())
        test = Sides([pair.source for pair in pairs], [pair.target for pair in pairs])
    elif texts.test_source is not None and texts.test_target is not None:
        sources = read_sentences(texts.test_source)
        test = Sides(sources, read_sentences(texts.test_target, like=sources, beside=texts.test_source))
    return compare_runs(runs, folder, test=test, book=book, machine=describe_machine().to_text(), say=console.say)


def _compare_language_runs(runs: list[Path], texts: TextOptions, folder: Path, *, phrasebook: bool) -> "Ladder":
    from vitrail.data.preparing.prepared import Texts as Sides
    from vitrail.data.reading.lines import lines
    from vitrail.ladder.comparison import compare_runs
    from vitrail.runtime.machine import describe_machine

    if phrasebook or texts.test_source is not None or texts.test_target is not None:
        option = "--phrasebook" if phrasebook else "--test-source and --test-target"
        raise UsageError(f"{option} with language models", expected="--test FILE of plain text, or none: the runs' own")
    test = Sides([], list(lines(Path(texts.test)))) if texts.test else None
    return compare_runs(runs, folder, test=test, machine=describe_machine().to_text(), say=console.say)


def _show(ladder: "Ladder", folder: Path, *, json: bool) -> None:
    from vitrail.ladder.ladder_report import report_json, report_text

    console.show(report_json(ladder) if json else report_text(ladder))
    console.say(f"the report, with plots: {folder / 'report.html'}")
