"""vitrail classify: the labels of texts."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrail.commands.shared import console
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.decode.sentences.classify import Classified, Classifier

_BATCH = 256


@console.with_groups
def classify(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a run of a classifier, or its model folder.")],
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="Texts; none: lines of stdin.", show_default=False)] = None,
    *,
    top: Annotated[
        int, typer.Option(min=0, help="Show this many labels of each text with their probabilities; 0: the label alone.", show_default="0")
    ] = 0,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the scores, and what sigmoid and softmax make of them; see docs/classification.md.")
    ] = False,
    computing: console.Computing,
    json: console.Json = False,
) -> None:
    """Give texts their labels: vitrail classify runs/reviews "A film to love."

    Each text becomes a line: its label, a tab, the probability. Where labels may hold together: all that are likelier than not, with their
    probabilities; an empty line where there is none.
    """
    from vitrail.data.reading.lines import lines
    from vitrail.decode.sentences.classify import Classifier

    if explain and (json or top):
        raise UsageError("--explain with " + ("--json" if json else "--top"), expected="one of the two")
    classifier = Classifier.load(
        model, engine=computing.engine, precision=computing.precision, threads=computing.threads, device=computing.device
    )
    classifier.encoder.announce(console.say)
    asked = texts or lines(Path("-"), allow_empty=True)
    cut = 0
    for chunk in _chunks(asked, size=_BATCH if texts or explain else 1):
        if explain:
            console.write_lines(_explained(classifier, chunk))
            continue
        found = classifier.classify(chunk)
        cut += sum(one.cut for one in found)
        console.write_lines([_told(text, one, top=top, json=json) for text, one in zip(chunk, found, strict=True)])
    if cut:
        console.say(
            f"{cut:,} texts are longer than the {classifier.encoder.config.context:,} tokens that the model reads; their ends were not read"
        )


def _chunks(texts: Iterable[str], *, size: int) -> Iterator[list[str]]:
    remaining = iter(texts)
    while chunk := list(islice(remaining, size)):
        yield [text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for text in chunk]


def _told(text: str, found: "Classified", *, top: int, json: bool) -> str:
    if json:
        content: dict[str, Any] = {"text": text, "labels": found.labels, "probabilities": dict(found.probabilities)}
        return console.json_line(content | ({"cut": True} if found.cut else {}))
    if top:
        shown = list(found.probabilities.items())[:top]
    else:
        shown = [(label, found.probabilities[label]) for label in found.labels]
    return "\t".join(f"{label}\t{probability:.4f}" for label, probability in shown)


def _explained(classifier: "Classifier", texts: list[str]) -> Iterator[str]:
    from vitrail.decode.sentences.sigmoid_softmax import compare_outputs

    for text in texts:
        yield from (text, *compare_outputs(classifier, text).to_text().splitlines(), "")
