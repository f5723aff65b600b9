"""vitrail translate: lines in, lines out, in their order."""

import gc
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from vitrail.commands.shared import console
from vitrail.commands.shared.line_reader import LineReader
from vitrail.commands.shared.progress import count_lines, progress
from vitrail.errors import DataError, Interrupted, UsageError

if TYPE_CHECKING:
    from vitrail.decode.search_config import SearchConfig, TranslateConfig
    from vitrail.decode.textual.joining import Alternative
    from vitrail.decode.translate import TextConstraints, Translation, Translator


@dataclass(frozen=True)
class Columns:
    """What is printed of each translation."""

    n_best: Annotated[
        int,
        typer.Option(
            min=1, max=console.MOST_BEAMS, help="Different translations of each line: line number, rank, score and text between tabs."
        ),
    ] = 1
    scores: Annotated[bool, typer.Option("--scores", help="Each translation's score and a tab before it.")] = False
    token_scores: Annotated[
        bool, typer.Option("--token-scores", help="After each translation a tab and its tokens, each with its log-probability: ▁I:-0.12.")
    ] = False
    alignment: Annotated[
        bool, typer.Option("--alignment", help="After each translation a tab and its word alignment from cross-attention, as in 0-0 1-2.")
    ] = False
    json: Annotated[bool, typer.Option("--json", help="A JSON object for each line.")] = False


@dataclass(frozen=True)
class Computing(console.Computing):
    """Where and how to compute translations."""

    precision: console.Precision = "int8"
    fast: Annotated[bool, typer.Option("--fast", help="Batch lines of unequal length; may change a translation now and then.")] = False


@console.with_groups
def translate(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Runs or model folders; several translate together.")],
    *,
    source: Annotated[
        Path, typer.Option("--source", metavar="FILE", help="Text to translate, one sentence a line.", show_default="stdin")
    ] = Path("-"),
    columns: Columns,
    search: console.SearchWithin,
    sample: Annotated[bool, typer.Option("--sample", help="Draw at random instead of searching for the best.")] = False,
    drawing: console.Drawing,
    computing: Computing,
) -> None:
    """Translate a file or stdin, line for line; an empty line stays empty.

    vitrail translate runs/en-fr < input.en > output.fr
    """
    sampling = _sampling(drawing, sample=sample)
    if columns.alignment and len(models) > 1:
        raise UsageError(f"--alignment with {len(models)} models", expected="one model")
    n_best, beams = columns.n_best, search.beams
    if beams is not None and n_best > beams and not sample:
        raise UsageError(f"--n-best {n_best} with --beams {beams}", expected="at least as many beams", remedy=f"--beams {n_best}")
    from vitrail.decode.search_config import TranslateConfig
    from vitrail.decode.translate import TextConstraints

    config = TranslateConfig(exact=not computing.fast, seed=drawing.seed, precision=computing.precision)
    translator = load(models, computing, config=config, engine=computing.engine, beams=beams)
    adapted = search.adapt(translator.search, n_best=n_best, sampling=sampling)
    constraints = TextConstraints(search.prefix, search.forbid or (), search.force or ())
    constrained = bool(constraints.prefix or constraints.forbidden or constraints.forced)
    translator.engine.announce(adapted, constrained=constrained, say=console.say)
    if source == Path("-") and sys.stdin is not None and sys.stdin.isatty():  # pyright: ignore[reportUnnecessaryComparison]  None: closed
        console.say("type a line to translate it; Ctrl-D ends")
    # What is loaded stays until the end: looking through it for garbage again and again would double the time of reading lines.
    gc.freeze()
    feed = LineReader(source)
    if columns.alignment:
        answers = aligned(translator, feed.portions(), folder=models[0], search=adapted, constraints=constraints)
    else:
        answers = ((found, None) for found in translator.translate_portions(feed.portions(), search=adapted, constraints=constraints))
    doubtful = _write(answers, _Lines(translator, columns), total=count_lines(source), feed=feed)
    _tell_doubts(doubtful, feed, language=translator.languages[0])


def _tell_doubts(doubtful: Sequence[int], feed: LineReader, *, language: str) -> None:
    """What is to be known of translations that may not be what is wanted. Raises DataError where lines were cut."""
    if doubtful:
        console.say(f"warning: {len(doubtful):,} translations may be incomplete, too long for the model (lines {_some(doubtful)})")
    if feed.not_utf8:
        console.say(f"warning: {len(feed.not_utf8):,} lines are not UTF-8, and are not read as meant (lines {_some(feed.not_utf8)})")
        console.say(f"  try: {feed.cure(language=language)}")
    if feed.cut:
        raise DataError(
            f"{len(feed.cut):,} lines are too long, and only their beginnings were translated (lines {_some(feed.cut)})",
            expected="lines of at most 1,048,576 bytes",
            remedy="put line breaks between sentences",
        )


def _write(
    answers: Iterable[tuple["Translation", Sequence[str] | None]], columns: "_Lines", *, total: int | None, feed: LineReader
) -> list[int]:
    """Write each answer as it comes. Returns the numbers of those that may be incomplete."""
    doubtful: list[int] = []
    writer = _Writer()
    try:
        with progress(total) as advance, writer:
            for found, links in answers:
                writer.write(columns.of(found, number=writer.done + 1, links=links))
                advance(writer.done)
                feed.answered(writer.done)
                if found.truncated or found.cut:
                    doubtful.append(writer.done)
    except KeyboardInterrupt:
        if feed.unanswered(writer.done):
            of = "" if total is None else f" of {total:,}"
            console.say(f"interrupted: {writer.done:,}{of} lines are translated and written")
        raise typer.Exit(Interrupted.exit_code) from None
    return doubtful


