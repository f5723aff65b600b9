"""Standard streams that are closed, full, or that nobody reads."""

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import pytest

from vitrail.errors import VitrailError
from vitrail.phrasebook.corpus import phrasebook
from vitrail.runtime.streams import ignore_write_errors, unfailing
from vitrail.train.log.display import TrainingDisplay

SAYING = """
import logging, sys, warnings
from vitrail.runtime.streams import guard_streams
guard_streams()
import typer
from rich.console import Console
from rich.progress import Progress
typer.echo("é \\udcff", err=True)
logging.getLogger("x").warning("y")
warnings.warn("z")
Console(stderr=True).print("line")
with Progress(console=Console(file=sys.stderr, force_terminal=True)) as bar:
    bar.advance(bar.add_task("t", total=2))
sys.stderr.buffer.write(b"bytes")
open("after", "w").write("all was said")
"""


def closed_pipe() -> IO[bytes]:
    """Something to write to that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "wb")


def full() -> IO[bytes]:
    return Path("/dev/full").open("wb")


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


def run(code: str, *arguments: str, close: tuple[int, ...] = (), **streams: Any) -> "subprocess.CompletedProcess[bytes]":
    """Run Python code; `close`: descriptors that are closed when it starts."""

    def shut() -> None:
        for descriptor in close:
            os.close(descriptor)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run([sys.executable, "-c", code, *arguments], check=False, preexec_fn=shut, timeout=120, **pipes)


VITRAIL = "import sys; sys.argv[0] = 'vitrail'; from vitrail.cli import main; main()"


@pytest.mark.parametrize("place", ["nobody reads", pytest.param("full", marks=needs_full), "closed"])
def test_a_line_that_cannot_be_told_costs_that_line(place: str, tmp_path: Path) -> None:
    """Whoever writes it: typer, logging, warnings, rich, or bytes."""
    if place == "closed":
        done = run(SAYING, close=(2,), cwd=tmp_path)
    else:
        with closed_pipe() if place == "nobody reads" else full() as stream:
            done = run(SAYING, stderr=stream, cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "after").read_text() == "all was said"


def test_no_file_takes_the_number_of_a_closed_stream() -> None:
    code = "from vitrail.runtime.streams import guard_streams; guard_streams(); import os, sys; sys.exit(os.open(os.devnull, os.O_RDONLY))"
    assert run(code, close=(0, 1, 2)).returncode > 2


@pytest.mark.parametrize("arguments", [["config", "."], ["--help"], ["train", "--help"]], ids=" ".join)
def test_a_result_that_cannot_be_written_is_told(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("seed = 1\n")
    monkeypatch.chdir(tmp_path)
    with closed_pipe() as stream:
        done = run(VITRAIL, *arguments, stdout=stream)
    assert (done.returncode, done.stderr) == (141, b"")
    done = run(VITRAIL, *arguments, close=(1,))
    assert done.returncode == 1 and done.stderr.startswith(b"error: standard output cannot be written: it is closed\n")
    if Path("/dev/full").exists():
        with full() as stream:
            done = run(VITRAIL, *arguments, stdout=stream)
        assert done.returncode == 1 and done.stderr.startswith(b"error: standard output cannot be written: No space left on device\n")
        assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr
        with full() as stream:
            assert run(VITRAIL, *arguments, stdout=stream, close=(2,)).returncode == 1


def test_a_pipe_that_does_not_wait_gets_all_of_a_result() -> None:
    """As programs leave theirs that talk to many at once."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    got: list[bytes] = []

    def drain() -> None:
        with os.fdopen(reading, "rb") as pipe:
            got.extend(iter(lambda: pipe.read(1000), b""))

    reader = threading.Thread(target=drain)
    with os.fdopen(writing, "wb") as stream:
        code = "from vitrail.runtime.streams import guard_streams; guard_streams(); import sys; sys.stdout.write('x' * 999_999)"
        reader.start()
        done = run(code, stdout=stream)
    reader.join()
    assert done.returncode == 0 and b"".join(got) == b"x" * 999_999


def test_closed_standard_input_is_told(tmp_path: Path) -> None:
    code = (
        "from vitrail.runtime.streams import guard_streams; guard_streams()\nfrom vitrail.data.reading.parallel_text import lines\n"
        "from pathlib import Path\nnext(lines(Path('-')))"
    )
    done = run(code, close=(0,))
    assert b"stdin: is closed" in done.stderr


