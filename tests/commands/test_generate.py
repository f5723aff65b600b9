"""vitrail generate: streams, stop strings, the guard against repetition, and what is refused."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vitrail import cli

BEGUN = ("--prompt", "लड़की पानी", "--prompt", "", "--max-tokens", "30")
DRAWN = ("--samples", "2", "--seed", "5")


def run(*arguments: object) -> int:
    return cli.run([str(argument) for argument in arguments])


def _without_engine(told: bytes) -> bytes:
    """What is told after the line that says what computes."""
    _, named, rest = told.partition(b"engine: ")
    assert named
    return rest.partition(b"\n")[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hardly trained, so that it writes bytes of all kinds."""
    folder = tmp_path_factory.mktemp("generate")
    (folder / "text.txt").write_text("लड़की पानी पीती है\nहम कल बाज़ार जाएँगे\nयह किताब अच्छी है\n" * 60, encoding="utf-8")
    sizes = ("model.width=16", "model.heads=2", "model.layers=1", "model.context=32", "data.subwords.size=300")
    rest = ("train.threads=1", "data.holdout.test_lines=0")
    common = [part for setting in (*sizes, *rest) for part in ("--set", setting)]
    assert run("train", "--text", folder / "text.txt", "--preset", "gpt-mini", "-o", folder / "run", "--duration", "2 steps", *common) == 0
    return folder / "run"


@pytest.mark.parametrize("more", [DRAWN, (*DRAWN, "--lines", "3"), (*DRAWN, "--stop", "ी", "--stop", "ह"), ("--beams", "1")])
def test_a_stream_prints_what_is_printed_without(model: Path, capfdbinary: pytest.CaptureFixture[bytes], more: tuple[str, ...]) -> None:
    assert run("generate", model, *BEGUN, *more) == 0
    whole = capfdbinary.readouterr().out
    assert run("generate", model, *BEGUN, *more, "--stream") == 0
    assert capfdbinary.readouterr().out == whole and whole.startswith("लड़की पानी".encode()) and whole.endswith(b"\n")
    if "--stop" in more:
        assert run("generate", model, *BEGUN, *more, "--json") == 0
        found = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
        assert [one["text"] for one in found] == whole.decode().split("\n")[:-1] and {one["ended"] for one in found} >= {"stop"}
        assert not any(sign in one["text"][len(one["prompt"]) :] for one in found for sign in ("ी", "ह"))


def test_ctrl_c_ends_a_stream_with_whole_characters_and_a_whole_line(model: Path) -> None:
    command = [sys.executable, "-m", "vitrail", "generate", str(model), "--stream", "--lines", "100000", "--prompt", "यह", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        first = process.stdout.read(200)
        assert process.poll() is None, "it is still writing"
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(60) == 130
        assert (first + rest).decode().startswith("यह") and rest.endswith(b"\n")
        assert _without_engine(process.stderr.read()) in (b"", b"interrupted\n")


def test_a_closed_pipe_ends_a_stream(model: Path) -> None:
    command = [sys.executable, "-m", "vitrail", "generate", str(model), "--stream", "--lines", "100000", "--prompt", "यह", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.read(50)
        process.stdout.close()
        process.wait(60)
        assert _without_engine(process.stderr.read()) == b""


def test_nothing_stands_twice(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("generate", model, "--prompt", "यह", "--beams", "1", "--max-tokens", "40", "--no-repeat-ngram", "1", "--json") == 0
    one = json.loads(capfd.readouterr().out)
    assert len(one["tokens"]) > 3 and len(set(one["tokens"])) == len(one["tokens"])
    assert run("generate", model, "--prompt", "यह", "--top-k", "1", "--max-tokens", "20", "--repetition-penalty", "100", "--json") == 0
    other = json.loads(capfd.readouterr().out)
    assert len(set(other["tokens"])) == len(other["tokens"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--stream", "--json"), "--stream together with --json"),
        (("--stream", "--beams", "3"), "--stream with --beams 3"),
        (("--stop", ""), "an empty stop string"),
        (("--repetition-penalty", "0"), "--repetition-penalty 0"),
        (("--beams", "2", "--repetition-penalty", "2"), "how to draw, with --beams"),
        (("--no-repeat-ngram", "0"), "--no-repeat-ngram"),
    ],
)
def test_what_cannot_be_is_refused_before_the_model_is_read(
    arguments: tuple[str, ...], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", "nowhere", *arguments) == 2
    assert told in capfd.readouterr().err
