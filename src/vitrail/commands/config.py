"""vitrail config: every setting with its type, default and meaning; or those of a run."""

import json as json_module
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union, get_args, get_origin

import typer

from vitrail.commands import console
from vitrail.errors import ModelError

if TYPE_CHECKING:
    from pydantic import BaseModel


class Setting(NamedTuple):
    """One key, as `--set` takes it."""

    name: str
    type: str
    default: str
    meaning: str

    def to_text(self) -> str:
        """The key on one line, its meaning indented below."""
        return f"{self.name} = {self.default}  ({self.type})\n    " + self.meaning.replace("\n", "\n    ")


def config(
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="A run, whose settings are shown.", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="The settings of the run as JSON; without a run, the JSON schema.")] = False,
) -> None:
    """List every setting with its type, default and meaning; or show the settings of a run."""
    from vitrail.config import read_toml

    if run is not None:
        path = run / "config.toml"
        if not path.exists():
            raise ModelError(f"{run}: holds no config.toml", expected="the folder of a run", remedy="vitrail train -o FOLDER")
        console.show_json(read_toml(path)) if json else console.show(path.read_text(encoding="utf-8"))
        return
    from vitrail.train.config import RunConfig

    if json:
        console.show_json(RunConfig.model_json_schema())
        return
    console.write_lines([setting.to_text() for setting in settings(RunConfig)])


def settings(model: "type[BaseModel]", prefix: str = "") -> Iterator[Setting]:
    """Every key of a configuration, those of nested ones included. Lists of tables (`data.corpora`) are one key."""
    for name, field in model.model_fields.items():
        alternatives = _alternatives(field.annotation)
        if alternatives and field.default is not None:
            for alternative in alternatives:
                yield from settings(alternative, f"{prefix}{name}.")
            continue
        default = "(required)" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        yield Setting(prefix + name, _type(field.annotation), default, field.description or "")


def _alternatives(annotation: Any) -> "list[type[BaseModel]]":
    """The configurations that a field can hold; none for a plain value. Those of a union come one after the other, told apart by `kind`."""
    from vitrail.config import Config

    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Config) else []
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [found for part in get_args(annotation) for found in _alternatives(part)]
    return []


def _type(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return text.replace("typing.Literal", "").replace("vitrail.", "").replace("typing.", "").replace("pathlib.", "")


def _shown(value: Any) -> str:
    if value is None:
        return "(empty)"
    return json_module.dumps(value if isinstance(value, bool | int | float | str | list | tuple) else str(value), ensure_ascii=False)
