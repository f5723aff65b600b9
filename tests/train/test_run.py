"""A whole run in its folder: stopping and going on, other setups, full disks, damaged files, poisoned batches, the end."""

import errno
import json
import logging
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from training_runs import differing, every_byte, logged, run, tiny, write_text

from vitrail import files
from vitrail.data.batches import Batch
from vitrail.errors import Interrupted, Stopped, TrainingError, UsageError
from vitrail.files import FolderLock, NotWritten
from vitrail.models.kinds.transformer import Transformer
from vitrail.models.model_folder import load_model
from vitrail.nn.losses import LossSum
from vitrail.train import loop as loop_module
from vitrail.train import run as run_module
from vitrail.train.log.metrics import Event, tensorboard
from vitrail.train.resume import checkpoints
from vitrail.train.tasks import translation_task as translation_module
from vitrail.train.tasks.validate import Validation

STEPS_PER_EPOCH = 16


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 30 steps that nothing happened to. Read only."""
    folder = tmp_path_factory.mktemp("unbroken")
    run(tiny(folder), folder / "run")
    return folder / "run"


@pytest.fixture
def copied(unbroken: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unbroken, tmp_path / "run"))


def signal_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Send a signal to this process as it takes an update, once."""
    real, sent = loop_module.update, []

    def update(*arguments: Any, step: int, **more: Any) -> loop_module.Update:
        if step == wanted and not sent:
            sent.append(step)
            os.kill(os.getpid(), number)
        return real(*arguments, step=step, **more)

    wanted = step
    monkeypatch.setattr(loop_module, "update", update)


def steps_saved(folder: Path) -> list[int]:
    return [int(path.name.split("-")[1]) for path in checkpoints.checkpoints(folder)]


# ---- the end ---------------------------------------------------------------------------------------------------------------------


def test_a_finished_run_says_so_and_changes_no_byte(copied: Path) -> None:
    before, said = every_byte(copied), list[str]()
    outcome = run(tiny(copied.parent), copied, say=said.append)
    assert outcome.already_done and outcome.progress.step == 30
    assert said[-1] == "training is already complete at step 30 of 30 (30 steps): nothing to do"
    assert every_byte(copied) == before


def test_what_a_run_leaves(unbroken: Path) -> None:
    kinds = [(line["kind"], line["step"]) for line in logged(unbroken)]
    assert [step for kind, step in kinds if kind == "train"] == list(range(3, 31, 3))
    assert [step for kind, step in kinds if kind == "validation"] == [9, 18, 27, 30]
    assert kinds[-1] == ("finished", 30) and len(set(kinds)) == len(kinds)
    samples = logged(unbroken, "samples")
    assert {line["step"] for line in samples} == {9, 18, 27, 30} and all(line["reference"] for line in samples)
    loaded = load_model(unbroken)
    validations = [line for line in logged(unbroken) if line["kind"] == "validation"]
    best = max(validations, key=lambda line: (max(line["dev_chrf"], 15), -line["dev_loss_nats_per_token"]))
    assert loaded.facts["step"] == best["step"]
    assert loaded.facts["dev_bleu"] == round(best["dev_bleu"], 4)


def test_a_run_of_no_steps_gives_the_untrained_model(tmp_path: Path) -> None:
    config = tiny(tmp_path, {"train": {"duration": "0 steps"}})
    assert run(config, tmp_path / "run").progress.step == 0
    assert load_model(tmp_path / "run").facts["step"] == 0
    assert run(config, tmp_path / "run").already_done


def test_a_finished_run_goes_on_when_it_is_made_longer(copied: Path) -> None:
    for other in ("29 steps", "9 epochs"):
        with pytest.raises(UsageError, match=rf'train\.duration: "30 steps" when saved, "{other}" now'):
            run(tiny(copied.parent, {"train": {"duration": other}}), copied)
    outcome = run(tiny(copied.parent, {"train": {"duration": "34 steps"}}), copied)
    assert outcome.progress.step == 34 and not outcome.already_done
    rates = {line["step"]: line["learning_rate"] for line in logged(copied) if "learning_rate" in line}
    assert rates[30] < 0.001 and rates[33] == pytest.approx(0.01 * (1 - 32 / 34) * 3 / 4), "it warms up to where the longer schedule is"


