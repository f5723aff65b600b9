"""SentencePiece vocabularies: the same bytes every time, text that comes back, sampling that can be repeated."""

import hashlib
import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.vocabularies.subwords import (
    EOS,
    CharacterVocabulary,
    SentencePieceSubwords,
    Subwords,
    SubwordsConfig,
    Vocabularies,
    WordVocabulary,
    draw_texts,
    train_sentencepiece,
    train_vocabularies,
)
from vitrail.data.vocabularies.vocabulary import collapse
from vitrail.errors import DataError, ModelError, UsageError

NOUNS = ("baker", "river", "lantern", "boulangère", "rivière", "lanterne", "window", "fenêtre", "châssis", "garden")
VERBS = ("paints", "crosses", "répare", "traverse", "carries", "apporte", "remembers", "se souvient de")
CORPUS = [f"the {a} {v} the {b}, number {i} !" for i, (a, v, b) in enumerate((a, v, b) for a in NOUNS for v in VERBS for b in NOUNS)]
BPE = train_sentencepiece(CORPUS, size=400)
UNIGRAM = train_sentencepiece(CORPUS, size=330, kind="unigram")


def _across_words() -> SentencePieceSubwords:
    """BPE with pieces of several words."""
    model = io.BytesIO()
    options = {"model_type": "bpe", "vocab_size": 400, "byte_fallback": True, "normalization_rule_name": "identity"}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        split_by_whitespace=False,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, **options},
    )
    return SentencePieceSubwords.from_bytes(model.getvalue(), origin="memory")


ACROSS_WORDS = _across_words()
SPECIAL_TEXTS = (
    "<s>",
    "</s>",
    "<pad>",
    "<unk>",
    "▁",
    "@@",
    "a▁b ▁▁ c",
    "\ufdd0",
    "\ufdd01 ▁\ufdd00",
    "<0x41>",
    "un\u202f: deux\u00a0!",
    "\u2047",
)

kinds = pytest.mark.parametrize("subwords", [BPE, UNIGRAM], ids=["bpe", "unigram"])
any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=40)
near_text = st.text("aeinrt hvéè,▁\ufdd0😀", max_size=40)


