"""vitrail translate: lines in, lines out, in their order."""

import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
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

_MOST_BEAMS = 1000


def translate(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Runs or model folders; several translate together.")],
    source: Annotated[
        Path, typer.Option("--source", metavar="FILE", help="Text to translate, one sentence a line.", show_default="stdin")
    ] = Path("-"),
    n_best: Annotated[
        int,
        typer.Option(min=1, max=_MOST_BEAMS, help="Different translations of each line: line number, rank, score and text between tabs."),
    ] = 1,
    scores: Annotated[bool, typer.Option("--scores", help="Each translation's score and a tab before it.")] = False,
    token_scores: Annotated[
        bool, typer.Option("--token-scores", help="After each translation a tab and its tokens, each with its log-probability: ▁I:-0.12.")
    ] = False,
    beams: Annotated[
        int | None,
        typer.Option(min=1, max=_MOST_BEAMS, help="Hypotheses kept side by side; 1 is greedy.", show_default="the model's own"),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Tokens of a sentence's translation, at most.", show_default="the model's own")
    ] = None,
    min_length: Annotated[
        int | None, typer.Option(min=0, max=100_000, help="Tokens of a sentence's translation, at least.", show_default="the model's own")
    ] = None,
    length_penalty: Annotated[
        float | None, typer.Option(min=0, help="Above 0 favours long translations.", show_default="the model's own")
    ] = None,
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="Every translation begins with it.", show_default=False)] = "",
    forbid: Annotated[list[str] | None, typer.Option(metavar="WORDS", help="Never in a translation.", show_default=False)] = None,
    force: Annotated[list[str] | None, typer.Option(metavar="WORDS", help="In every translation.", show_default=False)] = None,
    sample: Annotated[bool, typer.Option("--sample", help="Draw at random instead of searching for the best.")] = False,
    temperature: Annotated[float | None, typer.Option(help="With --sample: below 1 is more careful.", show_default="1")] = None,
    top_k: Annotated[int | None, typer.Option(min=0, help="With --sample: among so many tokens.", show_default="all")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="With --sample: among the likeliest that reach this probability.", show_default="1")
    ] = None,
    seed: Annotated[int, typer.Option(help="With --sample: equal seeds draw equal translations.")] = 0,
    alignment: Annotated[
        bool, typer.Option("--alignment", help="After each translation a tab and its word alignment from cross-attention, as in 0-0 1-2.")
    ] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Batch lines of unequal length; may change a translation now and then.")] = False,
    threads: console.Threads = 0,
    device: console.Device = "cpu",
    engine: console.Engine = "auto",
    json: Annotated[bool, typer.Option("--json", help="A JSON object for each line.")] = False,
) -> None:
    """Translate a file or stdin, line for line; an empty line stays empty.

    vitrail translate runs/en-fr < input.en > output.fr
    """
    drawing = _drawing({"temperature": temperature, "top_k": top_k, "top_p": top_p}, sample=sample)
    if alignment and len(models) > 1:
        raise UsageError(f"--alignment with {len(models)} models", expected="one model")
    if beams is not None and n_best > beams and not sample:
        raise UsageError(f"--n-best {n_best} with --beams {beams}", expected="at least as many beams", remedy=f"--beams {n_best}")
    from vitrail.decode.search_config import TranslateConfig

    config = TranslateConfig(exact=not fast, seed=seed)
    translator = load(models, config=config, engine=engine, threads=threads, device=device, inspectable=alignment, beams=beams)
    lengths = {"length_penalty": length_penalty, "max_length": max_length, "min_length": min_length}
    search = adapt_search(translator.search, beams=beams, n_best=n_best, sampling=drawing, lengths=lengths)
    from vitrail.decode.translate import TextConstraints

    constraints = TextConstraints(prefix, forbid or (), force or ())
    if source == Path("-") and sys.stdin is not None and sys.stdin.isatty():  # pyright: ignore[reportUnnecessaryComparison]  None: closed
        console.say("type a line to translate it; Ctrl-D ends")
    feed = LineReader(source)
    if alignment:
        answers = aligned(translator, feed.portions(), folder=models[0], search=search, constraints=constraints)
    else:
        answers = ((found, None) for found in translator.translate_portions(feed.portions(), search=search, constraints=constraints))
    columns = _Columns(translator, json=json, n_best=n_best > 1, scores=scores, token_scores=token_scores)
    doubtful = _write(answers, columns, total=count_lines(source), feed=feed)
    if doubtful:
        console.say(f"warning: {len(doubtful):,} translations may be incomplete, too long for the model (lines {_some(doubtful)})")
    if feed.not_utf8:
        console.say(f"warning: {len(feed.not_utf8):,} lines are not UTF-8, and are not read as meant (lines {_some(feed.not_utf8)})")
        console.say(f"  try: {feed.cure(language=translator.languages[0])}")
    if feed.cut:
        raise DataError(
            f"{len(feed.cut):,} lines are too long, and only their beginnings were translated (lines {_some(feed.cut)})",
            expected="lines of at most 1,048,576 bytes",
            remedy="put line breaks between sentences",
        )


