"""Vocabularies that are taken from other folders, as they are or extended."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from vitrail.config import build
from vitrail.data.data_config import DataConfig
from vitrail.data.preparing.fingerprints import fingerprint
from vitrail.data.preparing.prepare import prepare
from vitrail.data.text_config import TextConfig
from vitrail.data.vocabularies.growing import learn_merges
from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import (
    EOS,
    CharacterVocabulary,
    SentencePieceSubwords,
    Vocabularies,
    WordVocabulary,
    train_sentencepiece,
)
from vitrail.data.vocabularies.taking import find_vocabularies
from vitrail.data.vocabularies.vocabulary import collapse
from vitrail.errors import ModelError, UsageError

TEXTS = {
    "latin": (["the cat sat", "a dog ran"], ["the cat ran far", "zebras sat", "the zebras far far"], [" far", " zebras"]),
    "thai": (["แมวนั่ง", "หมาวิ่ง"], ["แมววิ่งไกล", "ม้าลายนั่ง"], None),
    "hindi": (["बिल्ली बैठी", "कुत्ता दौड़ा"], ["बिल्ली दूर दौड़ी", "दूर बैठी"], [" दूर", " दौड़ी"]),
}


@pytest.mark.parametrize(("old", "new", "expected"), TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("kind", [WordVocabulary, CharacterVocabulary])
def test_new_tokens_come_behind_and_every_id_stays(kind: Any, old: list[str], new: list[str], expected: list[str] | None) -> None:
    before = kind.train(old, size=100)
    after = before.extended(new, most=100)
    assert after.pieces(range(before.size)) == before.pieces(range(before.size))
    assert all(1 not in ids for ids in after.encode_batch([*old, *new])) and after.size > before.size
    assert after.encode_batch(old) == before.encode_batch(old)
    assert [after.decode([id]) for ids in after.encode_batch(new) for id in ids if id >= before.size]
    if kind is WordVocabulary and expected is not None:
        assert after.pieces(range(before.size, after.size)) == [token.replace(" ", "▁") for token in expected]
    assert before.extended(new, most=1).size == before.size + 1
    assert before.extended(new, most=9, least_count=99).to_bytes() == before.to_bytes()
    assert kind.from_bytes(after.to_bytes(), origin="x").to_bytes() == after.to_bytes()


ENGLISH = [
    f"the {one} {two} sat by the {three} and sang" for one in ("old", "young") for two in ("cat", "owl") for three in ("sea", "shore")
]
MORE_SCRIPTS = {
    "greek": ["η γάτα κάθεται", "η γάτα τραγουδά", "μια γάτα κοιμάται"] * 3,
    "chess": ["1. ♘f3 ♞c6 the ♔ is safe", "♕h5 ♟e5 the ♔ sat"] * 3,
    "emoji": ["the cat 😺 sat 👩\u200d👩\u200d👧", "an owl 🦉 sang 😺 ❤\ufe0f"] * 3,
    "hindi": ["बिल्ली दूर दौड़ी", "दूर बैठी बिल्ली"] * 3,
    "japanese": ["猫が歌う。猫が座る。", "古い猫が海で歌う。"] * 3,
    "combining": ["x\u0323\u0308 and y\u0323\u0308", "x\u0323 by the sea ▁ \ufdd0"] * 3,
}


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def pieces(request: pytest.FixtureRequest) -> SentencePieceSubwords:
    return train_sentencepiece(ENGLISH * 4, size=320, kind=request.param)


@pytest.mark.parametrize("texts", MORE_SCRIPTS.values(), ids=MORE_SCRIPTS)
def test_pieces_get_the_characters_that_they_spell_in_bytes(pieces: SentencePieceSubwords, texts: list[str]) -> None:
    after = pieces.extended(texts, most="characters")
    assert after.pieces(range(pieces.size)) == pieces.pieces(range(pieces.size))
    assert after.encode_batch(ENGLISH) == pieces.encode_batch(ENGLISH)
    added = after.pieces(range(after.size))[pieces.size :]
    missing = {one for text in texts for one in text if one not in " ▁" and one not in set(pieces.pieces(range(pieces.size)))}
    escape = {"\ufdd0", "0", "1"} if "▁" in "".join(texts) else set[str]()  # how a ▁ of the text is written
    assert set(added) - escape == missing - escape and all(len(one) == 1 for one in added)
    for text in [*texts, *ENGLISH, "ζ é 龍 \t", ""]:
        assert after.decode(after.encode(text)) == text
    assert not any(4 <= id < 260 for ids in after.encode_batch(texts) for id in ids), "no character of the text is spelled in bytes"
    assert pieces.extended(texts, most=2).size == pieces.size + 2
    most_frequent = min(missing, key=lambda one: (-sum(text.count(one) for text in texts), one))
    if not escape:
        assert pieces.extended(texts, most=1).pieces([pieces.size]) == [most_frequent]
    assert pieces.extended(texts, most="characters", least_count=1000).to_bytes() == pieces.to_bytes()


@pytest.mark.parametrize("texts", MORE_SCRIPTS.values(), ids=MORE_SCRIPTS)
def test_pieces_get_longer_ones_behind_the_characters(pieces: SentencePieceSubwords, texts: list[str]) -> None:
    characters, after = pieces.extended(texts, most="characters"), pieces.extended(texts, most=90)
    assert after.pieces(range(characters.size)) == characters.pieces(range(characters.size)) and after.size > characters.size
    assert all(len(piece) > 1 for piece in after.pieces(range(characters.size, after.size)))
    assert sum(map(len, after.encode_batch(texts))) < sum(map(len, characters.encode_batch(texts)))
    for text in [*texts, *ENGLISH, "ζ é 龍 \t"]:
        assert after.decode(after.encode(text)) == text
    assert after.extended(texts, most=0).to_bytes() == after.to_bytes()
    assert pieces.extended(texts, most=90).digest == after.digest
    assert after.sample(texts, seed=1, dropout=0.5) != after.encode_batch(texts)
    assert [after.decode(ids) for ids in after.sample(texts, seed=1, dropout=0.5)] == [collapse(text) for text in texts]
    assert (after.merges is None) == (pieces.merges is None)
    if after.merges is not None:
        assert [after.written(ids) for ids in after.sample(texts, seed=0, dropout=1e-30)] == texts
        assert after.sample(texts, seed=0, dropout=1e-30) == after.encode_batch(texts), "our own BPE divides as SentencePiece does"


def test_new_words_of_old_letters_become_pieces_and_other_words_stay(pieces: SentencePieceSubwords) -> None:
    texts = ["seashore seashore hoarse", "seashore horse"] * 10
    after = pieces.extended(texts, most=8)
    assert len(after.encode("seashore")) < len(pieces.encode("seashore"))
    new = set(range(pieces.size, after.size))
    for text in (*ENGLISH, *"the", "young", "sang", "zzz", "owl", "\t龍"):
        assert after.encode(text) == pieces.encode(text) or new & set(after.encode(text))
    assert all(after.encode(word) == pieces.encode(word) for word in ("young", "cat"))


def test_more_merges_are_those_of_byte_pair_encoding() -> None:
    """From letters on: the textbook's corpus (Sennrich et al. 2016, figure 1), where it stops at pieces of one count."""
    words = [(list(word), count) for word, count in (("low", 5), ("lower", 2), ("newest", 6), ("widest", 3))]
    found = learn_merges(words, set("lowernstid"), most=4, least_count=6, score=lambda left, right, count: -float(count))
    assert found == [("es", -9.0), ("est", -9.0), ("lo", -7.0), ("low", -7.0)]
    assert learn_merges([(["a"] * 5, 3)], {"a"}, most=2, least_count=1, score=lambda left, right, count: 0.0) == [("aa", 0.0), ("aaa", 0.0)]


