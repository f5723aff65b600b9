"""Tiny trainings: in this process, or in processes forked from a server that has torch loaded, so that dozens can be killed."""

import json
import logging
import multiprocessing
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, TextIO

from vitrail import files
from vitrail.config import build, merge
from vitrail.errors import VitrailError
from vitrail.files import read_json_lines
from vitrail.models.base import unique_tensors
from vitrail.runtime import heartbeat
from vitrail.train import loop
from vitrail.train import run as run_module
from vitrail.train.run import Outcome, train
from vitrail.train.run_config import RunConfig

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["training_runs", "sacrebleu.metrics", "torch.distributed"])
TIMES = ("seconds", "tokens_per_second")
PATIENCE_SECONDS = 300

_ENGLISH = {"who": "I|you|we|they|my sister|the baker|a sailor", "does": "see|paint|carry|know|sell", "what": "the sea|a boat|two apples"}
_FRENCH = {
    "who": "moi je|toi tu|nous on|eux ils|ma soeur elle|le boulanger il|un marin il",
    "does": "voit|peint|porte|connaît|vend",
    "what": "la mer|un bateau|deux pommes",
}
_PLACES = (("", ""), (" at night", " la nuit"), (" in the old harbour", " dans le vieux port"))


def write_text(folder: Path, *, pairs: int = 200) -> dict[str, Any]:
    """Sentences of three to nine words in two languages, in a fixed order; returns the table of `data.corpora`."""
    folder.mkdir(parents=True, exist_ok=True)
    english, french = ({part: words.split("|") for part, words in language.items()} for language in (_ENGLISH, _FRENCH))
    sentences = [
        (
            f"{english['who'][a]} {english['does'][b]} {english['what'][c]}{place[0]}",
            f"{french['who'][a]} {french['does'][b]} {french['what'][c]}{place[1]}",
        )
        for a in range(7)
        for b in range(5)
        for c in range(3)
        for place in _PLACES
    ]
    random.Random(5).shuffle(sentences)
    for side, name in enumerate(("text.en", "text.fr")):
        (folder / name).write_text("".join(f"{pair[side]}\n" for pair in sentences[:pairs]), encoding="utf-8")
    return {"source": str(folder / "text.en"), "target": str(folder / "text.fr")}


def tiny(folder: Path, changes: Mapping[str, Any] | None = None, *, pairs: int = 200) -> RunConfig:
    """Three epochs of twelve steps or so, of two batches each, with everything on that draws at random."""
    table: dict[str, Any] = {
        "data": {
            "corpora": [write_text(folder / "text", pairs=pairs)],
            "subwords": {"size": 310},
            "holdout": {"dev_pairs": 8, "test_pairs": 0},
        },
        "model": {"encoder_layers": 1, "decoder_layers": 1, "width": 16, "heads": 2, "feed_forward": 16, "dropout": 0.1},
        "optimizer": {"learning_rate": 0.01},
        "schedule": {"warmup": 4},
        "search": {"beams": 1, "max_ratio": 1, "max_extra": 3},  # a validation is mostly search
        "train": {
            "duration": "30 steps",
            "batch_tokens": 160,
            "accumulate": 2,
            "average_decay": 0.9,
            "validate_every": "9 steps",
            "save_every": "4 steps",
            "log_every": 3,
            "threads": 1,
            "device": "cpu",
            "precision": "fp32",
        },
    }
    asked = dict(changes or {})
    if "kind" in asked.get("model", {}):  # another architecture has other settings
        del table["model"]
    return build(RunConfig, merge(table, asked), origin="test")


def run(config: RunConfig, folder: Path, **more: Any) -> Outcome:
    """Train in this process."""
    return train(config, folder, **more)


def logged(folder: Path, name: str = "metrics") -> list[dict[str, Any]]:
    """The lines of a log without what time it took."""
    return [{key: value for key, value in line.items() if key not in TIMES} for line in read_json_lines(folder / f"{name}.jsonl")]


def fingerprint(folder: Path) -> dict[str, str]:
    """What two runs of the same bits have in common: weights, optimizer and average at the end, the model, all logs."""
    newest = max((folder / "state").glob("step-*"))
    found = {f"{newest.name}/{path.name}": path for path in sorted(newest.glob("*.safetensors"))}
    found |= {"model": folder / "model" / "model.safetensors"}
    digests = {name: sha256(path.read_bytes()).hexdigest() for name, path in found.items()}
    return digests | {name: json.dumps(logged(folder, name)) for name in ("metrics", "samples")}


