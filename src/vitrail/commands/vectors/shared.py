"""What several verbs of word vectors have."""

from pathlib import Path
from typing import Annotated

import typer

Vectors = Annotated[
    Path, typer.Argument(metavar="VECTORS", help="A folder of vectors, or a file of word2vec, GloVe or fastText, plain or compressed.")
]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Read only the first N words, the most frequent.", show_default="all")]
Count = Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="How many words to show.")]
