"""Whose a run's folder is, what may change in it, and what of it can be made again: nothing is lost that is not told."""

import json
import logging
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from training_runs import Trainer, differing, every_byte, logged, run, tiny, write_text

from vitrail import train_translator
from vitrail.cli import run as command
from vitrail.data.preparing.prepare import prepare
from vitrail.data.preparing.prepared import open_prepared
from vitrail.errors import DataError, ModelError, Stopped, TrainingError, UsageError
from vitrail.files import FolderLock
from vitrail.models.model_folder import load_model
from vitrail.train import loop as loop_module
from vitrail.train import run as run_module
from vitrail.train.resume import checkpoints
from vitrail.train.run_config import RunConfig
from vitrail.train.tasks import translation_task as translation_module
from vitrail.train.tasks.validate import Validation


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 30 steps that nothing happened to. Read only."""
    folder = tmp_path_factory.mktemp("unbroken")
    run(tiny(folder), folder / "run")
    return folder / "run"


@pytest.fixture
def copied(unbroken: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unbroken, tmp_path / "run"))


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Send SIGTERM to this process as it takes an update, once."""
    real, sent = loop_module.update, list[int]()

    def update(*arguments: Any, step: int, **more: Any) -> loop_module.Update:
        if step == wanted and not sent:
            sent.append(step)
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, step=step, **more)

    wanted = step
    monkeypatch.setattr(loop_module, "update", update)


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was stopped at step 20. Read only."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 19)
        with pytest.raises(Stopped):
            run(tiny(folder), folder / "run")
    return folder / "run"


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped_once, tmp_path / "run"))


# ---- whose the folder is ---------------------------------------------------------------------------------------------------------

THEIRS = {
    "model/weights.bin": b"\x00\x01",
    "model/config.json": b'{"architectures": ["MarianMTModel"], "model_type": "marian"}',
    "config.toml": b"# mine\n[train]\nduration = '9 steps'\n",
    "metrics.jsonl": b'{"step": 1, "loss": 0.25}\n',
    "samples.jsonl": b'{"text": "\xc3\xa9t\xc3\xa9"}\n',
    "film.jsonl": b'{"step": 1, "title": "\xe6\x98\xa0\xe7\x94\xbb"}\n',
    "choices.json": b'{"a": 1}',
    "log.txt": b"what I did on Monday\n",
    "scores.json": b'{"step": 3, "value": 1}',
    "test.translated": b"mine\n",
    "state/session.json": b"{}",
    "state/step-000001/mine.txt": b"x",
    "data/corpus.en": b"a line\n",
    "data/prepared.json": b'{"format": 1, "by": "another program"}',
    "bad_batches/one.txt": b"x",
    "tensorboard/notes.txt": b"x",
    ".lock": b"held by another program\n",
}


@pytest.mark.parametrize("name", THEIRS)
def test_what_is_not_ours_is_refused_and_stays(name: str, tmp_path: Path) -> None:
    config, folder = tiny(tmp_path), tmp_path / "work"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_bytes(THEIRS[name])
    with pytest.raises(UsageError) as caught:
        run(config, folder)
    assert f"holds {name.split('/')[0]}" in caught.value.found and "nothing was changed" in caught.value.expected and caught.value.remedy
    assert every_byte(folder) == {name: THEIRS[name]}


