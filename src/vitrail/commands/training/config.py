"""vitrail config: every setting with its type, default and meaning; or those of a run."""

import json as json_module
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args

import typer

from vitrail.commands.shared import console
from vitrail.errors import ModelError

if TYPE_CHECKING:
    from pydantic import BaseModel


class Setting(NamedTuple):
    """One key, as `--set` takes it."""

    name: str
    kind: str
    """Of the model that has it, such as "recurrent"; empty: every kind."""
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
            raise ModelError(f"{run}: has no config.toml", expected="the folder of a run", remedy="vitrail train -o FOLDER")
        console.show_json(read_toml(path)) if json else console.show(path.read_text(encoding="utf-8"))
        return
    from vitrail.train.run_config import RunConfig

    if json:
        console.show_json(RunConfig.model_json_schema())
        return
    console.write_lines(to_lines(settings(RunConfig)))


def settings(model: "type[BaseModel]", prefix: str = "") -> Iterator[Setting]:
    """Every key of a configuration, with the kind that it belongs to, and those of each corpus; dev and test texts have the same."""
    from vitrail.config import keys

    for name, kind, field in keys(model):
        default = "(required)" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        yield Setting(f"{prefix}{name}", kind, _type(field.annotation), default, field.description or "")
        if name in ("data.corpora", "init"):  # one table for each: `[[data.corpora]]` in a file, data.corpora.0.weight with --set
            yield from settings(get_args(field.annotation)[0], f"{name}.N.")


def to_lines(found: Iterable[Setting]) -> Iterator[str]:
    """The settings as text. Settings of only one kind of model are listed under its name."""
    told = ""
    for setting in found:
        if setting.kind and setting.kind != told:
            table = setting.name.rpartition(".")[0]
            yield f"\n# with {table}.kind = {setting.kind}"
        elif told and not setting.kind:
            yield "\n# of every kind"
        told = setting.kind
        yield setting.to_text()


def _type(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return text.replace("typing.Literal", "").replace("vitrail.", "").replace("typing.", "").replace("pathlib.", "")


def _shown(value: Any) -> str:
    if value is None:
        return "(empty)"
    return json_module.dumps(value if isinstance(value, bool | int | float | str | list | tuple) else str(value), ensure_ascii=False)