def _write(
    answers: Iterable[tuple["Translation", Sequence[str] | None]], columns: "_Columns", *, total: int | None, feed: LineReader
) -> list[int]:
    """Write each answer as it comes. Returns the numbers of those that may be incomplete."""
    doubtful: list[int] = []
    writer = _Writer()
    try:
        with progress(total) as advance, writer:
            for found, links in answers:
                writer.write(columns.lines(found, number=writer.done + 1, links=links))
                advance(writer.done)
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


def _drawing(options: dict[str, float | None], *, sample: bool) -> dict[str, float] | None:
    """How to sample. Raises UsageError for an option that says how where nothing is drawn, and for what it cannot be."""
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if not sample:
            raise UsageError(f"{option} without --sample", remedy="add --sample")
        if not (value > 0 or name == "top_k") or not value <= (1 if name == "top_p" else 1e9):
            expected = "more than 0 and at most 1" if name == "top_p" else "more than 0"
            raise UsageError(f"{option} {value:g}", expected=expected, remedy="without --sample the best is searched for")
    return given if sample else None


def load(
    models: list[Path],
    *,
    threads: int,
    device: console.DeviceName,
    config: "TranslateConfig | None" = None,
    engine: console.EngineName = "auto",
    inspectable: bool = False,
    beams: int | None = None,
) -> "Translator":
    """The translator, searching as its first model was configured to, but with so many beams; `inspectable`: one to look into."""
    from vitrail.decode.translate import Translator

    kind = Translator
    if inspectable:
        from vitrail.inspection.translator import InspectableTranslator as kind
    search = {} if beams is None else {"beams": beams, "n_best": 1}
    return kind.load(models[0], *models[1:], engine=engine, device=device, threads=threads, config=config, search=search)


def aligned(
    translator: "Translator", portions: Iterable[list[str]], *, folder: Path, search: "SearchConfig", constraints: "TextConstraints"
) -> Iterator[tuple["Translation", list[str]]]:
    """Each translation with the word alignment of each of its alternatives, aligned in portions as they were translated.

    The heads are those that align best on a run's development set; of a model folder by itself, all.
    """
    from vitrail.inspection.alignment.links import to_pharaoh
    from vitrail.inspection.alignment.word_alignment import Aligner, heads_for
    from vitrail.inspection.translator import InspectableTranslator

    assert isinstance(translator, InspectableTranslator)
    heads = heads_for(translator, folder)
    console.say(f"alignment: {heads.how}")
    aligner = Aligner(translator, heads)
    sizes: list[int] = []

    def counted() -> Iterator[list[str]]:
        for portion in portions:
            sizes.append(len(portion))
            yield portion

    stream = translator.translate_portions(counted(), search=search, constraints=constraints)
    for first in stream:
        batch = [first, *islice(stream, sizes[-1] - 1)]
        listed = [[replace(found, text=one.text, segments=one.segments) for one in found.alternatives] or [found] for found in batch]
        links = iter(aligner.align_translations([one for ones in listed for one in ones]))
        for found, ones in zip(batch, listed, strict=True):
            yield found, [to_pharaoh(next(links)) for _ in ones]


def adapt_search(
    search: "SearchConfig",
    *,
    beams: int | None,
    n_best: int,
    sampling: dict[str, Any] | None = None,
    lengths: dict[str, Any] | None = None,
    length_penalty: float | None = None,
) -> "SearchConfig":
    """The model's own search, with what the options change. Raises UsageError for what cannot be."""
    from vitrail.config import build, merge
    from vitrail.decode.search_config import SearchConfig

    changes: dict[str, Any] = {"n_best": n_best, "beams": beams or max(search.beams, n_best)}
    more = {"sampling": sampling, "length_penalty": length_penalty, **(lengths or {})}
    changes |= {name: value for name, value in more.items() if value is not None}
    return build(SearchConfig, merge(search.model_dump(mode="json"), changes), origin="options")


class _Columns(NamedTuple):
    """What is printed of a translation."""

    translator: "Translator"
    json: bool
    n_best: bool
    scores: bool
    token_scores: bool

    def lines(self, found: "Translation", *, number: int, links: Sequence[str] | None) -> list[str]:
        """The lines for one line of the input: one, or one for each of the n best."""
        if self.json:
            return [console.json_line(self._record(found, number=number, links=links))]
        # An empty line has an empty translation, and no others.
        ranked = found.alternatives if self.n_best else found.alternatives[:1]
        rows: list[list[str]] = []
        for rank in range(max(1, len(ranked))):
            one = ranked[rank] if ranked else None
            score = f"{0.0 if one is None else one.score:.4f}"
            fields = [str(number), str(rank + 1), score] if self.n_best else [score] * self.scores
            fields += [found.text if one is None else one.text] + [self._scored(one)] * self.token_scores
            rows.append(fields + ([] if links is None else [links[rank]]))
        return ["\t".join(row) for row in rows]

    def _record(self, found: "Translation", *, number: int, links: Sequence[str] | None) -> dict[str, Any]:
        record: dict[str, Any] = {"line": number, "source": found.source, "text": found.text, "score": found.score}
        best = found.alternatives[0] if found.alternatives else None
        record |= {"log_probability": found.log_probability, "length": len(found.token_log_probabilities), "truncated": found.truncated}
        record["passed_through"] = found.passed_through
        record["tokens"] = [{"token": token, "log_probability": value} for token, value in self._tokens(best)]
        if self.n_best:
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
