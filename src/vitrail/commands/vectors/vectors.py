"""vitrail vectors: word vectors, each use a verb of its own."""

import typer

from vitrail.commands.vectors.asking import analogy, neighbours
from vitrail.commands.vectors.convert import convert
from vitrail.commands.vectors.dictionary import dictionary
from vitrail.commands.vectors.evaluate import evaluate

vectors = typer.Typer(name="vectors", help="Use word vectors: evaluate, ask, convert them.", no_args_is_help=True)
for _verb in (evaluate, neighbours, analogy, convert, dictionary):
    vectors.command(_verb.__name__)(_verb)