def test_all_that_is_not_ours_is_named_at_once_by_the_program_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(tmp_path)
    folder = tmp_path / "work"
    for name in ("model/weights.bin", "config.toml", "metrics.jsonl", "log.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(THEIRS[name])
    before = every_byte(folder)
    monkeypatch.chdir(folder)
    text = ["--source", "../text/text.en", "--target", "../text/text.fr"]
    for verb in (["train", *text], ["train", *text, "--config", "config.toml"], ["prepare", *text], ["demo"]):
        assert command([*verb, "-o", "."]) == 2
        assert every_byte(folder) == before
    with pytest.raises(UsageError, match=r"model/ \(with weights\.bin\), config\.toml, metrics\.jsonl, log\.txt"):
        train_translator("../text/text.en", "../text/text.fr", ".")
    assert every_byte(folder) == before


def test_a_run_beside_somebodys_corpus_leaves_it_alone(tmp_path: Path) -> None:
    config = tiny(tmp_path, {"train": {"duration": "3 steps"}})
    theirs = {"README.md": b"# corpus", "notes.tmp-12": b"x", "model.old-2023/a": b"x", ".gitignore": b"*", "data/.DS_Store": b"\0"}
    for name, content in theirs.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    run(config, tmp_path)
    assert load_model(tmp_path).facts["step"] == 3
    assert run(config, tmp_path).already_done
    assert {name: (tmp_path / name).read_bytes() for name in theirs} == theirs


def test_settings_that_stand_where_the_run_writes_its_own(copied: Path) -> None:
    tiny(copied.parent)
    text = ["--source", str(copied.parent / "text/text.en"), "--target", str(copied.parent / "text/text.fr")]
    own = copied / "config.toml"
    assert command(["train", "--config", str(own), "-o", str(copied)]) == 0, "the run's own, as it wrote it: the same comes of it"
    edited = own.read_bytes() + b"# tried 0.3 here\n"
    own.write_bytes(edited)
    assert command(["train", *text, "--config", str(own), "-o", str(copied)]) == 2
    assert own.read_bytes() == edited


def test_text_that_stands_where_a_run_writes(copied: Path, tmp_path: Path) -> None:
    inside = write_text(copied / "data" / "mine")
    before = every_byte(copied)
    with pytest.raises(UsageError, match=r"text\.en: is an input file, and"):
        run(tiny(tmp_path, {"data": {"corpora": [inside]}}), copied)
    assert every_byte(copied) == before


@pytest.mark.parametrize("ending", ["vitrail-tmp-7", "tmp-7"])
def test_a_run_killed_in_its_first_checkpoint_goes_on_by_itself(ending: str, tmp_path: Path) -> None:
    for name in (f"state/step-000004.{ending}/model.safetensors", f"data.preparing/scratch.{ending}/0", "data.preparing/.lock"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_bytes(b"" if name.endswith(".lock") else b"half")
    assert run(tiny(tmp_path, {"train": {"duration": "1 steps"}}), tmp_path / "run").progress.step == 1


@pytest.mark.parametrize("part", ["data", "model", "state", "tensorboard"])
def test_no_run_begins_within_a_run(part: str, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = every_byte(copied)
    text = ["--source", str(tmp_path / "new.en"), "--target", str(tmp_path / "new.fr")]
    for path in text[1::2]:
        Path(path).write_text("a line\nanother\n")
    for verb in ("train", "prepare"):
        assert command([verb, "-o", str(copied / part), *text]) == 2
        assert "is a part of the run" in capsys.readouterr().err
    assert every_byte(copied) == before


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    (tmp_path / "work").write_text("x")
    with pytest.raises(UsageError, match="work: is not a folder"):
        run(config, tmp_path / "work")
    assert (tmp_path / "work").read_text() == "x"


# ---- what may change in a run ----------------------------------------------------------------------------------------------------


def test_other_text_changes_nothing_though_it_is_allowed(copied: Path) -> None:
    """The ids of another vocabulary would stand for other words: what is prepared for a look is thrown away."""
    before = every_byte(copied)
    for allow in (["data"], ["data", "vocabularies"], ["data.corpora", "vocabularies", "data.digest"]):
        with pytest.raises(UsageError, match=r"vocabularies: .* \(its ids would mean other subwords\)") as caught:
            run(tiny(copied.parent, pairs=150), copied, allow=allow)
        assert caught.value.remedy == "train in a new folder"
        assert every_byte(copied) == before
    assert not list(copied.parent.glob("run/*.preparing"))


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"subwords": {"size": 320}}},
        {"data": {"subwords": {"kind": "character"}}},
        {"data": {"subwords": {"joint": False}}, "model": {"tie": "target"}},
        {"model": {"width": 24}},
        {"model": {"heads": 4}},
        {"model": {"norm_position": "post"}},
        {"model": {"kind": "recurrent", "width": 16}},
        {"optimizer": {"kind": "sgd"}},
    ],
    ids=["size", "characters", "separate", "width", "heads", "post-norm", "architecture", "optimizer"],
)
def test_what_cannot_work_is_refused_though_it_is_allowed(changes: dict[str, Any], copied: Path) -> None:
    before = every_byte(copied)
    with pytest.raises(UsageError, match=r"its ids|its weights|its state") as caught:
        run(tiny(copied.parent, changes), copied, allow=["data", "model", "optimizer", "vocabularies", "train"])
    assert "--allow-change" not in caught.value.remedy
    assert every_byte(copied) == before