def test_labels_and_whole_words_have_no_characters_to_add() -> None:
    with pytest.raises(UsageError, match="characters with a vocabulary of whole words"):
        WordVocabulary([" a"]).extended(["b"], most="characters")
    with pytest.raises(UsageError, match="a list of labels"):
        LabelVocabulary(["a"]).extended(["b"], most=1)
    assert CharacterVocabulary(["a"]).extended(["abc"], most="characters").size == 7


@pytest.fixture
def pairs(tmp_path: Path) -> dict[str, Any]:
    words = ["red", "blue", "old", "new"]
    for side, text in (("en", "the {} {} house"), ("fr", "maison {} la {}")):
        (tmp_path / f"a.{side}").write_text("".join(text.format(one, two) + "\n" for one in words for two in words))
    corpora = [{"source": str(tmp_path / "a.en"), "target": str(tmp_path / "a.fr")}]
    return {"corpora": corpora, "holdout": {"dev_pairs": 0, "test_pairs": 0}}


def data_of(table: dict[str, Any], **subwords: Any) -> DataConfig:
    return build(DataConfig, {**table, "subwords": subwords}, origin="test")


@pytest.mark.parametrize("place", ["", "model", "data"])
def test_a_vocabulary_is_taken_as_it_is_from_a_run_a_model_or_prepared_data(tmp_path: Path, pairs: dict[str, Any], place: str) -> None:
    one, other = (train_sentencepiece([text] * 9, size=290) for text in ("the old house", "la maison neuve"))
    (tmp_path / "donor" / place).mkdir(parents=True)
    Vocabularies(one, other, joint=False).save(tmp_path / "donor" / place)
    found = prepare(data_of(pairs, taken_from=str(tmp_path / "donor")), tmp_path / "out")
    assert (found.vocabularies.source.digest, found.vocabularies.target.digest) == (one.digest, other.digest)
    assert found.facts["source_vocabulary"] == one.size and not found.vocabularies.joint


