"""`vitrail vectors` as its users meet it: what it prints where, exit codes, and what it loads."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrail.cli import run
from vitrail.vectors import Ngrams, WordVectors, load_vectors, save_vectors
from vitrail.vectors.word_vectors import Outputs

Call = Callable[..., tuple[int, str, str]]
WORDS = ["king", "queen", "man", "woman", "река", "берег", "日本"]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    def ran(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run(["vectors", *map(str, arguments)])
        return code, *capfd.readouterr()

    return ran


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A parallelogram of four words, and others; unseen words by n-grams."""
    draw = np.random.default_rng(0)
    matrix = draw.normal(size=(len(WORDS), 12)).astype(np.float32)
    matrix[3] = matrix[2] + matrix[1] - matrix[0]
    table = draw.normal(size=(50, 12)).astype(np.float32)
    save_vectors(WordVectors(WORDS, matrix, ngrams=Ngrams(table, 3, 5), facts={"method": "fasttext"}), tmp_path / "v")
    return tmp_path / "v"


def test_neighbours_and_analogies(call: Call, folder: Path) -> None:
    loaded = load_vectors(folder)
    code, out, err = call("neighbours", folder, "река", "--count", "2")
    assert code == 0 and out == "".join(f"{one.score:.4f}\t{one.word}\n" for one in loaded.neighbours("река", 2)) and err == ""
    code, out, err = call("neighbours", folder, "king", "реки", "--count", "1")
    assert code == 0 and out.splitlines()[0] == "king:" and out.splitlines()[2] == "реки:"
    assert err == "реки: is not among the 7 words; its vector is that of its n-grams\n"
    found: dict[str, Any] = json.loads(call("neighbours", folder, "king", "--json")[1])
    assert [one["word"] for one in found["king"]] == [one.word for one in loaded.neighbours("king")]
    for method in ("3cosadd", "3cosmul"):
        code, out, _ = call("analogy", folder, "king", "queen", "man", "--method", method, "--count", "1")
        assert code == 0 and out.endswith("\twoman\n")
    assert json.loads(call("analogy", folder, "king", "queen", "man", "--json")[1])[0]["word"] == "woman"
    code, out, err = call("neighbours", folder, "KING", "--count", "1")
    assert (code, out.endswith("\n"), err) == (0, True, "KING: taken as king, since these vectors have no upper case\n")
    assert out == call("neighbours", folder, "king", "--count", "1")[1]
    assert call("analogy", folder, "King", "Queen", "Man", "--count", "1")[1].endswith("\twoman\n")
    code, out, err = call("analogy", folder, "king", "", "man")
    assert code == 2 and "'': is not among the 7 words" in err and not out


def test_explain(call: Call, folder: Path, tmp_path: Path) -> None:
    code, out, err = call("explain", folder, "KING", "река")
    assert code == 0 and out.startswith("king, река\n") and "missing: these vectors do not say how they were trained" in out
    assert err == "KING: taken as king, since these vectors have no upper case\n"
    training = {"method": "word2vec", "architecture": "cbow", "negatives": 2, "noise_power": 1}
    loaded, draw = load_vectors(folder), np.random.default_rng(1)
    outputs = Outputs(draw.normal(size=loaded.matrix.shape).astype(np.float32))
    kept = WordVectors(WORDS, loaded.matrix, np.arange(9, 2, -1), facts={"training": training}, outputs=outputs)
    save_vectors(kept, tmp_path / "kept")
    code, out, err = call("explain", tmp_path / "kept", "man", "日本", "--around", "река", "--json")
    walk: dict[str, Any] = json.loads(out)
    h, o = (loaded.vector("man") + loaded.vector("река")) / 2, outputs.vectors[WORDS.index("日本")]
    assert code == 0 and err == "" and walk["score"]["value"] == pytest.approx(float(h @ o), rel=1e-5) and walk["around"] == ["река"]
    out = call("explain", tmp_path / "kept", "man", "日本", "--around", "река")[1]
    assert (
        out.startswith("cbow, negative sampling, 2 draws: man, река tell 日本\n")
        and f"The loss: {walk['targets'][0]['loss']:.4f} + " in out
    )
    assert call("explain", folder, "man", "река", "--around", "king")[0] == 2
    code, _, err = call("explain", folder, "man", "река", "--text", folder / "words.txt")
    assert code == 2 and "GloVe" in err
    assert call("explain", folder, "man", "nobody at all")[0] == 0, "its n-grams give it a vector"
    save_vectors(WordVectors(WORDS, loaded.matrix), tmp_path / "w.txt", to="word2vec-text")
    assert call("explain", tmp_path / "w.txt", "man", "nobody")[0] == 2


