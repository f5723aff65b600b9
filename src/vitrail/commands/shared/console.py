"""What the verbs share: where they print, options that several of them have, and groups of options."""

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.models import OptionInfo

from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.decode.search_config import SearchConfig

_LINE_ENDS = {sign: f"\\u{sign:04x}" for sign in (0x85, 0x2028, 0x2029)}
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a setting, such as model.dropout=0.3. `vitrail config` lists them.", show_default=False
    ),
]
Recipe = Annotated[str, typer.Option(metavar="NAME|FILE", help="A shipped recipe, or a TOML file like one.", show_default=False)]
Source = Annotated[Path | None, typer.Option(metavar="FILE", help="Sentences of the source language, one a line.", show_default=False)]
Target = Annotated[Path | None, typer.Option(metavar="FILE", help="Their translations, line by line.", show_default=False)]
Threads = Annotated[int, typer.Option(min=0, help="Processor threads; 0: one a core.")]
DeviceName = Literal["auto", "cpu", "cuda"]
EngineName = Literal["auto", "native", "torch"]
Engine = Annotated[EngineName, typer.Option(help="What computes: compiled code, torch, or the first that can.")]
Precision = Annotated[
    Literal["int8", "bf16", "fp32"],
    typer.Option(help="Numbers of the native engine's matrices: int8 is the fastest, bf16 more exact, fp32 as exact as torch."),
]
Device = Annotated[DeviceName, typer.Option(help="Where to compute.")]
NoRepeat = Annotated[
    int | None,
    typer.Option(min=1, max=1000, metavar="N", help="No N tokens in a row twice; those of a prompt count.", show_default=False),
]
MOST_BEAMS = 1000
_OWN = "the model's own"


@dataclass(frozen=True)
class Machine:
    """Where to compute."""

    threads: Threads = 0
    device: Device = "cpu"


@dataclass(frozen=True)
class Computing(Machine):
    """Where and how to compute."""

    engine: Engine = "auto"
    precision: Precision = "fp32"


@dataclass(frozen=True)
class Search:
    """What to change of how a model searches."""

    beams: Annotated[
        int | None, typer.Option(min=1, max=MOST_BEAMS, help="Hypotheses kept side by side; 1 is greedy.", show_default=_OWN)
    ] = None
    max_length: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Tokens of a sentence's translation, at most.", show_default=_OWN)
    ] = None
    min_length: Annotated[
        int | None, typer.Option(min=0, max=100_000, help="Tokens of a sentence's translation, at least.", show_default=_OWN)
    ] = None
    length_penalty: Annotated[float | None, typer.Option(min=0, help="Above 0 favours long translations.", show_default=_OWN)] = None
    no_repeat_ngram: NoRepeat = None

    def adapt(self, search: "SearchConfig", *, n_best: int = 1, sampling: dict[str, float] | None = None) -> "SearchConfig":
        """The model's own search, with what the options change. Raises UsageError for what cannot be."""
        from vitrail.config import build, merge
        from vitrail.decode.search_config import SearchConfig

        changes: dict[str, Any] = {"n_best": n_best, "beams": self.beams or max(search.beams, n_best)}
        more = {
            "sampling": sampling,
            "length_penalty": self.length_penalty,
            "max_length": self.max_length,
            "min_length": self.min_length,
        }
        changes |= {name: value for name, value in more.items() if value is not None} | never_twice(self.no_repeat_ngram)
        return build(SearchConfig, merge(search.model_dump(mode="json"), changes), origin="options")


def never_twice(ngram: int | None) -> dict[str, int]:
    """What --no-repeat-ngram changes of a search."""
    return {} if ngram is None else {"repeat_ngram": ngram, "max_repeats": 1}


@dataclass(frozen=True)
class Constraints:
    """What must and must not be in a translation."""

    prefix: Annotated[str, typer.Option(metavar="TEXT", help="Every translation begins with it.", show_default=False)] = ""
    forbid: Annotated[list[str] | None, typer.Option(metavar="WORDS", help="Never in a translation.", show_default=False)] = None
    force: Annotated[list[str] | None, typer.Option(metavar="WORDS", help="In every translation.", show_default=False)] = None


@dataclass(frozen=True)
class SearchWithin(Constraints, Search):
    """How to search, and for what."""