def sha(rows: Sequence[Sequence[int]]) -> str:
    return hashlib.sha256(repr(rows).encode()).hexdigest()


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_two_trainings_give_the_same_bytes(kind: Literal["bpe", "unigram"], tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("".join(text + "\n" for text in CORPUS), encoding="utf-8")
    first = train_sentencepiece(CORPUS, size=330, kind=kind)
    with file.open(encoding="utf-8", newline="\n") as lines:
        second = train_sentencepiece((line.removesuffix("\n") for line in lines), size=330, kind=kind)
    assert first.to_bytes() == second.to_bytes()


def test_another_process_learns_and_samples_the_same(tmp_path: Path) -> None:
    """SentencePiece's own sampling is the same within one process and another in the next: it would fail here."""
    (tmp_path / "corpus.txt").write_text("\n".join(CORPUS), encoding="utf-8")
    program = (
        "import sys, hashlib; from pathlib import Path; from vitrail.data.vocabularies.subwords import train_sentencepiece\n"
        "texts = Path(sys.argv[1]).read_text(encoding='utf-8').split('\\n')\n"
        "made = [train_sentencepiece(texts, size=size, kind=kind) for kind, size in (('bpe', 400), ('unigram', 330))]\n"
        "shas = [hashlib.sha256(repr(m.sample(texts, seed=7, dropout=0.2)).encode()).hexdigest() for m in made]\n"
        "print(*(m.digest for m in made), *shas)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "corpus.txt")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    sampled = [sha(subwords.sample(CORPUS, seed=7, dropout=0.2)) for subwords in (BPE, UNIGRAM)]
    assert said == [BPE.digest, UNIGRAM.digest, *sampled]


@kinds
@settings(deadline=None)
@given(text=any_text | near_text)
def test_any_text_comes_back(subwords: Subwords, text: str) -> None:
    ids = subwords.encode(text)
    assert subwords.decode(ids) == collapse(text)
    assert all(EOS < id < subwords.size for id in ids)
    assert subwords.decode([2, *ids, 3, 0, 0]) == collapse(text)


@kinds
@pytest.mark.parametrize("text", SPECIAL_TEXTS)
def test_text_that_looks_special_is_plain(subwords: Subwords, text: str) -> None:
    assert subwords.decode(subwords.encode(text)) == text
    assert subwords.decode(subwords.sample([text], seed=1, dropout=0.5)[0]) == text


@pytest.mark.parametrize("subwords", [BPE, UNIGRAM, WordVocabulary.train(CORPUS, size=30)], ids=["bpe", "unigram", "word"])
def test_several_rows_are_decoded_as_one(subwords: Subwords) -> None:
    rows = [[], *subwords.encode_batch([*SPECIAL_TEXTS, *CORPUS[:3]]), [EOS], [7, subwords.size - 1, 5]]
    for some in (rows, rows[:1], rows[1:], []):
        assert subwords.decode_batch([tuple(row) for row in some]) == [subwords.decode(row) for row in some]


def test_text_that_looks_special_can_be_learned_from() -> None:
    learned = train_sentencepiece([text for text in SPECIAL_TEXTS for _ in range(9)], size=400)
    for text in SPECIAL_TEXTS:
        assert learned.decode(learned.encode(text)) == text


def test_encoding_in_threads_changes_nothing() -> None:
    for subwords in (BPE, UNIGRAM):
        assert [ids.tolist() for ids in subwords.encode_arrays(CORPUS, threads=3)] == subwords.encode_batch(CORPUS)


@settings(deadline=None)
@given(st.lists(any_text | near_text | st.sampled_from(CORPUS), max_size=6))
def test_words_one_by_one_are_sentencepiece(texts: list[str]) -> None:
    """`encode_arrays` gives whole texts to SentencePiece."""
    for subwords in (BPE, UNIGRAM, ACROSS_WORDS):
        assert [ids.tolist() for ids in subwords.encode_arrays(texts, threads=1)] == subwords.encode_batch(texts)


def test_pieces_across_words_are_found() -> None:
    assert any("▁" in piece[1:] for piece in ACROSS_WORDS.pieces(ACROSS_WORDS.encode(CORPUS[0])))


@settings(deadline=None)
@given(st.lists(any_text | near_text | st.sampled_from(CORPUS), max_size=6))
def test_bpe_dropout_that_never_drops_is_sentencepiece(texts: list[str]) -> None:
    """The probability is 2^-63: the merges run as for any other, but none is passed over."""
    assert BPE.sample(texts, seed=3, dropout=2.0**-63) == BPE.encode_batch(texts)


@kinds
@settings(deadline=None)
@given(texts=st.lists(any_text | near_text, max_size=6), seed=st.integers(0, 2**40), dropout=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_a_sample_is_the_same_text(subwords: Subwords, texts: list[str], seed: int, dropout: float) -> None:
    sampled = subwords.sample(texts, seed=seed, dropout=dropout)
    assert [subwords.decode(ids) for ids in sampled] == [collapse(text) for text in texts]
    assert sampled == subwords.sample(texts, seed=seed, dropout=dropout)


@kinds
def test_dropout_and_seed_matter(subwords: Subwords) -> None:
    plain = subwords.encode_batch(CORPUS)
    assert subwords.sample(CORPUS, seed=1, dropout=0.0) == plain
    few, many, other = (subwords.sample(CORPUS, seed=seed, dropout=dropout) for seed, dropout in ((1, 0.05), (1, 0.5), (2, 0.05)))
    changed = [sum(a != b for a, b in zip(sampled, plain, strict=True)) for sampled in (few, many)]
    assert 0 < changed[0] < changed[1]
    assert few != other


def test_full_dropout_spells_every_character() -> None:
    text = "garden 😀"
    pieces = BPE.pieces(BPE.sample([text], seed=0, dropout=1.0)[0])
    assert pieces == [*"▁garden▁", *(f"<0x{byte:02X}>" for byte in "😀".encode())]


def test_a_small_corpus_gives_a_small_vocabulary() -> None:
    for kind in ("bpe", "unigram"):
        made = train_sentencepiece(["one line"], size=8000, kind=kind)
        assert 260 < made.size < 300
        assert made.decode(made.encode("one line")) == "one line"


def test_too_small_a_size_is_refused_with_the_least_that_works() -> None:
    with pytest.raises(UsageError, match=r"at least 2\d\d") as refused:
        train_sentencepiece(CORPUS, size=261)
    least = int(refused.value.expected.split()[2].rstrip(":"))
    assert train_sentencepiece(CORPUS, size=least).size == least


@pytest.mark.parametrize("texts", [[], [""], [" ", "  "]])
def test_no_text_is_refused(texts: list[str]) -> None:
    with pytest.raises(DataError):
        train_sentencepiece(texts, size=300)


def test_nothing_is_skipped_while_learning() -> None:
    """SentencePiece's trainer leaves out long lines and lines with its own marks; their characters must still get ids."""
    texts = ["x" * 9000, "\u2585 y", "\t z", ("word " * 2000) + "q"]
    learned = train_sentencepiece(texts, size=400)
    for character in "xyzq":
        assert len(learned.encode("word" + character)) < 6
        assert not any(piece.startswith("<0x") for piece in learned.pieces(learned.encode(character)))


def test_lone_surrogates_are_refused() -> None:
    for subwords in (BPE, UNIGRAM, CharacterVocabulary.train(CORPUS, size=99)):
        with pytest.raises(DataError, match="udc80"):
            subwords.encode("caf\udc80")


@settings(deadline=None)
@given(st.lists(st.text(max_size=3), max_size=50), st.integers(1, 20), st.integers(0, 9))
def test_drawing_keeps_order_and_count(texts: list[str], count: int, seed: int) -> None:
    numbered = [f"{number:03} {text}" for number, text in enumerate(texts)]
    drawn = draw_texts(iter(numbered), count=count, seed=seed)
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= set(numbered)
    assert len(drawn) == min(count, len(texts))
    assert drawn == draw_texts(numbered, count=count, seed=seed)


def test_drawing_is_even() -> None:
    texts = [str(number) for number in range(10)]
    counts = dict.fromkeys(texts, 0)
    for seed in range(2000):
        for text in draw_texts(texts, count=3, seed=seed):
            counts[text] += 1
    assert all(500 < count < 700 for count in counts.values()), counts


@pytest.mark.parametrize("data", [b"", b"abc", b"\x00" * 100, b"{}", BPE.to_bytes()[:-500], BPE.to_bytes()[:40]])
def test_a_damaged_file_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "joint.spm"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"joint\.spm"):
        SentencePieceSubwords.load(path)
    with pytest.raises(ModelError, match=r"absent\.spm"):
        SentencePieceSubwords.load(tmp_path / "absent.spm")


def test_a_foreign_model_is_refused() -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=100, minloglevel=2)
    with pytest.raises(ModelError, match="special ids"):
        SentencePieceSubwords.from_bytes(model.getvalue(), origin="foreign.model")


@pytest.mark.parametrize("rule", ["nfkc", "nmt_nfkc_cf", "a table"])
def test_a_model_that_rewrites_text_is_refused(rule: str, tmp_path: Path) -> None:
    """Its table may make one letter twenty thousand; ours have none, whatever texts they were learned from."""
    (tmp_path / "table.tsv").write_text("61\t" + " ".join(["62"] * 2000) + "\n")
    how = {"normalization_rule_tsv": str(tmp_path / "table.tsv")} if rule == "a table" else {"normalization_rule_name": rule}
    model = io.BytesIO()
    special = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        vocab_size=400,
        hard_vocab_limit=False,
        byte_fallback=True,
        minloglevel=2,
        **special,
        **how,
    )
    with pytest.raises(ModelError, match="its own table of normalisation"):
        SentencePieceSubwords.from_bytes(model.getvalue(), origin="foreign.model")


