"""Where a run's text lies, from any folder and after a move."""

from pathlib import Path

import pytest

from vitrail.config import build
from vitrail.data.data_config import DataConfig
from vitrail.data.preparing.paths import find_texts, with_full_names


def project(folder: Path) -> Path:
    """A project with text, a run and a second file of the same name; returns its folder."""
    for name in ("corpus/train.en", "corpus/train.fr", "corpus/deep/train.en", "runs/one/config.toml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name}\n")
    return folder


def table(source: str, target: str) -> dict[str, object]:
    return {"data": {"corpora": [{"source": source, "target": target}], "dev": {"source": source, "target": target}}, "seed": 1}


def test_names_are_written_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    corpora = [{"source": "corpus/../a.en", "target": "/text/a.fr"}, {"source": "-", "format": "tsv"}]
    config = build(DataConfig, {"corpora": corpora, "test": {"source": "é.tsv"}, "holdout": {"test_pairs": 0}}, origin="test")
    full = with_full_names(config)
    assert (full.corpora[0].source, full.corpora[0].target) == (tmp_path / "a.en", Path("/text/a.fr"))
    assert full.corpora[1].source == Path("-") and full.corpora[1].target is None
    assert full.test is not None and full.test.source == tmp_path / "é.tsv" and full.dev is None


@pytest.mark.parametrize("before", ["corpus/train.en", "{old}/corpus/train.en", "../corpus/train.en"])
def test_text_is_found_beside_the_run_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    here = project(tmp_path / "new" / "project")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    name = before.format(old=tmp_path / "old" / "project")
    found = find_texts(table(name, "/nowhere/to/be.found"), here / "runs" / "one")
    data = found["data"]
    assert Path(data["corpora"][0]["source"]).resolve() == here / "corpus" / "train.en"
    assert data["dev"] == data["corpora"][0] and data["corpora"][0]["target"] == "/nowhere/to/be.found"
    assert found["seed"] == 1


def test_text_that_is_where_it_was_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = project(tmp_path)
    monkeypatch.chdir(here / "corpus")
    name = str(here / "corpus" / "deep" / "train.en")
    found = find_texts(table(name, "train.fr"), here / "runs" / "one")["data"]["corpora"][0]
    assert found == {"source": name, "target": "train.fr"}


@pytest.mark.parametrize("wrong", [{}, {"data": 3}, {"data": {"corpora": 3, "dev": [1]}}, {"data": {"corpora": [3, {"source": 4}]}}])
def test_what_is_no_configuration_is_left_for_others_to_refuse(wrong: dict[str, object], tmp_path: Path) -> None:
    assert find_texts(wrong, tmp_path) == wrong
