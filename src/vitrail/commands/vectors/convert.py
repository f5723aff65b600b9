"""vitrail vectors convert: word vectors from one format to another."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vitrail.commands.shared import console
from vitrail.commands.vectors.shared import Limit, Vectors


def convert(
    vectors: Vectors,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Where they are written; a file named .gz is compressed.")],
    *,
    to: Annotated[
        Literal["folder", "word2vec-text", "word2vec-binary", "glove", "fasttext-vec", "fasttext-bin"], typer.Option(help="The format.")
    ],
    limit: Limit = None,
) -> None:
    """Write word vectors in another format.

    vitrail vectors convert glove.6B.50d.txt vectors --to folder

    The format that is read is told by its content. What the new one cannot hold is told: n-grams, words with spaces.
    """
    from vitrail.errors import UsageError
    from vitrail.vectors import load_vectors, save_vectors
    from vitrail.vectors.formats.table import require_place

    if output.exists() and output.resolve() == vectors.resolve():
        raise UsageError(f"{output}: is what is read", expected="another name for what is written")
    require_place(output, to=to)
    loaded = load_vectors(vectors, limit=limit, outputs=True, say=console.say)
    save_vectors(loaded, output, to=to, say=console.say)
    console.say(f"wrote {output}: {len(loaded):,} words of {loaded.dimension:,} numbers")
