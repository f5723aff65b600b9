"""vitrail vectors: word vectors, each use a verb of its own."""

import typer

from vitrail.commands.vectors.asking import analogy, neighbours
from vitrail.commands.vectors.convert import convert
from vitrail.commands.vectors.dictionary import dictionary
from vitrail.commands.vectors.evaluate import evaluate
from vitrail.commands.vectors.explaining import explain, map_of_words
from vitrail.commands.vectors.train import train

vectors = typer.Typer(name="vectors", help="Train and use word vectors: evaluate, ask, map, explain, convert.", no_args_is_help=True)
for _verb in (train, evaluate, neighbours, analogy):
    vectors.command(_verb.__name__)(_verb)
vectors.command("map")(map_of_words)
for _verb in (explain, convert, dictionary):
    vectors.command(_verb.__name__)(_verb)
