"""Ladders of two small rungs, trained in processes of their own on a text of a few hundred pairs."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vitrail.cli import run as vitrail
from vitrail.config import Override, parse_override
from vitrail.data.preparing.prepare import Prepared, open_prepared, prepare
from vitrail.data.preparing.prepared import Texts
from vitrail.errors import TrainingError, UsageError
from vitrail.files import FolderLock, JsonLines, read_json_lines, share_folder
from vitrail.ladder import comparison as ladder_module
from vitrail.ladder.comparison import RUNG, _Report, compare_runs, distinguishing, names_of, run_ladder
from vitrail.ladder.flops import Shape, training_flops
from vitrail.ladder.ladder_plan import (
    STANDARD,
    Budget,
    LadderSpec,
    Plan,
    corpora_of,
    count_model_parameters,
    data_config,
    match_width,
    parse_rung,
    plan_ladder,
)
from vitrail.ladder.ladder_report import report_text
from vitrail.ladder.measure import MeasuredRung, Run, read_training, rung_from_json
from vitrail.ladder.rungs import Ladder
from vitrail.models.architectures import preset
from vitrail.models.model_folder import load_model
from vitrail.train.choosing.choose import gather_facts
from vitrail.train.optim import Warmup
from vitrail.train.request import Request
from vitrail.train.run_config import RunConfig

SETTINGS = (
    *("data.subwords.size=310", "data.holdout.dev_pairs=12", "data.holdout.test_pairs=12"),
    *("model.encoder_layers=1", "model.decoder_layers=1", "model.width=16", "model.heads=2", "model.feed_forward=16"),
    *("model.embedding_width=16", "train.batch_tokens=160", "train.threads=1", "train.log_every=2", "train.precision=fp32"),
    *("train.validate_every='4 steps'", "search.beams=1", "search.max_length=6"),
)
STEPS = 6


def write_text(folder: Path, *, ending: str = "") -> Path:
    """About three hundred short sentences that differ in their words, and what stands for their translations."""
    folder.mkdir(parents=True, exist_ok=True)
    english, french = (
        ("a boat", "the mill", "two owls", "my uncle", "a lamp"),
        ("un bateau", "le moulin", "deux hiboux", "mon oncle", "une lampe"),
    )
    verbs = (("finds", "trouve"), ("carries", "porte"), ("paints", "peint"))
    places = (("", ""), (" at dawn", " à l'aube"), (" behind the long wall", " derrière le long mur"), (" again", " encore"))
    rows = [
        (f"{english[a]} {verb[0]} {english[b]}{place[0]}{ending}", f"{french[a]} {verb[1]} {french[b]}{place[1]}{ending}")
        for a in range(5)
        for verb in verbs
        for b in range(5)
        for place in places
    ]
    for side, name in enumerate(("text.en", "text.fr")):
        (folder / name).write_text("".join(f"{row[side]}\n" for row in rows), encoding="utf-8")
    return folder


def ask(text: Path, *rungs: str, budget: str = f"{STEPS} steps", settings: tuple[str, ...] = SETTINGS, **more: Any) -> LadderSpec:
    corpus = Override(("data", "corpora"), [{"source": str(text / "text.en"), "target": str(text / "text.fr")}])
    request = Request(overrides=(corpus, *map(parse_override, settings)))
    return LadderSpec(request, tuple(map(parse_rung, rungs or ("gru", "transformer"))), Budget.parse(budget), **more)


def plan(wanted: LadderSpec, folder: Path) -> tuple[Plan, Prepared]:
    facts = gather_facts(corpora_of(wanted), cores=2, gpu=False)
    data = data_config(wanted, facts)
    prepared = prepare(data, folder)
    return plan_ladder(wanted, prepared, facts=facts, data=data), prepared


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


class Climbed:
    """A finished ladder and what was said on the way."""

    def __init__(self, text: Path, folder: Path) -> None:
        self.folder, self.said = folder, list[str]()
        self.ladder: Ladder = run_ladder(ask(text), folder, machine="a quiet one", say=self.said.append)


@pytest.fixture(scope="module")
def climbed(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    return Climbed(text, tmp_path_factory.mktemp("ladders") / "small")


# --- what a ladder tells ---------------------------------------------------------------------------------------------------------


def test_every_rung_is_trained_alike_and_measured(climbed: Climbed) -> None:
    rungs = climbed.ladder.rungs
    assert [rung.name for rung in rungs] == ["gru", "transformer"]
    assert climbed.ladder.budget == "6 steps each" and climbed.ladder.machine == "a quiet one"
    for rung in rungs:
        assert rung.steps == STEPS and rung.seeds == (1,)
        loaded = load_model(climbed.folder / rung.name / "seed-1")
        assert rung.parameters == sum(parameter.numel() for parameter in loaded.model.parameters())
        assert rung.dev_loss > 0 and rung.test_loss is not None and rung.test_loss > 0
        assert [score.name for score in rung.scores] == ["BLEU", "chrF2"] and rung.seed_scores == (rung.scores[0].value,)
        assert [point.step for point in rung.curve] == [4, 6]
        assert rung.tokens_per_second > 0 and rung.sentences_per_second is not None and 0 < rung.minutes < 5
        assert rung.peak_memory_bytes is not None and 50e6 < rung.peak_memory_bytes < 5e9
        assert rung.gradients and all(curve.norms[0] == pytest.approx(1) for curve in rung.gradients)
        assert sum(band.sentences for band in rung.bands) == 12 and rung.shares == ()
        assert rung.learned is not None and rung.learned.doubts and not rung.comparable
        assert rung.enough is not None and rung.enough.steps == 2_000
        assert rung.enough.minutes == pytest.approx(rung.minutes * rung.enough.steps / STEPS)


def test_nobody_wins_among_models_that_have_learned_nothing(climbed: Climbed) -> None:
    """After six steps: no pair is tested, and text, page and JSON say why and what would be long enough."""
    assert climbed.ladder.pairs == ()
    for name in ("gru", "transformer"):
        assert any(f"{name} is not trained long enough to compare" in note and " minutes)" in note for note in climbed.ladder.notes)
    pages = [(climbed.folder / f"report.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "md")]
    for told in (*pages, report_text(climbed.ladder)):
        assert "Not trained long enough to compare: No rung has learned to translate" in told
        assert "has the highest" not in told and "Paired tests" not in told and "overlap" not in told
    kept = json.loads((climbed.folder / "report.json").read_text(encoding="utf-8"))
    assert kept["pairs"] == [] and all(rung["learned"]["doubts"] and rung["enough"]["steps"] for rung in kept["rungs"])


def learned_or_not(measured: MeasuredRung, name: str, *doubts: str) -> MeasuredRung:
    learned = replace(measured.rung.learned, doubts=doubts) if measured.rung.learned else None
    return measured._replace(rung=replace(measured.rung, name=name, learned=learned))


def test_those_that_have_learned_are_compared_among_themselves(climbed: Climbed) -> None:
    prepared = open_prepared(climbed.folder / "data")
    _, measured = rung_from_json((climbed.folder / "gru" / RUNG).read_bytes())
    report = _Report(climbed.folder, "1 minutes each", (), "", prepared.test, ())
    for one in (learned_or_not(measured, "a"), learned_or_not(measured, "b", "it says nothing"), learned_or_not(measured, "c")):
        report.add(one, prepared)
    assert [(pair.baseline, pair.system) for pair in report.pairs] == [("a", "c")]
    assert [note.split(" is ")[0] for note in report.notes if "long enough" in note] == ["b"]
    told = report_text(report.ladder())
    assert "has the highest" in told and "Not trained long enough to compare, and left out: b." in told


def test_speed_and_flops_are_those_of_the_log(climbed: Climbed) -> None:
    for rung in climbed.ladder.rungs:
        log = list(read_json_lines(climbed.folder / rung.name / "seed-1" / "metrics.jsonl"))
        speeds = [line["tokens_per_second"] for line in log if line["kind"] == "train"]
        tokens = next(line["tokens"] for line in log if line["kind"] == "finished")
        assert min(speeds) <= rung.tokens_per_second <= max(speeds)
        assert rung.minutes * 60 * rung.tokens_per_second == pytest.approx(tokens)
        config = Run.open(climbed.folder / rung.name / "seed-1").config
        # Every pair of the text is alike in length, within a factor of two, and so is a step from the mean one.
        shape = Shape(16, 9, 10, round(tokens / STEPS))
        vocabulary = open_prepared(climbed.folder / "data").vocabularies.target.size
        assert training_flops(config.model, shape, vocabulary=vocabulary) * STEPS == pytest.approx(rung.training_flops, rel=0.5)


def test_the_report_and_the_table_tell_of_every_rung(climbed: Climbed) -> None:
    kept = json.loads((climbed.folder / "report.json").read_text())
    assert [rung["name"] for rung in kept["rungs"]] == ["gru", "transformer"]
    for name in ("report.html", "report.md"):
        assert "transformer" in (climbed.folder / name).read_text(encoding="utf-8")
    assert any("12 sentences" in note for note in climbed.ladder.notes)
    assert any(note.startswith("model.heads is a setting of transformer only") for note in climbed.ladder.notes)


def test_rungs_share_the_bytes_of_the_prepared_text(climbed: Climbed) -> None:
    for name in ("gru", "transformer"):
        shared = climbed.folder / name / "seed-1" / "data"
        assert open_prepared(shared).digest == open_prepared(climbed.folder / "data").digest
        assert (shared / "prepared.json").samefile(climbed.folder / "data" / "prepared.json")


# --- going on --------------------------------------------------------------------------------------------------------------------


def test_the_second_call_does_nothing(climbed: Climbed, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder_module.subprocess, "Popen", None)
    monkeypatch.setattr(ladder_module, "measure_rung", None)
    said: list[str] = []
    assert run_ladder(ask(text), climbed.folder, machine="a quiet one", say=said.append) == climbed.ladder
    assert [line for line in said if "measured" in line] == ["gru: measured already", "transformer: measured already"]


@pytest.mark.slow
def test_a_rung_that_fails_does_not_end_the_others_and_is_tried_again(climbed: Climbed, text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(climbed.folder, folder)
    (folder / "gru" / "rung.json").unlink()
    transformer = (folder / "transformer" / "rung.json").stat().st_mtime_ns
    with FolderLock(folder / "gru" / "seed-1"), pytest.raises(TrainingError, match=r"gru failed: .*in use by pid"):
        run_ladder(ask(text), folder)
    report = json.loads((folder / "report.json").read_text())
    assert [rung["name"] for rung in report["rungs"]] == ["transformer"] and any("gru failed" in note for note in report["notes"])
    again = run_ladder(ask(text), folder)
    # What is timed differs from one measurement to the next.
    assert [rung.scores for rung in again.rungs] == [rung.scores for rung in climbed.ladder.rungs]
    assert again.rungs[0].dev_loss == climbed.ladder.rungs[0].dev_loss
    assert (folder / "transformer" / "rung.json").stat().st_mtime_ns == transformer


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"budget": "7 steps"}, "train.duration: .*6 steps.*7 steps"),
        ({"settings": (*SETTINGS, "model.dropout=0.5")}, "model.dropout"),
        ({"settings": (*SETTINGS, "data.subwords.size=300")}, "data.subwords.size: 310 when saved, 300 now"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(climbed: Climbed, text: Path, changed: dict[str, Any], told: str) -> None:
    before = (climbed.folder / "data" / "prepared.json").read_bytes()
    with pytest.raises(UsageError, match=told) as error:
        run_ladder(ask(text, **changed), climbed.folder)
    assert error.value.remedy == "compare in a new folder"
    assert (climbed.folder / "data" / "prepared.json").read_bytes() == before


# --- existing runs ---------------------------------------------------------------------------------------------------------------


def test_existing_runs_are_measured_as_their_ladder_was(climbed: Climbed, tmp_path: Path) -> None:
    runs = [climbed.folder / name / "seed-1" for name in ("gru", "transformer")]
    before = [sorted(path.name for path in run.rglob("*")) for run in runs]
    found = compare_runs(runs, tmp_path / "both")
    assert [rung.name for rung in found.rungs] == ["gru-seed-1", "transformer-seed-1"]
    assert [rung.scores for rung in found.rungs] == [rung.scores for rung in climbed.ladder.rungs]
    assert [rung.learned for rung in found.rungs] == [rung.learned for rung in climbed.ladder.rungs] and found.pairs == ()
    assert "model.cell=gru" in found.rungs[0].settings and "model.kind=transformer" in found.rungs[1].settings
    assert [sorted(path.name for path in run.rglob("*")) for run in runs] == before
    said: list[str] = []
    assert compare_runs(runs, tmp_path / "both", say=said.append) == found
    assert said == ["gru-seed-1: measured already", "transformer-seed-1: measured already"]
    few = Texts(["a boat finds a lamp", "my uncle paints the mill"], ["un bateau trouve une lampe", "mon oncle peint le moulin"])
    assert compare_runs(runs, tmp_path / "both", test=few).rungs[0].scores[0].sentences == 2


def test_runs_that_cannot_be_compared_are_refused(climbed: Climbed, text: Path, tmp_path: Path) -> None:
    run = climbed.folder / "gru" / "seed-1"
    with pytest.raises(UsageError, match="only one run"):
        compare_runs([run], tmp_path / "out")
    other = tmp_path / "other"
    shutil.copytree(run, other)
    data = Run.open(run).config.data
    shutil.rmtree(other / "data")
    prepare(data.model_copy(update={"subwords": data.subwords.model_copy(update={"size": 300})}), other / "data")
    with pytest.raises(UsageError, match="different vocabularies") as error:
        compare_runs([run, other], tmp_path / "out")
    assert str(run) in error.value.found and str(other) in error.value.found and "perplexities" in error.value.expected
    assert "prepared text" in error.value.remedy
    shutil.rmtree(other / "data")
    share_folder(run / "data", other / "data")
    (other / "data" / "test.source").unlink()
    (other / "data" / "test.source").write_text("another\n" * 12)
    assert vitrail(["compare", str(run), str(other), "-o", str(tmp_path / "out")]) == 4  # a file that is not what was written
    assert not (tmp_path / "out").exists()


def test_folders_that_hold_something_else_are_left_alone(climbed: Climbed, text: Path, tmp_path: Path) -> None:
    """The data of a run, a ladder's report, and runs in whose folders a comparison would write."""
    runs = [climbed.folder / name / "seed-1" for name in ("gru", "transformer")]
    for folder, told in ((runs[0], "is a run"), (climbed.folder, "another comparison"), (climbed.folder / "gru", "has runs")):
        with pytest.raises(UsageError, match=told):
            compare_runs(runs, folder)
    with pytest.raises(UsageError, match="is a run"):
        run_ladder(ask(text), runs[0])
    (tmp_path / "report.html").write_text("<h1>A thesis</h1>")
    for write in (lambda: run_ladder(ask(text), tmp_path), lambda: compare_runs(runs, tmp_path)):
        with pytest.raises(UsageError, match=r"holds report\.html, which vitrail did not write"):
            write()
        assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def every_byte(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("verb", [["train", "--duration", "2 steps"], ["prepare"], ["demo", "--pairs", "100"]])
def test_the_data_of_a_comparison_are_replaced_by_no_other_verb(verb: list[str], climbed: Climbed, tmp_path: Path) -> None:
    for side, word in (("en", "a boat"), ("fr", "un bateau")):
        (tmp_path / f"other.{side}").write_text("".join(f"{word} {number}\n" for number in range(200)))
    named = [] if verb[0] == "demo" else ["--source", str(tmp_path / "other.en"), "--target", str(tmp_path / "other.fr")]
    before = every_byte(climbed.folder)
    assert vitrail([*verb, *named, "-o", str(climbed.folder)]) == 2
    assert every_byte(climbed.folder) == before


def test_settings_that_cannot_be_are_told_before_the_text_is_read(text: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="truncate"):
        run_ladder(ask(text, "gru=model.truncate=0"), tmp_path / "ladder")
    assert not (tmp_path / "ladder").exists()


def test_a_run_that_was_trained_further_has_the_time_of_all_of_it(climbed: Climbed, tmp_path: Path) -> None:
    run = shutil.copytree(climbed.folder / "gru" / "seed-1", tmp_path / "run")
    before = read_training(Run.open(run))
    lines = list(read_json_lines(run / "metrics.jsonl"))
    windows = [line for line in lines if line["kind"] == "train"]
    end = lines[-1]
    assert end["kind"] == "finished"
    more = [{**line, "step": line["step"] + STEPS} for line in windows]
    with JsonLines(run / "metrics.jsonl") as log:
        for line in more:
            log.append(line)
    assert not read_training(Run.open(run)).finished  # it was stopped on the way to its new end
    with JsonLines(run / "metrics.jsonl") as log:
        log.append({**end, "step": end["step"] + STEPS, "tokens": 2 * end["tokens"]})
    after = read_training(Run.open(run))
    assert after.finished and after.minutes == pytest.approx(2 * before.minutes, rel=1e-3)


def test_names_and_settings_tell_runs_apart() -> None:
    assert names_of([Path("/r/a"), Path("/r/b")]) == ["a", "b"]
    assert names_of([Path("/r/a/x"), Path("/r/b/x")]) == ["a-x", "b-x"]
    with pytest.raises(UsageError, match="given twice"):
        names_of([Path("/r/a"), Path("/r/a")])
    table: dict[str, Any] = {"data": {"corpora": [{"source": "a", "target": "b"}]}}
    configs = [RunConfig.model_validate({**table, "seed": seed, "model": {"width": 64}}) for seed in (1, 2)]
    assert distinguishing(configs) == [("seed=1",), ("seed=2",)]


# --- what is asked ---------------------------------------------------------------------------------------------------------------


def test_standard_rungs_are_matched_in_parameters(text: Path, tmp_path: Path) -> None:
    shared = ("data.subwords.size=310", "train.threads=1")
    planned, prepared = plan(ask(text, *STANDARD, settings=shared), tmp_path / "data")
    assert [rung.name for rung in planned.rungs] == ["rnn", "lstm", "gru", "lstm-bahdanau", "lstm-luong", "transformer"]
    wanted = planned.rungs[-1].parameters
    assert wanted == count_model_parameters(preset("tiny"), prepared.vocabularies)
    for rung in planned.rungs:
        assert abs(rung.parameters / wanted - 1) <= 0.1, rung.name
        assert rung.config.train.duration == planned.rungs[0].config.train.duration
    assert not any("not matched" in note for note in planned.notes)
    free, _ = plan(ask(text, *STANDARD, settings=shared, match=False), tmp_path / "data")
    assert free.rungs[0].config.model.width == preset("rnn").width


def test_the_nearest_width_is_found(text: Path, tmp_path: Path) -> None:
    _, prepared = plan(ask(text), tmp_path / "data")
    for name, parameters in (("lstm", 120_000), ("tiny", 300_000), ("rnn", 1)):
        found = match_width(preset(name), parameters, prepared.vocabularies)
        models = [preset(name).model_copy(update={"width": width}) for width in range(8, 200, 8)]
        nearest = min(models, key=lambda model: abs(count_model_parameters(model, prepared.vocabularies) - parameters))
        assert found == nearest


def test_a_width_of_its_own_is_kept_and_told(text: Path, tmp_path: Path) -> None:
    planned, _ = plan(ask(text, "transformer", "wide=preset=gru,model.width=96"), tmp_path / "data")
    assert planned.rungs[1].config.model.width == 96
    assert any(note.startswith("wide has ") and "not matched" in note for note in planned.notes)
    assert {"preset=gru", "model.width=96"} <= set(planned.rungs[1].settings)


def test_flops_become_steps(text: Path, tmp_path: Path) -> None:
    planned, _ = plan(ask(text, "rnn", "transformer", budget="3e9 FLOPs"), tmp_path / "data")
    for rung in planned.rungs:
        spent = rung.config.train.duration.amount * rung.cost.flops
        assert rung.config.train.duration.unit == "steps" and 3e9 - rung.cost.flops < spent <= 3e9
        assert f"train.duration={rung.config.train.duration}" in rung.settings
        steps = rung.config.train.duration.amount
        assert Warmup.parse(rung.config.schedule.warmup).within(steps) <= steps * 0.1
    with pytest.raises(UsageError, match="rnn cannot take a step") as error:
        plan(ask(text, "rnn", "transformer", budget="1e4 FLOPs"), tmp_path / "data")
    assert "at least" in error.value.expected and "FLOPs" in error.value.remedy
    with pytest.raises(UsageError, match="rnn cannot take a step"):
        plan(ask(text, "rnn", "transformer", budget="0.0001 epochs"), tmp_path / "data")


def test_a_recipes_warmup_leaves_time_to_learn_and_ones_own_is_kept(text: Path, tmp_path: Path) -> None:
    """The recipe's is made for its own preset; the budget cuts it, as it cuts the others', but not the one that was asked for."""
    wanted = ask(text, "gru", "transformer", "mine=preset=tiny,schedule.warmup=30", budget="40 steps")
    wanted = replace(wanted, request=replace(wanted.request, recipe="phrasebook"))
    planned, _ = plan(wanted, tmp_path / "data")
    assert [Warmup.parse(rung.config.schedule.warmup).within(40) for rung in planned.rungs] == [4, 6, 30]


@pytest.mark.parametrize("budget", ["0 minutes", "0 steps", "0 FLOPs", "0 epochs"])
def test_a_budget_that_no_rung_can_meet(budget: str) -> None:
    with pytest.raises(UsageError, match="no rung can take a step") as error:
        Budget.parse(budget)
    assert error.value.expected and error.value.remedy


@pytest.mark.parametrize("budget", ["", "1.5 steps", "ten minutes", "3", "5 hours", "-1 steps", "1e400 FLOPs"])
def test_a_budget_that_is_none(budget: str) -> None:
    with pytest.raises(UsageError, match="--budget"):
        Budget.parse(budget)
    assert Budget.parse("5e14 FLOPs") == (5e14, "FLOPs") and str(Budget.parse("1 minute")) == "1 minutes"


@pytest.mark.parametrize(
    ("rungs", "told"),
    [
        (["lstm-bahdenau"], "lstm-bahdanau"),
        (["gru", "gru"], "given twice"),
        (["../up=preset=gru"], "NAME=key=value"),
        (["data=preset=gru"], "NAME=key=value"),
        (["gru=data.max_length=5"], "same text"),
        (["gru=train.duration=5 steps"], "same text, seeds and budget"),
        (["gru=model.width"], "key=value"),
        (["odd=preset=huge"], "huge"),
        (["gru=model.attention=looking"], "looking|model"),
    ],
)
def test_rungs_that_cannot_be(text: Path, tmp_path: Path, rungs: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        plan(ask(text, *rungs), tmp_path / "data")


def test_settings_that_no_rung_has_are_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.hedas: no rung"):
        plan(ask(text, settings=(*SETTINGS, "model.hedas=2")), tmp_path / "data")


def test_a_rung_is_read_with_commas_in_its_values() -> None:
    rung = parse_rung("mine=preset=gru,optimizer.learning_rate=1e-3,train.note=[1,2]")
    assert (rung.name, rung.preset) == ("mine", "gru")
    assert [setting.value for setting in rung.settings] == [1e-3, [1, 2]]
    assert parse_rung("lstm-luong").settings == (Override(("model", "attention"), "luong-general"),)


def test_a_recipe_tunes_its_own_preset_alone() -> None:
    wanted = LadderSpec(Request(recipe="phrasebook"))
    assert wanted.shared(preset="tiny")["optimizer"] == {"learning_rate": 3e-3}
    assert wanted.shared(preset="gru")["optimizer"] == {} and wanted.shared(preset="gru")["schedule"] == {"kind": "linear"}
    assert wanted.shared(preset="gru")["train"] == wanted.shared(preset="tiny")["train"]


# --- the program -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs/a", "runs/b", "--source", "x"],
        ["--phrasebook", "--source", "x", "--target", "y"],
        ["--source", "x", "--target", "y", "--budget", "0 steps"],
        ["--rung", "nothing", "--source", "x", "--target", "y"],
    ],
)
def test_the_program_refuses_and_writes_nothing(arguments: list[str], tmp_path: Path) -> None:
    assert vitrail(["compare", "-o", str(tmp_path / "out"), *arguments]) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_ladder_that_is_stopped_has_saved(text: Path, tmp_path: Path, number: int, code: int) -> None:
    folder = tmp_path / "ladder"
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    files = ["--source", str(text / "text.en"), "--target", str(text / "text.fr")]
    command = [sys.executable, "-m", "vitrail", "compare", *files, "-o", str(folder), "--rung", "transformer", "--rung", "gru", *settings]
    log = folder / "transformer" / "seed-1" / "metrics.jsonl"
    with subprocess.Popen([*command, "--budget", "100000 steps"], stderr=subprocess.PIPE) as process:
        end = time.monotonic() + 120
        while not (log.exists() and log.stat().st_size) and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(120) == code
        assert process.stderr is not None and b"is saved" in process.stderr.read()
    assert any((folder / "transformer" / "seed-1" / "state").glob("step-*"))
    with FolderLock(folder / "transformer" / "seed-1"):
        pass  # nobody trains there any more


@pytest.mark.slow
def test_the_whole_ladder_on_the_phrasebook(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = [part for one in ("train.threads=2", "search.beams=1", "search.max_length=20") for part in ("--set", one)]
    assert vitrail(["compare", "-o", str(tmp_path / "all"), "--pairs", "3000", "--budget", "60 steps", "--json", *settings]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [rung["name"] for rung in found["rungs"]] == list(STANDARD)
    for rung in found["rungs"]:
        assert rung["steps"] == 60 and [share["name"] for share in rung["shares"]] == ["pronouns", "agreement"]
        assert rung["scores"][0]["sentences"] == 1000
        assert rung["learned"]["doubts"] and rung["enough"]["steps"] > 60
    assert found["pairs"] == [], "60 steps teach nothing that could be compared"
