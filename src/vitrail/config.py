"""Configuration: one frozen base class; TOML in, `--set a.b=c` on top, JSON beside the model."""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer, model_validator
from pydantic.fields import FieldInfo

from vitrail.errors import UsageError

ConfigType = TypeVar("ConfigType", bound="Config")


class Config(BaseModel):
    """Base of every configuration: immutable, without unknown keys; the docstring under a field is its help text."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


_UNITS = ("steps", "epochs", "minutes")


class Duration(BaseModel):
    """A length of training with its unit, written `"8000 steps"`, `"20 epochs"` or `"30 minutes"`."""

    model_config = ConfigDict(frozen=True)
    amount: float
    unit: Literal["steps", "epochs", "minutes"]

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if isinstance(value, str):
            match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(step|epoch|minute)s?\s*", value)
            if match is None:
                raise ValueError(f"{value!r} is not a duration; write for example '8000 steps', '20 epochs' or '30 minutes'")
            return {"amount": float(match[1]), "unit": match[2] + "s"}
        return value

    @model_serializer
    def _write(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"

    def parts(self) -> dict[str, Any]:
        """Amount and unit by name."""
        return {"amount": self.amount, "unit": self.unit}

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read `"8000 steps"`. Raises UsageError when it is not a duration."""
        try:
            return cls.model_validate(text)
        except ValidationError as error:
            raise UsageError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None


def split_share(text: str) -> tuple[str, float | None]:
    """Split `"1 epochs, at most 25%"` into the interval and the share of the training, 0.25; None without a share.

    Raises ValueError for an invalid share.
    """
    length, comma, limit = text.partition(",")
    if not comma:
        return text, None
    match = re.fullmatch(r"\s*at most\s+(\d+(?:\.\d+)?)\s*%\s*", limit)
    if match is None or not 0 < float(match[1]) <= 100:
        raise ValueError(f"{limit.strip()!r} is not a share of the training; write for example 'at most 25%'")
    return length, float(match[1]) / 100


