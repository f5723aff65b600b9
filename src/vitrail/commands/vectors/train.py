"""vitrail vectors train: word vectors from text."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vitrail.commands.shared import console
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.vectors.training.train import Progress

_EVERY_SECONDS = 5.0


@dataclass(frozen=True)
class Tokens:
    """How lines become words."""

    tokens: Annotated[
        Literal["words", "spaces", "characters", "subwords"],
        typer.Option(help="What a word is: by Unicode's rules, what stands between spaces, a character, or a piece of --subwords-from."),
    ] = "words"
    subwords_from: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="A run or model: its vocabulary's pieces, for --init embeddings.", show_default=False),
    ] = None
    keep_case: Annotated[bool, typer.Option("--keep-case", help="Tell upper case from lower case.")] = False
    no_punctuation: Annotated[bool, typer.Option("--no-punctuation", help="Leave out what has no letter or digit.")] = False
    min_count: Annotated[int, typer.Option(min=1, metavar="N", help="Leave out words that occur less often.")] = 5
    phrases: Annotated[int, typer.Option(min=0, max=8, metavar="PASSES", help="Join words that occur together, as in new_york.")] = 0
    phrase_threshold: Annotated[float, typer.Option(metavar="SCORE", help="The higher, the fewer phrases.")] = 10.0


@dataclass(frozen=True)
class Learning:
    """How vectors are learned."""

    dimension: Annotated[int, typer.Option(min=1, metavar="N", help="Numbers of a vector.")] = 100
    architecture: Annotated[
        Literal["skip-gram", "cbow"],
        typer.Option(help="Of word2vec and fasttext: a word tells its neighbours, or they tell it."),
    ] = "skip-gram"
    window: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Words to each side.  [default: 5; glove: 10]", show_default=False)
    ] = None
    negatives: Annotated[int, typer.Option(min=0, metavar="N", help="Random words for each true one; 0: hierarchical softmax.")] = 5
    sample: Annotated[float, typer.Option(min=0, metavar="SHARE", help="Leave out some of the words that are more frequent; 0: none.")] = (
        1e-3
    )
    ngrams: Annotated[str, typer.Option(metavar="FROM-TO", help="Of fasttext: characters of the n-grams.")] = "3-6"
    buckets: Annotated[int, typer.Option(min=1, metavar="N", help="Of fasttext: vectors that n-grams share.")] = 2_000_000
    epochs: Annotated[int | None, typer.Option(min=1, metavar="N", help="Passes.  [default: 5; glove: 25]", show_default=False)] = None
    rate: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Learning rate at the start.  [default: 0.025; cbow and glove: 0.05]", show_default=False),
    ] = None
    x_max: Annotated[float, typer.Option(metavar="COUNT", help="Of glove: pairs with this count or more have the full weight.")] = 100.0
    alpha: Annotated[float, typer.Option(metavar="POWER", help="Of glove: rarer ones have (count / x_max) ** alpha.")] = 0.75
    memory: Annotated[int, typer.Option(min=16, metavar="MIB", help="Of glove: memory to count pairs in; the rest is on disk.")] = 1024


@console.with_groups
def train(
    text: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Text, one sentence or paragraph a line; may be packed (.gz).")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the vectors are written.")],
    method: Annotated[Literal["word2vec", "fasttext", "glove"], typer.Option(help="word2vec, fasttext or glove.")] = "word2vec",
    tokens: Tokens = Tokens(),
    learning: Learning = Learning(),
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of all random numbers.")] = 1,
    threads: Annotated[int, typer.Option(min=0, metavar="N", help="Processor threads; 0: all. With 1, a seed gives the same bytes.")] = 0,
) -> None:
    """Train word vectors: vitrail vectors train corpus.txt -o vectors/

    The same command again goes on where it was stopped. Files may be larger than memory: what it needs is words x dimension x 8 bytes.
    """
    from vitrail.vectors.training.config import NgramsConfig, TokensConfig, VectorsConfig
    from vitrail.vectors.training.train import train_vectors

    glove = method == "glove"
    shortest, longest = _range(learning.ngrams)
    config = VectorsConfig(
        method=method,
        text=tuple(text),
        tokens=TokensConfig(
            kind=tokens.tokens,
            subwords_from=tokens.subwords_from,
            lower=not tokens.keep_case,
            punctuation=not tokens.no_punctuation,
            min_count=tokens.min_count,
            phrases=tokens.phrases,
            phrase_threshold=tokens.phrase_threshold,
        ),
        dimension=learning.dimension,
        architecture=learning.architecture,
        window=learning.window or (10 if glove else 5),
        negatives=learning.negatives,
        sample=learning.sample,
        ngrams=NgramsConfig(shortest=shortest, longest=longest, buckets=learning.buckets),
        epochs=learning.epochs or (25 if glove else 5),
        rate=learning.rate,
        x_max=learning.x_max,
        alpha=learning.alpha,
        memory_mib=learning.memory,
        seed=seed,
        threads=threads,
    )
    vectors = train_vectors(config, output, report=_Lines(), say=console.say)
    console.say(f"{output}: {len(vectors.words):,} words of {vectors.dimension} numbers")


def _range(text: str) -> tuple[int, int]:
    """Read `3-6`."""
    first, dash, last = text.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal()):
        raise UsageError(f"--ngrams {text}", expected="FROM-TO, such as 3-6")
    return int(first), int(last)


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
