"""vitrail vectors neighbours and analogy: which words are near."""

from typing import Annotated, Literal

import typer

from vitrail.commands.shared import console
from vitrail.commands.vectors.shared import Count, Limit, Vectors, form_of


def neighbours(
    vectors: Vectors,
    words: Annotated[list[str], typer.Argument(metavar="WORD...", help="Words whose neighbours are wanted.")],
    *,
    count: Count = 10,
    limit: Limit = None,
    json: console.Json = False,
) -> None:
    """The words with the most similar vectors.

    vitrail vectors neighbours vectors/ river bank

    Similarity is the cosine. With vectors of fastText, words that no training saw have neighbours as well.
    """
    from vitrail.vectors import load_vectors

    loaded = load_vectors(vectors, limit=limit, say=console.say)
    forms = {word: form_of(loaded, word) for word in words}
    found = {word: loaded.neighbours(form, count) for word, form in forms.items()}
    for word, form in forms.items():
        if form not in loaded:
            console.say(f"{word}: is not among the {len(loaded):,} words; its vector is that of its n-grams")
    if json:
        console.show_json({word: [{"word": one.word, "cosine": one.score} for one in near] for word, near in found.items()})
        return
    for word, near in found.items():
        console.write_lines([f"{word}:" for _ in range(len(found) > 1)] + [f"{one.score:.4f}\t{one.word}" for one in near])


def analogy(
    vectors: Vectors,
    a: Annotated[str, typer.Argument(metavar="A", help="A word ...")],
    b: Annotated[str, typer.Argument(metavar="B", help="... that is to this one ...")],
    c: Annotated[str, typer.Argument(metavar="C", help="... as this one is to the word that is sought.")],
    *,
    method: Annotated[
        Literal["3cosadd", "3cosmul"], typer.Option(help="How similarities are put together: added or multiplied.")
    ] = "3cosadd",
    count: Count = 10,
    limit: Limit = None,
    json: console.Json = False,
) -> None:
    """A is to B as C is to which word?

    vitrail vectors analogy vectors/ man king woman
    """
    from vitrail.vectors import load_vectors

    loaded = load_vectors(vectors, limit=limit, say=console.say)
    found = loaded.analogy(*(form_of(loaded, word) for word in (a, b, c)), method=method, count=count)
    if json:
        console.show_json([one._asdict() for one in found])
    else:
        console.write_lines(f"{one.score:.4f}\t{one.word}" for one in found)
