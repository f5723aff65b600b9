"""Configuration: TOML in and out, overrides, durations; wrong keys are named."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.config import Config, Duration, Override, build, keys, merge, parse_override, read_toml, to_toml, with_overrides
from vitrail.errors import UsageError
from vitrail.models.architectures import MODEL_KINDS
from vitrail.train.run_config import RunConfig


def kinds_with(key: str) -> str:
    """The kinds of model that have a setting, as a sentence lists them."""
    found = sorted(name for name, kind in MODEL_KINDS.items() if key in kind.config.model_fields)
    assert len(found) > 1
    return " and ".join(found)


class Inner(Config):
    rate: float = 0.1
    """A rate."""


class Outer(Config):
    inner: Inner = Inner()
    """A part."""
    length: Duration = Duration(amount=1, unit="epochs")
    """How long."""


@pytest.mark.parametrize(
    ("text", "amount", "unit", "shown"),
    [
        ("8000 steps", 8000, "steps", "8000 steps"),
        ("1 epoch", 1, "epochs", "1 epochs"),
        (" 2.5 minutes ", 2.5, "minutes", "2.5 minutes"),
        ("30minutes", 30, "minutes", "30 minutes"),
    ],
)
def test_duration_reads_and_writes(text: str, amount: float, unit: str, shown: str) -> None:
    duration = Duration.parse(text)
    assert (duration.amount, duration.unit, str(duration)) == (amount, unit, shown)
    assert Duration.parse(str(duration)) == duration


@pytest.mark.parametrize("text", ["", "30", "minutes", "-3 steps", "3 days", "1e3 steps", "3 steps more"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration; write for example"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("a=3", ("a",), 3),
        ("a.b=0.5", ("a", "b"), 0.5),
        ("a.b=true", ("a", "b"), True),
        ('a="3"', ("a",), "3"),
        ("a=30 minutes", ("a",), "30 minutes"),
        ("a=x=y", ("a",), "x=y"),
        ("a=[1, 2]", ("a",), [1, 2]),
    ],
)
def test_override_values_are_toml_or_else_text(text: str, path: tuple[str, ...], value: object) -> None:
    assert parse_override(text) == Override(path, value)


@pytest.mark.parametrize("text", ["", "a", "=3"])
def test_override_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        parse_override(text)


def test_every_wrong_key_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        build(Outer, {"inner": {"rat": 1, "rate": "x"}, "length": "3 days"}, origin="my.toml")
    assert all(part in str(caught.value) for part in ("my.toml", "inner.rat", "inner.rate", "length", "vitrail config"))


DATA = {"corpora": [{"source": "a.en", "target": "a.fr"}]}


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (
            {"model": {"cell": "gru"}},
            f"model.cell: kind transformer has no such key, but {kinds_with('cell')} have (model.kind)",
        ),
        (
            {"model": {"kind": "recurrent", "heads": 2}},
            f"model.heads: kind recurrent has no such key, but {kinds_with('heads')} have (model.kind)",
        ),
        ({"model": {"kind": "gru"}}, "model.kind: gru is none of 'transformer', 'recurrent'"),
        ({"model": {"widht": 3}}, "model.widht: no such key of kind transformer; model.width?"),
        ({"model": {"kind": "recurrent", "norn": 1}}, "model.norn: no such key of kind recurrent; model.norm?"),
        ({"train": {"warmup": 3}}, "train.warmup: no such key; schedule.warmup?"),
        ({"optimizer": {"lerning_rate": 3}}, "optimizer.lerning_rate: no such key; optimizer.learning_rate?"),
        ({"train": {"clip": 1}}, "train.clip: no such key; optimizer.clip_norm?"),
        ({"train": {"optimizer": {"l1": 1}}}, "train.optimizer: no such key; optimizer?"),
        ({"trian": {"patience": 1}}, "trian: no such key; train?"),
        ({"zzz": 1}, "zzz: no such key\n"),
    ],
)
def test_a_key_that_does_not_exist_is_told_with_the_kind_or_name_that_does(table: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(RunConfig, {"data": DATA, **table}, origin="settings")
    assert f"settings: {told}" in str(caught.value)


def test_keys_of_alternatives_carry_their_kind() -> None:
    found = {(key.name, key.kind) for key in keys(RunConfig)}
    assert {("model.heads", "transformer"), ("model.cell", "recurrent"), ("train.duration", ""), ("data.subwords.size", "")} <= found


def test_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Outer().inner = Inner()  # pyright: ignore


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml"):
        read_toml(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("a = = 3", encoding="utf-8")
    with pytest.raises(UsageError, match=r"broken\.toml: not TOML"):
        read_toml(tmp_path / "broken.toml")


names = st.text(st.characters(codec="ascii", categories=["Ll"]), min_size=1, max_size=5)
values = st.one_of(st.integers(-(2**40), 2**40), st.booleans(), st.text(max_size=20), st.floats(allow_nan=False, allow_infinity=False))
tables = st.recursive(values, lambda inner: st.dictionaries(names, inner, max_size=4), max_leaves=12).filter(lambda t: isinstance(t, dict))


@given(tables)
def test_toml_round_trip(table: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(table)) == table


@given(tables, tables)
def test_merge_lets_the_overlay_win_and_loses_nothing(base: dict[str, object], overlay: dict[str, object]) -> None:
    merged = merge(base, overlay)
    assert merged.keys() == base.keys() | overlay.keys()
    assert merge(merged, overlay) == merged
    assert merge({}, overlay) == overlay


def test_a_table_over_a_list_changes_its_places() -> None:
    table = {"a": {"b": [{"c": 1, "d": 2}, {"c": 3}]}, "e": [1, 2]}
    changed = with_overrides(table, [parse_override("a.b.0.c=5"), parse_override("a.b.1.d=x"), parse_override("e.1=7")])
    assert changed == {"a": {"b": [{"c": 5, "d": 2}, {"c": 3, "d": "x"}]}, "e": [1, 7]}
    assert table == {"a": {"b": [{"c": 1, "d": 2}, {"c": 3}]}, "e": [1, 2]}
    for wrong in ("a.b.2.c=5", "a.b.c=5", "a.b.-1.c=5"):
        with pytest.raises(UsageError, match="is a list of 2"):
            with_overrides(table, [parse_override(wrong)])


def test_overrides_go_deep() -> None:
    table = with_overrides({"a": {"b": 1, "c": 2}}, [parse_override("a.b=3"), parse_override("d.e.f=x")])
    assert table == {"a": {"b": 3, "c": 2}, "d": {"e": {"f": "x"}}}


@pytest.mark.parametrize(
    "table", [{"data": {"corpora": [{"source": "caf\udce9.tsv"}]}}, {"data": {"source_language": "\udcff"}}, {"\udcff": 1}]
)
def test_bytes_that_are_not_utf8_are_refused(table: dict[str, object]) -> None:
    """Names of files may hold such; no configuration that is written down can."""
    with pytest.raises(UsageError, match="not UTF-8"):
        build(RunConfig, table, origin="settings")


def test_of_a_corpus_that_is_wrong_only_what_is_wrong_is_told() -> None:
    with pytest.raises(UsageError) as caught:
        build(RunConfig, {"data": {"corpora": [{"source": "a.en", "target": "a.fr", "weight": "abc"}]}}, origin="settings")
    assert str(caught.value).startswith("settings: data.corpora.0.weight: Input should be a valid number")
    assert "at least 1 item" not in str(caught.value)
    with pytest.raises(UsageError, match="at least 1 item"):
        build(RunConfig, {"data": {"corpora": []}}, origin="settings")