class _Writer:
    """Writes answers and counts them; Ctrl-C waits until an answer is written and counted, unless it is pressed twice."""

    def __init__(self) -> None:
        self.done = 0
        self._writing = self._asked = self._listens = False

    def __enter__(self) -> None:
        # Where a shell has interrupts ignored, they stay so.
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
            self._listens = True

    def __exit__(self, *_: object) -> None:
        if self._listens:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def write(self, lines: list[str]) -> None:
        """Write the lines of one answer."""
        self._writing = True
        console.write_lines(lines)
        self.done += 1
        self._writing = False
        if self._asked:
            raise KeyboardInterrupt

    def _interrupt(self, *_: object) -> None:
        if self._asked or not self._writing:
            raise KeyboardInterrupt
        self._asked = True


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")


def _sampling(drawing: console.Drawing, *, sample: bool) -> dict[str, float] | None:
    """How to sample, if so. Raises UsageError for an option that says how where nothing is drawn, and for what it cannot be."""
    given = [option for option in console.given_options(drawing) if option != "--seed"]
    if given and not sample:
        raise UsageError(f"{given[0]} without --sample", remedy="add --sample")
    return drawing.settings(instead="without --sample") if sample else None


def load(
    models: list[Path],
    machine: console.Machine,
    *,
    config: "TranslateConfig | None" = None,
    engine: console.EngineName = "auto",
    beams: int | None = None,
) -> "Translator":
    """The translator, searching as its first model was configured to, but with so many beams."""
    from vitrail.decode.translate import Translator

    search = {} if beams is None else {"beams": beams, "n_best": 1}
    return Translator.load(
        models[0], *models[1:], engine=engine, device=machine.device, threads=machine.threads, config=config, search=search
    )


def aligned(
    translator: "Translator", portions: Iterable[list[str]], *, folder: Path, search: "SearchConfig", constraints: "TextConstraints"
) -> Iterator[tuple["Translation", list[str]]]:
    """Each translation with the word alignment of each of its alternatives, aligned in portions as they were translated.

    The heads are those that align best on a run's development set; of a model folder by itself, all.
    """
    from vitrail.inspection.alignment.links import to_pharaoh
    from vitrail.inspection.alignment.word_alignment import Aligner, heads_for

    heads = heads_for(translator, folder)
    console.say(f"alignment: {heads.how}")
    aligner = Aligner(translator, heads)
    sizes: deque[int] = deque()

    def counted() -> Iterator[list[str]]:
        for portion in portions:
            sizes.append(len(portion))
            yield portion

    stream = translator.translate_portions(counted(), search=search, constraints=constraints)
    for first in stream:
        batch = [first, *islice(stream, sizes.popleft() - 1)]
        listed = [[replace(found, text=one.text, segments=one.segments) for one in found.alternatives] or [found] for found in batch]
        links = iter(aligner.align_translations([one for ones in listed for one in ones]))
        for found, ones in zip(batch, listed, strict=True):
            yield found, [to_pharaoh(next(links)) for _ in ones]


class _Lines(NamedTuple):
    """Makes lines of translations."""

    translator: "Translator"
    columns: Columns

    def of(self, found: "Translation", *, number: int, links: Sequence[str] | None) -> list[str]:
        """The lines for one line of the input: one, or one for each of the n best."""
        columns, several = self.columns, self.columns.n_best > 1
        if columns.json:
            return [console.json_line(self._record(found, number=number, links=links))]
        if not (several or columns.scores or columns.token_scores or links is not None):
            return [found.text]
        # An empty line has an empty translation, and no others.
        ranked = found.alternatives if several else found.alternatives[:1]
        rows: list[list[str]] = []
        for rank in range(max(1, len(ranked))):
            one = ranked[rank] if ranked else None
            score = f"{0.0 if one is None else one.score:.4f}"
            fields = [str(number), str(rank + 1), score] if several else [score] * columns.scores
            fields += [found.text if one is None else one.text] + [self._scored(one)] * columns.token_scores
            rows.append(fields + ([] if links is None else [links[rank]]))
        return ["\t".join(row) for row in rows]

    def _record(self, found: "Translation", *, number: int, links: Sequence[str] | None) -> dict[str, Any]:
        record: dict[str, Any] = {"line": number, "source": found.source, "text": found.text, "score": found.score}
        best = found.alternatives[0] if found.alternatives else None
        record |= {"log_probability": found.log_probability, "length": len(found.token_log_probabilities), "truncated": found.truncated}
        record["passed_through"] = found.passed_through
        record["tokens"] = [{"token": token, "log_probability": value} for token, value in self._tokens(best)]
        if self.columns.n_best > 1:
            record["alternatives"] = [
                {
                    "text": one.text,
                    "score": one.score,
                    "log_probability": one.log_probability,
                    "length": len(one.token_log_probabilities),
                    **({} if links is None else {"alignment": links[rank]}),
                }
                for rank, one in enumerate(found.alternatives)
            ]
        if links is not None:
            record["alignment"] = links[0]
        return record

    def _scored(self, one: "Alternative | None") -> str:
        # A piece has no white space; should one of a stranger's model have any, the columns stay what they are.
        return " ".join(f"{'▁'.join(token.split()) or '▁'}:{value:.4f}" for token, value in self._tokens(one))

    def _tokens(self, one: "Alternative | None") -> Iterator[tuple[str, float]]:
        """Each token as people read it with its log-probability, <eos> where a part ends."""
        for part in () if one is None else one.segments:
            pieces = self.translator.vocabularies.target.pieces(part.target_tokens)
            yield from zip([*pieces, "<eos>"], part.log_probabilities, strict=False)