@dataclass(frozen=True)
class Drawing:
    """How to draw at random, where that is done."""

    temperature: Annotated[
        float | None, typer.Option(help="When drawing: below 1 is more careful, above 1 more varied.", show_default="1")
    ] = None
    top_k: Annotated[
        int | None, typer.Option(min=0, help="When drawing: among so many of the likeliest tokens; 0: all.", show_default="0")
    ] = None
    top_p: Annotated[
        float | None, typer.Option(help="When drawing: among the likeliest tokens that reach this probability.", show_default="1")
    ] = None
    min_p: Annotated[
        float | None, typer.Option(help="When drawing: among tokens this many times as likely as the likeliest.", show_default="0")
    ] = None
    repetition_penalty: Annotated[
        float | None, typer.Option(help="When drawing: above 1, tokens that were read or written are less likely.", show_default="1")
    ] = None
    seed: Annotated[int, typer.Option(help="When drawing: equal seeds draw equal texts.")] = 0

    def settings(self, *, instead: str) -> dict[str, float]:
        """What is not left as it is. Raises UsageError for what cannot be. Args: instead: how to have the best, for who is after that."""
        names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        for name, value in given.items():
            least = 0 if name in ("top_k", "min_p") else 1e-300
            if not least <= value <= (1 if name in ("top_p", "min_p") else 1e9):
                expected = {"top_p": "more than 0 and at most 1", "min_p": "0 to 1"}.get(name, "more than 0")
                raise UsageError(f"{_dashed(name)} {value:g}", expected=expected, remedy=f"{instead} the best is searched for")
        return given


@dataclass(frozen=True)
class Settings:
    """How a training is to be set up."""

    recipe: Recipe = ""
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings in TOML; stronger than the recipe.", show_default=False)
    ] = None
    settings: Set = None


def with_groups(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb as typer reads it: a parameter that is annotated with a group has an option for each of its fields.

    A group is a frozen dataclass whose fields are annotated like options. Where a group is a verb's default, its fields are the options'
    defaults, and those that differ from the group's own are shown in the help.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for name, parameter in inspect.signature(verb).parameters.items():
        kind: Any = parameter.annotation
        if is_dataclass(kind) and isinstance(kind, type):
            groups[name] = kind
            parameters += _expand(kind, parameter.default)
        else:
            parameters.append(parameter)
    signature = inspect.Signature(parameters)

    @wraps(verb)
    def gathered(*arguments: Any, **options: Any) -> None:
        bound = signature.bind(*arguments, **options)
        bound.apply_defaults()
        given = bound.arguments
        made = {name: group(**{field.name: given.pop(field.name) for field in fields(group)}) for name, group in groups.items()}
        verb(**given, **made)

    gathered.__dict__["__signature__"] = signature
    gathered.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    gathered.__dict__["groups"] = tuple(groups.values())  # what counts the options of a verb reads them
    return gathered


def _expand(group: type[Any], chosen: Any) -> Iterator[inspect.Parameter]:
    """A parameter for each field of a group. Args: chosen: the group that has the defaults; empty: the fields' own."""
    for field in fields(group):
        hint: Any = field.type
        default = field.default if chosen is inspect.Parameter.empty else getattr(chosen, field.name)
        if default != field.default:
            option = copy(_option(hint))
            option.show_default = True
            hint = Annotated[hint.__origin__, option]
        yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def given_options(group: Any) -> list[str]:
    """The options of a group whose values are not the group's own: what a user said."""
    changed = [field for field in fields(group) if getattr(group, field.name) not in (field.default, [])]
    named = {field.name: str(_option(field.type).default) for field in changed}
    return [option if option.startswith("-") else _dashed(name) for name, option in named.items()]


def _option(hint: Any) -> OptionInfo:
    (option,) = (one for one in hint.__metadata__ if isinstance(one, OptionInfo))
    return option


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def say(line: str) -> None:
    """Print a line for people on stderr."""
    typer.echo(line, err=True)


def show(text: str) -> None:
    """Print a part of the result on stdout, in UTF-8 in every locale."""
    write_lines([text.removesuffix("\n")])


def show_json(value: Any) -> None:
    """Print the result as JSON on stdout."""
    show(json.dumps(value, indent=2, ensure_ascii=False))


def json_line(value: Any) -> str:
    """JSON on one line for every reader: U+0085, U+2028 and U+2029, which some readers take for line ends, are escaped."""
    return json.dumps(value, ensure_ascii=False).translate(_LINE_ENDS)


def write_lines(lines: Iterable[str]) -> None:
    """Print lines on stdout, in UTF-8 in every locale, flushed."""
    write("".join(f"{line}\n" for line in lines))


def write(text: str) -> None:
    """Print text on stdout as it is, in UTF-8 in every locale, flushed."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()
