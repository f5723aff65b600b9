"""Measures one architecture at one sentence length in a separate process: reads a task as JSON, writes the result as JSON.

A separate process, because the peak memory of a process cannot be reset.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from vitrail.bench.training_worker import fresh_model, make_learner
from vitrail.data.batches import Batch, collate
from vitrail.data.vocabularies.subwords import EOS, SOS
from vitrail.models.architectures import read_translator
from vitrail.models.base import TranslationModel
from vitrail.runtime.device import Precision, choose_dtype, keep_freed_memory, seed_all, set_threads
from vitrail.runtime.peak_memory import peak_memory
from vitrail.train.loop import update

TRAIN_WARMUP, DECODE_WARMUP = 2, 1


@dataclass(frozen=True)
class LengthTask:
    """What to measure."""

    model: dict[str, object]
    vocabulary: int
    length: int
    """Positions of every source and every target, EOS counted: no padding."""
    sentences: int
    """In a training batch."""
    decoded: int
    """Sentences in a batch of decoding."""
    repeats: int
    threads: int
    precision: Precision


@dataclass(frozen=True)
class LengthResult:
    """The result.

    Memory is the peak of the process, minus its peak after one translation and one update of the shortest sentence: lazily loaded
    libraries, gradients and the optimizer's moments are needed at every length.
    """

    parameters: int
    train_seconds: float
    """Of one training step, the median of the repeats."""
    train_bytes: int
    decode_seconds: float
    """Of reading the sources and `length` steps of greedy search, the median of the repeats."""
    decode_bytes: int


def measure_length(task: LengthTask) -> LengthResult:
    """Decode first, then train: training needs more memory, and the measured peak can only grow."""
    keep_freed_memory()
    set_threads(task.threads)
    seed_all(1)
    dtype = choose_dtype(task.precision, torch.device("cpu"))
    config = read_translator(task.model)
    model = fresh_model(config, task.vocabulary)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    learner = make_learner(model, config, dtype)

    def decode(batch: Batch) -> float:
        started = time.perf_counter()
        _decode_greedily(model.eval(), batch, length=batch.source.shape[1])
        return time.perf_counter() - started

    def train(batch: Batch) -> float:
        model.train()
        started = time.perf_counter()
        update(learner, [(0, batch)], share=0.1, step=0)
        return time.perf_counter() - started

    shortest = _random_batch(1, length=2, vocabulary=task.vocabulary)
    decode(shortest)
    train(shortest)
    before = peak_memory()
    decode_seconds = _median_seconds(decode, task, sentences=task.decoded, warmup=DECODE_WARMUP)
    decode_bytes = peak_memory() - before
    train_seconds = _median_seconds(train, task, sentences=task.sentences, warmup=TRAIN_WARMUP)
    return LengthResult(parameters, train_seconds, peak_memory() - before, decode_seconds, decode_bytes)


def _median_seconds(action: Callable[[Batch], float], task: LengthTask, *, sentences: int, warmup: int) -> float:
    batch = _random_batch(sentences, length=task.length, vocabulary=task.vocabulary)
    return statistics.median([action(batch) for _ in range(warmup + task.repeats)][warmup:])


def _random_batch(sentences: int, *, length: int, vocabulary: int) -> Batch:
    """Random words, all sentences of equal length."""
    rows: list[list[int]] = torch.randint(EOS + 1, vocabulary, (2 * sentences, length - 1)).tolist()
    return collate(rows[:sentences], rows[sentences:])


@torch.inference_mode()
def _decode_greedily(model: TranslationModel, batch: Batch, *, length: int) -> None:
    """Take `length` greedy steps; <eos> does not stop them."""
    state = model.start(model.encode(batch.source))
    last = torch.full((len(batch.source),), SOS)
    for _ in range(length):
        logits, state = model.step(last, state)
        last = logits.argmax(dim=1)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(measure_length(LengthTask(**json.load(sys.stdin))))) + "\n")
