"""From what a user says to the configuration of a run: settings laid over each other.

Precedence: automatic choices < recipe < configuration file < --set and other options.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vitrail.config import Override, build, merge, read_toml, with_overrides
from vitrail.data.any_config import LISTS, data_class
from vitrail.data.data_config import DataConfig
from vitrail.data.labels_config import LabelsConfig
from vitrail.data.preparing.paths import find_texts
from vitrail.data.text_config import TextConfig
from vitrail.errors import UsageError
from vitrail.files import make_folder, seal, unseal, write_file
from vitrail.runtime.cores import usable_cores
from vitrail.train.choosing.choose import PRESET, TOKENS_PER_WORD, Choice, choose, gather_facts, still_automatic, to_table
from vitrail.train.choosing.choose_from import FREEZE, FROM, Pass, choose_from, mixture_of, require_donor, tokens_a_pair, written_out
from vitrail.train.choosing.choose_init import choose_for_donors
from vitrail.train.choosing.choose_labels import choose_for_labels, gather_label_facts
from vitrail.train.choosing.choose_text import choose_for_text, gather_text_facts

if TYPE_CHECKING:
    from vitrail.train.run_config import RunConfig

CHOICES = "choices.json"
"""The file in a run's folder with its automatic choices, which a resumed run keeps."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """A user's settings of a run, in increasing precedence."""

    recipe: str = ""
    """A shipped recipe's name, or a TOML file."""
    file: Path | None = None
    """A TOML file of settings."""
    overrides: tuple[Override, ...] = ()
    """`--set` and the options with the same effect."""

    def files(self) -> list[Path]:
        """The files of settings."""
        return [path for path in (self.file, Path(self.recipe)) if path is not None and path.suffix]

    def table(self) -> dict[str, Any]:
        """All settings as one nested table. Raises UsageError where a file cannot be read."""
        recipe = read_recipe(self.recipe) if self.recipe else {}
        return with_overrides(merge(recipe, read_toml(self.file) if self.file else {}), self.overrides)


class RunPlan(NamedTuple):
    """Settings and their origin."""

    table: dict[str, Any]
    """The whole run as a nested table; `preset` is still by name."""
    choices: list[Choice]
    """The automatic choices that are in effect."""


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


def plan_run(request: Request, folder: Path, *, gpu: bool) -> RunPlan:
    """Complete a user's settings with automatic choices, or with the settings of the run in `folder`.

    For a folder with a run, no text has to be given: its own configuration is the base.
    Raises: UsageError, DataError.
    """
    asked = written_out(request.table())
    data = asked.get("data", {})
    # A table of places changes those of the existing run.
    if not any(isinstance(data.get(name), list) for name in LISTS.values()):
        return RunPlan(_merge_preset(_own_table(folder, recipe=request.recipe), _settings_of(asked)), [])
    begun = any((folder / "state").glob("step-*"))  # before its first checkpoint nothing is lost by choosing again
    choices = _kept_choices(folder) if begun else None
    if choices is None:
        choices = _choose(asked, gpu=gpu)
        choices = _as_begun(folder, choices) if begun else choices
    standing = still_automatic(choices, asked)
    return RunPlan(merge(to_table(standing), _settings_of(asked)), standing)


def _settings_of(asked: dict[str, Any]) -> dict[str, Any]:
    """A request without what `written_out` has put into settings."""
    return {name: value for name, value in asked.items() if name not in (FROM, FREEZE)}


