"""From what a user says to a run: settings laid over each other, and the three-line way to train from Python.

Precedence: automatic choices < recipe < configuration file < --set and other options.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vitrail.config import Override, build, merge, parse_override, read_toml, with_overrides
from vitrail.cores import usable_cores
from vitrail.data.places import find_texts
from vitrail.data.prepare import DataConfig
from vitrail.errors import UsageError
from vitrail.files import make_folder, write_file
from vitrail.train.choose import PRESET, Choice, choose, gather_facts, still_automatic, to_table

if TYPE_CHECKING:
    from vitrail.decode.translate import Translator
    from vitrail.train.config import RunConfig
    from vitrail.train.validate import Watch

CHOICES = "choices.json"
"""Where a run's folder keeps what was chosen for it, so that going on does not choose anew."""


@dataclass(frozen=True)
class Request:
    """What a user asks of a run, strongest last."""

    recipe: str = ""
    """A shipped recipe's name, or a TOML file."""
    file: Path | None = None
    """A TOML file of settings."""
    overrides: tuple[Override, ...] = ()
    """`--set` and the options that stand for one."""

    def table(self) -> dict[str, Any]:
        """All of it as one nested table. Raises UsageError where a file cannot be read."""
        recipe = read_recipe(self.recipe) if self.recipe else {}
        return with_overrides(merge(recipe, read_toml(self.file) if self.file else {}), self.overrides)


class Plan(NamedTuple):
    """Settings and how they came about."""

    table: dict[str, Any]
    """The whole run as a nested table; `preset` is still by name."""
    choices: list[Choice]
    """What was chosen automatically and is still so."""


def recipes() -> dict[str, Path]:
    """The shipped recipes by name."""
    folder = Path(str(resources.files("vitrail") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_recipe(name: str) -> dict[str, Any]:
    """A shipped recipe, or the file of that name. Raises UsageError that lists the recipes."""
    shipped = recipes()
    if name in shipped:
        return read_toml(shipped[name])
    if Path(name).suffix == ".toml":
        return read_toml(Path(name))
    raise UsageError(f"recipe {name!r}", expected="a TOML file, or one of " + ", ".join(shipped))


def plan(request: Request, folder: Path, *, gpu: bool) -> Plan:
    """Complete what was asked with automatic choices, or with what the run in `folder` was started with.

    A folder that holds a started run needs no text to be named: its own configuration is then what is built upon.
    Raises: UsageError, DataError.
    """
    asked = request.table()
    if not isinstance(asked.get("data", {}).get("corpora"), list):  # a table of places changes those of the run that is there
        return Plan(_merge_preset(_own_table(folder, recipe=request.recipe), asked), [])
    choices = _kept_choices(folder)
    if choices is None:
        corpora = build(DataConfig, asked["data"], origin="settings").corpora
        choices = choose(gather_facts(corpora, cores=usable_cores(), gpu=gpu), preset=asked.get(PRESET), asked=asked)
    standing = still_automatic(choices, asked)
    return Plan(merge(to_table(standing), asked), standing)


def _own_table(folder: Path, *, recipe: str) -> dict[str, Any]:
    path = folder / "config.toml"
    if not path.exists():
        raise UsageError(
            f"no text to train on, and {folder} holds no run to go on with",
            expected="--source FILE --target FILE, or --corpus FILE",
            remedy=f"for the built-in phrasebook: vitrail demo --recipe {recipe}" if recipe.startswith("phrasebook") else "",
        )
    return find_texts(read_toml(path), folder)


def _merge_preset(own: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """A preset that is asked for takes the place of the run's own model."""
    return merge({key: value for key, value in own.items() if key != "model" or PRESET not in asked}, asked)


def _kept_choices(folder: Path) -> list[Choice] | None:
    """What was chosen for the run in this folder; None before its first checkpoint, when nothing would be lost by choosing anew."""
    if not any((folder / "state").glob("step-*")):
        return None
    try:
        kept: list[dict[str, Any]] = json.loads((folder / CHOICES).read_bytes())
        return [Choice(**one) for one in kept]
    except (OSError, ValueError, TypeError):
        return None


def keep_choices(folder: Path, choices: Iterable[Choice]) -> None:
    """Write down what was chosen, for when the run goes on."""
    make_folder(folder)
    text = json.dumps([choice._asdict() for choice in choices], indent=2, ensure_ascii=False)
    write_file(folder / CHOICES, f"{text}\n".encode())


def to_run_config(table: dict[str, Any], *, origin: str = "settings") -> "RunConfig":
    """The configuration of a run; `preset` in the table becomes the model that it names, under what `model` says.

    Raises UsageError naming every key that is wrong.
    """
    from vitrail.models.build import preset
    from vitrail.train.config import RunConfig

    rest = {key: value for key, value in table.items() if key != PRESET}
    if PRESET in table:
        rest["model"] = merge(preset(str(table[PRESET])).model_dump(mode="json"), rest.get("model", {}))
    return build(RunConfig, rest, origin=origin)


def train_translator(
    source: str | Path,
    target: str | Path,
    folder: str | Path,
    *,
    recipe: str = "",
    settings: Sequence[str] = (),
    watch: "Watch | None" = None,
    say: Callable[[str], None] = lambda _: None,
) -> "Translator":
    """Train a translator from two files of sentences, line n of one translating line n of the other.

    What is not set is chosen from the text. Called again, it goes on with a training that was stopped, and loads a finished one.

    Args:    folder: where the run lives. recipe: a shipped recipe or a TOML file. settings: such as "train.duration=30 minutes".
             watch: called after each validation; vitrail.inspection.filming.Recorder() films the training.
             say: called with each line meant for the user.
    Raises:  the exceptions of `vitrail.errors`.
    """
    import torch

    from vitrail.decode.translate import Translator
    from vitrail.train.run import train

    place = Path(folder)
    corpus = Override(("data", "corpora"), [{"source": str(source), "target": str(target)}])
    request = Request(recipe=recipe, overrides=(corpus, *map(parse_override, settings)))
    planned = plan(request, place, gpu=torch.cuda.is_available())
    for choice in planned.choices:
        say(choice.to_text())
    config = to_run_config(planned.table)
    train(config, place, watch=watch, say=say, begin=lambda: keep_choices(place, planned.choices))
    return Translator.load(place)
