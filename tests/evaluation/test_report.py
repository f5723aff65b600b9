"""From files to a printed result."""

import json

import pytest

from vitrail.errors import DataError, UsageError
from vitrail.evaluation.report import evaluate_files, read_sentences
from vitrail.evaluation.scores import Recipe, compare, evaluate

REFERENCE = ["le chat dort près de la porte.", "il pleut sur la vieille ville.", "deux enfants jouent au bord de l'eau."]
SYSTEM = ["le chat dort près de la porte.", "il pleut dans la vieille ville.", "deux enfants jouent à côté de l'eau."]
BASELINE = ["un chat près la porte.", "il pleut ville.", "enfants jouent l'eau."]
SOURCE = ["the cat sleeps near the door.", "it rains.", "two children play at the edge of the water, every day, again."]
QUICK = Recipe(bootstrap=30, trials=30)


@pytest.fixture
def write(tmp_path):
    def writer(name, lines):
        path = tmp_path / name
        path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8"))
        return path

    return writer


def test_everything_at_once(write):
    pytest.importorskip("sacremoses")
    found = evaluate_files(
        write("hyp", SYSTEM),
        [write("ref", REFERENCE)],
        source=write("src", SOURCE),
        baseline=write("base", BASELINE),
        tokenised=write("tok", [line.replace("'", "&apos; ").replace(".", " .") for line in REFERENCE]),
        language="fr",
        recipe=QUICK,
    )
    assert list(found.scores) == evaluate(SYSTEM, [REFERENCE], bootstrap=30)
    assert list(found.comparisons) == compare(BASELINE, SYSTEM, [REFERENCE], recipe=QUICK)
    assert [band.sentences for band in found.bands] == [2, 1, 0, 0, 0, 0]
    assert found.published is not None and "moses-fr" in found.published.signature
    assert found.notes == ()

    back = json.loads(found.to_json())
    assert back["scores"][0]["value"] == found.scores[0].value
    assert back["bands"][0]["scores"][2]["name"] == "TER" and back["comparisons"][0]["p_bootstrap"] == found.comparisons[0].p_bootstrap

    text = found.to_text()
    lines = text.splitlines()
    bleu = found.scores[0]
    assert lines[0] == "3 sentences, 1 reference"
    assert lines[2].split() == [
        "BLEU",
        f"{bleu.value:.2f}",
        "±",
        f"{(bleu.high - bleu.low) / 2:.2f}",
        f"{bleu.low:.2f}",
        "to",
        f"{bleu.high:.2f}",
    ]
    assert f"BLEU|{bleu.signature}" in lines
    assert "BLEU (tokenised)" in text
    for name in ("chrF2", "TER"):
        assert sum(line.startswith(f"{name} ") for line in lines) == 2  # among the scores and among the comparisons
    assert len({len(line) for line in lines[2:6]}) == 1  # columns are aligned


def test_least_that_can_be_asked(write):
    found = evaluate_files(write("hyp", SYSTEM), [write("a", REFERENCE), write("b", SYSTEM)], recipe=Recipe(bootstrap=0))
    assert (found.reference_sets, found.bands, found.comparisons, found.published) == (2, (), (), None)
    assert found.scores[0].value == pytest.approx(100)
    assert found.to_text().startswith("3 sentences, 2 references\n\nBLEU   100.00\n")


def test_notes_tell_what_makes_a_score_doubtful(write):
    reference = write("ref", ["a b c.", "d e f."])
    found = evaluate_files(write("hyp", ["a b c .", ""]), [reference], language="th", recipe=QUICK)
    assert [note.split(":")[0].split(",")[0] for note in found.notes] == [
        "BLEU tokenizer char",
        "TER counts words between spaces",
        "1 of 2 translations end in ' .'",
        "1 of 2 translations are empty",
    ]
    assert "tok:char" in found.scores[0].signature and "\nnote: " in found.to_text()


def test_lines_end_at_line_feeds_alone(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("a\u2028b\x0bc\r\n\nd\x85".encode())
    assert read_sentences(path) == ["a\u2028b\x0bc", "", "d\x85"]


def test_files_that_cannot_be_scored(write, tmp_path):
    good = write("good", SYSTEM)
    with pytest.raises(DataError, match="absent"):
        evaluate_files(tmp_path / "absent", [good])
    with pytest.raises(DataError, match="2 lines"):
        evaluate_files(good, [write("short", REFERENCE[:2])])
    with pytest.raises(DataError, match="empty"):
        evaluate_files(write("nothing", []), [good])
    with pytest.raises(DataError, match="no references"):
        evaluate_files(good, [])
    (tmp_path / "latin").write_bytes(b"bon\n\xe9t\xe9\nfin\n")
    with pytest.raises(DataError, match=r"latin:2: not UTF-8"):
        evaluate_files(good, [tmp_path / "latin"])
    (tmp_path / "long").write_bytes(b"a" * (1 << 21))
    with pytest.raises(DataError, match=r"long:1: a line longer"):
        read_sentences(tmp_path / "long")
    with pytest.raises(UsageError, match="language"):
        evaluate_files(good, [good], tokenised=good)
