"""vitrail vectors explain and map: the objective of a pair of words, step by step; a page of many words."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vitrail.commands.shared import console
from vitrail.commands.vectors.shared import Limit, Vectors, form_of
from vitrail.errors import UsageError

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
    from vitrail.vectors.explaining.text import walk_text

    loaded = load_vectors(vectors, outputs=True, say=console.say)
    names = [form_of(loaded, name) for name in (word, other)]
    (walk,) = _walks(loaded, [(names[0], names[1])], text=text, around=around or ())
    if json:
        console.show_json(walk.model_dump(mode="json"))
    else:
        console.show(walk_text(walk))


def _walks(vectors: "WordVectors", pairs: list[tuple[str, str]], *, text: list[Path] | None, around: Sequence[str] = ()) -> "list[Walk]":
    """The walk of each pair; a text is read once for all. Told where the text is another than that of the training."""
    from vitrail.vectors.explaining.counting import near_counts
    from vitrail.vectors.explaining.explain import explain_pair

    found: list[float | None] = [None] * len(pairs)
    if text:
        counted = near_counts(text, vectors, pairs, say=console.say)
        found = [*counted.x]
        trained = vectors.facts.get("words of text")
        if isinstance(trained, int) and counted.words != trained:
            console.say(f"this text has {counted.words:,} words of the vocabulary, the training's had {trained:,}: X is that of this text")
    return [explain_pair(vectors, *pair, around=around, x=x) for pair, x in zip(pairs, found, strict=True)]


def map_of_words(
    vectors: Vectors,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.html", help="The page that is written.")],
    words: Annotated[int, typer.Option(min=2, max=20_000, metavar="N", help="Words on the map, the most frequent.")] = 2_000,
    show: Annotated[
        list[str] | None, typer.Option(metavar="WORD", help="Also on the map; repeatable, also with a rare word.", show_default=False)
    ] = None,
    method: Annotated[Literal["pca", "tsne", "umap"], typer.Option(help="How words are laid out: pca, or by an extra tsne, umap.")] = "pca",
    neighbours: Annotated[int, typer.Option(min=1, max=100, metavar="K", help="Neighbours of each word.")] = 10,
    pair: Annotated[
        list[str] | None,
        typer.Option(metavar="'WORD OTHER'", help="The objective of two words, step by step; repeatable.", show_default=False),
    ] = None,
    text: Text = None,
    limit: Limit = None,
    language: Annotated[Literal["en", "fr"], typer.Option(help="Of the page's own words.")] = "en",
    json: console.Json = False,
) -> None:
    """A page with a map of words, their neighbours, and the objective of pairs.

    vitrail vectors map vectors/ -o map.html --pair "dog bark"

    The page is one file and asks nothing of any network. Neighbours are those by cosine in all dimensions, not those on the map.
    With --limit the objective cannot be filled in. Words with spaces in them: a tab between the two.
    """
    from vitrail.files import require_own, write_file
    from vitrail.inspection.maps.word_map import Wanted, map_words
    from vitrail.inspection.page import is_page
    from vitrail.inspection.page.words import words_to_html
    from vitrail.vectors import load_vectors

    pairs = [_pair(one) for one in pair or ()]
    require_own({output: is_page}, what="the page")
    loaded = load_vectors(vectors, limit=limit, outputs=bool(pairs), say=console.say)
    formed = [(form_of(loaded, one), form_of(loaded, other)) for one, other in pairs]
    walks = _walks(loaded, formed, text=text)
    also = [*(show or ()), *(word for one in formed for word in one if word in loaded)]
    wanted = Wanted(words=words, also=also, method=method, neighbours=neighbours)
    found = map_words(loaded, wanted, name=vectors.resolve().name, walks=walks)
    write_file(output, words_to_html(found, language=language).encode("utf-8", "replace"), ours=is_page)
    console.say(f"wrote {output}: {found.shown:,} of {found.total:,} words by {found.method}")
    if json:
        console.show_json(found.model_dump(mode="json"))


def _pair(given: str) -> tuple[str, str]:
    """Two words with a tab or a space between them."""
    words = given.split("\t") if "\t" in given else given.split(" ")
    match [word for word in words if word]:
        case [word, other]:
            return word, other
        case found:
            raise UsageError(f"--pair {given!r}: {len(found)} words", expected="two words", remedy='--pair "dog bark"')