def test_one_side_is_taken_and_the_other_learned(tmp_path: Path, pairs: dict[str, Any]) -> None:
    one = train_sentencepiece(["la maison neuve"] * 9, size=290)
    Vocabularies(one, one, joint=True).save(make(tmp_path / "donor"))
    found = prepare(data_of(pairs, target_from=str(tmp_path / "donor"), joint=False, size=300), tmp_path / "out")
    assert found.vocabularies.target.digest == one.digest != found.vocabularies.source.digest


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_words_are_added_to_a_vocabulary_of_words(tmp_path: Path, pairs: dict[str, Any]) -> None:
    words = WordVocabulary([" the", " house"])
    Vocabularies(words, words, joint=True).save(make(tmp_path / "donor"))
    found = prepare(data_of(pairs, taken_from=str(tmp_path / "donor"), new_tokens=3), tmp_path / "out")
    pieces = found.vocabularies.source.pieces(range(EOS + 1, found.vocabularies.source.size))
    assert pieces[:2] == ["▁the", "▁house"] and len(pieces) == 5 and {"▁maison", "▁la"} <= set(pieces)
    table = {"text": [{"source": str(tmp_path / "a.en")}], "subwords": {"taken_from": str(tmp_path / "donor")}}
    text = build(TextConfig, table, origin="test")
    assert prepare(text, tmp_path / "text").vocabularies.digest == Vocabularies(words, words, joint=True).digest


def test_it_counts_by_its_bytes_and_may_be_gone_afterwards(tmp_path: Path, pairs: dict[str, Any]) -> None:
    words = WordVocabulary([" the", " house"])
    Vocabularies(words, words, joint=True).save(make(tmp_path / "donor"))
    config = data_of(pairs, taken_from=str(tmp_path / "donor"))
    before = fingerprint(config)
    shutil.copytree(tmp_path / "donor", tmp_path / "copy")
    assert fingerprint(data_of(pairs, taken_from=str(tmp_path / "copy"))) == before
    shutil.rmtree(tmp_path / "donor")
    assert fingerprint(config, kept=before) == before
    with pytest.raises(ModelError, match="no vocabulary is there"):
        fingerprint(config)
    WordVocabulary([" the"]).save(make(tmp_path / "donor") / "joint.vocab.json")
    assert fingerprint(config, kept=before)["data.subwords.taken_from"] != before["data.subwords.taken_from"]


def test_data_without_one_have_the_fingerprint_that_they_had(pairs: dict[str, Any]) -> None:
    names = {name.removeprefix("data.subwords.") for name in fingerprint(data_of(pairs)) if name.startswith("data.subwords.")}
    assert names == {"kind", "size", "joint", "character_coverage", "training_sentences", "least_count", "seed"}


def test_a_damaged_vocabulary_is_refused(tmp_path: Path) -> None:
    (make(tmp_path / "donor") / "joint.spm").write_bytes(b"no model")
    with pytest.raises(ModelError, match="not a SentencePiece model"):
        find_vocabularies(tmp_path / "donor")
    with pytest.raises(ModelError, match="no vocabulary is there"):
        find_vocabularies(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("subwords", "found"),
    [
        ({"taken_from": "a", "source_from": "b", "joint": False}, "taken_from and source_from"),
        ({"target_from": "a", "joint": True}, "one vocabulary for both sides"),
        ({"new_tokens": 5}, "without a vocabulary that they are added to"),
    ],
)
def test_contradictions(pairs: dict[str, Any], subwords: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        data_of(pairs, **subwords)
