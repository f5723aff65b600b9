"""vitrail translate: lines in, lines out, in their order."""

import json as json_module
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrail.commands import console
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.decode.search import SearchConfig
    from vitrail.decode.translate import Translation, Translator, Wishes

_WINDOW = 1024
"""Lines translated together, at most; fewer where they come in more slowly than they are translated."""


def translate(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Runs or model folders; several translate together.")],
    source: Annotated[
        Path, typer.Option("--source", metavar="FILE", help="Text to translate, one sentence a line.", show_default="stdin")
    ] = Path("-"),
    n_best: Annotated[int, typer.Option(min=1, help="Translations of each line: line number, rank, score and text between tabs.")] = 1,
    scores: Annotated[bool, typer.Option("--scores", help="Each translation's score and a tab before it.")] = False,
    beams: Annotated[
        int | None, typer.Option(min=1, help="Hypotheses kept side by side; 1 is greedy.", show_default="the model's own")
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
    json: Annotated[bool, typer.Option("--json", help="A JSON object for each line.")] = False,
) -> None:
    """Translate a file or stdin, line for line; an empty line stays empty.

    vitrail translate runs/en-fr < input.en > output.fr
    """
    drawing = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    if not sample and any(value is not None for value in drawing.values()):
        name = next(name for name, value in drawing.items() if value is not None)
        raise UsageError(f"--{name.replace('_', '-')} without --sample", remedy="add --sample")
    if alignment and (n_best > 1 or len(models) > 1):
        other = "--n-best" if n_best > 1 else f"{len(models)} models"
        raise UsageError(f"--alignment with {other}", expected="one model and one translation of each line")
    translator = load(models, fast=fast, seed=seed, threads=threads, device=device, inspectable=alignment)
    search = adapt_search(
        translator.search,
        beams=beams,
        n_best=n_best,
        length_penalty=length_penalty,
        sampling={name: value for name, value in drawing.items() if value is not None} if sample else None,
    )
    from vitrail.decode.translate import Wishes

    wishes = Wishes(prefix, tuple(forbid or ()), tuple(force or ()))
    interactive = sys.stdin.isatty() and source == Path("-")
    if interactive:
        console.say("type a line to translate it; Ctrl-D ends")
    doubtful: list[int] = []
    if alignment:
        answers = aligned(translator, windows(source), folder=models[0], search=search, wishes=wishes)
    else:
        answers = ((found, None) for found in translator.translate_portions(windows(source), search=search, wishes=wishes))
    for number, (found, links) in enumerate(answers, start=1):
        console.write_lines(_lines(found, number=number, n_best=n_best, scores=scores, json=json, links=links))
        if found.truncated or found.cut:
            doubtful.append(number)
    if doubtful:
        shown = ", ".join(map(str, doubtful[:5])) + (", ..." if len(doubtful) > 5 else "")
        console.say(f"warning: {len(doubtful):,} translations may be incomplete, too long for the model (lines {shown})")


def load(models: list[Path], *, fast: bool, seed: int, threads: int, device: console.DeviceName, inspectable: bool = False) -> "Translator":
    """The translator, searching as its first model was configured to; `inspectable`: one that can be looked into."""
    from vitrail.decode.translate import TranslateConfig, Translator

    kind = Translator
    if inspectable:
        from vitrail.inspection.translator import InspectableTranslator as kind
    config = TranslateConfig(exact=not fast, seed=seed)
    return kind.load(models[0], *models[1:], device=device, threads=threads, config=config)


def aligned(
    translator: "Translator", portions: Iterable[list[str]], *, folder: Path, search: "SearchConfig", wishes: "Wishes"
) -> Iterator[tuple["Translation", str]]:
    """Each translation with its word alignment, aligned in portions as they were translated.

    The heads are those that align best on a run's development set; of a model folder by itself, all.
    """
    from vitrail.inspection.alignment import Aligner, heads_for
    from vitrail.inspection.links import to_pharaoh
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

    stream = translator.translate_portions(counted(), search=search, wishes=wishes)
    for first in stream:
        batch = [first, *islice(stream, sizes[-1] - 1)]
        for found, links in zip(batch, aligner.align_translations(batch), strict=True):
            yield found, to_pharaoh(links)


def adapt_search(
    search: "SearchConfig", *, beams: int | None, n_best: int, length_penalty: float | None, sampling: dict[str, Any] | None
) -> "SearchConfig":
    """The model's own search, with what the options change. Raises UsageError for what cannot be."""
    from vitrail.config import build, merge
    from vitrail.decode.search import SearchConfig

    changes: dict[str, Any] = {"n_best": n_best, "beams": beams or max(search.beams, n_best)}
    if length_penalty is not None:
        changes["length_penalty"] = length_penalty
    if sampling is not None:
        changes["sampling"] = sampling
    return build(SearchConfig, merge(search.model_dump(mode="json"), changes), origin="options")


def windows(source: Path) -> Iterator[list[str]]:
    """Lines in portions: as many as have come while the last portion was translated, so that whoever waits for an answer gets it."""
    from vitrail.data.text import lines

    queue: Queue[str | BaseException | None] = Queue(maxsize=4 * _WINDOW)

    def read() -> None:
        try:
            for line in lines(source, allow_empty=True):
                queue.put(line)
            queue.put(None)
        except BaseException as error:
            queue.put(error)

    Thread(target=read, daemon=True).start()
    window: list[str] = []
    while True:
        try:
            item = queue.get(block=not window)
        except Empty:
            yield window
            window = []
            continue
        if not isinstance(item, str):
            break
        window.append(item)
        if len(window) == _WINDOW:
            yield window
            window = []
    yield window
    if item is not None:
        raise item


def _lines(found: "Translation", *, number: int, n_best: int, scores: bool, json: bool, links: str | None) -> list[str]:
    if json:
        record: dict[str, Any] = {
            "line": number,
            "source": found.source,
            "text": found.text,
            "score": found.score,
            "truncated": found.truncated,
            "passed_through": found.passed_through,
        }
        if n_best > 1:
            record["alternatives"] = [{"text": one.text, "score": one.score} for one in found.alternatives]
        if links is not None:
            record["alignment"] = links
        return [json_module.dumps(record, ensure_ascii=False)]
    if n_best > 1:
        # An empty line has an empty translation, and no others.
        ranked = [(one.score, one.text) for one in found.alternatives] or [(found.score, found.text)]
        return [f"{number}\t{rank}\t{score:.4f}\t{text}" for rank, (score, text) in enumerate(ranked, start=1)]
    fields = [f"{found.score:.4f}"] * scores + [found.text] + ([] if links is None else [links])
    return ["\t".join(fields)]
