"""vitrail vectors evaluate: similarity and analogies."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.commands.shared import console
from vitrail.commands.vectors.shared import Limit, Vectors
from vitrail.errors import UsageError


def evaluate(
    vectors: Vectors,
    *,
    similarity: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Two words and people's score a line. May be given several times.", show_default=False),
    ] = None,
    analogies: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Four words a line, after lines with : and a section's name.", show_default=False),
    ] = None,
    header: Annotated[bool, typer.Option("--header", help="The first line of --similarity names the columns.")] = False,
    fold_case: Annotated[
        bool | None,
        typer.Option(help="Words that differ only in case are the same.", show_default="where the vectors have no upper case"),
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, max=100_000, metavar="N", help="Resamples for the intervals; 0: none.")] = 1_000,
    limit: Limit = None,
    json: console.Json = False,
) -> None:
    """Score word vectors by similarity and by analogies.

    vitrail vectors evaluate vectors/ --similarity ws353.txt --analogies questions-words.txt

    Spearman's correlation with people's scores; the share of analogies whose answer is the best of all words, by 3CosAdd and by 3CosMul.
    The share of questions that could be asked stands beside them.
    """
    from vitrail.vectors import load_vectors
    from vitrail.vectors.evaluating.questions import read_analogies, read_similarity
    from vitrail.vectors.evaluating.vector_report import evaluate_vectors

    if not similarity and not analogies:
        raise UsageError(
            "nothing to evaluate on", expected="--similarity FILE or --analogies FILE", remedy="vitrail vectors evaluate --help"
        )
    report = evaluate_vectors(
        name=str(vectors),
        similarity=[read_similarity(path, header=header) for path in similarity or ()],
        analogies=[read_analogies(path) for path in analogies or ()],
        vectors=load_vectors(vectors, limit=limit, say=console.say),
        fold_case=fold_case,
        bootstrap=bootstrap,
        say=console.say,
    )
    console.show(report.to_json() if json else report.to_text())
