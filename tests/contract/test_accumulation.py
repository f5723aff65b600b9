"""Loss and gradient do not depend on how a batch is divided: into micro-batches, or among processes."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from builders import KINDS, Kind, random_batch
from torch import Tensor

from vitrail.data.batches import Batch
from vitrail.data.preparing.prepare import DataConfig
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.text_config import TextConfig, TextFile
from vitrail.models.architectures import task_of
from vitrail.runtime.ranks import Ranks, join_ranks, leave_ranks
from vitrail.train.loop import Learner, accumulate_gradients
from vitrail.train.optim import Optimizer
from vitrail.train.run_config import RunConfig

pytestmark = pytest.mark.sampled(8)

INDEPENDENT = {name: kind for name, kind in KINDS.items() if not kind.batch_statistics}
SENTENCES = 8
# It takes three seconds of an idle machine; the rest is for one that is very busy.
_LONGEST_SECONDS = 600


def portions(batch: Batch, count: int) -> list[tuple[int, Batch]]:
    """Equal numbers of sentences, each portion without the columns that are padding in all of it."""
    rows = [Batch(*parts) for parts in zip(*(part.chunk(count) for part in batch), strict=True)]
    return [(number, Batch(*(part[:, part.ne(0).any(0)] for part in one))) for number, one in enumerate(rows)]


def learn(kind: Kind, batches: list[tuple[int, Batch]], ranks: Ranks) -> tuple[tuple[float, float, int], list[Tensor]]:
    model = kind.build().train()
    pairs = DataConfig(corpora=(ParallelText(source=Path("a.en"), target=Path("a.fr")),))
    text = TextConfig(text=(TextFile(source=Path("a.txt")),))
    config = RunConfig(data=text if task_of(kind.config) == "autoencoding" else pairs, model=kind.config)
    optimizer = Optimizer(model, config.optimizer)
    learner = Learner(model, optimizer, [], lambda first: [], ranks, torch.device("cpu"), torch.float32, config)
    sums = accumulate_gradients(learner, batches)
    return sums, [parameter.grad for parameter in optimizer.parameters if parameter.grad is not None]


def assert_same(found: tuple[tuple[float, float, int], list[Tensor]], expected: tuple[tuple[float, float, int], list[Tensor]]) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-5) and found[0][2] == expected[0][2]
    for mine, reference in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", INDEPENDENT.values(), ids=INDEPENDENT.keys())
def test_accumulated_gradients_are_those_of_the_whole(kind: Kind) -> None:
    batch = random_batch(kind, sentences=SENTENCES)
    whole = learn(kind, portions(batch, 1), Ranks(0, 1))
    assert whole[0][2] == int(batch.target_out.ne(0).sum())
    for count in (2, 8):
        assert_same(learn(kind, portions(batch, count), Ranks(0, 1)), whole)


@pytest.mark.slow
def test_two_processes_are_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    logs = [tmp_path / f"log-{rank}" for rank in range(2)]
    with ExitStack() as stack:
        processes: list[subprocess.Popen[bytes]] = []
        for rank, log in enumerate(logs):
            output = stack.enter_context(log.open("wb"))
            command = [sys.executable, __file__, str(tmp_path)]
            process = stack.enter_context(subprocess.Popen(command, env=shared | {"RANK": str(rank)}, stderr=output))
            stack.callback(process.kill)
            processes.append(process)
        ends = [process.wait(timeout=_LONGEST_SECONDS) for process in processes]
    assert ends == [0, 0], [log.read_text() for log in logs]
    kind = KINDS["pre-layer-sinusoidal"]
    whole = learn(kind, portions(random_batch(kind, sentences=SENTENCES), 1), Ranks(0, 1))
    numbers = [torch.frombuffer(bytearray((tmp_path / f"{rank}").read_bytes()), dtype=torch.float64) for rank in range(2)]
    assert torch.equal(numbers[0], numbers[1]), "the ranks do not hold the same gradient"
    expected = torch.cat([torch.tensor(whole[0]).double(), *(gradient.flatten().double() for gradient in whole[1])])
    torch.testing.assert_close(numbers[0], expected, atol=1e-6, rtol=1e-4)


def _work(folder: Path) -> None:
    """One of two processes: every second portion of four."""
    ranks = join_ranks()
    kind = KINDS["pre-layer-sinusoidal"]
    mine = [item for item in portions(random_batch(kind, sentences=SENTENCES), 4) if item[0] % ranks.world == ranks.rank]
    sums, found = learn(kind, mine, ranks)
    numbers = torch.cat([torch.tensor(sums).double(), *(gradient.flatten().double() for gradient in found)])
    (folder / f"{ranks.rank}").write_bytes(numbers.numpy().tobytes())
    leave_ranks()


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