def _choose(asked: dict[str, Any], *, gpu: bool) -> list[Choice]:
    data, preset = asked["data"], asked.get(PRESET)
    if len([name for name in LISTS.values() if name in data]) > 1:
        raise UsageError(
            "text of several kinds",
            expected="plain text for a language model, two sides for a translator, or text and labels for a classifier",
        )
    text = build(data_class(data), data, origin="settings")
    if FROM in asked:
        require_donor(asked, data=text.kind)
    donors = choose_for_donors(asked, data=text.kind)
    preset, a_pass = preset or donors.preset, Pass(0.0, 1.0)
    match text:
        case TextConfig():
            facts = gather_text_facts(text.text)
            chosen, a_pass = choose_for_text(facts, preset=preset, asked=asked), Pass(facts.words * TOKENS_PER_WORD, 1.0)
        case LabelsConfig():
            facts = gather_label_facts(text.examples)
            chosen = choose_for_labels(facts, preset=preset, asked=asked)
            a_pass = Pass(facts.examples * facts.words * TOKENS_PER_WORD, 1.0)
        case DataConfig():
            facts = gather_facts(text.corpora, cores=usable_cores(), gpu=gpu)
            if FROM in asked:
                mixture = mixture_of([(corpus.count(), corpus.weight) for corpus in text.corpora], temperature=text.temperature)
                facts = facts._replace(pairs=mixture.pairs)
                a_pass = Pass(mixture.pairs * tokens_a_pair(asked, text.corpora), mixture.epochs, mixture.pairs)
            chosen = choose(facts, preset=preset, asked=asked)
    if donors.any_preset:
        usual = next(choice.value for choice in chosen if choice.name == PRESET)
        donors = choose_for_donors({**asked, PRESET: usual}, data=text.kind)
    chosen = donors.over(chosen, asked)
    return choose_from(asked, chosen, data=text.kind, a_pass=a_pass) if FROM in asked else chosen


def _own_table(folder: Path, *, recipe: str) -> dict[str, Any]:
    path = folder / "config.toml"
    expected = "--source FILE --target FILE, --corpus FILE, --text FILE for a language model, or --text FILE --labels FILE for a classifier"
    if not path.exists():
        raise UsageError(
            f"no training text was given, and {folder} has no run to resume",
            expected=expected,
            remedy=f"for the built-in phrasebook: vitrail demo --recipe {recipe}" if recipe.startswith("phrasebook") else "",
        )
    try:
        return find_texts(read_toml(path), folder)
    except UsageError as error:  # it is written again once the text is named
        raise UsageError(error.found, expected="the configuration that vitrail wrote", remedy=f"name the text again: {expected}") from None


def _merge_preset(own: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """A given preset replaces the run's own model."""
    return merge({key: value for key, value in own.items() if key != "model" or PRESET not in asked}, asked)


def _kept_choices(folder: Path) -> list[Choice] | None:
    """The choices of the run in this folder; None where they cannot be read."""
    try:
        data = (folder / CHOICES).read_bytes()
        kept: Any = json.loads(data) if data.startswith(b"[") else unseal(data)["choices"]  # older releases wrote the bare list
        return [Choice(**one) for one in kept]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _as_begun(folder: Path, choices: list[Choice]) -> list[Choice]:
    """The choices with the values that the run's newest checkpoint was trained with; the preset becomes its model."""
    from vitrail.train.resume import checkpoints

    checkpoint = checkpoints.load_latest(folder, expected={})
    if checkpoint is None:
        return choices
    _log.warning("%s: was missing or damaged; rebuilt from %s", folder / CHOICES, checkpoint.path.name)
    setup = checkpoint.facts["setup"]
    found = [choice._replace(value=_saved(setup, choice)) for choice in choices if choice.name != PRESET]
    if len(found) < len(choices):
        names = {choice.name for choice in found}
        model = {f"model.{name}": value for name, value in setup["model"].items() if value is not None}
        found += [Choice(name, value, "as the run was begun") for name, value in model.items() if name not in names]
    return found


def _saved(setup: dict[str, Any], choice: Choice) -> Any:
    """The value of a choice in a setup, which has the settings of data under their full names."""
    part, _, name = choice.name.partition(".")
    value = setup.get(choice.name, setup.get(part, {}).get(name) if part != "data" else None)
    return choice.value if value is None else value


def keep_choices(folder: Path, choices: Iterable[Choice]) -> None:
    """Save the choices, for a resumed run."""
    make_folder(folder)
    write_file(folder / CHOICES, seal({"choices": [choice._asdict() for choice in choices]}))


def to_run_config(table: dict[str, Any], *, origin: str = "settings") -> "RunConfig":
    """The configuration of a run; `preset` in the table becomes its model, with changes from `model`.

    Raises UsageError naming every key that is wrong.
    """
    from vitrail.models.architectures import preset
    from vitrail.train.run_config import RunConfig

    rest = {key: value for key, value in table.items() if key != PRESET}
    if PRESET in table:
        rest["model"] = merge(preset(str(table[PRESET]), task=None).model_dump(mode="json"), rest.get("model", {}))
    return build(RunConfig, rest, origin=origin)