CONFIGS = [SubwordsConfig(kind=kind, joint=joint, size=330) for kind in ("bpe", "unigram", "word", "character") for joint in (True, False)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.kind}-{config.joint}")
def test_vocabularies_are_saved_and_loaded(config: SubwordsConfig, tmp_path: Path) -> None:
    made = train_vocabularies(CORPUS, [text.upper() for text in CORPUS], config=config)
    made.save(tmp_path)
    loaded = Vocabularies.load(tmp_path)
    assert (loaded.digest, loaded.joint, loaded.source.size) == (made.digest, config.joint, made.source.size)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(made.files())
    assert loaded.target.encode_batch(CORPUS) == made.target.encode_batch(CORPUS)
    assert type(loaded.target) is type(made.target)
    assert (made.source.digest == made.target.digest) == config.joint


def test_a_folder_with_the_wrong_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no vocabulary"):
        Vocabularies.load(tmp_path)
    BPE.save(tmp_path / "source.spm")
    with pytest.raises(ModelError, match=r"source\.spm"):
        Vocabularies.load(tmp_path)
    BPE.save(tmp_path / "joint.spm")
    with pytest.raises(ModelError, match=r"joint\.spm"):
        Vocabularies.load(tmp_path)
    (tmp_path / "joint.vocab.json").write_bytes(WordVocabulary(["a"]).to_bytes())
    with pytest.raises(ModelError, match=r"joint\.vocab\.json"):
        Vocabularies.load(tmp_path)


@pytest.mark.parametrize("vocabulary", [BPE, WordVocabulary(["été", "犬"])], ids=["bpe", "word"])
def test_a_vocabulary_takes_the_place_of_a_vocabulary_alone(vocabulary: Subwords, tmp_path: Path) -> None:
    path = tmp_path / f"joint{vocabulary.suffix}"
    path.write_bytes(b"a thesis")
    with pytest.raises(UsageError, match=f"holds {path.name}, which vitrail did not write"):
        vocabulary.save(path)
    assert path.read_bytes() == b"a thesis"
    path.unlink()
    vocabulary.save(path)
    vocabulary.save(path)
    assert type(vocabulary).load(path).digest == vocabulary.digest


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    BPE.save(tmp_path / "joint.spm")
    assert (
        hashlib.sha256((tmp_path / "joint.spm").read_bytes()).hexdigest()
        == BPE.digest
        == SentencePieceSubwords.load(tmp_path / "joint.spm").digest
    )
