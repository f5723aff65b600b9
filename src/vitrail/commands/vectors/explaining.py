"""vitrail vectors explain and map: the objective of a pair of words, step by step; a page of many words."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitrail.commands.shared import console
from vitrail.commands.vectors.shared import Vectors, form_of

if TYPE_CHECKING:
    from vitrail.vectors import WordVectors
    from vitrail.vectors.explaining.walk import Walk

Text = Annotated[
    list[Path] | None,
    typer.Option("--text", metavar="FILE", help="Of GloVe: the training text, to count how often the words are near.", show_default=False),
]


def explain(
    vectors: Vectors,
    word: Annotated[str, typer.Argument(metavar="WORD", help="A word ...")],
    other: Annotated[str, typer.Argument(metavar="OTHER", help="... and the one that it is to tell.")],
    *,
    around: Annotated[
        list[str] | None, typer.Option(metavar="WORD", help="Of CBOW: a word beside WORD in the window; repeatable.", show_default=False)
    ] = None,
    text: Text = None,
    json: console.Json = False,
) -> None:
    """The objective of a pair of words, step by step, in the numbers of these vectors.

    vitrail vectors explain vectors/ dog bark

    Skip-gram, CBOW and fastText need the output vectors (train with --set keep_outputs=true; fastText's .bin has them); GloVe the
    training text as well. What is missing is said, and the rest is shown.
    """
    from vitrail.vectors import load_vectors
    from vitrail.vectors.explaining.explain import explain_pair
    from vitrail.vectors.explaining.text import walk_text

    loaded = load_vectors(vectors, outputs=True, say=console.say)
    names = [form_of(loaded, name) for name in (word, other)]
    (walk,) = _walks(loaded, [(names[0], names[1])], text=text) if not around else [explain_pair(loaded, *names, around=around)]
    if json:
        console.show_json(walk.model_dump(mode="json"))
    else:
        console.show(walk_text(walk))


def _walks(vectors: "WordVectors", pairs: list[tuple[str, str]], *, text: list[Path] | None) -> "list[Walk]":
    """The walk of each pair; a text is read once for all. Told where the text is another than that of the training."""
    from vitrail.vectors.explaining.counting import near_counts
    from vitrail.vectors.explaining.explain import explain_pair

    found: list[float | None] = [None] * len(pairs)
    if text:
        counted = near_counts(text, vectors, pairs, say=console.say)
        found = [*counted.x]
        trained = vectors.facts.get("words of text")
        if counted.words != trained:
            console.say(f"this text has {counted.words:,} words of the vocabulary, the training's had {trained:,}: X is that of this text")
    return [explain_pair(vectors, *pair, x=x) for pair, x in zip(pairs, found, strict=True)]
