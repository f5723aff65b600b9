"""A model trained from files reads sources as it did in training, and says so among its facts."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from training_runs import logged, run, tiny
from typer.testing import CliRunner

import vitrail
from vitrail.cli import app
from vitrail.data.cleaning.normalise import LEGACY_NORMALISATION
from vitrail.decode.translate import TextConstraints

SENTENCES = {
    "le chat noir dort là-bas": "the black cat sleeps over there",
    "मेरा भाई गिटार बजाता है": "my brother plays the guitar",
    "من به خانه می\u200cروم": "i am going home",
    "او کتاب می\u200cخواند": "she reads a book",
    "tiếng việt rất đẹp": "vietnamese is very beautiful",
    "저는 한국어를 조금 합니다": "i speak a little korean",
    "كَتَبَ الطالِبُ رِسالَةً": "the student wrote a letter",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("normalised")
    pairs = [(f"{source} {number}", f"{target} {number}") for source, target in SENTENCES.items() for number in range(1, 9)]
    for side, name in enumerate(("text.xx", "text.en")):
        (folder / name).write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
    changes: dict[str, Any] = {
        "data": {
            "corpora": [{"source": str(folder / "text.xx"), "target": str(folder / "text.en")}],
            "subwords": {"size": 460},
            "holdout": {"dev_pairs": 2, "test_pairs": 0},
        },
        "train": {"duration": "60 steps", "validate_every": "60 steps", "save_every": "60 steps"},
    }
    run(tiny(folder, changes), folder / "run")
    return folder / "run"


def disguised(text: str) -> list[str]:
    middle = len(text.split(" ")[0]) - 1
    return [
        text.replace(" ", "\u00a0"),
        text.replace(" ", "\u202f"),
        text[:middle] + "\u00ad" + text[middle:],
        "\ufeff" + text,
        text.replace(" ", "\u200b "),
        "\u2067" + text + "\u2069",
        unicodedata.normalize("NFD", text),
    ]


@pytest.mark.slow
def test_every_disguise_gets_the_same_translation(trained: Path) -> None:
    translator = vitrail.load(trained)
    assert translator.normalisation.kept == "\u200c"
    for text in SENTENCES:
        plain = translator.translate(text)
        for other, found in zip(disguised(text), translator.translate(disguised(text)), strict=True):
            assert (found.text, found.score) == (plain.text, plain.score), ascii(other)
            assert found.source == other
            assert translator.inspect(other).source.text == translator.inspect(text).source.text


def test_the_facts_tell_and_models_without_them_read_as_before(trained: Path) -> None:
    config = json.loads((trained / "model" / "config.json").read_text())
    assert config["facts"]["source_normalization"] == {"version": 1, "kept": ["U+200C"], "pass_through": True}
    golden = Path(__file__).parents[1] / "golden" / "format_1" / "model"
    assert vitrail.load(golden).normalisation == LEGACY_NORMALISATION


def test_text_without_letters_passes_through(trained: Path, tmp_path: Path) -> None:
    translator = vitrail.load(trained)
    lines = ["-", "...", "***", "12:30", "→", "10\u00a0000,50 €", "", "tiếng việt"]
    found = translator.translate(lines)
    assert [one.text for one in found[:7]] == lines[:7]
    assert [one.passed_through for one in found] == [True] * 6 + [False] * 2
    assert found[0].score == 0.0 and found[0].tokens == () and found[0].alternatives == ()
    # Whoever asks for more than the text holds gets the model's answer.
    assert translator.translate("-", constraints=TextConstraints(prefix="the")).text.startswith("the")
    assert "-" not in translator.translate("-", constraints=TextConstraints(forbidden=("-",))).text
    (tmp_path / "lines").write_text("- \n12:30\n")
    shown = CliRunner().invoke(app, ["translate", str(trained), "--source", str(tmp_path / "lines"), "--json"])
    assert shown.exit_code == 0, shown.output
    records = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [(one["text"], one["passed_through"]) for one in records] == [("-", True), ("12:30", True)]


def test_unknown_words_of_the_dev_set_are_measured(trained: Path, tmp_path: Path) -> None:
    assert "dev_unknown_share" not in next(line for line in logged(trained) if line["kind"] == "validation")
    changes = {"data": {"subwords": {"kind": "word", "size": 12}}, "train": {"duration": "2 steps", "validate_every": "2 steps"}}
    run(tiny(tmp_path, changes), tmp_path / "run")
    assert 0.3 < next(line for line in logged(tmp_path / "run") if line["kind"] == "validation")["dev_unknown_share"] < 1


def test_words_of_the_line_as_it_was_are_aligned(trained: Path) -> None:
    from vitrail.inspection.alignment.word_alignment import Aligner, all_heads

    translator = vitrail.load(trained)
    aligner = Aligner(translator, all_heads(translator))
    plain, typed = "le chat noir dort là-bas", "\ufeff le chat\u00a0noir dort \u200b là-bas"
    found, other = translator.translate([plain, typed], constraints=TextConstraints(prefix="the black cat sleeps"))
    assert found.text == other.text
    # Between spaces: "\ufeff", "le", "chat noir", "dort", "\u200b", "là-bas".
    place = {0: 1, 1: 2, 2: 2, 3: 3, 4: 5}
    links, typed_links = aligner.align_translations([found, other])
    assert links and typed_links == {(place[i], j) for i, j in links}
    assert aligner.align_texts([typed], [found.text]) == [typed_links]