def test_memory_is_tried_before_anything_changes(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = every_byte(copied)

    def too_large(*_: object) -> None:
        raise TrainingError("out of memory at the largest batch")

    monkeypatch.setattr(run_module, "try_longest", too_large)
    with pytest.raises(TrainingError, match="out of memory"):
        run(tiny(copied.parent, {"train": {"duration": "40 steps", "batch_tokens": 9999}}), copied, allow=["train"])
    assert every_byte(copied) == before


def test_an_allowed_change_of_the_optimizer_takes_effect(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float]] = []
    real = loop_module.update

    def update(learner: loop_module.Learner, *arguments: Any, **more: Any) -> loop_module.Update:
        seen.extend((group["betas"][1], group["weight_decay"]) for group in learner.optimizer.optimizers[0].param_groups)
        return real(learner, *arguments, **more)

    monkeypatch.setattr(loop_module, "update", update)
    changed = tiny(stopped.parent, {"optimizer": {"beta_2": 0.9, "weight_decay": 0.5}, "train": {"duration": "21 steps"}})
    run(changed, stopped, allow=["optimizer", "train.duration"])
    assert set(seen) == {(0.9, 0.5), (0.9, 0.0)}


def scores(monkeypatch: pytest.MonkeyPatch, found: list[tuple[float, float]]) -> None:
    """BLEU and chrF in the order in which they are asked for."""
    left = iter(found)

    def validate(*_: Any, **more: Any) -> Validation:
        bleu, chrf = next(left)
        return Validation({"dev_loss_nats_per_token": 1.0, "dev_perplexity": 2.7, "dev_bleu": bleu, "dev_chrf": chrf}, [])

    monkeypatch.setattr(translation_module, "validate", validate)