def differing(one: Path, other: Path) -> list[str]:
    """In what two runs differ; nothing when they are the same to the bit."""
    left, right = fingerprint(one), fingerprint(other)
    return sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))


def every_byte(folder: Path) -> dict[str, bytes]:
    """All files of a run."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ---- other processes -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What is done to a process when it takes update `step`: `signal` after `delay` seconds, or SIGKILL at the n-th change to the disk."""

    step: int
    delay: float = 0.0
    change: int = 0
    signals: tuple[int, ...] = (signal.SIGKILL,)


class Trainer:
    """A training in a process of its own; what it said and how it ended are in `<folder>.told`."""

    def __init__(
        self, config: RunConfig, folder: Path, *, fault: Fault | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.told = folder.with_name(f"{folder.name}.told{(environment or {}).get('RANK', '')}")
        arguments = (config.model_dump_json(), folder, self.told, fault, dict(environment or {}))
        self.process: ForkServerProcess = _FORKS.Process(target=_work, args=arguments, daemon=True)
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def wait(self) -> int:
        """Its exit code, negative for a signal."""
        self.process.join(PATIENCE_SECONDS)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"still running after {PATIENCE_SECONDS} seconds: {self.text()}")
        return self.process.exitcode

    def text(self) -> str:
        """What it said so far."""
        return self.told.read_text(encoding="utf-8") if self.told.exists() else ""

    def wait_for(self, path: Path) -> None:
        """Go on when a file is there and not empty."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not (path.exists() and path.stat().st_size):
            assert time.monotonic() < end and self.process.exitcode is None, self.text()
            time.sleep(0.01)


def train_in_ranks(
    config: RunConfig, folder: Path, *, world: int = 2, faults: Mapping[int, Fault] | None = None, silence: float = 60
) -> list[Trainer]:
    """Start one process a rank, as torchrun does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "SILENCE": str(silence)}
    return [Trainer(config, folder, fault=(faults or {}).get(rank), environment=shared | {"RANK": str(rank)}) for rank in range(world)]


def _work(config: str, folder: Path, told: Path, fault: Fault | None, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    heartbeat.SILENCE_SECONDS = float(environment.get("SILENCE", heartbeat.SILENCE_SECONDS))
    with told.open("a", encoding="utf-8", buffering=1) as out:
        logging.basicConfig(stream=out, level=logging.WARNING, format="%(levelname)s %(message)s", force=True)
        _tell_the_end(out)
        if fault is not None:
            _arm(fault)
        try:
            train(RunConfig.model_validate_json(config), folder, say=lambda line: print(line, file=out))
        except VitrailError as error:
            print(error, file=out)
            out.flush()
            os._exit(error.exit_code)


def _tell_the_end(out: TextIO) -> None:
    """Let the process say at which step and with which weights its loop ended: ranks must hold the same."""
    real = run_module.loop

    def told(learner: loop.Learner, progress: loop.Progress, *arguments: Any, **more: Any) -> None:
        real(learner, progress, *arguments, **more)
        held = [*unique_tensors(learner.model).values(), *learner.average]
        digest = sha256(b"".join(tensor.numpy().tobytes() for tensor in held)).hexdigest()
        print(f"end: {progress.step} {progress.waited} {progress.halvings} {progress.seconds} {digest}", file=out)

    run_module.loop = told


def _arm(fault: Fault) -> None:
    real, armed = loop.update, threading.Event()

    def update(*arguments: Any, step: int, **more: Any) -> loop.Update:
        if step >= fault.step and not armed.is_set():
            armed.set()
            if fault.change:
                files.system.SYSTEM = ending_at(fault.change)
            elif fault.delay:
                threading.Timer(fault.delay, _send, (fault.signals,)).start()
            else:
                _send(fault.signals)
        return real(*arguments, step=step, **more)

    loop.update = update


def _send(signals: tuple[int, ...]) -> None:
    for number in signals:
        os.kill(os.getpid(), number)


def ending_at(change: int) -> files.FileSystem:
    """A file system during whose n-th change the process is killed; a write is half done by then."""
    real, count = files.system.SYSTEM, 0

    def counted(name: str) -> Any:
        call = getattr(real, name)

        def wrapped(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == change:
                if name == "write":
                    call(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments)

        return wrapped

    return replace(real, **{name: counted(name) for name in files.FileSystem.__dataclass_fields__})
