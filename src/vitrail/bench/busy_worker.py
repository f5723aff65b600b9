"""One training, timed repeatedly: reads a task as JSON from the first line of standard input, then seconds from each line."""

import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import torch

from vitrail.bench.training_worker import fresh_model, load_batches, make_learner
from vitrail.data.vocabularies.subwords import PAD
from vitrail.models.architectures import read_translator
from vitrail.models.base import unique_tensors
from vitrail.runtime.device import Precision, choose_dtype, keep_freed_memory, seed_all, set_threads
from vitrail.train.loop import update


@dataclass(frozen=True)
class BusyTask:
    """The training task."""

    model: dict[str, object]
    vocabulary: int
    batches: str
    """The file of batches, as `vitrail.bench.training_worker.save_batches` wrote it."""
    threads: int
    precision: Precision
    warmup: int
    """Steps before the first answer, which has the digest of the weights after them."""
    settle: float = 1.0
    """Seconds of training before each measurement, in which `vitrail.runtime.contention` adapts to the load."""


@dataclass(frozen=True)
class BusySpeed:
    """The work done in about the requested time: whole steps, at least one."""

    tokens: int
    """Real target tokens."""
    seconds: float


def main() -> None:
    """Warm up, write the digest of the weights, then train for the seconds of each line."""
    task = BusyTask(**json.loads(sys.stdin.readline()))
    keep_freed_memory()
    set_threads(task.threads)
    seed_all(1)
    config = read_translator(task.model)
    model = fresh_model(config, task.vocabulary)
    learner = make_learner(model, config, choose_dtype(task.precision, torch.device("cpu")))
    batches, steps = load_batches(Path(task.batches)), count()
    model.train()

    def step() -> int:
        number = next(steps)
        batch = batches[number % len(batches)]
        update(learner, [(number, batch)], share=0.1, step=number)
        return int((batch.target_out != PAD).sum())

    for _ in range(task.warmup):
        step()
    weights = b"".join(tensor.detach().numpy().tobytes() for tensor in unique_tensors(model).values())
    _answer({"digest": hashlib.sha256(weights).hexdigest()})
    for line in sys.stdin:
        wanted, tokens, begun = float(line), 0, time.perf_counter()
        while time.perf_counter() - begun < task.settle:
            step()
        started = time.perf_counter()
        while (spent := time.perf_counter() - started) < wanted or not tokens:
            tokens += step()
        _answer(asdict(BusySpeed(tokens, spent)))


def _answer(record: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
