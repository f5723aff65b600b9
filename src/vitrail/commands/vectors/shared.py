"""What several verbs of word vectors have."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitrail.commands.shared import console

if TYPE_CHECKING:
    from vitrail.vectors import WordVectors

Vectors = Annotated[
    Path, typer.Argument(metavar="VECTORS", help="A folder of vectors, or a file of word2vec, GloVe or fastText, plain or compressed.")
]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Read only the first N words, the most frequent.", show_default="all")]
Count = Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="How many words to show.")]


def form_of(vectors: "WordVectors", word: str) -> str:
    """A word as the vectors write it; told where that is another case."""
    form = vectors.form_of(word)
    if form.lower() == word.lower() and form != word:
        console.say(f"{word}: taken as {form}, since these vectors have no upper case")
    return form