def test_a_longer_run_that_is_killed_goes_on_to_the_same_bits(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longer, whole = tiny(copied.parent, {"train": {"duration": "42 steps"}}), tmp_path / "whole"
    shutil.copytree(copied, whole)
    run(longer, whole)
    with monkeypatch.context() as patch:
        signal_at(patch, 36)
        with pytest.raises(Stopped, match="step 37"):
            run(longer, copied)
    run(longer, copied)
    assert differing(whole, copied) == []


def test_without_a_dev_set_the_last_weights_are_the_model(tmp_path: Path) -> None:
    changes = {"data": {"holdout": {"dev_pairs": 0}}, "train": {"duration": "5 steps", "average_decay": 0.0}}
    run(tiny(tmp_path, changes), tmp_path / "run")
    newest = safetensors.torch.load_file(checkpoints.checkpoints(tmp_path / "run")[-1] / "model.safetensors")
    model = safetensors.torch.load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert newest.keys() == model.keys() and all(torch.equal(newest[name], model[name]) for name in model)


# ---- stopping and going on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [[1], [STEPS_PER_EPOCH - 1], [STEPS_PER_EPOCH], [STEPS_PER_EPOCH + 1, STEPS_PER_EPOCH + 3, 29]],
    ids=["first", "end of an epoch", "after an epoch", "three times"],
)
def test_stopped_and_started_again(steps: list[int], tmp_path: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in steps:
        with monkeypatch.context() as patch:
            signal_at(patch, step - 1)
            with pytest.raises(Stopped, match=f"stopped at step {step}, which is saved"):
                run(tiny(tmp_path), tmp_path / "run")
        assert steps_saved(tmp_path / "run")[-1] == step
    said: list[str] = []
    run(tiny(tmp_path), tmp_path / "run", say=said.append)
    assert f"resuming from step {steps[-1]}" in said
    assert not differing(tmp_path / "run", unbroken)


@pytest.mark.parametrize("place", [0, 3], ids=["on the way", "at the end"])
def test_stopped_in_the_middle_of_a_validation(place: int, tmp_path: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = translation_module.validate, 0

    def validate(*arguments: Any, **more: Any) -> Validation:
        nonlocal count
        count += 1
        if count == place + 1:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **more)

    monkeypatch.setattr(translation_module, "validate", validate)
    with pytest.raises(Interrupted, match="which is saved"):
        run(tiny(tmp_path), tmp_path / "run")
    assert steps_saved(tmp_path / "run")[-1] == (9, 18, 27, 30)[place]
    assert len([line for line in logged(tmp_path / "run") if line["kind"] == "validation"]) == place
    run(tiny(tmp_path), tmp_path / "run")
    assert not differing(tmp_path / "run", unbroken)


@pytest.mark.parametrize("name", ["prepare", "try_longest"])
def test_stopped_before_the_first_step(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(run_module, name)

    def interrupted(*arguments: Any, **more: Any) -> Any:
        os.kill(os.getpid(), signal.SIGUSR1)
        return real(*arguments, **more)

    config = tiny(tmp_path, {"train": {"duration": "2 steps"}})
    with monkeypatch.context() as patch:
        patch.setattr(run_module, name, interrupted)
        with pytest.raises(Stopped, match="before the first step"):
            run(config, tmp_path / "run")
    assert not steps_saved(tmp_path / "run")
    assert run(config, tmp_path / "run").progress.step == 2


def test_handlers_of_signals_come_back(unbroken: Path, copied: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    run(tiny(copied.parent), copied)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


# ---- another setup ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 2}, "seed: 1 when saved, 2 now"),
        ({"train": {"batch_tokens": 200}}, "train.batch_tokens: 160 when saved, 200 now"),
        ({"train": {"threads": 2}}, "train.threads: 1 when saved, 2 now"),
        ({"data": {"subwords": {"size": 320}}}, "data.subwords.size: 310 when saved, 320 now"),
        ({"data": {"max_length": 99}}, "data.max_length: 256 when saved, 99 now"),
        ({"model": {"dropout": 0.2}}, "model.dropout: 0.1 when saved, 0.2 now"),
        ({"model": {"width": 24}}, "model.width: 16 when saved, 24 now"),
        ({"optimizer": {"learning_rate": 0.02}, "seed": 2}, "optimizer.learning_rate: 0.01 when saved, 0.02 now; seed"),
    ],
    ids=["seed", "batch", "threads", "vocabulary", "length", "dropout", "width", "two"],
)
def test_another_setup_is_refused_by_name(changes: dict[str, Any], named: str, copied: Path) -> None:
    before = every_byte(copied)
    threads = torch.get_num_threads()
    try:
        with pytest.raises(UsageError, match="saved with different settings") as caught:
            run(tiny(copied.parent, changes), copied)
    finally:
        torch.set_num_threads(threads)
    assert named in caught.value.found
    name = named.split(":")[0]
    if name in ("model.width", "data.subwords.size"):  # no permission makes these work: none is offered
        assert caught.value.remedy == "train in a new folder"
    else:
        assert "--allow-change " + name in caught.value.remedy
    assert caught.value.exit_code == 2
    assert every_byte(copied) == before, "nor is its data replaced"


def test_other_text_is_refused_and_the_prepared_text_kept(copied: Path) -> None:
    before = every_byte(copied)
    with pytest.raises(UsageError, match=r"data\.corpora\.0\.source"):
        run(tiny(copied.parent, pairs=150), copied)
    assert every_byte(copied) == before


def test_nothing_is_written_for_a_run_that_is_refused(copied: Path, tmp_path: Path) -> None:
    begun: list[str] = []
    with FolderLock(copied), pytest.raises(TrainingError, match="in use by pid"):
        run_module.train(tiny(copied.parent), copied, begin=lambda: begun.append("held"))
    with pytest.raises(UsageError, match="saved with different settings"):
        run_module.train(tiny(copied.parent, {"data": {"max_length": 9}}), copied, begin=lambda: begun.append("other"))
    assert begun == []
    run_module.train(tiny(copied.parent), copied, begin=lambda: begun.append("mine"))
    assert begun == ["mine"]


def test_another_models_weights_are_refused_where_the_change_is_allowed(copied: Path) -> None:
    before = every_byte(copied)
    with pytest.raises(UsageError, match="its weights belong to another model"):
        run(tiny(copied.parent, {"model": {"width": 24}}), copied, allow=["model"])
    assert every_byte(copied) == before


def test_allowed_changes_are_told_and_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal_at(monkeypatch, 3)
    with pytest.raises(Stopped):
        run(tiny(tmp_path), tmp_path / "run")
    said: list[str] = []
    changed = tiny(tmp_path, {"seed": 2, "train": {"batch_tokens": 200, "duration": "8 steps"}})
    outcome = run(changed, tmp_path / "run", allow=["seed", "train"], say=said.append)
    assert outcome.progress.step == 8
    assert [line for line in said if line.startswith("allowed: ")] == [
        "allowed: seed: 1 when saved, 2 now",
        "allowed: train.batch_tokens: 160 when saved, 200 now",
        'allowed: train.duration: "30 steps" when saved, "8 steps" now',
    ]


def test_the_same_text_in_another_place_is_the_same_setup(copied: Path) -> None:
    elsewhere = write_text(copied.parent / "moved")
    assert run(tiny(copied.parent, {"data": {"corpora": [elsewhere]}}), copied).already_done


def test_accumulation_has_to_suit_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "join_ranks", lambda: run_module.Ranks(0, 2))
    with pytest.raises(UsageError, match=r"train\.accumulate = 3 with 2 processes"):
        run(tiny(tmp_path, {"train": {"accumulate": 3}}), tmp_path / "run")


