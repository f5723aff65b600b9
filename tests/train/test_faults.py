"""Faults that need processes of their own: signals and exit codes, two runs in one folder, several ranks."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from training_runs import Fault, Trainer, differing, logged, tiny, train_in_ranks

from vitrail.train.resume import checkpoints


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    assert Trainer(tiny(folder), folder / "run").wait() == 0
    return folder / "run"


# ---- signals ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 75), pytest.param(signal.SIGUSR1, 75, marks=pytest.mark.slow), (signal.SIGINT, 130)],
    ids=["TERM", "USR1", "INT"],
)
def test_a_signal_saves_the_current_step_and_tells_by_the_exit_code(number: int, code: int, tmp_path: Path, unbroken: Path) -> None:
    stopped = Trainer(tiny(tmp_path), tmp_path / "run", fault=Fault(13, signals=(number,)))
    assert stopped.wait() == code
    assert "stopped at step 14, which is saved" in stopped.text()
    assert checkpoints.checkpoints(tmp_path / "run")[-1].name == "step-000014"
    assert Trainer(tiny(tmp_path), tmp_path / "run").wait() == 0
    assert not differing(tmp_path / "run", unbroken)


def test_a_second_interrupt_leaves_at_once(tmp_path: Path, unbroken: Path) -> None:
    stopped = Trainer(tiny(tmp_path), tmp_path / "run", fault=Fault(14, signals=(signal.SIGINT, signal.SIGINT)))
    assert stopped.wait() == 130
    assert "saved" not in stopped.text()
    assert checkpoints.checkpoints(tmp_path / "run")[-1].name == "step-000012", "nothing was saved on the way out"
    assert Trainer(tiny(tmp_path), tmp_path / "run").wait() == 0
    assert not differing(tmp_path / "run", unbroken)


def test_the_program_stops_and_goes_on(tmp_path: Path) -> None:
    """The command line as a user has it: Ctrl-C on the way, then the same command again."""
    tiny(tmp_path)
    text = tmp_path / "text" / "text"
    command = [sys.executable, "-m", "vitrail", "train", "--source", f"{text}.en", "--target", f"{text}.fr", "-o", str(tmp_path / "run")]
    settings = ["model.width=16", "model.heads=2", "model.encoder_layers=1", "model.decoder_layers=1", "model.feed_forward=16"]
    settings += [
        "train.duration=40 steps",
        "train.log_every=1",
        "train.validate_every=40 steps",
        "train.threads=1",
        "train.batch_tokens=64",
    ]
    settings += ["data.subwords.size=310", "data.holdout.test_pairs=0", "data.holdout.dev_pairs=4"]
    command += [part for setting in settings for part in ("--set", setting)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        shown: list[str] = []
        for line in process.stderr:
            shown.append(line)
            if line.startswith("step 2 "):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130, shown
    assert any("which is saved" in line for line in shown)
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0 and "resuming from step" in again.stderr, again.stderr
    assert [line["step"] for line in logged(tmp_path / "run") if line["kind"] == "train"] == list(range(1, 41))


# ---- two runs, one folder --------------------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_with_the_number_of_the_first(tmp_path: Path) -> None:
    config = tiny(tmp_path, {"train": {"duration": "100000 steps"}})
    first = Trainer(config, tmp_path / "run")
    first.wait_for(tmp_path / "run" / "metrics.jsonl")
    second = Trainer(config, tmp_path / "run")
    assert second.wait() == 1
    assert f"in use by pid {first.pid}" in second.text()
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -9
    third = Trainer(config, tmp_path / "run", fault=Fault(0, signals=(signal.SIGTERM,)))
    assert third.wait() == 75, "the lock of a dead process is no lock"


# ---- several ranks ---------------------------------------------------------------------------------------------------------------


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(checkpoints.checkpoints(folder)[-1] / "model.safetensors")


def assert_close(one: Path, other: Path) -> None:
    assert checkpoints.checkpoints(one)[-1].name == checkpoints.checkpoints(other)[-1].name
    expected = weights(other)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=1e-5, msg=name)


def codes(trainers: list[Trainer]) -> list[int]:
    return [trainer.wait() for trainer in trainers]


@pytest.mark.slow
def test_two_ranks_are_one_process_stopped_or_not(tmp_path: Path) -> None:
    config = tiny(tmp_path, {"model": {"dropout": 0.0}, "train": {"duration": "20 steps"}})
    single = Trainer(config, tmp_path / "single")
    assert codes(train_in_ranks(config, tmp_path / "double")) == [0, 0]
    assert single.wait() == 0
    assert_close(tmp_path / "double", tmp_path / "single")
    for rank, step in ((0, 6), (1, 11)):  # one of the two is told; both stop at the same step
        ranks = train_in_ranks(config, tmp_path / "stopped", faults={rank: Fault(step, signals=(signal.SIGTERM,))})
        assert codes(ranks) == [75, 75], [one.text() for one in ranks]
        assert all(f"stopped at step {step + 1}, which is saved" in one.text() for one in ranks)
    assert codes(train_in_ranks(config, tmp_path / "stopped")) == [0, 0]
    assert not differing(tmp_path / "stopped", tmp_path / "double")


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"patience": 1, "validate_every": "1 steps", "duration": "500 steps"}, "optimizer": {"learning_rate": 1e-9}},
        pytest.param({"train": {"duration": "0.02 minutes", "validate_every": "0.005 minutes"}}, marks=pytest.mark.slow),
        {"schedule": {"kind": "plateau", "patience": 1}, "train": {"validate_every": "2 steps", "duration": "10 steps"}},
        pytest.param({"model": {"norm": "batch"}, "train": {"duration": "6 steps"}}, marks=pytest.mark.slow),
    ],
    ids=["patience", "minutes", "plateau", "batch-norm"],
)
def test_ranks_decide_alike(changes: dict[str, Any], tmp_path: Path) -> None:
    ranks = train_in_ranks(tiny(tmp_path, changes), tmp_path / "run")
    assert codes(ranks) == [0, 0], [one.text() for one in ranks]
    ends = [line for one in ranks for line in one.text().splitlines() if line.startswith("end: ")]
    assert len(ends) == 2 and ends[0] == ends[1], "they hold different weights"
    assert logged(tmp_path / "run")[-1]["kind"] == "finished"


_EITHER = [1, pytest.param(0, marks=pytest.mark.slow)]  # the first one keeps the store by which the others hear


@pytest.mark.slow
@pytest.mark.parametrize("killed", _EITHER)
def test_a_rank_that_was_killed_is_named_by_the_others(killed: int, tmp_path: Path) -> None:
    config = tiny(tmp_path, {"train": {"duration": "12 steps"}})
    ranks = train_in_ranks(config, tmp_path / "run", faults={killed: Fault(9)})
    other = ranks[1 - killed]
    assert (ranks[killed].wait(), other.wait()) == (-9, 1)
    assert f"rank {killed} of 2 has ended without a message" in other.text() and "same command" in other.text(), other.text()
    assert "Traceback" not in other.text() and "gloo" not in other.text()
    assert codes(train_in_ranks(config, tmp_path / "run")) == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("stopped", _EITHER)
def test_a_rank_that_hangs_is_named_and_the_others_leave(stopped: int, tmp_path: Path) -> None:
    ranks = train_in_ranks(tiny(tmp_path), tmp_path / "run", faults={stopped: Fault(9, signals=(signal.SIGSTOP,))}, silence=4)
    try:
        assert ranks[1 - stopped].wait() == 1
        text = ranks[1 - stopped].text()
        assert f"rank {stopped} of 2 (pid {ranks[stopped].pid} on host " in text and "does not respond: no heartbeat for" in text, text
    finally:
        os.kill(ranks[stopped].pid, signal.SIGKILL)
    assert ranks[stopped].wait() == -9


def test_one_pair_is_enough_for_two_ranks(tmp_path: Path) -> None:
    config = tiny(
        tmp_path, {"data": {"holdout": {"dev_pairs": 0}, "subwords": {"kind": "character"}}, "train": {"duration": "3 steps"}}, pairs=1
    )
    assert codes(train_in_ranks(config, tmp_path / "run")) == [0, 0]


def test_no_pair_is_refused_by_all_ranks(tmp_path: Path) -> None:
    config = tiny(tmp_path, {"data": {"holdout": {"dev_pairs": 0}, "max_length": 1}}, pairs=3)
    ranks = train_in_ranks(config, tmp_path / "run")
    assert 3 in codes(ranks) and 0 not in codes(ranks)
    assert all("none is left to train on" in one.text() for one in ranks), "the others tell why the first one left"
