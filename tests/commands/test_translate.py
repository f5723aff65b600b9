"""vitrail translate: rows stay rows whatever comes in, scores add up, and every option that is advised exists."""

import ast
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vitrail as package
from vitrail.cli import _VERBS, app, run
from vitrail.data.vocabularies.subwords import CharacterVocabulary, Vocabularies
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import save_model

SOURCE = Path(package.__file__).parent


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Call = Callable[..., Ran]


@pytest.fixture
def vitrail(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    def call(*arguments: str | Path, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        code = run([*map(str, arguments), "--threads", "1"])
        return Ran(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a random model that knows a few letters, a tab and a line separator among them."""
    both = Vocabularies(*[CharacterVocabulary(list("abcdef .\t\u2028"))] * 2, joint=True)
    torch.manual_seed(1)
    config = TransformerConfig(encoder_layers=1, decoder_layers=1, width=16, heads=2, feed_forward=16)
    facts = {"search": {"beams": 3, "max_length": 6}}
    path = tmp_path_factory.mktemp("model") / "model"
    save_model(path, tensors=unique_tensors(build_model(config, both)), config=config, vocabularies=both, facts=facts)
    return path


SEPARATORS = ["\t", "\r", "\u2028", "\u2029", "\x85", "\f", "\v", "\x1c", "\x1d", "\x1e", "\0", " ", "。", ""]


@given(
    st.lists(
        st.lists(st.sampled_from(["ab.", "Fa!", "c", *SEPARATORS]), max_size=8).map("".join).map(str.encode)
        | st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_row_for_one_line_whatever_its_bytes(vitrail: Call, folder: Path, lines: list[bytes]) -> None:
    stdin = b"zz\n" + b"".join(line + b"\n" for line in lines)
    ran = vitrail("translate", folder, "--scores", "--token-scores", stdin=stdin)
    rows = ran.out.split("\n")
    assert ran.code == 0 and rows.pop() == "" and len(rows) == len(lines) + 1
    assert all(row.count("\t") == 2 and len(row.splitlines()) == 1 for row in rows)
    ranked = vitrail("translate", folder, "--n-best", "3", stdin=stdin).out.split("\n")[:-1]
    assert all(row.count("\t") == 3 and len(row.splitlines()) == 1 for row in ranked)
    assert len({tuple(row.split("\t")[::3]) for row in ranked}) == len(ranked), "a text stands twice in an n-best list"
    assert [row.split("\t")[3] for row in ranked if row.split("\t")[1] == "1"] == [row.split("\t")[1] for row in rows]


def test_scores_of_tokens_add_up(vitrail: Call, folder: Path) -> None:
    stdin = b"ab. Fa! cd\n\nabc\n"
    records = [json.loads(line) for line in vitrail("translate", folder, "--json", "--n-best", "2", stdin=stdin).out.split("\n")[:-1]]
    rows = vitrail("translate", folder, "--token-scores", stdin=stdin).out.split("\n")
    for record, row in zip(records, rows, strict=False):
        values = [token["log_probability"] for token in record["tokens"]]
        assert len(values) == record["length"]
        assert sum(values) == pytest.approx(record["log_probability"], abs=1e-4)
        assert record["score"] == pytest.approx(record["log_probability"] / ((5 + record["length"]) / 6), abs=1e-4)
        text, scored = row.split("\t")
        assert text == record["text"]
        assert [float(one.rsplit(":", 1)[1]) for one in scored.split()] == pytest.approx(values, abs=1e-4)
        assert [(one["text"], one["score"]) for one in record["alternatives"][:1]] == [(text, record["score"])][: len(values)]


def test_every_alternative_has_its_alignment(vitrail: Call, folder: Path) -> None:
    stdin = b"ab cd. Fa be\n\n"
    rows = [row.split("\t") for row in vitrail("translate", folder, "--n-best", "3", "--alignment", stdin=stdin).out.split("\n")[:-1]]
    assert [row[1] for row in rows] == ["1", "2", "3", "1"]
    assert all(len(row) == 5 for row in rows) and rows[3][3:] == ["", ""]
    for *_, text, links in rows[:3]:
        assert all(int(link.split("-")[0]) < 4 and int(link.split("-")[1]) < len(text.split()) for link in links.split())
    alone = vitrail("translate", folder, "--alignment", stdin=stdin).out.split("\n")[0].split("\t")
    assert rows[0][3:] == alone
    record = json.loads(vitrail("translate", folder, "--n-best", "3", "--alignment", "--json", stdin=stdin).out.split("\n")[0])
    assert [one["alignment"] for one in record["alternatives"]] == [row[4] for row in rows[:3]]


def test_a_line_that_is_cut_is_told_and_the_others_are_translated(vitrail: Call, folder: Path) -> None:
    long = b"ab." + b" " * (1 << 20) + b"cd.\n"
    ran = vitrail("translate", folder, stdin=b"ab.\n" + long + b"fa.\n")
    assert ran.code == 3 and "line" in ran.err and "(lines 2)" in ran.err
    assert ran.out.count("\n") == 3
    assert ran.out.split("\n")[0] == ran.out.split("\n")[1]


def test_lines_that_are_not_utf8_are_told(vitrail: Call, folder: Path) -> None:
    ran = vitrail("translate", folder, stdin=b"abc\n" + "été là-bas\n".encode("latin-1") * 7)
    assert (ran.code, ran.out.count("\n")) == (0, 8)
    assert "warning: 7 lines are not UTF-8, and are not read as meant (lines 2, 3, 4, 5, 6, ...)" in ran.err
    assert "try: iconv -f latin1 -t UTF-8 FILE > new-file" in ran.err
    assert "not UTF-8" not in vitrail("translate", folder, stdin="abc\nété\n".encode()).err


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85"])
def test_records_are_lines_for_every_reader(vitrail: Call, folder: Path, end: str) -> None:
    source = f"abc{end}नमस्ते{end}def"
    rows = vitrail("translate", folder, "--json", stdin=f"{source}\n".encode()).out.splitlines()
    assert [json.loads(row)["source"] for row in rows] == [source]
    assert "नमस्ते" in rows[0]


def test_limits_of_length(vitrail: Call, folder: Path) -> None:
    free, short, long = (
        json.loads(vitrail("translate", folder, "--json", *options, stdin=b"abc\n").out)["length"]
        for options in ([], ["--max-length", "2"], ["--min-length", "5"])
    )
    assert short <= 2 <= free <= 6 and long >= 5


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--sample", "--temperature", "0"], "--temperature 0"),
        (["--sample", "--top-p", "1.5"], "--top-p 1.5"),
        (["--top-k", "3"], "add --sample"),
        (["--n-best", "3", "--beams", "2"], "--beams 3"),
        (["--beams", "1000000000"], "1000"),
        (["--alignment", "MODEL"], "one model"),
        (["--min-length", "9", "--max-length", "5"], "min_length = 9 is more than max_length = 5"),
        (["--force", "caf\udce9"], r"'caf\udce9' is not UTF-8"),
        (["--force", "ab", "--forbid", "ab"], "'ab' is forced and forbidden at once"),
    ],
)
def test_what_cannot_be_is_refused_in_options_that_exist(vitrail: Call, folder: Path, options: list[str], told: str) -> None:
    ran = vitrail("translate", folder, *(str(folder) if one == "MODEL" else one for one in options), stdin=b"a\n")
    assert ran.code == 2 and told in ran.err and ran.out == ""
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", ran.err)) <= options_of("translate") | {"--help"}


def options_of(verb: str) -> set[str]:
    command: Any = typer.main.get_command(app)
    found = command.commands[verb]
    return {name for parameter in getattr(found, "default", found).params for name in parameter.opts}


def advised(path: Path) -> set[str]:
    """Options named in the errors that a module raises."""
    found: set[str] = set()
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id.endswith("Error"):
            texts = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
            found |= {option for text in texts for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)}
    return found


@pytest.mark.parametrize("verb", ["translate", "align", "evaluate", "inspect", "prepare", "train", "compare", "demo", "doctor"])
def test_a_verb_advises_only_what_it_has(verb: str) -> None:
    assert advised(SOURCE / "commands" / _VERBS[verb].room / f"{verb}.py") <= options_of(verb)


def test_what_translation_stands_on_advises_only_what_translate_has() -> None:
    modules = [module for room in ("decode", "files", "runtime") for module in (SOURCE / room).rglob("*.py")]
    modules += [SOURCE / "data" / "reading" / "lines.py", SOURCE / "models" / "model_folder.py"]
    assert len(modules) > 30 and all(module.exists() for module in modules)
    for module in modules:
        verb = "shortlist" if module.parent.name == "shortlists" else "translate"
        assert advised(module) <= options_of(verb), module.name


def test_interrupted_it_keeps_what_is_finished_and_says_how_much(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("".join(f"{'abcdef '[n % 7]}b{'cde'[n % 3]}\n" for n in range(100_000)))
    command = [sys.executable, "-m", "vitrail", "translate", str(folder), "--source", str(tmp_path / "in"), "--threads", "1"]
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, bufsize=0, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as process:
        assert process.stdout and process.stderr
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        written = (first + out).decode()
    assert process.returncode == 130
    told = re.fullmatch(r"interrupted: ([\d,]+) of 100,000 lines are translated and written\n", err.decode().splitlines(keepends=True)[-1])
    assert told and int(told[1].replace(",", "")) == written.count("\n") >= 1 and written.endswith("\n")


def test_on_a_terminal_it_says_how_far_it_is(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("ab\n" * 300)
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-m", "vitrail", "translate", str(folder), "--source", str(tmp_path / "in"), "--threads", "1"]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"})
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(terminal, 65536):
            shown += block
    except OSError:  # the end of a terminal
        pass
    os.close(terminal)
    assert process.wait(60) == 0
    assert (tmp_path / "out").read_bytes().count(b"\n") == 300
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "300/300" in plain and "lines/s" in plain and "left" in plain
