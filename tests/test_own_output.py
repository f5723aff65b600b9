"""Whatever writes looks first at what stands there: its own is replaced, anything else is refused and stays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrail.cli import run
from vitrail.errors import UsageError
from vitrail.experiments import gradients, lag, length
from vitrail.files import Recognise, holds_others, is_json_with, is_log_with, publish_folder, require_own, seal, unseal, write_file
from vitrail.inspection import page
from vitrail.inspection.maps.projector import VectorTable, write_projector
from vitrail.ladder import ladder_report
from vitrail.phrasebook.corpus import phrasebook, write_phrasebook
from vitrail.reports import charts


def every_byte(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


Places = Callable[[Path], dict[Path, Recognise]]
THEIRS = {
    ".html": b"<!doctype html><html><title>Vitrail of Chartres</title><h1>A thesis</h1>",
    ".json": b'{"machine": "mine", "format": 1}',
    ".md": b"# Vergleich\n\non the same data: all\n",
}


@pytest.mark.parametrize(
    "places",
    [lag.lag_report_files, gradients.gradient_report_files, length.length_report_files, ladder_report.ladder_report_files],
    ids=["lag", "gradients", "length", "ladder"],
)
def test_a_report_is_not_written_over_somebody_elses(places: Places, tmp_path: Path) -> None:
    for path in places(tmp_path):
        path.write_bytes(THEIRS[path.suffix])
        with pytest.raises(UsageError, match=f"holds {path.name}, which vitrail did not write"):
            require_own(places(tmp_path), what="the report")
        assert path.read_bytes() == THEIRS[path.suffix]
        path.write_bytes(b"")
    require_own(places(tmp_path), what="the report")  # empty files are nobody's loss


@pytest.mark.parametrize("verb", ["lag", "gradients", "length"])
def test_experiments_look_before_they_train(verb: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / f"{verb}.html").write_bytes(THEIRS[".html"])
    assert run(["experiment", verb, "-o", str(tmp_path)]) == 2
    assert "nothing was changed" in capfd.readouterr().err
    assert every_byte(tmp_path) == {f"{verb}.html": THEIRS[".html"]}


def test_our_own_pages_are_known(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(charts.page("Ein Titel", [charts.Section("Überschrift", "<p>x</p>")]))
    assert charts.is_page(tmp_path / "a.html") and not page.is_page(tmp_path / "a.html")


def test_a_phrasebook_is_not_written_over_a_corpus(tmp_path: Path) -> None:
    corpus = tmp_path / "train.en"
    corpus.write_text("years of work\n")
    with pytest.raises(UsageError, match=r"train\.en"):
        write_phrasebook(tmp_path, phrasebook(train_pairs=100))
    assert every_byte(tmp_path) == {"train.en": b"years of work\n"}
    corpus.unlink()
    write_phrasebook(tmp_path, phrasebook(train_pairs=100))
    write_phrasebook(tmp_path, phrasebook(train_pairs=100))
    write_phrasebook(tmp_path, phrasebook(train_pairs=150))  # another phrasebook takes the place of one
    assert len(corpus.read_bytes().splitlines()) == 150


def test_a_comparison_is_not_written_over_somebody_elses(tmp_path: Path) -> None:
    for side in ("en", "fr"):
        (tmp_path / f"text.{side}").write_text("a line\n" * 9)
    for name in ("report.md", "lstm/asked.json", "data/corpus.en", "model/x"):
        folder = tmp_path / name.replace("/", "-")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"theirs")
        for arguments in (
            ["--source", str(tmp_path / "text.en"), "--target", str(tmp_path / "text.fr")],
            ["--phrasebook", "--pairs", "100"],
        ):
            assert run(["compare", *arguments, "--budget", "1 steps", "-o", str(folder)]) == 2
        assert every_byte(folder) == {name: b"theirs"}


def test_the_demonstration_is_not_written_over_somebody_elses(tmp_path: Path) -> None:
    for name in ("demo.json", "inspection.html", "phrasebook/train.en", "log.txt"):
        folder = tmp_path / name.replace("/", "-")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"theirs")
        assert run(["demo", "-o", str(folder), "--pairs", "100"]) == 2
        assert every_byte(folder) == {name: b"theirs"}


def test_the_projector_replaces_its_own_files_alone(tmp_path: Path) -> None:
    def export() -> None:
        write_projector(tmp_path, [VectorTable("source", np.eye(2), ("text",), [("a",), ("b",)])])

    (tmp_path / "source.vectors.tsv").write_text("mine\n")
    with pytest.raises(UsageError, match=r"source\.vectors\.tsv"):
        export()
    assert every_byte(tmp_path) == {"source.vectors.tsv": b"mine\n"}
    (tmp_path / "source.vectors.tsv").unlink()
    export()
    export()


# ---- signs of ours ---------------------------------------------------------------------------------------------------------------


def test_damage_does_not_make_a_file_somebody_elses(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    recognise = is_json_with("asked", "rung", "translations")
    whole = b'{"asked": {}, "rung": {"name": "gru"}, "translations": ["\xc3\xa9t\xc3\xa9"]}'
    cases = ((whole, True), (whole[:-9], True), (whole.replace(b"{}", b"{\x00"), True), (b'{"asked": 1, "rung": 2}', False), (b"[]", False))
    for data, ours in cases:
        path.write_bytes(data)
        assert recognise(path) == ours
    path.write_bytes(b'\x00\n{"step": 3, "kind": "train"}\n')
    assert is_log_with("step", "kind")(path) and not is_log_with("step", "loss")(path)


def test_what_stands_in_a_published_folder(tmp_path: Path) -> None:
    with publish_folder(tmp_path / "f") as out:
        out.write("a", b"x")
    for name in (".DS_Store", "Thumbs.db", "._a", "desktop.ini"):
        (tmp_path / "f" / name).write_bytes(b"x")
    assert not holds_others(tmp_path / "f")
    (tmp_path / "f" / "notes.txt").write_bytes(b"x")
    assert holds_others(tmp_path / "f")
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "a").write_bytes(b"theirs")
    with pytest.raises(UsageError, match=r"holds g/ \(with a\)"), publish_folder(tmp_path / "g") as out:
        out.write("a", b"mine")
    assert every_byte(tmp_path / "g") == {"a": b"theirs"}


def test_a_file_is_written_over_its_own_kind_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_file(path, b'{"x": 1, "y": 2}', ours=is_json_with("x", "y"))
    write_file(path, b'{"z": 1}', ours=is_json_with("x", "y"))
    with pytest.raises(UsageError, match=r"a\.json"):
        write_file(path, b'{"x": 3, "y": 4}', ours=is_json_with("x", "y"))
    assert path.read_bytes() == b'{"z": 1}'


@pytest.mark.parametrize("table", [{"a": 1.0, "b": [1, {"é": "\u2028"}], "c": None}, {}, {"n": 1e-300, "t": (1, 2)}])
def test_every_bit_of_a_sealed_file_is_guarded(table: dict[str, Any]) -> None:
    data = seal(table)
    assert unseal(data) == ({**table, "t": [1, 2]} if "t" in table else table)
    for bit in range(8 * len(data)):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        try:
            found = unseal(bytes(bad))
        except ValueError:
            continue
        # A flip in the name of the seal itself leaves an unknown key, by which the reader of the file knows; 1E-300 is 1e-300.
        assert found == unseal(data) or len([key for key in found if key not in table]) == 1, bad


def test_a_file_of_an_older_release_has_no_seal() -> None:
    assert unseal(b'{"a": 1}') == {"a": 1}
    for bad in (b"", b"[]", b"3", b"[" * 100_000, b"\xff"):
        with pytest.raises(ValueError, match=r".*"):
            unseal(bad)
