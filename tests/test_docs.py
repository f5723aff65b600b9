"""The pages name every setting, and every command and link in them exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vitrail.commands.inspecting.studies import STUDIES
from vitrail.config import keys
from vitrail.train.run_config import RunConfig

ROOT = Path(__file__).parents[1]
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "SECURITY.md"]
}
STUDY_NAMES = {study.__name__ for study in STUDIES}
GUIDES = "".join(
    PAGES[name] for name in ("models.md", "optimization.md", "translation.md", "training.md", "language.md", "classification.md")
)


@pytest.mark.parametrize("key", sorted({key.name for key in keys(RunConfig) if not key.name.startswith("data.")}))
def test_every_setting_is_explained(key: str) -> None:
    assert f"`{key}" in GUIDES, f"no page speaks of {key}"


def _commands() -> list[str]:
    blocks = [block for text in PAGES.values() for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)]
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    quoted = [found for text in PAGES.values() for found in re.findall(r"`(vitrail [a-z][^`\n]*)`", text)]
    return sorted({line.split("#")[0].strip() for line in [*lines, *quoted] if line.startswith("vitrail ")})


def _verb(command: str) -> tuple[str, ...]:
    words = command.split()[1:]
    groups = ("bench", "experiment", "lora", "vectors")
    deeper = words[0] in groups or (words[0] == "inspect" and words[1:2] and words[1] in STUDY_NAMES)
    return tuple(words[:2] if deeper else words[:1])


@pytest.fixture(scope="module")
def helps() -> dict[tuple[str, ...], str]:
    """What `--help` of each verb says, gathered in one process."""
    verbs = sorted({_verb(command) for command in _commands()})
    code = (
        "import sys, json; from typer.testing import CliRunner; from vitrail.cli import app\n"
        "for verb in json.loads(sys.argv[1]):\n"
        "    done = CliRunner().invoke(app, [*verb, '--help'], env={'COLUMNS': '500'})\n"
        "    print(json.dumps([verb, done.output if done.exit_code == 0 else '']))\n"
    )
    import json

    done = subprocess.run([sys.executable, "-c", code, json.dumps(verbs)], capture_output=True, text=True, check=True)
    return {tuple(verb): text for verb, text in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("command", _commands())
def test_every_command_exists_with_its_options(command: str, helps: dict[tuple[str, ...], str]) -> None:
    shown = helps[_verb(command)]
    assert shown, command
    for option in re.findall(r"(?<=\s)--?[a-z][a-z\-]*", command):
        assert re.search(rf"(?<![\w\-]){option}(?![\w\-])", shown), f"{option} of: {command}"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_of_pages_lead_somewhere(page: str) -> None:
    home = ROOT if page in ("README.md", "SECURITY.md") else ROOT / "docs"
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = home / name if name else home / page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in map(_anchor, titles), f"{page}: {link}"


def test_every_page_is_in_the_index() -> None:
    assert not {"search.md", "genindex.md", "py-modindex.md"} & PAGES.keys(), "Sphinx has pages of these names"
    index = PAGES["index.md"]
    listed = set(re.findall(r"^([a-z]+)$", index, flags=re.MULTILINE))
    assert listed == {name.removesuffix(".md") for name in PAGES if name.islower()} - {"index"}


def test_files_that_the_recipes_name_exist() -> None:
    named = set(re.findall(r"`((?:src|tests)/[^`\s]+)`", PAGES["howto.md"]))
    assert len(named) > 15
    for name in named:
        if not re.search("NN_|SUBJECT", name):
            assert (ROOT / name).exists(), name


def _recipe_rows() -> list[tuple[str, str]]:
    """(file, a name that a recipe says is to be found in it)."""
    rows: list[tuple[str, str]] = []
    file = ""
    for first, second in re.findall(r"^\| (.*?) ?\| (.*) \|$", PAGES["howto.md"], flags=re.MULTILINE):
        file = first.strip("`") or file  # an empty cell goes on with the file above
        rows += [
            (file, name)
            for name in re.findall(r"`([A-Za-z_]\w+)`", second)
            if (ROOT / file).is_file() and file.startswith(("src", "tests"))
        ]
    return rows


@pytest.mark.parametrize(("file", "name"), _recipe_rows())
def test_names_that_the_recipes_name_are_in_their_files(file: str, name: str) -> None:
    assert re.search(rf"\b{name}\b", (ROOT / file).read_text(encoding="utf-8")), f"{file} has no {name}"


def test_the_recipes_name_enough_to_be_held() -> None:
    rows = _recipe_rows()
    assert len(rows) > 20 and {("src/vitrail/nn/cells.py", "_kernel"), ("tests/data/test_clean.py", "DROPPED")} <= set(rows)


@pytest.mark.slow
def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    """With the reference: a docstring that is no good text is a warning."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-b",
        "html",
        "--fail-on-warning",
        "--keep-going",
        "--quiet",
        str(ROOT / "docs"),
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "nn.html").read_text(encoding="utf-8")
    assert "MultiHeadAttention" in page and "Vaswani et al. 2017" in page