def test_a_score_of_another_kind_keeps_no_better_model_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BLEU 30 is no bar for a chrF of 24: the model so far is measured by the new score, and the next better one takes its place."""
    short = {"train": {"duration": "4 steps", "validate_every": "2 steps", "select": "bleu"}}
    scores(monkeypatch, [(30.0, 0.1), (29.0, 0.5)])
    outcome = run(tiny(tmp_path, short), tmp_path / "run")
    assert (outcome.progress.best, load_model(tmp_path / "run").facts["step"]) == (30.0, 2)
    longer = {"train": {"duration": "8 steps", "validate_every": "2 steps", "select": "chrf"}}
    said: list[str] = []
    scores(monkeypatch, [(28.0, 22.0), (27.0, 21.0), (26.0, 24.0)])
    outcome = run(tiny(tmp_path, longer), tmp_path / "run", allow=["train"], say=said.append)
    assert "the best model so far (step 2) was evaluated again: chrF 22.00" in said
    assert (outcome.progress.best, outcome.progress.best_step, load_model(tmp_path / "run").facts["step"]) == (24.0, 8, 8)
    assert outcome.progress.scores == [(6, 21.0), (8, 24.0)]


def test_another_dev_text_measures_anew(tmp_path: Path) -> None:
    """Dev text that leaves the training text as it is: the vocabulary is the same, so that the run can go on."""
    write_text(tmp_path / "dev", pairs=12)
    for side in ("en", "fr"):
        for part, lines in (("one", slice(0, 6)), ("two", slice(6, 12))):
            text = (tmp_path / "dev" / f"text.{side}").read_text().splitlines(keepends=True)[lines]
            (tmp_path / f"{part}.{side}").write_text("".join(f"Unseen {line}" for line in text))

    def config(part: str, steps: int) -> RunConfig:
        dev = {side: str(tmp_path / f"{part}.{ending}") for side, ending in (("source", "en"), ("target", "fr"))}
        changes = {"data": {"dev": dev, "holdout": {"dev_pairs": 0}}, "train": {"duration": f"{steps} steps", "select": "loss"}}
        return tiny(tmp_path, changes)

    configs = [config("one", 9), config("two", 18)]
    first = run(configs[0], tmp_path / "run")
    with pytest.raises(UsageError, match=r"data\.dev\.source"):
        run(configs[1], tmp_path / "run", allow=["train.duration"])
    assert open_prepared(tmp_path / "run" / "data").dev.source[0] == (tmp_path / "one.en").read_text().splitlines()[0]
    said: list[str] = []
    second = run(configs[1], tmp_path / "run", allow=["train.duration", "data.dev"], say=said.append)
    assert open_prepared(tmp_path / "run" / "data").dev.source[0] == (tmp_path / "two.en").read_text().splitlines()[0]
    assert any(line.startswith("the best model so far (step 9) was evaluated again: loss ") for line in said)
    assert first.progress.best is not None and second.progress.best is not None
    assert [step for step, _ in second.progress.scores] == [18], "what was measured on the other text is no rival"


def test_a_model_without_checkpoints_is_not_trained_anew_in_silence(copied: Path) -> None:
    shutil.rmtree(copied / "state")
    before = every_byte(copied)
    with pytest.raises(UsageError, match="has a model but no checkpoint in state/") as caught:
        run(tiny(copied.parent), copied)
    assert "--allow-change state" in caught.value.remedy
    assert every_byte(copied) == before
    outcome = run(tiny(copied.parent, {"train": {"duration": "9 steps"}}), copied, allow=["state"])
    assert outcome.progress.step == 9 and load_model(copied).facts["step"] == 9


def test_a_run_killed_before_its_first_checkpoint_goes_on_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model never stands there without a checkpoint: the refusal above cannot meet a run that was merely killed."""
    config = tiny(tmp_path, {"train": {"save_every": "1000 steps", "duration": "12 steps"}})

    class Killed(BaseException): ...

    with monkeypatch.context() as patch:
        real = checkpoints.save_checkpoint

        def killed_at_the_second(folder: Path, **more: Any) -> Path:
            if checkpoints.checkpoints(folder):
                raise Killed
            return real(folder, **more)

        patch.setattr(checkpoints, "save_checkpoint", killed_at_the_second)
        with pytest.raises(Killed):
            run(config, tmp_path / "run")
    assert load_model(tmp_path / "run").facts["step"] == 9, "the model was published"
    assert [path.name for path in checkpoints.checkpoints(tmp_path / "run")] == ["step-000009"]
    run(config, tmp_path / "run")
    run(config, tmp_path / "whole")
    assert not differing(tmp_path / "run", tmp_path / "whole")


# ---- one owner for data/ ---------------------------------------------------------------------------------------------------------


def test_prepare_does_not_replace_the_data_of_a_trained_run(copied: Path) -> None:
    before = every_byte(copied)
    other = tiny(copied.parent / "other", pairs=150)
    with pytest.raises(UsageError, match="a model was trained on this data"):
        prepare(other.data, copied / "data")
    text = copied.parent / "other" / "text" / "text"
    assert command(["prepare", "--source", f"{text}.en", "--target", f"{text}.fr", "-o", str(copied)]) == 2
    assert every_byte(copied) == before
    same = tiny(copied.parent)
    assert prepare(same.data, copied / "data").digest == open_prepared(copied / "data").digest
    assert run(same, copied).already_done


def test_data_that_were_replaced_all_the_same_are_prepared_again(copied: Path, unbroken: Path) -> None:
    shutil.rmtree(copied / "data")
    prepare(tiny(copied.parent / "other", pairs=150).data, copied.parent / "data")
    (copied.parent / "data").rename(copied / "data")
    shutil.rmtree(checkpoints.checkpoints(copied)[-1])
    run(tiny(copied.parent), copied)
    assert not differing(copied, unbroken)