def test_map(call: Call, folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "map.html"
    code, out, err = call("map", folder, "-o", page, "--words", "3", "--show", "日本", "--pair", "KING река", "--neighbours", "2")
    assert (code, out) == (0, "") and err.endswith(f"wrote {page}: 5 of 7 words by pca\n") and "KING: taken as king" in err
    assert page.read_text().startswith('<!doctype html>\n<html lang="en">')
    file = tmp_path / "v.txt"
    save_vectors(load_vectors(folder), file, to="glove", say=lambda line: None)
    code, out, _ = call("map", file, "-o", page, "--language", "fr", "--json", "--limit", "6", "--pair", "king\tqueen")
    found: dict[str, Any] = json.loads(out)
    assert code == 0 and found["words"] == WORDS[:6] and found["walks"][0]["missing"] == ["method"] and 'lang="fr"' in page.read_text()
    for wrong, what in (("king", "1 words"), ("a b c", "3 words"), ("king nobody", "not among the 6 words")):
        code, _, err = call("map", file, "-o", page, "--limit", "6", "--pair", wrong)
        assert code == 2 and what in err
    file.write_text("mine")
    code, _, err = call("map", folder, "-o", file)
    assert code == 2 and file.read_text() == "mine"


def test_evaluate(call: Call, folder: Path, tmp_path: Path) -> None:
    pairs, questions = tmp_path / "pairs.csv", tmp_path / "questions.txt"
    pairs.write_text("a,b,score\nKing,queen,9\nрека,берег,7\n日本,man,1\nking,река,2\n")
    questions.write_text(": family\nking queen man woman\nking queen man x\n")
    code, out, err = call("evaluate", folder, "--similarity", pairs, "--header", "--analogies", questions)
    assert code == 0 and err == "family: 3cosadd 1.000, 3cosmul 1.000\n"
    assert "7 words of 12 numbers; unseen words by n-grams; case does not count\n" in out and "4 (100.0 %)" in out
    found = json.loads(call("evaluate", folder, "--similarity", pairs, "--header", "--no-fold-case", "--bootstrap", "0", "--json")[1])
    (score,) = found["similarity"]
    assert score["in_vocabulary"] == 3 and score["from_ngrams"] == 1 and score["spearman"]["low"] is None and found["fold_case"] is False
    code, _, err = call("evaluate", folder, "--similarity", pairs)
    assert code == 3 and "pairs.csv:1: 'score' is not a finite number" in err and "--header" in err
    assert call("evaluate", folder)[0] == 2


@pytest.mark.parametrize("to", ["word2vec-text", "word2vec-binary", "glove", "fasttext-vec", "fasttext-bin", "folder"])
def test_convert(call: Call, folder: Path, tmp_path: Path, to: str) -> None:
    out = tmp_path / "out"
    code, _, err = call("convert", folder, out, "--to", to, "--limit", "5")
    assert code == 0 and err.endswith(f"wrote {out}: 5 words of 12 numbers\n")
    assert (f"{out}: {to} has no n-grams" in err) == (to not in ("folder", "fasttext-bin"))
    found = load_vectors(out)
    assert list(found.words) == WORDS[:5]
    np.testing.assert_allclose(found.matrix, load_vectors(folder).matrix[:5], atol=2e-6)
    assert call("convert", out, tmp_path / "again", "--to", "folder")[0] == 0
    code, _, err = call("convert", out, out, "--to", to)
    assert code == 2 and "is what is read" in err


def test_convert_overwrites_nothing_else(call: Call, folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("my text\n")
    code, _, err = call("convert", folder, mine, "--to", "glove")
    assert code == 2 and "did not write" in err and mine.read_text() == "my text\n"
    assert call("convert", folder, mine, "--to", "folder")[0] == 2
    assert call("convert", mine, tmp_path / "x", "--to", "folder")[0] == 3 and not (tmp_path / "x").exists()


def test_dictionary(call: Call, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    source = draw.normal(size=(200, 10)).astype(np.float32)
    turned = source @ np.linalg.qr(draw.normal(size=(10, 10)))[0].astype(np.float32)
    save_vectors(WordVectors([f"a{n}" for n in range(200)], source), tmp_path / "a", to="word2vec-binary")
    save_vectors(WordVectors([f"б{n}" for n in range(200)], turned), tmp_path / "b")
    pairs = [f"a{n}\tб{n}\n" for n in range(200)]
    (tmp_path / "seed").write_text("".join(pairs[:60]))
    (tmp_path / "test").write_text("".join(pairs[60:]))
    common = ("dictionary", tmp_path / "a", tmp_path / "b", "--seed-pairs", tmp_path / "seed")
    code, out, err = call(*common, "--words", "3", "--refine", "1")
    assert code == 0 and [line.split("\t")[:2] for line in out.splitlines()] == [["a0", "б0"], ["a1", "б1"], ["a2", "б2"]]
    assert err == "refined 1 of 1: 200 pairs are each other's best translation\n"
    code, out, err = call(*common, "--test-pairs", tmp_path / "test", "--refine", "0")
    assert code == 0 and err == "" and "140 test words, 140 (100.0 %) covered" in out
    found = json.loads(call(*common, "--test-pairs", tmp_path / "test", "--refine", "0", "--json")[1])
    assert found["csls"]["1"]["value"] == 1 and found["fitted_pairs"] == 60
    assert json.loads(call(*common, "--words", "1", "--json")[1])[0]["target"] == "б0"
    assert call("dictionary", tmp_path / "a", tmp_path / "b", "--seed-pairs", tmp_path / "nowhere")[0] == 3


def test_no_use_of_vectors_loads_torch_and_help_loads_nothing(folder: Path) -> None:
    code = (
        "import sys; from vitrail.cli import run; codes = [run(line.split()) for line in sys.argv[2:]];"
        "found = {'torch', 'numba', *sys.argv[1].split()} & set(sys.modules); sys.exit(str((codes, found)) if any(codes) or found else 0)"
    )
    helps = [f"vectors {verb} --help" for verb in ("evaluate", "neighbours", "analogy", "convert", "dictionary")]
    for unwanted, lines in (("numpy", helps), ("scipy", [f"vectors neighbours {folder} king", f"vectors analogy {folder} king man queen"])):
        done = subprocess.run([sys.executable, "-c", code, unwanted, *lines], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
