"""Groups of options: what typer sees of them, and what a verb gets."""

import inspect
import re
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from vitrail.cli import run
from vitrail.commands.shared import console
from vitrail.commands.shared.data_options import AnyTextOptions, TextOptions


@dataclass(frozen=True)
class Colour:
    """Two options of which one has a name of its own."""

    red: Annotated[int, typer.Option(min=0, help="How red.")] = 3
    shades: Annotated[list[str] | None, typer.Option("--shade", help="Which ones.", show_default="all")] = None


@dataclass(frozen=True)
class Paint(Colour):
    """A group with the options of another before its own."""

    gloss: Annotated[bool, typer.Option(help="Shiny.")] = True


GOT: list[tuple[Any, ...]] = []
DARK = Paint(red=9, shades=["navy"], gloss=False)


@console.with_groups
def plain(wall: str, *, colour: Colour, coats: int = 1) -> None:
    """Paint."""
    GOT.append((wall, colour, coats))


@console.with_groups
def dark(wall: str, *, paint: Paint = DARK) -> None:
    """Paint darkly."""
    GOT.append((wall, paint))


def call(verb: Any, *arguments: str) -> str:
    program = typer.Typer(rich_markup_mode=None)
    program.command()(verb)
    done = CliRunner().invoke(program, list(arguments), env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def test_a_verb_gets_its_groups() -> None:
    GOT.clear()
    call(plain, "north")
    call(plain, "north", "--red", "0", "--shade", "sky", "--shade", "sea", "--coats", "2")
    call(dark, "north")
    call(dark, "north", "--red", "1", "--gloss")
    assert [
        ("north", Colour(), 1),
        ("north", Colour(0, ["sky", "sea"]), 2),
        ("north", DARK),
        ("north", Paint(1, ["navy"], True)),
    ] == GOT


def test_a_verb_is_called_from_python_with_its_options() -> None:
    GOT.clear()
    plain("south", red=1)
    assert [("south", Colour(red=1), 1)] == GOT
    assert list(inspect.signature(plain).parameters) == ["wall", "red", "shades", "coats"]
    with pytest.raises(TypeError, match="blue"):
        plain("south", blue=1)


def test_help_shows_each_option_where_its_group_stands_with_its_default() -> None:
    shown = [" ".join(line.split()) for line in call(plain, "--help").splitlines()]
    at = [next(number for number, line in enumerate(shown) if line.startswith(name)) for name in ("--red", "--shade", "--coats")]
    assert at == sorted(at) and "How red. [default: 3; x>=0]" in shown[at[0]] and "Which ones. [default: (all)]" in shown[at[1]]
    told = call(dark, "--help")
    assert "[default: 9; x>=0]" in told and "[default: navy]" in told and "[default: no-gloss]" in told


def test_what_was_given_is_told_by_the_options_names() -> None:
    assert console.given_options(Colour()) == console.given_options(Colour(3, [])) == []
    assert console.given_options(Colour(0, ["sky"])) == ["--red", "--shade"]
    assert console.given_options(DARK) == ["--red", "--shade", "--gloss"]
    assert console.given_options(TextOptions(corpora=["a.tsv"], devs=["b.tsv"])) == ["--dev", "--corpus"]
    assert console.given_options(AnyTextOptions(languages="en,fr")) == ["--languages"]


def test_verbs_that_share_a_group_have_its_options_with_the_same_words(capfd: pytest.CaptureFixture[str]) -> None:
    shown: dict[str, str] = {}
    for verb in ("translate", "inspect", "evaluate", "generate", "align", "doctor", "train", "prepare", "compare"):
        assert run([verb, "--help"]) == 0
        shown[verb] = " " + " ".join(capfd.readouterr().out.partition("\nOptions:")[2].split())
    for verbs, options in (
        (("translate", "inspect", "evaluate"), ("--beams", "--max-length", "--min-length", "--length-penalty")),
        (("translate", "inspect"), ("--prefix", "--forbid", "--force")),
        (("translate", "inspect", "evaluate", "generate", "align", "doctor"), ("--threads", "--device")),
        (("train", "prepare", "compare"), ("--source", "--corpus", "--dev", "--languages", "--recipe", "--config", "--set")),
        (("train", "prepare", "compare"), ("--text",)),
    ):
        for option in options:
            told = {re.split(r" --?[a-z]", shown[verb].partition(f" {option} ")[2])[0] for verb in verbs}
            assert len(told) == 1 and told != {""}, option
    assert "[default: 0.95]" in shown["generate"] and "[default: (1)]" in shown["translate"]


def test_nothing_twice_is_a_setting_of_the_search() -> None:
    from vitrail.decode.search_config import SearchConfig

    own = SearchConfig(repeat_ngram=4, max_repeats=9)
    assert console.Search().adapt(own).max_repeats == 9
    found = console.Search(no_repeat_ngram=2).adapt(own)
    assert (found.repeat_ngram, found.max_repeats) == (2, 1)
    drawn = console.Search().adapt(own, sampling=console.Drawing(repetition_penalty=1.5).settings(instead="")).sampling
    assert drawn is not None and drawn.repetition_penalty == 1.5
