"""What an error message about text tells to do can be done: every option, setting and key that it names is there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from vitrail.cli import app
from vitrail.commands.shared.data_options import CORPUS_KEYS
from vitrail.commands.training.config import settings
from vitrail.train.run_config import RunConfig

SOURCE = Path(__file__).parents[2] / "src" / "vitrail"
VERBS = [next((SOURCE / "commands").rglob(f"{name}.py")) for name in ("prepare", "data_options", "train")]
FILES = [*sorted((SOURCE / "data").rglob("*.py")), *VERBS]


def advice() -> Iterator[tuple[str, str]]:
    """Every text of an error's `expected` and `remedy`, and what is said of how text is read."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            keywords = node.keywords if isinstance(node, ast.Call) else []
            named = [keyword.value for keyword in keywords if keyword.arg in ("expected", "remedy")]
            for value in named:
                for part in ast.walk(value):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield f"{path.name}:{part.lineno}", part.value


def options() -> set[str]:
    group = typer.main.get_command(app)
    return {name for verb in ("train", "prepare") for one in group.commands[verb].params for name in one.opts + one.secondary_opts}  # pyright: ignore


def test_there_is_advice_to_look_at() -> None:
    texts = [text for _, text in advice()]
    assert len(texts) > 80 and any("--corpus" in text for text in texts) and any("columns=" in text for text in texts)


@pytest.mark.parametrize(("where", "text"), list(advice()), ids=lambda value: value if ".py:" in value else "")
def test_every_option_and_setting_named_is_there(where: str, text: str) -> None:
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
        assert option in options(), f"{where}: {option}"
    keys = {setting.name for setting in settings(RunConfig)}
    for name in re.findall(r"\bdata\.[a-z_.0-9]*[a-z_]", text):
        assert re.sub(r"\.\d+\.", ".N.", name) in keys or any(key.startswith(f"{name}.") for key in keys), f"{where}: {name}"
    if "FILE," in text and "KEY=VALUE" not in text:
        for key in re.findall(r"[,\s]([a-z_]+)=", text):
            assert key in CORPUS_KEYS, f"{where}: {key}"
    assert not re.search(r"\bset (?:format|languages|columns)\b", text), where
