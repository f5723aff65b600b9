"""Maps a model's tokens to the words of the phrasebook."""

from typing import TYPE_CHECKING

from vitrail.inspection.contents import make_side
from vitrail.inspection.words import Span, words_of
from vitrail.phrasebook.grammar import tokenise

if TYPE_CHECKING:
    from vitrail.inspection.translator import InspectableTranslator


def word_spans(text: str) -> list[Span]:
    """The span of each word of `tokenise`."""
    spans: list[Span] = []
    for word in tokenise(text):
        first = text.index(word, spans[-1][1] if spans else 0)
        spans.append((first, first + len(word)))
    return spans


def source_words(translator: "InspectableTranslator", text: str) -> tuple[list[int], list[int]]:
    """Token ids of a sentence, and for each, and the <eos> after them, the number of its word by `tokenise`.

    Tokens outside words, such as a single space, and <eos> belong to one more word after the last.
    """
    ids = translator.encode_source(text)
    side = make_side(ids, translator.vocabularies.source, text=translator.read(text))
    words = word_spans(side.text)
    owners = words_of(side.spans, text=side.text, words=words)
    return ids, [len(words) if owner is None else owner for owner in [*owners, None]]
