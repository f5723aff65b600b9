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
from vitrail.data.vocabularies.subwords import EOS, CharacterVocabulary, Vocabularies, WordVocabulary, train_sentencepiece
from vitrail.data.vocabularies.taking import find_vocabularies
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


def test_sentencepiece_is_not_extended() -> None:
    with pytest.raises(UsageError, match="new_tokens = 5 with a SentencePiece vocabulary"):
        train_sentencepiece(["abc def"] * 5, size=280).extended(["xyz"], most=5)


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
        ({"target_from": "a"}, "one vocabulary for both sides"),
        ({"new_tokens": 5}, "without a vocabulary that they are added to"),
    ],
)
def test_contradictions(pairs: dict[str, Any], subwords: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        data_of(pairs, **subwords)
