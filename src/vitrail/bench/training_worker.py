"""One measurement in a separate process: reads a task as JSON from standard input, writes its result as JSON to standard output.

A separate process, because the C library's setting to keep freed memory is per process and cannot be undone.
"""

import json
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitrail.bench.peers.all_peers import peers_of
from vitrail.bench.peers.systems import LABEL_SMOOTHING, Maker, PeerModel, PeerVariant
from vitrail.data.batches import Batch
from vitrail.data.preparing.prepare import DataConfig
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.vocabularies.subwords import PAD
from vitrail.models.architectures import ModelConfig, read_translator
from vitrail.models.base import TranslationModel, unique_tensors
from vitrail.models.build import make_model
from vitrail.runtime.device import Precision, choose_dtype, keep_freed_memory, seed_all, set_threads
from vitrail.runtime.ranks import Ranks
from vitrail.train.loop import Learner, update
from vitrail.train.optim import Optimizer, OptimizerConfig
from vitrail.train.run_config import RunConfig, TrainConfig


@dataclass(frozen=True)
class SpeedTask:
    """The measurement task."""

    maker: Maker
    precision: Precision
    keep_memory: bool
    """Let the C library keep freed memory, as our training does."""
    way: PeerVariant
    """Of the peers."""
    model: dict[str, object]
    vocabulary: int
    batches: str
    """The file of batches, as `save_batches` wrote it."""
    warmup: int
    """Steps at the start that are not counted."""
    threads: int


@dataclass(frozen=True)
class SpeedResult:
    """The result."""

    tokens: int
    """Real target tokens in the counted steps."""
    seconds: float
    precision: str
    parameters: int
    first_loss: float
    """Nats a token in the first step: near log(vocabulary) for a correct untrained model."""
    last_loss: float


def save_batches(path: Path, batches: list[Batch]) -> None:
    """Write batches to a file for all measurements."""
    save_file({f"{number:06d}/{name}": tensor for number, batch in enumerate(batches) for name, tensor in batch._asdict().items()}, path)


def load_batches(path: Path) -> list[Batch]:
    """Read what `save_batches` wrote, in order."""
    tensors = load_file(path)
    numbers = sorted({name.partition("/")[0] for name in tensors})
    return [Batch(*(tensors[f"{number}/{name}"] for name in Batch._fields)) for number in numbers]


def measure_speed(task: SpeedTask) -> SpeedResult:
    """Train on the batches, and time all but the first `warmup` steps."""
    if task.keep_memory:
        keep_freed_memory()
    set_threads(task.threads)
    dtype = choose_dtype(task.precision, torch.device("cpu"))
    batches = load_batches(Path(task.batches))
    seed_all(1)
    model, step = _vitrail(task, dtype) if task.maker == "vitrail" else _peer(task, dtype)
    model.train()
    tokens, seconds, losses = 0, 0.0, list[float]()
    with _attention(task):
        for number, batch in enumerate(batches):
            started = time.perf_counter()
            losses.append(step(number, batch))
            if number >= task.warmup:
                seconds += time.perf_counter() - started
                tokens += int((batch.target_out != PAD).sum())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    precision = "bf16" if dtype == torch.bfloat16 else "fp32"
    return SpeedResult(tokens, seconds, precision, trained, losses[0], losses[-1])


def fresh_model(config: ModelConfig, vocabulary: int) -> TranslationModel:
    """An untrained model with one vocabulary for both languages."""
    return make_model(config, source=vocabulary, target=vocabulary)


def make_learner(model: TranslationModel, config: ModelConfig, dtype: torch.dtype) -> Learner:
    """The learner of `vitrail train`, moving average included; batches are passed to `update` one by one."""

    def no_batches(first: int) -> Iterable[tuple[int, Batch]]:
        return ()

    nowhere = DataConfig(corpora=(ParallelText(source=Path("none.en"), target=Path("none.fr")),))
    run = RunConfig(data=nowhere, model=config, train=TrainConfig(label_smoothing=LABEL_SMOOTHING))
    average = [tensor.clone() for tensor in unique_tensors(model).values()]
    return Learner(model, Optimizer(model, run.optimizer), average, no_batches, Ranks(0, 1), torch.device("cpu"), dtype, run)


def _vitrail(task: SpeedTask, dtype: torch.dtype) -> tuple[nn.Module, Callable[[int, Batch], float]]:
    """Our model, and one update as `vitrail train` makes it: metrics, checks and moving average included."""
    config = read_translator(task.model)
    model = fresh_model(config, task.vocabulary)
    learner = make_learner(model, config, dtype)

    def step(number: int, batch: Batch) -> float:
        result = update(learner, [(number, batch)], share=0.1, step=number)
        return result.nats / result.tokens

    return model, step


def _peer(task: SpeedTask, dtype: torch.dtype) -> tuple[nn.Module, Callable[[int, Batch], float]]:
    """The model of a peer in a plain loop with the same settings: fused AdamW, clipping by norm, label smoothing."""
    model, settings = _peer_model(task), OptimizerConfig()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=0.1 * settings.learning_rate,
        betas=(settings.beta_1, settings.beta_2),
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )

    def step(number: int, batch: Batch) -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = model.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        return loss.item()

    return model, step


def _peer_model(task: SpeedTask) -> PeerModel:
    """The peer of the same kind as our model."""
    (peer,) = [one for one in peers_of(read_translator(task.model)) if one.maker == task.maker]
    return peer.make(task.vocabulary, task.way)


@contextmanager
def _attention(task: SpeedTask) -> Generator[None]:
    """Torch's own choice of attention, or the explicit one, which is faster backward on some processors."""
    explicit = task.maker == "torch" and task.way == "explicit attention"
    with sdpa_kernel(SDPBackend.MATH) if explicit else nullcontext():
        yield


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(measure_speed(SpeedTask(**json.load(sys.stdin))))) + "\n")