class Interval(Duration):
    """How often something is done in a training: `"1 epochs"`, or with the largest share of the training: `"1 epochs, at most 25%"`."""

    share: float | None = None
    """If this share of the training is shorter than the interval, the share is used."""

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if isinstance(value, str):
            length, share = split_share(value)
            return {**Duration.model_validate(length).parts(), "share": share}
        return value

    @model_serializer
    def _write(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return super().__str__() + ("" if self.share is None else f", at most {100 * self.share:g}%")


class Override(NamedTuple):
    """One `--set a.b=c`: the key, and the value read as TOML, or as plain text when it is not TOML."""

    path: tuple[str, ...]
    value: Any


def parse_override(text: str) -> Override:
    """Read `a.b=c`; the value is TOML (`3`, `0.1`, `true`, `"x"`, `[1, 2]`), or else text."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {text}", expected="key=value, for example --set model.dropout=0.3")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    return Override(tuple(part.strip() for part in key.split(".")), parsed)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises UsageError with file and line when it is missing or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", expected="a TOML configuration file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from None


def merge(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """Merge one nested table into another: tables key by key, a table into a list by places ("0"); anything else is replaced.

    Raises UsageError for a place that a list does not have.
    """
    merged = dict(base)
    for key, value in overlay.items():
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, list | tuple):
            merged[key] = _merge_list(key, below, value)  # pyright: ignore[reportUnknownArgumentType]
        else:
            merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _merge_list(name: str, base: Sequence[Any], overlay: dict[str, Any]) -> list[Any]:
    merged = list(base)
    for place, value in overlay.items():
        if not (place.isdecimal() and int(place) < len(merged)):
            raise UsageError(f"{name}.{place}: {name} is a list of {len(merged)}", expected=f"a place from 0 to {len(merged) - 1}")
        below = merged[int(place)]
        merged[int(place)] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def with_overrides(table: dict[str, Any], overrides: Iterable[Override]) -> dict[str, Any]:
    """Merge `--set` values into a nested table."""
    for path, value in overrides:
        nested: Any = value
        for part in reversed(path):
            nested = {part: nested}
        table = merge(table, nested)
    return table


class Key(NamedTuple):
    """One setting of a configuration, as `--set` names it."""

    name: str
    kind: str
    """The alternative with this key, such as "recurrent"; empty if all have it, or there is only one."""
    field: FieldInfo


def keys(model: type[BaseModel], prefix: str = "", kind: str = "") -> Iterator[Key]:
    """Every key of a configuration, those of nested ones included. Lists of tables (`data.corpora`) are one key."""
    for name, field in model.model_fields.items():
        alternatives = _alternatives(field.annotation)
        if not alternatives or field.default is None:
            yield Key(prefix + name, kind, field)
        if field.default is None:
            continue
        found = [list(keys(alternative, f"{prefix}{name}.", kind)) for alternative in alternatives]
        common = [key for key in found[0] if all(any(_same(key, other) for other in others) for others in found[1:])] if found else []
        for alternative, own in zip(alternatives, found, strict=True):
            for key in own:
                if not any(_same(key, other) for other in common):
                    yield key._replace(kind=str(alternative.model_fields["kind"].default))
        yield from common


def _same(one: Key, other: Key) -> bool:
    """Whether two alternatives have a key in common."""
    said = [(key.name, key.field.annotation, key.field.default, key.field.description) for key in (one, other)]
    return said[0] == said[1]


def _alternatives(annotation: Any) -> list[type[BaseModel]]:
    """The configurations that a field can hold; none for a plain value. Those of a union differ by `kind`."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Config) else []
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [found for part in get_args(annotation) for found in _alternatives(part)]
    return []


def build(config_type: type[ConfigType], table: dict[str, Any], *, origin: str) -> ConfigType:
    """Make a configuration from a nested table. Raises UsageError naming every wrong key, and the similar one for a typing error."""
    _require_text(table, origin=origin)
    try:
        return config_type.model_validate(table)
    except ValidationError as error:
        items = error.errors()
        deeper = [item["loc"] for item in items]
        # A list with wrong items counts as empty, too: do not report that.
        told = [one for one in items if not (one["type"] == "too_short" and any(_stands_in(loc, one["loc"]) for loc in deeper))]
        lines = [_line(config_type, table, item) for item in told]
        raise UsageError(f"{origin}: " + "; ".join(lines), remedy="vitrail config lists every key with its meaning") from None


def reason(error: Exception) -> str:
    """Why a table of another program makes no configuration, without the words of a library: the key that it lacks, or each wrong one."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}" for item in error.errors())
    return f"lacks {error.args[0]}" if isinstance(error, KeyError) else str(error)


def _stands_in(place: tuple[int | str, ...], around: tuple[int | str, ...]) -> bool:
    return len(place) > len(around) and place[: len(around)] == around


def _line(config_type: type[BaseModel], table: dict[str, Any], item: Any) -> str:
    """The error of one key, and valid values."""
    name, kind = _key(table, item["loc"])
    if item["type"] == "extra_forbidden":
        return f"{name}: {_unknown(name, kind, list(keys(config_type)))}"
    if item["type"] == "union_tag_invalid":
        return f"{name}.kind: {item['ctx']['tag']} is none of {item['ctx']['expected_tags']}"
    return f"{name}: {item['msg'].removeprefix('Value error, ')}{_found(item)}"


def _unknown(name: str, kind: str, known: list[Key]) -> str:
    """The message for an unknown key: the kind that has it, or a similar name."""
    others = sorted({key.kind for key in known if key.name == name})
    if others:
        table = name.rpartition(".")[0]
        return f"kind {kind} has no such key, but {' and '.join(others)} {'has' if len(others) == 1 else 'have'} ({table}.kind)"
    names = list(dict.fromkeys(key.name for key in known if not kind or key.kind in ("", kind)))
    last = name.rpartition(".")[2]
    names += [table for table in dict.fromkeys(one.rpartition(".")[0] for one in names) if table]
    lasts = get_close_matches(last, [one.rpartition(".")[2] for one in names], n=1)
    near = [one for one in names if one.rpartition(".")[2] == last]
    near = near or get_close_matches(name, names, n=1, cutoff=0.85) or [one for one in names if one.rpartition(".")[2] in lasts]
    of_kind = f" of kind {kind}" if kind else ""
    return f"no such key{of_kind}" + (f"; {' or '.join(near)}?" if near else "")


def _require_text(value: Any, *, origin: str, key: str = "") -> None:
    """Refuse bytes that are not UTF-8, also in file names: a configuration with them could not be written."""
    if isinstance(value, dict):
        for name, below in value.items():  # pyright: ignore[reportUnknownVariableType]
            _require_text(name, origin=origin, key=key)
            _require_text(below, origin=origin, key=f"{key}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        for place, below in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            _require_text(below, origin=origin, key=f"{key}.{place}".lstrip("."))
    elif isinstance(value, str | Path):
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise UsageError(f"{origin}: {key}: {str(value)!a} is not UTF-8", remedy="give the file a name in UTF-8") from None


def _found(item: Any) -> str:
    """The value, if it is short and the error does not name it already."""
    named = item["type"] in ("missing", "value_error")
    return f", not {item['input']!r}" if not named and isinstance(item["input"], str | int | float) else ""


def _key(table: Any, location: tuple[int | str, ...]) -> tuple[str, str]:
    """The key of an error, as for `--set`, and its alternative of a union, which pydantic adds to the path."""
    parts: list[str] = []
    kind = ""
    for place, part in enumerate(location):
        if isinstance(table, dict) and part not in table and place + 1 < len(location):
            kind = str(part)
            continue
        parts.append(str(part))
        table = table.get(part) if isinstance(table, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return ".".join(parts), kind


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        # DEL is the only character that JSON may have unescaped and TOML may not.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        pairs = (f"{key} = {_toml_value(item)}" for key, item in value.items() if item is not None)  # pyright: ignore[reportUnknownVariableType]
        return "{" + ", ".join(pairs) + "}"
    return repr(value)


def to_toml(table: dict[str, Any], prefix: str = "") -> str:
    """Write a nested table of plain values as TOML; None is left out, since TOML has no null."""
    plain = {key: value for key, value in table.items() if not isinstance(value, dict) and value is not None}
    lines = [f"{key} = {_toml_value(value)}" for key, value in plain.items()]
    for key, value in table.items():
        if isinstance(value, dict):
            name = f"{prefix}{key}"
            lines += ["", f"[{name}]", to_toml(value, f"{name}.").rstrip("\n")]  # pyright: ignore[reportUnknownArgumentType]
    return "\n".join(lines).lstrip("\n") + "\n"