# ---- damage ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "average.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("kind", ["flipped", "truncated"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    name: str, kind: str, copied: Path, unbroken: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newest = checkpoints.checkpoints(copied)[-1]
    data = bytearray((newest / name).read_bytes())
    if kind == "flipped":
        data[len(data) // 2] ^= 4
    (newest / name).write_bytes(data if kind == "flipped" else data[: len(data) // 2])
    with caplog.at_level(logging.WARNING):
        run(tiny(copied.parent), copied)
    named = "model.safetensors" if (kind, name) == ("flipped", "manifest.json") else name  # the manifest then lies about that one
    assert len(caplog.messages) == 1 and f"step-000030/{named}" in caplog.messages[0]
    assert "resuming from step-000028" in caplog.messages[0]
    assert not differing(copied, unbroken)


def test_half_a_line_of_metrics_is_forgotten(copied: Path, unbroken: Path) -> None:
    shutil.rmtree(checkpoints.checkpoints(copied)[-1])
    with (copied / "metrics.jsonl").open("a") as file:
        file.write('{"step": 27, "kind": "val')
    run(tiny(copied.parent), copied)
    assert not differing(copied, unbroken)


# ---- disks that refuse -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[str], bool]], None]]:
    """Make the disk full for the files whose path a function chooses."""

    def install(is_refused: Callable[[str], bool]) -> None:
        real, paths = files.system.SYSTEM, dict[int, str]()

        def opened(path: Path, flags: int, mode: int) -> int:
            descriptor = real.open(path, flags, mode)
            paths[descriptor] = str(path)
            return descriptor

        def write(descriptor: int, data: memoryview) -> int:
            if is_refused(paths.get(descriptor, "")):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real.write(descriptor, data)

        monkeypatch.setattr(files.system, "SYSTEM", replace(real, open=opened, write=write))

    yield install


def test_a_full_disk_costs_a_checkpoint_not_the_training(
    tmp_path: Path, unbroken: Path, refuse: Callable[[Callable[[str], bool]], None], caplog: pytest.LogCaptureFixture
) -> None:
    refuse(lambda path: "step-000012" in path and "optimizer" in path)
    seen: list[list[int]] = []

    def observe(event: Event) -> None:
        if event.kind == "train" and event.step == 15:
            seen.append(steps_saved(tmp_path / "run"))

    with caplog.at_level(logging.WARNING):
        run(tiny(tmp_path), tmp_path / "run", observers=[observe])
    assert len(caplog.messages) == 1
    assert all(part in caplog.messages[0] for part in ("step-000012", "No space left", "bytes needed", "bytes free", "training continues"))
    assert seen == [[8, 9]], "no half of it is visible, and the one before is there"
    assert not differing(tmp_path / "run", unbroken)


def test_the_third_refusal_in_a_row_ends_the_training(
    tmp_path: Path,
    unbroken: Path,
    refuse: Callable[[Callable[[str], bool]], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:
        real = files.system.SYSTEM
        refuse(lambda path: "state/step-" in path and int(path.partition("state/step-")[2][:6]) >= 12)
        with caplog.at_level(logging.WARNING), pytest.raises(NotWritten, match="step-000018"):
            run(tiny(tmp_path), tmp_path / "run")
        patch.setattr(files.system, "SYSTEM", real)
        assert len(caplog.messages) == 2 and steps_saved(tmp_path / "run") == [8, 9]
        run(tiny(tmp_path), tmp_path / "run")
    assert not differing(tmp_path / "run", unbroken)


def test_a_model_that_cannot_be_written_is_written_later(
    tmp_path: Path, refuse: Callable[[Callable[[str], bool]], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    score_with(monkeypatch, [5.0, 4.0])
    refused: list[str] = []

    def is_refused(path: str) -> bool:
        if "model.vitrail-tmp-" in path and path.endswith("model.safetensors") and not refused:
            refused.append(path)
            return True
        return False

    refuse(is_refused)
    with caplog.at_level(logging.WARNING):
        outcome = run(tiny(tmp_path, {"train": {"duration": "18 steps"}}), tmp_path / "run")
    assert len(caplog.messages) == 1 and "a later validation writes the model" in caplog.messages[0]
    assert outcome.progress.best == 4.0 and load_model(tmp_path / "run").facts["step"] == 18


def test_metrics_that_cannot_be_written_are_told_of_once(
    tmp_path: Path, refuse: Callable[[Callable[[str], bool]], None], caplog: pytest.LogCaptureFixture
) -> None:
    refuse(lambda path: path.endswith("metrics.jsonl"))
    with caplog.at_level(logging.WARNING):
        assert run(tiny(tmp_path, {"train": {"duration": "9 steps"}}), tmp_path / "run").progress.step == 9
    # Sample lines are written in between: the log of metrics is told of again after them.
    assert 1 <= len(caplog.messages) <= 2 and all("metrics.jsonl" in message for message in caplog.messages)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == b""


# ---- numbers that are none -------------------------------------------------------------------------------------------------------


def poison(monkeypatch: pytest.MonkeyPatch, *, first: int, last: int) -> None:
    """No loss of a batch of training, counted from 0, in this range is a number."""
    real, count = Transformer.loss, -2  # the longest batch is tried first

    def loss(self: Transformer, batch: Batch, *, label_smoothing: float = 0.0) -> LossSum:
        nonlocal count
        found = real(self, batch, label_smoothing=label_smoothing)
        count += self.training
        return found._replace(nats=found.nats * math.nan) if self.training and first <= count <= last else found

    monkeypatch.setattr(Transformer, "loss", loss)


def test_a_poisoned_batch_is_skipped_counted_and_written_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, first=9, last=9)
    said: list[str] = []
    outcome = run(tiny(tmp_path, {"train": {"duration": "9 steps"}}), tmp_path / "run", say=said.append)
    assert outcome.progress.skipped == 1 and outcome.progress.step == 9
    assert any(line.startswith("step 5 skipped") for line in said)
    assert {"step": 5, "kind": "skipped", "skipped_steps": 1} in logged(tmp_path / "run")
    aside = sorted((tmp_path / "run" / "bad_batches").iterdir())
    assert [path.name for path in aside] == ["step-000005-batch-8.json", "step-000005-batch-9.json"]
    text = (tmp_path / "text" / "text.fr").read_text(encoding="utf-8").splitlines()
    found = json.loads(aside[1].read_bytes())
    assert found["step"] == 5 and found["targets"] and all(row["text"] in text for row in found["targets"])


def test_a_training_that_diverges_keeps_its_last_good_checkpoint(tmp_path: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        poison(patch, first=36, last=10_000)
        patch.setattr(loop_module, "_SKIPS_ALLOWED", 2)
        with pytest.raises(TrainingError, match="diverged at step 20"):
            run(tiny(tmp_path), tmp_path / "run")
    assert steps_saved(tmp_path / "run")[-1] == 18
    newest = safetensors.torch.load_file(checkpoints.checkpoints(tmp_path / "run")[-1] / "model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in newest.values())
    run(tiny(tmp_path), tmp_path / "run")
    assert not differing(tmp_path / "run", unbroken)


def test_memory_that_does_not_suffice_shows_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(self: Transformer, batch: Batch, *, label_smoothing: float = 0.0) -> LossSum:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Transformer, "loss", loss)
    with pytest.raises(TrainingError, match=r"lower train\.batch_tokens \(now 160\)"):
        run(tiny(tmp_path), tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {".lock", "data"}, "no log, no settings"


# ---- what validation decides -----------------------------------------------------------------------------------------------------


def score_with(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Dev scores in the order in which they are asked for."""
    left = iter(scores)

    def validate(*arguments: Any, **more: Any) -> Validation:
        score = next(left)
        names = ("dev_loss_nats_per_token", "dev_perplexity", "dev_bleu", "dev_chrf", "dev_truncated_share")
        return Validation(dict.fromkeys(names, score), [])

    monkeypatch.setattr(translation_module, "validate", validate)


@pytest.mark.parametrize(("which", "averaged"), [("last", [18, 27, 30]), ("best", [9, 18, 30])])
def test_the_mean_of_checkpoints_is_kept_when_it_is_better(
    which: str, averaged: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_with(monkeypatch, [50.0, 70.0, 30.0, 40.0, 90.0])
    changes = {"train": {"average_checkpoints": 3, "average_which": which, "keep_last": 1, "keep_best": 0}}
    outcome = run(tiny(tmp_path, changes), tmp_path / "run")
    assert outcome.progress.best == 90.0
    assert set(steps_saved(tmp_path / "run")) >= set(averaged)
    parts = [safetensors.torch.load_file(tmp_path / "run" / "state" / f"step-{step:06d}" / "model.safetensors") for step in averaged]
    model = safetensors.torch.load_file(tmp_path / "run" / "model" / "model.safetensors")
    for name, found in model.items():
        expected = torch.stack([part[name].double() for part in parts]).mean(0).float()
        torch.testing.assert_close(found, expected, msg=name)
    last = [line for line in logged(tmp_path / "run") if line["kind"] == "validation"][-1]
    assert last["averaged_checkpoints"] == 3 and last["best"]


def test_the_mean_of_checkpoints_is_dropped_when_it_is_worse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score_with(monkeypatch, [50.0, 70.0, 30.0, 40.0, 60.0])
    outcome = run(tiny(tmp_path, {"train": {"average_checkpoints": 3}}), tmp_path / "run")
    assert outcome.progress.best == 70.0 and load_model(tmp_path / "run").facts["step"] == 18


@pytest.mark.slow
def test_where_it_was_stopped_does_not_matter_to_the_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"train": {"average_checkpoints": 3, "keep_last": 1, "select": "loss"}}
    run(tiny(tmp_path, changes), tmp_path / "whole")
    for step in (19, 28):
        with monkeypatch.context() as patch:
            signal_at(patch, step)
            with pytest.raises(Stopped):
                run(tiny(tmp_path, changes), tmp_path / "stopped")
    run(tiny(tmp_path, changes), tmp_path / "stopped")
    assert not differing(tmp_path / "stopped", tmp_path / "whole")


def test_patience_stops_a_training_that_does_not_get_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score_with(monkeypatch, [50.0, 40.0, 50.0])
    config = tiny(tmp_path, {"train": {"patience": 2, "validate_every": "2 steps"}})
    outcome = run(config, tmp_path / "run")
    assert (outcome.progress.step, outcome.progress.best_step, outcome.progress.waited) == (6, 2, 2)
    said: list[str] = []
    assert run(config, tmp_path / "run", say=said.append).already_done
    assert said[-1].startswith("training is already complete at step 6 of 30")


def test_the_plateau_schedule_halves_when_nothing_gets_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score_with(monkeypatch, [50.0, 40.0, 40.0, 60.0, 30.0, 30.0, 30.0])
    changes = {
        "schedule": {"kind": "plateau", "patience": 2, "warmup": 1},
        "train": {"validate_every": "1 steps", "duration": "7 steps", "log_every": 1},
    }
    outcome = run(tiny(tmp_path, changes), tmp_path / "run")
    assert outcome.progress.halvings == 2
    rates = [line["learning_rate"] for line in logged(tmp_path / "run") if line["kind"] == "train"]
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.005, 0.005, 0.005, 0.0025])


def test_a_dev_score_that_is_not_a_number_is_no_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score_with(monkeypatch, [math.nan, 2.0, math.inf])
    config = tiny(tmp_path, {"train": {"duration": "6 steps", "validate_every": "2 steps", "select": "chrf"}})
    outcome = run(config, tmp_path / "run")
    assert outcome.progress.best == 2.0 and load_model(tmp_path / "run").facts["step"] == 4


# ---- observers -------------------------------------------------------------------------------------------------------------------


def test_tensorboard_gets_every_figure(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = tiny(tmp_path, {"train": {"duration": "9 steps"}})
    run(config, tmp_path / "run", observers=[tensorboard(tmp_path / "board")])
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    lines = [line for line in logged(tmp_path / "run") if line["kind"] == "train"]
    traces = ("gradient_norm", "gradient_norm_clipped", "gradient_norm_highest", "clipped_share", "weight_norm", "l1_penalty", "l2_penalty")
    for name in ("loss_nats_per_token", "learning_rate", *traces):
        scalars = board.Scalars(f"train/{name}")
        assert [scalar.step for scalar in scalars] == [3, 6, 9]
        assert [scalar.value for scalar in scalars] == pytest.approx([line[name] for line in lines])
    assert board.Scalars("validation/dev_bleu")[0].step == 9


@pytest.mark.slow
def test_more_dev_texts_are_scored_at_each_validation_and_choose_nothing(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    more = [write_text(tmp_path / name, pairs=pairs) | {"name": name} for name, pairs in (("news", 5), ("law", 9))]
    table = config.model_dump(mode="json")
    changed = type(config).model_validate(table | {"data": table["data"] | {"more_dev": more}})
    run(changed, tmp_path / "run")
    found = [line for line in logged(tmp_path / "run") if line["kind"] == "validation"]
    assert found
    for line in found:
        assert all(
            math.isfinite(line[f"{figure}/{name}"]) for figure in ("dev_chrf", "dev_loss_nats_per_token") for name in ("news", "law")
        )
    best = max((line for line in found if line["best"]), key=lambda line: line["step"])
    facts = load_model(tmp_path / "run").facts
    assert facts["step"] == best["step"] and facts["dev_chrf/news"] == pytest.approx(best["dev_chrf/news"], abs=1e-3)
