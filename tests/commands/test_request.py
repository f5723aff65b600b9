"""From `--corpus FILE,KEY=VALUE` to a table of settings."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from vitrail.cli import run
from vitrail.commands.shared.console import Settings
from vitrail.commands.shared.data_options import CORPUS_KEYS, TextOptions, make_request, parse_corpus
from vitrail.data.data_config import DataConfig
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.errors import UsageError

FORMS: dict[str, dict[str, Any]] = {
    "fra.tsv": {"source": "fra.tsv"},
    "a.en,a.fr": {"source": "a.en", "target": "a.fr"},
    "a.en, a.fr ,weight=2": {"source": "a.en", "target": "a.fr", "weight": "2"},
    "fra.tsv,weight=3,format=tsv,columns=3:4,languages=en:fr,name=web,holdout=no": {
        "source": "fra.tsv",
        "weight": "3",
        "format": "tsv",
        "columns": [3, 4],
        "languages": ["en", "fr"],
        "name": "web",
        "holdout": "no",
    },
    r"C:\Users\Ana\my data.tsv,columns=src:tgt text": {"source": r"C:\Users\Ana\my data.tsv", "columns": ["src", "tgt text"]},
    '"a, b.tsv",weight=0.5': {"source": "a, b.tsv", "weight": "0.5"},
    '"a,b.en","a,b.fr"': {"source": "a,b.en", "target": "a,b.fr"},
    "dir=1/a:b.tsv,name=x=y": {"source": "dir=1/a:b.tsv", "name": "x=y"},
    "./weight=3,format=tsv": {"source": "./weight=3", "format": "tsv"},
    'x.csv,"delimiter=,"': {"source": "x.csv", "delimiter": ","},
    "x.csv,delimiter=tab": {"source": "x.csv", "delimiter": "\t"},
    "-,format=tsv": {"source": "-", "format": "tsv"},
}


@pytest.mark.parametrize(("form", "table"), FORMS.items())
def test_a_form_says_what_stands_in_a_table(form: str, table: dict[str, Any]) -> None:
    assert parse_corpus(form, option="--corpus") == {**table, "source": table["source"]}
    ParallelText.model_validate(table)


def test_a_name_with_a_comma_is_known_where_it_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a,b.tsv", "x=1"):
        Path(name).write_text("one\tun\n")
    assert parse_corpus("a,b.tsv,weight=2", option="--corpus") == {"source": "a,b.tsv", "weight": "2"}
    assert parse_corpus("x=1,format=tsv", option="--corpus") == {"source": "x=1", "format": "tsv"}


@pytest.mark.parametrize(
    ("form", "found", "remedy"),
    [
        ("a.tsv,wieght=3", "'wieght=3' is not a setting", "weight=3"),
        ("a.tsv,weight=3,b.tsv", "'b.tsv' is not a setting", "double quotes"),
        ("a.tsv,columns=3", "columns=3", ""),
        ("a.tsv,languages=en-fr", "languages=en-fr", ""),
        ("a,b,c", "3 files", "double quotes"),
        ("weight=3", "name is missing", ""),
        ("a.en,", "name is missing", ""),
        ('"a.tsv', "unexpected end of data", ""),
        ("", "name is missing", ""),
    ],
)
def test_a_form_that_cannot_be_is_refused(form: str, found: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_corpus(form, option="--dev")
    assert "--dev" in caught.value.found and found in caught.value.found and remedy in caught.value.remedy and caught.value.expected


def test_every_key_of_a_corpus_is_one_of_the_form() -> None:
    assert set(CORPUS_KEYS) == ParallelText.model_fields.keys() - {"source", "target"}


def texts(**fields: Any) -> TextOptions:
    sides = dict.fromkeys(("source", "target", "dev_source", "dev_target", "test_source", "test_target"))
    return TextOptions(**(sides | {"corpora": [], "languages": ""} | fields))


def test_dev_and_test_take_the_same_form_and_more_dev_texts_are_scored_beside() -> None:
    asked = texts(corpora=["a.tsv"], devs=["d.csv,columns=1:2", "n.en,n.fr,name=news"], test="t.jsonl", languages="en,fr")
    request = make_request(asked, Settings(settings=["data.corpora.0.weight=3", "data.more_dev.0.name=headlines"]))
    table = request.table()["data"]
    data = DataConfig.model_validate(table)
    assert data.corpora[0].weight == 3.0 and data.corpora[0].languages == ("en", "fr")
    assert data.dev is not None and data.dev.columns == (1, 2)
    assert [text.label for text in data.more_dev] == ["headlines"]
    assert data.test is not None and data.test.kind == "jsonl"
    with pytest.raises(UsageError, match="--dev and --dev-source"):
        texts(devs=["d.tsv"], dev_source=Path("d.en"), dev_target=Path("d.fr")).overrides()
    with pytest.raises(UsageError, match=r"corpora\.1: corpora is a list of 1"):
        make_request(asked, Settings(settings=["data.corpora.1.weight=3"])).table()


def test_the_example_of_the_documentation_can_be() -> None:
    document = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    example = tomllib.loads(document.partition("```toml\n")[2].partition("```")[0])
    data = DataConfig.model_validate(example["data"])
    assert [corpus.holdout for corpus in data.corpora] == [True, True, False] and data.more_dev[0].label == "law"
    assert all(f"| `{key}` |" in document for key in CORPUS_KEYS)


def test_it_is_shown_by_config_and_by_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config"]) == 0
    shown = capsys.readouterr().out
    assert all(f"data.corpora.N.{key} = " in shown for key in CORPUS_KEYS) and "data.more_dev = " in shown
    assert run(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--corpus" in shown and "columns=3:4" in shown and "holdout=no" in shown and "--dev" in shown and "--test" in shown
