"""Configuration: one frozen base class; TOML in, `--set a.b=c` on top, JSON beside the model."""

import json
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer, model_validator

from vitrail.errors import UsageError

ConfigType = TypeVar("ConfigType", bound="Config")


class Config(BaseModel):
    """Base of every configuration: immutable, unknown keys refused, the docstring under a field is its help text."""

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

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read `"8000 steps"`. Raises UsageError when it is not a duration."""
        try:
            return cls.model_validate(text)
        except ValidationError as error:
            raise UsageError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None


class Override(NamedTuple):
    """One `--set a.b=c`: where, and the value read as TOML, or as bare text when it is not TOML."""

    path: tuple[str, ...]
    value: Any


def parse_override(text: str) -> Override:
    """Read `a.b=c`; the value is TOML (`3`, `0.1`, `true`, `"x"`, `[1, 2]`), or else taken as text."""
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
    """Lay one nested table over another; tables merge key by key, a table over a list by places ("0"), anything else is replaced.

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
    """Lay `--set` values over a nested table."""
    for path, value in overrides:
        nested: Any = value
        for part in reversed(path):
            nested = {part: nested}
        table = merge(table, nested)
    return table


def build(config_type: type[ConfigType], table: dict[str, Any], *, origin: str) -> ConfigType:
    """Make a configuration from a nested table. Raises UsageError naming every key that is wrong, and the near one for a typing slip."""
    try:
        return config_type.model_validate(table)
    except ValidationError as error:
        lines = [f"{_key(table, item['loc'])}: {item['msg'].removeprefix('Value error, ')}{_found(item)}" for item in error.errors()]
        raise UsageError(f"{origin}: " + "; ".join(lines), remedy="vitrail config lists every key with its meaning") from None


def _found(item: Any) -> str:
    """The value that was found, where it is short and its kind of error does not name it already."""
    named = item["type"] in ("extra_forbidden", "missing", "value_error")
    return f", not {item['input']!r}" if not named and isinstance(item["input"], str | int | float) else ""


def _key(table: Any, location: tuple[int | str, ...]) -> str:
    """Where an error is, as `--set` names it: pydantic also names the alternative of a union, which stands in no table."""
    parts: list[str] = []
    for place, part in enumerate(location):
        if isinstance(table, dict) and part not in table and place + 1 < len(location):
            continue
        parts.append(str(part))
        table = table.get(part) if isinstance(table, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return ".".join(parts)


def to_json(config: Config) -> str:
    """The configuration as readable JSON, stable key order."""
    return json.dumps(config.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        # DEL is the one character that JSON may hold bare and TOML may not.
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