def test_translate_from_a_closed_standard_input_is_told() -> None:
    model = Path(__file__).parent / "golden" / "format_1" / "model"
    done = run(VITRAIL, "translate", str(model), close=(0,))
    assert b"error: stdin: is closed" in done.stderr and done.returncode == 3, done.stderr


def test_a_deleted_working_directory_is_told_before_torch_ends_the_process(tmp_path: Path) -> None:
    code = "import os, sys; os.chdir(sys.argv.pop()); os.rmdir(os.getcwd()); " + VITRAIL
    done = run(code, "translate", "run", str(tmp_path))
    assert done.stderr == b"error: the folder that this runs in was deleted\n  try: cd to another\n" and done.returncode == 1


def test_other_streams_stay_what_they_are() -> None:
    memory = io.StringIO()
    assert unfailing(memory) is memory
    again = unfailing(unfailing(None))
    again.write("lost")
    again.flush()
    assert not again.isatty()


def test_a_listener_that_fails_costs_its_line() -> None:
    told: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        raise BrokenPipeError

    tell = ignore_write_errors(say)
    tell("one")
    tell("two")
    assert told == ["one", "two"]
    with pytest.raises(VitrailError):  # a fault of other kinds is one
        ignore_write_errors(lambda line: (_ for _ in ()).throw(VitrailError(line)))("three")


def test_a_log_that_cannot_be_opened_costs_its_lines(tmp_path: Path) -> None:
    (tmp_path / "log.txt").mkdir()
    shown = io.StringIO()
    with TrainingDisplay(tmp_path, stream=shown) as display:
        display.say("heard")
    assert "heard" in shown.getvalue()


# --- a whole training ------------------------------------------------------------------------------------------------------------

AT = """
import os, signal, sys
name, number = sys.argv.pop(1), getattr(signal, sys.argv.pop(1))
class Finder:
    def find_spec(self, found, path=None, target=None):
        if found == name:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Finder())
"""
"""Sends a signal to itself when a module is about to be imported."""


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("text")
    pairs = phrasebook(train_pairs=200).train
    for name, side in (("train.en", [pair.source for pair in pairs]), ("train.fr", [pair.target for pair in pairs])):
        (folder / name).write_text("".join(f"{line}\n" for line in side))
    settings = [
        *("model.width=16", "model.heads=2", "model.encoder_layers=1", "model.decoder_layers=1", "model.feed_forward=16"),
        *("data.subwords.size=360", "data.holdout.dev_pairs=4", "data.holdout.test_pairs=4"),
        *("train.log_every=1", "train.duration='3 steps'", "train.threads=1", "search.beams=1", "search.max_length=4"),
    ]
    files = ["--source", str(folder / "train.en"), "--target", str(folder / "train.fr")]
    return ["train", *files, *(part for one in settings for part in ("--set", one))]


def test_a_training_goes_on_when_nobody_reads(training: list[str], tmp_path: Path) -> None:
    with closed_pipe() as stream:
        done = run(VITRAIL, *training, "-o", str(tmp_path / "run"), stdout=stream, stderr=stream)
    assert done.returncode == 0
    assert (tmp_path / "run" / "scores.json").exists() and "step 3" in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("name", "number", "told"),
    [
        ("torch.nn", "SIGTERM", "stopped; what was done is kept"),
        ("sentencepiece", "SIGUSR1", "stopped"),
        ("vitrail.evaluation.report", "SIGHUP", "stopped while the test set was scored; the training is complete"),
    ],
    ids=["while torch loads", "while preparing", "while scoring"],
)
def test_a_signal_at_any_time_is_a_wish_to_stop(training: list[str], tmp_path: Path, name: str, number: str, told: str) -> None:
    def listen() -> None:  # who runs the tests may have had them ignore it
        signal.signal(getattr(signal, number), signal.SIG_DFL)

    command = [sys.executable, "-c", AT + VITRAIL.removeprefix("import sys; "), name, number, *training, "-o", str(tmp_path / "run")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, preexec_fn=listen, timeout=120)
    assert done.returncode == 75, done.stderr
    assert f"error: {told}" in done.stderr and "Traceback" not in done.stderr


def test_a_signal_that_was_to_be_ignored_is(tmp_path: Path) -> None:
    """As nohup starts programs."""
    code = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from vitrail.runtime.stopping import StopRequest, stopping_at_once\n"
        "with stopping_at_once('x') as outer, StopRequest() as inner:\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n    assert inner.signal is None\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n    assert inner.signal == outer.signal == signal.SIGTERM\n"
        "    with StopRequest() as third:\n        assert third.signal == signal.SIGTERM\n"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