def test_prepare_waits_for_no_running_training(tmp_path: Path) -> None:
    first = Trainer(tiny(tmp_path, {"train": {"duration": "100000 steps"}}), tmp_path / "run")
    first.wait_for(tmp_path / "run" / "metrics.jsonl")
    before = every_byte(tmp_path / "run" / "data")
    other = tiny(tmp_path / "other", pairs=150)
    with pytest.raises(TrainingError, match=f"in use by pid {first.pid}"):
        prepare(other.data, tmp_path / "run" / "data")
    text = tmp_path / "other" / "text" / "text"
    assert command(["prepare", "--source", f"{text}.en", "--target", f"{text}.fr", "-o", str(tmp_path / "run")]) == 1
    assert every_byte(tmp_path / "run" / "data") == before
    os.kill(first.pid, signal.SIGKILL)
    first.wait()


def test_what_is_in_use_gets_no_line_in_its_log(copied: Path) -> None:
    before = every_byte(copied)
    with FolderLock(copied):
        assert command(["train", "-o", str(copied)]) == 1
    assert every_byte(copied) == before


# ---- what can be made again ------------------------------------------------------------------------------------------------------


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("place", [0, 0.4, -1], ids=["first", "middle", "last"])
def test_one_flipped_bit_in_a_log_stops_no_training(place: float, stopped: Path, unbroken: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("metrics", "samples"):
        log = stopped / f"{name}.jsonl"
        flip(log, int(place * log.stat().st_size) if place >= 0 else -1)
    with caplog.at_level(logging.WARNING):
        run(tiny(stopped.parent), stopped)
    for name in ("metrics", "samples"):
        whole = [json.dumps(line) for line in logged(unbroken, name)]
        mine = [json.dumps(line) for line in logged(stopped, name)]
        changed = set(mine) - set(whole)  # a flipped letter in a text cannot be seen
        lost = set(whole) - set(mine)
        assert len(mine) == len(set(mine)) and len(lost) <= 1, "at most the damaged line is lost, and none comes twice"
        assert len(changed) == len(lost) or any(f"{name}.jsonl: " in message for message in caplog.messages), "what is lost is told"
    assert set(differing(stopped, unbroken)) <= {"metrics", "samples"}


@pytest.mark.parametrize("damage", ["blank", "gone", "binary"])
def test_spoilt_logs_and_settings_stop_no_training(damage: str, stopped: Path, unbroken: Path) -> None:
    for name in ("metrics.jsonl", "samples.jsonl", "film.jsonl", "choices.json", "log.txt", "config.toml", "scores.json"):
        path = stopped / name
        content = path.read_bytes() if path.exists() else b"2026 INFO said\n"
        match damage:
            case "blank":
                path.write_bytes(b"\n" + content.replace(b"\n", b"\n\n", 1))
            case "gone":
                path.unlink(missing_ok=True)
            case _:
                path.write_bytes(bytes(range(256)))
    run(tiny(stopped.parent), stopped)
    assert set(differing(stopped, unbroken)) <= (set[str]() if damage == "blank" else {"metrics", "samples"})
    assert load_model(stopped).facts == load_model(unbroken).facts


DAMAGE = [
    ("model/model.safetensors", "flipped"),
    ("model/config.json", "gone"),
    ("model/manifest.json", "empty"),
    ("model/joint.spm", "flipped"),
    ("model", "gone"),
    ("data/prepared.json", "flipped"),
    ("data/prepared.json", "gone"),
    ("data/joint.spm", "empty"),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGE, ids=[f"{name}-{damage}" for name, damage in DAMAGE])
def test_what_is_damaged_in_a_finished_run_is_made_again(
    name: str, damage: str, copied: Path, unbroken: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(copied / name, damage)
    said: list[str] = []
    with caplog.at_level(logging.WARNING):
        assert run(tiny(copied.parent), copied, say=said.append).already_done
    assert not differing(copied, unbroken), "the best step's checkpoint is kept: the same weights"
    assert load_model(copied).facts == load_model(unbroken).facts
    assert open_prepared(copied / "data").digest == open_prepared(unbroken / "data").digest
    if name.startswith("model"):
        assert any(f"; the model was rebuilt from step {load_model(unbroken).facts['step']}" in line for line in caplog.messages)
    elif damage == "flipped":
        assert any("prepared.json: " in line and line.endswith("; preparing it again") for line in said)


def test_what_is_damaged_when_a_training_goes_on_is_made_again(stopped: Path, unbroken: Path) -> None:
    spoil(stopped / "model/model.safetensors", "flipped")
    spoil(stopped / "data/prepared.json", "empty")
    run(tiny(stopped.parent), stopped)
    assert not differing(stopped, unbroken)


def spoil(path: Path, damage: str) -> None:
    if damage == "gone":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        flip(path, path.stat().st_size // 2)


def test_side_files_stop_nothing_and_stay(stopped: Path, unbroken: Path) -> None:
    names = ("LICENSE", "README.md~", "#notes#", ".DS_Store", "Thumbs.db")
    newest = checkpoints.checkpoints(stopped)[-1].name
    places = ("model", "data", "data/store-0", "state", f"state/{newest}", ".")
    for place in places:
        for name in names:
            (stopped / place / name).write_bytes(b"theirs")
    (stopped / "model" / "README.md").write_text("# Notre modèle")
    run(tiny(stopped.parent), stopped)
    assert not differing(stopped, unbroken)
    assert all((stopped / place / name).read_bytes() == b"theirs" for place in places for name in names)
    assert (stopped / "model" / "README.md").read_text() == "# Notre modèle"
    assert load_model(stopped).facts == load_model(unbroken).facts, "though the model was replaced since"


@pytest.mark.slow
def test_choices_are_made_again_from_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a machine that would choose otherwise: the values are those that the run was begun with."""
    tiny(tmp_path)
    text = [f"{tmp_path}/text/text.{side}" for side in ("en", "fr")]
    fixed = ["data.subwords.size=310", "train.threads=1", "train.duration=2 steps", "train.device=cpu", "data.holdout.test_pairs=4"]
    train_translator(*text, tmp_path / "run", settings=[*fixed, "data.holdout.dev_pairs=4"])
    before = (tmp_path / "run" / "config.toml").read_bytes()
    for content in (b"{", bytearray((tmp_path / "run" / "choices.json").read_bytes().replace(b"1024", b"1025"))):
        (tmp_path / "run" / "choices.json").write_bytes(content)
        monkeypatch.setattr("vitrail.train.request.usable_cores", lambda: 64)
        caplog.clear()
        train_translator(*text, tmp_path / "run", settings=[*fixed, "data.holdout.dev_pairs=4"])
        assert any("choices.json: was missing or damaged; rebuilt from step-000002" in message for message in caplog.messages)
        assert (tmp_path / "run" / "config.toml").read_bytes() == before


def test_text_that_is_gone_stops_no_training(tmp_path: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was prepared from it is all that a training needs."""
    config, folder = tiny(tmp_path), tmp_path / "run"
    stop_at(monkeypatch, 19)
    with pytest.raises(Stopped):
        run(config, folder)
    named = {path for _, text in config.data.texts() for path in (text.source, text.target) if path is not None}
    for path in named:
        path.unlink()
    before = every_byte(folder)
    other = config.data.corpora[0].model_copy(update={"source": tmp_path / "mistyped.en"})
    with pytest.raises(DataError, match=r"mistyped\.en: cannot be read"):
        run(config.model_copy(update={"data": config.data.model_copy(update={"corpora": (other,)})}), folder)
    assert every_byte(folder) == before
    run(config, folder)
    assert not differing(folder, unbroken)
    assert command(["train", "-o", str(folder)]) == 0


def test_text_that_is_gone_is_missed_where_data_are_damaged(tmp_path: Path) -> None:
    config, folder = tiny(tmp_path), tmp_path / "run"
    run(config, folder)
    config.data.corpora[0].source.unlink()
    (folder / "data" / "prepared.json").write_text("{}")
    before = every_byte(folder)
    with pytest.raises(DataError, match="cannot be read"):
        run(config, folder)
    assert every_byte(folder) == before


def test_without_a_good_checkpoint_nothing_is_touched(copied: Path) -> None:
    for path in checkpoints.checkpoints(copied):
        (path / "state.json").write_bytes(b"{")
    before = every_byte(copied)
    with pytest.raises(ModelError, match="no checkpoint can be used"):
        run(tiny(copied.parent, pairs=150), copied, allow=["data", "state"])
    assert every_byte(copied) == before
