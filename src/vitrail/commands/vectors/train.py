"""vitrail vectors train: word vectors from text."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vitrail.commands.shared import console

if TYPE_CHECKING:
    from vitrail.vectors.training.train import Progress

_EVERY_SECONDS = 5.0


@dataclass(frozen=True)
class Words:
    """How lines become words."""

    tokens: Annotated[
        Literal["words", "spaces", "characters", "subwords"] | None,
        typer.Option(
            help="What a word is: by Unicode's rules, what stands between spaces, a character, or a piece of --subwords-from.",
            show_default="words",
        ),
    ] = None
    subwords_from: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="A run or model: the pieces of its vocabulary, for --init embeddings.", show_default=False),
    ] = None
    min_count: Annotated[int | None, typer.Option(min=1, metavar="N", help="Leave out words that occur less often.", show_default="5")] = (
        None
    )


@dataclass(frozen=True)
class Learning:
    """How vectors are learned."""

    architecture: Annotated[
        Literal["skip-gram", "cbow"] | None,
        typer.Option(help="Of word2vec and fasttext: a word tells its neighbours, or they tell it.", show_default="skip-gram"),
    ] = None
    dimension: Annotated[int | None, typer.Option(min=1, metavar="N", help="Numbers of a vector.", show_default="100")] = None
    window: Annotated[int | None, typer.Option(min=1, metavar="N", help="Words to each side.", show_default="5; glove: 10")] = None
    negatives: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Random words for each true one; 0: hierarchical softmax.", show_default="5"),
    ] = None
    epochs: Annotated[int | None, typer.Option(min=1, metavar="N", help="Passes over the text.", show_default="5; glove: 15")] = None


@console.with_groups
def train(
    text: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Text, one sentence or paragraph a line; may be packed (.gz).")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the vectors are written.")],
    method: Annotated[Literal["word2vec", "fasttext", "glove"], typer.Option(help="word2vec, fasttext or glove.")] = "word2vec",
    words: Words = Words(),
    learning: Learning = Learning(),
    threads: Annotated[int, typer.Option(min=0, metavar="N", help="0: all that may be used. With 1, a seed gives the same bytes.")] = 0,
    settings: console.Set = None,
) -> None:
    """Train word vectors: vitrail vectors train corpus.txt -o vectors/

    The same command again goes on where it was stopped. Files may be larger than memory: what it needs is words x dimension x 8 bytes.
    docs/vectors.md lists what --set knows, such as sample=1e-4.
    """
    from vitrail.config import build, parse_override, with_overrides
    from vitrail.vectors.training.config import VectorsConfig
    from vitrail.vectors.training.train import train_vectors

    kind = words.tokens or (None if words.subwords_from is None else "subwords")
    tokens = {"kind": kind, "subwords_from": words.subwords_from, "min_count": words.min_count}
    given = {"method": method, "text": text, "threads": threads, "tokens": _said(tokens), **_said(vars(learning))}
    config = build(VectorsConfig, with_overrides(given, map(parse_override, settings or ())), origin="settings of word vectors")
    vectors = train_vectors(config, output, report=_Lines(), say=console.say)
    console.say(f"{output}: {len(vectors.words):,} words of {vectors.dimension} numbers")


def _said(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


class _Lines:
    """A line of progress every few seconds; on a terminal one line that changes."""

    def __init__(self) -> None:
        self._shown = time.monotonic()

    def __call__(self, progress: "Progress") -> None:
        now = time.monotonic()
        if now - self._shown < (0.5 if sys.stderr.isatty() else _EVERY_SECONDS) and progress.share < 1:
            return
        self._shown = now
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        line = (
            f"epoch {progress.epoch} of {progress.epochs}  loss {progress.loss:.3f}  rate {progress.rate:.4g}  "
            f"{progress.words_per_second:,.0f} {progress.unit}/s  {minutes}:{seconds:02} left  ({progress.share:.0%})"
        )
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{line}" + ("\n" if progress.share >= 1 else ""))
            sys.stderr.flush()
        else:
            console.say(line)
