"""Training of word vectors as a user runs it: text of several scripts in, a folder out; stopped, killed and resumed; what is refused."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from vitrail.data.reading.lines import Limits, line_parts
from vitrail.data.vocabularies.subwords import CharacterVocabulary, Vocabularies
from vitrail.errors import DataError, UsageError, VitrailError
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import save_model
from vitrail.vectors import load_vectors
from vitrail.vectors.training.config import NgramsConfig, TokensConfig, VectorsConfig
from vitrail.vectors.training.train import WORK, Progress, train_vectors

ANIMALS, COLOURS = ("katze", "hund", "pferd", "vogel"), ("rot", "blau", "grün", "gelb")
"""Words of one group occur in the same places: their vectors must be alike."""


def write_text(path: Path, *, lines: int = 1500) -> Path:
    """Sentences of two groups of words, in Latin letters."""
    draw = np.random.default_rng(5)
    text: list[str] = []
    for _ in range(lines):
        group, places = (ANIMALS, ("läuft", "frisst", "schläft")) if draw.random() < 0.5 else (COLOURS, ("farbe", "malt", "pinsel"))
        words = [str(draw.choice(group)), str(draw.choice(places)), str(draw.choice(group)), str(draw.choice(places))]
        text.append(" ".join(words))
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def config(text: Path, **changes: Any) -> VectorsConfig:
    settings: dict[str, Any] = {"dimension": 12, "epochs": 3, "threads": 1, "sample": 0.0, "rate": 0.05}
    return VectorsConfig(text=(text,), **{**settings, **changes})


METHODS: list[dict[str, Any]] = [
    {"architecture": "skip-gram"},
    {"architecture": "cbow"},
    {"architecture": "skip-gram", "negatives": 0},
    {"architecture": "cbow", "negatives": 0},
    {"method": "fasttext", "ngrams": NgramsConfig(buckets=1000)},
    {"method": "fasttext", "architecture": "cbow", "ngrams": NgramsConfig(buckets=1000)},
    {"method": "glove", "epochs": 30},
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: "-".join(str(value) for value in method.values()).split(" ")[0])
def test_words_in_the_same_places_become_alike_and_the_loss_falls(method: dict[str, Any], tmp_path: Path) -> None:
    seen: list[Progress] = []
    vectors = train_vectors(config(write_text(tmp_path / "text"), **{"epochs": 6, **method}), tmp_path / "vectors", report=seen.append)
    within = np.mean([vectors.similarity(a, b) for group in (ANIMALS, COLOURS) for a in group for b in group if a < b])
    across = np.mean([vectors.similarity(a, b) for a in ANIMALS for b in COLOURS])
    assert within > across + 0.3
    assert seen[-1].share == 1 and seen[-1].loss < seen[0].loss
    assert {path.name for path in tmp_path.iterdir()} == {"text", "vectors"}, "nothing of the training is left"
    again = load_vectors(tmp_path / "vectors")
    assert list(again.words) == list(vectors.words) and np.array_equal(again.matrix, vectors.matrix)
    if method.get("method") == "fasttext":
        assert again.similarity("katzen", "katze") > again.similarity("katzen", "blau"), "an unseen word is like those it is spelled like"


def test_one_worker_and_a_seed_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", lines=300)
    one, same, other = (train_vectors(config(text, seed=seed), tmp_path / name) for seed, name in ((1, "a"), (1, "b"), (2, "c")))
    assert one.matrix.tobytes() == same.matrix.tobytes() != other.matrix.tobytes()


def test_several_workers_read_all_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitrail.vectors.training.word2vec._PIECE_TOKENS", 256)
    vectors = train_vectors(config(write_text(tmp_path / "text"), threads=4, epochs=6), tmp_path / "vectors")
    assert vectors.similarity("katze", "hund") > vectors.similarity("katze", "blau")


def test_a_stopped_training_resumes_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitrail.vectors.training.word2vec._PIECE_TOKENS", 256)
    text = write_text(tmp_path / "text", lines=400)
    whole = train_vectors(config(text), tmp_path / "whole")

    def stop_in_the_middle(progress: Progress) -> None:
        if progress.share > 0.4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(VitrailError, match="which are saved"):
        train_vectors(config(text), tmp_path / "parts", report=stop_in_the_middle)
    assert not (tmp_path / "parts").exists() and (tmp_path / f"parts{WORK}").is_dir()
    with pytest.raises(UsageError, match="dimension"):
        train_vectors(config(text, dimension=13), tmp_path / "parts")
    seen: list[Progress] = []
    parts = train_vectors(config(text), tmp_path / "parts", report=seen.append)
    assert seen[0].share > 0.4 and parts.matrix.tobytes() == whole.matrix.tobytes()


_KILLED = """
import os, signal, sys
from pathlib import Path
import vitrail.vectors.training.train as train, vitrail.vectors.training.word2vec as word2vec
from vitrail.vectors.training.config import VectorsConfig
train._SAVE_SECONDS, word2vec._PIECE_TOKENS = 0.0, 700  # a save after each of some ten pieces
def kill(progress):
    if progress.share > float(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
settings = VectorsConfig(text=(Path(sys.argv[1]),), dimension=12, epochs=3, threads=1, sample=0.0, rate=0.05)
train.train_vectors(settings, Path(sys.argv[2]), report=kill)
"""


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", lines=400)
    for folder, deaths in (("whole", ()), ("parts", ("0.2", "0.5", "0.9"))):
        for death in (*deaths, "2"):
            done = subprocess.run([sys.executable, "-c", _KILLED, str(text), str(tmp_path / folder), death], capture_output=True, text=True)
            assert done.returncode == (0 if death == "2" else -signal.SIGKILL), done.stderr
    whole, parts = (load_vectors(tmp_path / folder) for folder in ("whole", "parts"))
    assert whole.matrix.tobytes() == parts.matrix.tobytes()


SENTENCES = {
    "Greek": ("η γάτα κοιμάται", ["η", "γάτα", "κοιμάται"]),
    "Arabic": ("القطة تنام", ["القطة", "تنام"]),
    "Hindi": ("बिल्ली सोती है", ["बिल्ली", "सोती", "है"]),
    "Thai": ("แมวนอน", ["แ", "ม", "ว", "น", "อ", "น"]),
    "Chinese": ("猫在睡觉", ["猫", "在", "睡", "觉"]),
    "Georgian": ("კატას სძინავს", ["კატას", "სძინავს"]),
    "decomposed": ("café", ["café"]),
    "mixed case": ("Katze KATZE", ["katze"]),
}


@pytest.mark.parametrize("script", SENTENCES)
def test_words_are_unicodes_in_every_script(script: str, tmp_path: Path) -> None:
    sentence, words = SENTENCES[script]
    (tmp_path / "text").write_text(f"{sentence}\n" * 6, encoding="utf-8")
    try:
        found = set(train_vectors(config(tmp_path / "text", epochs=1), tmp_path / "vectors").words)
    except DataError:
        assert len(set(words)) == 1, "one word alone has nothing to be told from"
        return
    assert found == set(words)


def test_kinds_of_tokens(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("A b, a-b!\n" * 9)

    def words(name: str, **tokens: Any) -> set[str]:
        settings = config(tmp_path / "text", tokens=TokensConfig(**tokens), epochs=1)
        return set(train_vectors(settings, tmp_path / name).words)

    assert words("words") == {"a", "b", ",", "a-b", "!"}
    assert words("case", lower=False) == {"A", "b", ",", "a-b", "!"}
    assert words("no marks", punctuation=False) == {"a", "b", "a-b"}
    assert words("spaces", kind="spaces") == {"a", "b,", "a-b!"}
    assert words("characters", kind="characters") == {"a", "b", ",", "-", "!"}


def test_phrases_are_pairs_that_occur_together(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    other = [f"w{number}" for number in range(40)]
    lines = [f"{draw.choice(other)} new york {draw.choice(other)} {draw.choice(other)}" for _ in range(300)]
    (tmp_path / "text").write_text("\n".join(lines))
    found = train_vectors(
        config(tmp_path / "text", tokens=TokensConfig(phrases=1, phrase_threshold=3), epochs=1), tmp_path / "vectors"
    ).words
    assert "new_york" in found and "new" not in found and not [word for word in found if "_" in word and word != "new_york"]


@pytest.mark.parametrize(
    ("text", "found"),
    [("", "no lines|empty"), ("\n\n \n", "0 of 0"), ("wort\n" * 9, "1 of 1"), ("jedes wort einmal\n", "0 of 3")],
    ids=["empty", "blank", "one word", "every word once"],
)
def test_text_without_two_words_is_refused_with_what_would_do(text: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text(text)
    with pytest.raises(DataError, match=found):
        train_vectors(config(tmp_path / "text"), tmp_path / "vectors")


def test_a_file_that_cannot_be_read_twice_leaves_nothing_behind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    for path in (tmp_path / "pipe", Path("-"), tmp_path / "none", tmp_path / "picture.png"):
        with pytest.raises(UsageError if path.name in ("pipe", "-") else DataError):
            train_vectors(config(path), tmp_path / "vectors")
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "picture.png"}


def test_bytes_that_are_no_text_become_no_words(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"gut besser \xff\xfe am\x07besten\n" * 9)
    found = train_vectors(config(tmp_path / "text", epochs=1), tmp_path / "vectors").words
    assert {"gut", "besser"} <= set(found) and all(word.encode("utf-8") and word.isprintable() for word in found)


def test_a_folder_of_something_else_and_finished_vectors_are_kept(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", lines=50)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="something else"):
        train_vectors(config(text), tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.txt"]
    train_vectors(config(text, epochs=1), tmp_path / "vectors")
    with pytest.raises(UsageError, match="finished"):
        train_vectors(config(text, epochs=1), tmp_path / "vectors")


def test_a_rate_that_makes_numbers_grow_without_end_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="beyond all numbers"):
        train_vectors(config(write_text(tmp_path / "text", lines=200), architecture="cbow", rate=1e30), tmp_path / "vectors")


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rate"):
        config(tmp_path / "text", rate=rate)


def test_more_different_words_than_fit_are_counted_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitrail.vectors.training.corpus._LINES_AT_ONCE", 10)
    lines = [f"oft häufig selten{number}" for number in range(500)]
    (tmp_path / "text").write_text("\n".join(lines))
    told: list[str] = []
    settings = config(tmp_path / "text", tokens=TokensConfig(most_words=5, min_count=1), epochs=1)
    found = train_vectors(settings, tmp_path / "vectors", say=told.append)
    assert set(found.words[:2]) == {"oft", "häufig"} and len(found.words) <= 5 and found.counts is not None and found.counts[0] == 500
    assert any("forgotten" in line for line in told)


def test_the_program_starts_fast_without_torch() -> None:
    code = "import sys, vitrail.vectors.training.train; assert 'torch' not in sys.modules"
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert time.monotonic() - began < 20


GOLDEN = [
    [0.05593, -0.28367, 0.13623, -0.33269],
    [0.05806, -0.07323, -0.01953, -0.24548],
    [-0.03909, -0.06960, 0.04074, 0.01583],
    [-0.04147, 0.16465, -0.15832, -0.17428],
    [0.24865, -0.49147, -1.54404, 0.42821],
    [0.09412, -0.30749, -1.00567, 0.45230],
    [-0.07264, 0.00125, 0.00043, 0.03293],
]
"""The first numbers of the vector of "katze" after 3 epochs, as they were when gradients, draws and quality had been proven."""


@pytest.mark.parametrize(("method", "numbers"), list(zip(METHODS, GOLDEN, strict=True)), ids=range(len(METHODS)))
def test_vectors_are_those_of_earlier_versions(method: dict[str, Any], numbers: list[float], tmp_path: Path) -> None:
    vectors = train_vectors(config(write_text(tmp_path / "text", lines=200), **method), tmp_path / "vectors")
    # Not to the bit: processors differ in how they sum.
    assert vectors.matrix[vectors.words.index("katze"), :4] == pytest.approx(numbers, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("side", "words"), [("source", {"k", "a", "t", "z", "e"}), ("target", {"k", "<unk>"})])
def test_pieces_of_a_model_are_of_the_named_side(side: str, words: set[str], tmp_path: Path) -> None:
    both = Vocabularies(CharacterVocabulary(list("katze")), CharacterVocabulary(list("k")), joint=False)
    shape = TransformerConfig(encoder_layers=1, decoder_layers=1, width=8, heads=2, feed_forward=8, tie="target")
    save_model(tmp_path / "model", tensors=unique_tensors(build_model(shape, both)), config=shape, vocabularies=both, facts={})
    (tmp_path / "text").write_text("katze\n" * 9)
    tokens = TokensConfig(kind="subwords", subwords_from=tmp_path / "model", subwords_side=side)  # pyright: ignore[reportArgumentType]
    assert set(train_vectors(config(tmp_path / "text", tokens=tokens), tmp_path / "vectors").words) == words


@pytest.mark.parametrize("space", [" ", ""])
def test_a_text_of_one_line_is_read_whole(space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the text8 that word vectors are often measured on, and as text without spaces between words."""
    monkeypatch.setattr(line_parts, "__kwdefaults__", {"limits": Limits(line_bytes=64)})
    (tmp_path / "text").write_text(space.join(["北", "京", "很", "大"] * 200), encoding="utf-8")
    found = train_vectors(config(tmp_path / "text", tokens=TokensConfig(kind="characters"), epochs=1), tmp_path / "vectors")
    assert found.counts is not None and found.counts.tolist() == [200] * 4


@pytest.mark.parametrize(("script", "told"), [("Thai", True), ("Chinese", True), ("Hindi", False), ("Arabic", False)])
def test_text_that_falls_into_characters_is_told(script: str, told: bool, tmp_path: Path) -> None:
    (tmp_path / "text").write_text(f"{SENTENCES[script][0]}\n" * 6, encoding="utf-8")
    said: list[str] = []
    train_vectors(config(tmp_path / "text", epochs=1), tmp_path / "vectors", say=said.append)
    assert any("single characters" in line for line in said) == told
