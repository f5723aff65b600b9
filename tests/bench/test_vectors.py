"""Word vectors beside other programs, and dictionaries of texts shuffled apart: small runs of both, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vitrail.bench.vectors.induced_dictionary import Translation, known_translations
from vitrail.cli import app

pytest.importorskip("numba")

PAIRS = 24
"""Words: b7 translates a7."""


def write_parallel(folder: Path, *, count: int = 3_000) -> tuple[Path, Path]:
    """Sentences of words that come in an order of their own: each is followed by one of the next three."""
    draw = np.random.default_rng(3)
    sides: tuple[list[str], list[str]] = ([], [])
    for _ in range(count):
        steps = np.cumsum(draw.integers(1, 4, size=6)) + draw.integers(0, PAIRS)
        for side, letter in zip(sides, "κб", strict=True):
            side.append(" ".join(letter + "αβγδ"[int(step) % PAIRS // 6] + "аеиоуы"[int(step) % 6] for step in steps))
    for name, side in zip(("one", "other"), sides, strict=True):
        (folder / name).write_text("".join(f"{line}\n" for line in side), encoding="utf-8")
    return folder / "one", folder / "other"


def test_words_that_stand_opposite_each_other_are_translations() -> None:
    lines = [(["the", "dog", "."], ["le", "chien", "."]), (["the", "cat", "."], ["le", "chat", "."])] * 25
    lines += [(["a", "."], ["un", "chien", "."])] * 20
    assert known_translations(lines) == [
        Translation("the", ("le",)),
        Translation("cat", ("chat",)),
        Translation("dog", ("chien", "le")),
        Translation("a", ("un",)),
    ]
    assert known_translations(lines[:19]) == [], "too rare to be sure"


def test_a_dictionary_of_texts_shuffled_apart_finds_other_words(tmp_path: Path) -> None:
    one, other = write_parallel(tmp_path)
    arguments = ["bench", "dictionary", "--source", str(one), "--target", str(other), "--seeds", "12", "--json"]
    for setting in ("dimension=16", "epochs=20", "window=2", "threads=1", "sample=0", "rate=0.05"):
        arguments += ["--set", setting]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    plain, refined = json.loads(done.stdout)["rows"]
    assert (plain["refined"], refined["refined"]) == (0, 5) and plain["score"]["words"] == PAIRS // 2
    assert refined["score"]["csls"]["5"]["value"] > 0.8, "by chance 5 of 24"


def test_sides_of_different_length_and_small_texts_are_refused(tmp_path: Path) -> None:
    one, other = write_parallel(tmp_path, count=5)
    for extra, said in (("", "words whose translation is sure"), ("x\n", "other 6")):
        other.write_text(other.read_text() + extra)
        done = CliRunner().invoke(app, ["bench", "dictionary", "--source", str(one), "--target", str(other)])
        assert done.exit_code != 0 and said in str(done.exception)


@pytest.mark.slow
def test_speed_and_quality_beside_other_programs(tmp_path: Path) -> None:
    pytest.importorskip("gensim")
    one, _ = write_parallel(tmp_path)
    (tmp_path / "pairs").write_text(
        "\n".join(f"{a}\t{b}\t{n}" for n, (a, b) in enumerate([("καа", "καе"), ("καи", "κβо"), ("κγа", "κδу"), ("κδу", "καа")]))
    )
    arguments = ["bench", "vectors", "--text", str(one), "--dimensions", "16", "--threads", "1", "--repeats", "1", "--json"]
    arguments += ["--objectives", "skip-gram-hs,fasttext-cbow,glove", "--similarity", str(tmp_path / "pairs")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    rows = {(row["objective"], row["maker"]): row["results"][0] for row in json.loads(done.stdout)["rows"]}
    assert {("skip-gram-hs", "gensim"), ("fasttext-cbow", "gensim"), ("glove", "vitrail")} <= rows.keys()
    assert all(result["words"] > 0 and -1 <= result["similarity"]["pairs"] <= 1 for result in rows.values())
    assert rows["skip-gram-hs", "vitrail"]["words"] == rows["skip-gram-hs", "gensim"]["words"]
