"""vitrail vectors dictionary: two languages mapped onto each other, and the dictionary that comes of it."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.commands.shared import console


def dictionary(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Word vectors of one language.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Word vectors of another, of the same dimension.")],
    *,
    seed_pairs: Annotated[Path, typer.Option(metavar="FILE", help="A source word and its translation a line, to fit the mapping to.")],
    test_pairs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same, to measure precision on.", show_default="print a dictionary")
    ] = None,
    refine: Annotated[int, typer.Option(min=0, max=100, metavar="N", help="Fits to pairs that are found both ways.")] = 5,
    words: Annotated[int, typer.Option(min=1, metavar="N", help="Source words to find translations of, the most frequent.")] = 100,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Read only the first N words of each.")] = 200_000,
    json: console.Json = False,
) -> None:
    """Find translations of words in two mapped spaces.

    vitrail vectors dictionary en/ fr/ --seed-pairs some.tsv > en-fr.tsv

    A rotation takes the source space onto the target space (orthogonal Procrustes); CSLS finds the nearest words.
    With --test-pairs: how often a right one is the first or among the first five, with 95 % intervals.
    """
    from vitrail.vectors import load_vectors
    from vitrail.vectors.evaluating.dictionary import induce_dictionary, read_pairs, score_dictionary
    from vitrail.vectors.mapping import MappedSpaces

    seed = read_pairs(seed_pairs)
    test = None if test_pairs is None else read_pairs(test_pairs)
    spaces = (load_vectors(path, limit=limit, say=console.say) for path in (source, target))
    fitted = MappedSpaces.fit(*spaces, pairs=seed).refined(refine, say=console.say)
    if test is not None:
        score = score_dictionary(fitted, test, seed=seed)
        console.show(score.to_json() if json else score.to_text())
        return
    entries = induce_dictionary(fitted, words=words)
    if json:
        console.show_json([entry._asdict() for entry in entries])
    else:
        console.write_lines(f"{entry.source}\t{entry.target}\t{entry.score:.4f}" for entry in entries)
