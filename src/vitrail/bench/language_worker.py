"""The speed of one training of a causal language model, in a process of its own: a task as JSON in, its result as JSON out."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from vitrail.bench.peers.causal_peer import PlainLanguageModel
from vitrail.data.text_config import TextConfig, TextFile
from vitrail.data.windows import TextWindow
from vitrail.models.base import unique_tensors
from vitrail.models.configs.causal import CausalConfig
from vitrail.models.kinds.causal import CausalLanguageModel
from vitrail.runtime.device import Precision, choose_dtype, keep_freed_memory, seed_all, set_threads
from vitrail.runtime.ranks import Ranks
from vitrail.train.loop import Learner, update
from vitrail.train.optim import Optimizer, OptimizerConfig
from vitrail.train.run_config import RunConfig, TrainConfig

LanguageMaker = Literal["vitrail", "plain torch"]


@dataclass(frozen=True)
class LanguageSpeedTask:
    """What to measure."""

    maker: LanguageMaker
    precision: Precision
    keep_memory: bool
    """Let the C library keep freed memory, as our training does."""
    rows: int
    context: int
    vocabulary: int
    steps: int
    """Counted steps, after a fifth as many that are not."""
    threads: int
    model: dict[str, object]


@dataclass(frozen=True)
class LanguageSpeed:
    """What was measured."""

    tokens_per_second: float
    precision: str
    parameters: int
    last_loss: float


Step = Callable[[int, Tensor, Tensor], float]


def measure_language(task: LanguageSpeedTask) -> LanguageSpeed:
    """Train on random windows of a fixed pattern of ids and time the steps."""
    if task.keep_memory:
        keep_freed_memory()
    set_threads(task.threads)
    seed_all(1)
    dtype, config = choose_dtype(task.precision, torch.device("cpu")), CausalConfig.model_validate(task.model)
    model, step = (_vitrail if task.maker == "vitrail" else _plain)(task, config, dtype)
    text = torch.arange(100_000).square() % 9_973 % task.vocabulary
    seconds, loss, warmup = 0.0, 0.0, task.steps // 5
    for number in range(task.steps + warmup):
        starts = torch.randint(len(text) - task.context - 1, (task.rows,))
        rows = torch.stack([text[start : start + task.context + 1] for start in starts.tolist()])
        began = time.perf_counter()
        loss = step(number, rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
        seconds += time.perf_counter() - began if number >= warmup else 0
    parameters = sum(one.numel() for one in model.parameters())
    precision = "bf16" if dtype == torch.bfloat16 else "fp32"
    return LanguageSpeed(task.steps * task.rows * task.context / seconds, precision, parameters, loss)


def _vitrail(task: LanguageSpeedTask, config: CausalConfig, dtype: torch.dtype) -> tuple[torch.nn.Module, Step]:
    """Our model, and one update as `vitrail train` makes it: metrics, checks and moving average included."""
    model = CausalLanguageModel(config, vocabulary=task.vocabulary).train()
    nowhere = TextConfig(text=(TextFile(source=Path("none.txt")),))
    run = RunConfig(data=nowhere, model=config, train=TrainConfig(label_smoothing=0.0))
    average = [tensor.clone() for tensor in unique_tensors(model).values()]

    def no_batches(first: int) -> tuple[tuple[int, TextWindow], ...]:
        return ()

    learner = Learner(model, Optimizer(model, run.optimizer), average, no_batches, Ranks(0, 1), torch.device("cpu"), dtype, run)

    def step(number: int, tokens: Tensor, following: Tensor) -> float:
        result = update(learner, [(number, TextWindow(tokens, following, torch.zeros_like(tokens)))], share=0.1, step=number)
        return result.nats / result.tokens

    return model, step


def _plain(task: LanguageSpeedTask, config: CausalConfig, dtype: torch.dtype) -> tuple[torch.nn.Module, Step]:
    """Torch's layers in a plain eager loop with the same optimizer: AdamW, clipping by norm."""
    model, settings = PlainLanguageModel(config, vocabulary=task.vocabulary).train(), OptimizerConfig()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.1 * settings.learning_rate, betas=(settings.beta_1, settings.beta_2), weight_decay=settings.weight_decay
    )

    def step(number: int, tokens: Tensor, following: Tensor) -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = model.loss(tokens, following)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        return loss.item()

    return model, step


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(asdict(measure_language(LanguageSpeedTask(**json.loads(sys.stdin.readline()))))) + "\n")
