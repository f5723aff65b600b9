"""Tokens of one vocabulary found in another, in several scripts and kinds of vocabulary."""

import pytest

from vitrail.data.vocabularies.matching import match_rows
from vitrail.data.vocabularies.subwords import (
    EOS,
    CharacterVocabulary,
    SentencePieceSubwords,
    Subwords,
    WordVocabulary,
    train_sentencepiece,
)

TEXTS = {
    "latin": ["the singer sings a song", "a song is sung", "the ring rings in spring", "sing in the spring"] * 20,
    "greek": ["ο τραγουδιστής τραγουδά ένα τραγούδι", "το τραγούδι της άνοιξης", "η άνοιξη τραγουδά"] * 20,
    "japanese": ["春の歌を歌う", "歌手が春に歌う", "春が来た。歌おう。"] * 20,
    "arabic": ["يغني المغني أغنية", "أغنية الربيع", "الربيع يغني"] * 20,
}


def spelled(vocabulary: Subwords) -> dict[str, int]:
    return {piece: id for id, piece in enumerate(vocabulary.pieces(range(EOS + 1, vocabulary.size)), start=EOS + 1)}


@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_equal_pieces_are_found_whatever_their_ids(texts: list[str], kind: str) -> None:
    donor = train_sentencepiece(texts, size=330, kind=kind)  # pyright: ignore[reportArgumentType]
    new = train_sentencepiece([*texts[:2], "12 345 67 89"], size=320, kind=kind)  # pyright: ignore[reportArgumentType]
    found = match_rows(new, donor)
    assert len(found.sources) == new.size and found.exact + found.composed + found.fresh == new.size
    known = spelled(donor)
    for piece, id in spelled(new).items():
        if piece in known:
            assert found.sources[id] == (known[piece],)
        else:
            assert donor.decode(found.sources[id]) == new.decode([id])
    assert found.sources[: EOS + 1] == ((0,), (1,), (2,), (3,))
    assert found.fresh == 0  # SentencePiece can spell anything in bytes


def test_a_piece_inside_a_word_is_made_of_pieces_inside_words() -> None:
    donor, new = WordVocabulary([" sing", " er"]), train_sentencepiece(TEXTS["latin"], size=300)
    assert match_rows(new, donor).fresh > 0
    letters = CharacterVocabulary([" ", *"abcdefghijklmnopqrstuvwxyz"])
    found, ids = match_rows(new, letters), spelled(new)
    inside, start = ids["ing"], next(piece for piece in ids if piece.startswith("▁s") and len(piece) > 3)
    assert letters.decode(found.sources[inside]) == "ing"
    assert "".join(letters.pieces(found.sources[ids[start]])) in (start, start[1:])


def test_what_the_other_vocabulary_does_not_know_stays_fresh() -> None:
    donor, new = CharacterVocabulary(list("abc ")), CharacterVocabulary(list("cbaxyz"))
    found = match_rows(new, donor)
    assert [found.sources[id] for id in range(4, 10)] == [(6,), (5,), (4,), (), (), ()]
    assert (found.exact, found.composed, found.fresh) == (7, 0, 3)


def test_words_are_composed_of_the_pieces_that_the_other_reads_them_in() -> None:
    donor = train_sentencepiece(TEXTS["latin"], size=290)
    new = WordVocabulary([" singing", " spring", " 歌"])
    found = match_rows(new, donor)
    for id, text in ((4, "singing"), (5, "spring"), (6, "歌")):
        assert list(found.sources[id]) == donor.encode(text)
    assert isinstance(donor, SentencePieceSubwords) and found.fresh == 0


def test_the_text_of_a_special_token_is_plain_text() -> None:
    donor, new = WordVocabulary(["</s>", " a"]), WordVocabulary([" a", "</s>"])
    assert match_rows(new, donor).sources == ((0,), (1,), (2,), (3,), (5,), (4,))


def test_the_same_vocabulary_is_taken_row_by_row() -> None:
    one = train_sentencepiece(TEXTS["greek"], size=330)
    found = match_rows(one, SentencePieceSubwords.from_bytes(one.to_bytes(), origin="copy"))
    assert found.sources == tuple((id,) for id in range(one.size)) and (found.exact, found.fresh) == (one.size, 0)
