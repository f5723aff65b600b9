"""Faults are planted in runs, each of which is then looked over whole: the fault must be named, and a healthy run must be clean."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from planted_runs import change_model, copy, dev_line, other_model, rewrite_metrics, rewrite_texts, train_line, train_tiny
from torch import Tensor

from vitrail.data.preparing.prepared import open_prepared
from vitrail.data.vocabularies.subwords import EOS, CharacterVocabulary, Vocabularies
from vitrail.doctor.examine import CHECKS, examine
from vitrail.doctor.findings import Diagnosis, Finding
from vitrail.errors import ModelError
from vitrail.files import FolderLock, read_json_lines, seal, unseal
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig


@pytest.fixture
def run(healthy: Path, tmp_path: Path) -> Path:
    """A copy of the healthy run."""
    return copy(healthy, tmp_path / "run")


def fault(diagnosis: Diagnosis, check: str) -> Finding:
    """The fault that a check found, with all that a fault must say."""
    (found,) = [finding for finding in diagnosis.faults if finding.check == check]
    assert found.found and found.remedy and any(letter.isdigit() for letter in found.found)
    assert diagnosis.exit_code == 1 and not diagnosis.clean
    return found


def of_data(diagnosis: Diagnosis) -> list[str]:
    """What was found wrong with the text."""
    return [
        one.check for one in (*diagnosis.faults, *diagnosis.of("warning")) if one.check in ("vocabulary", "misaligned lines", "leakage")
    ]


def test_a_healthy_run_is_clean(healthy: Path) -> None:
    """And looking it over draws nothing from torch's generator."""
    before = torch.get_rng_state()
    found = examine(healthy)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.clean and found.exit_code == 0, found.to_text()
    assert {finding.check for finding in found.findings} == {check.name for check in CHECKS}
    assert not found.of("unchecked")


def test_a_training_at_work_is_not_disturbed(run: Path) -> None:
    """Its lock is held by the training; no file is made or touched."""

    def state() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in run.rglob("*") if path.is_file()}

    with FolderLock(run):
        before = state()
        assert examine(run).exit_code == 0
        assert state() == before


# ---- what a model says -----------------------------------------------------------------------------------------------------------


def say_only(token: int) -> Callable[[dict[str, Tensor]], None]:
    """Make the last norm give one token's own vector at every step."""

    def change(tensors: dict[str, Tensor]) -> None:
        tensors["decoder_norm.norm.weight"].zero_()
        tensors["decoder_norm.norm.bias"].copy_(20 * tensors["output_weight"][token])

    return change


def test_the_same_output_for_every_input(run: Path) -> None:
    change_model(run, say_only(EOS))
    found = examine(run)
    assert fault(found, "same output").numbers["different"] == 1
    assert not [one for one in found.faults if one.check == "repetition"]


def test_a_model_that_loops(run: Path) -> None:
    word = open_prepared(run / "data").vocabularies.target.encode("le")[0]
    change_model(run, say_only(word))
    found = fault(examine(run), "repetition")
    assert found.numbers["looping"] == found.numbers["truncated"] == found.numbers["sentences"] == 128


def test_a_decoder_that_does_not_hear_the_source(run: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        for name in ("weight", "bias"):
            tensors[f"decoder.0.cross_attention.output.{name}"].zero_()

    change_model(run, change)
    found = examine(run)
    assert fault(found, "unheard source").numbers["gained_nats"] == pytest.approx(0, abs=1e-6)
    assert "encoder" in fault(found, "gradients").found
    assert of_data(found) == []


# ---- its text --------------------------------------------------------------------------------------------------------------------


def test_targets_that_are_shifted_by_a_line_from_some_line_on(tmp_path: Path) -> None:
    def change(source: list[str], target: list[str]) -> tuple[list[str], list[str]]:
        text[:] = source
        return source, [*target[:2500], "Une ligne de trop.", *target[2500:-1]]

    text: list[str] = []

    run = tmp_path / "run"
    train_tiny(run, {"train": {"duration": "20 steps"}}, change=change)
    found = examine(run)
    shift = fault(found, "misaligned lines")
    store = open_prepared(run / "data").stores[0]
    (quoted,) = [place for place, line in enumerate(text) if f"there {line!r} is paired" in shift.found]
    assert abs(quoted - 2500) <= 20  # lengths alone tell the place to a few pairs: docs/doctor.md
    assert shift.numbers["shift"] == 1 and shift.numbers["last_pair"] == len(store)
    assert "target" in shift.remedy and "leakage" not in of_data(found) and "vocabulary" not in of_data(found)


def test_dev_sentences_that_stand_in_the_training_text(run: Path) -> None:
    data = open_prepared(run / "data")
    train = [
        (data.vocabularies.source.decode(data.stores[0].source(i)), data.vocabularies.target.decode(data.stores[0].target(i)))
        for i in (5, 9, 77)
    ]
    source, target = [*data.dev.source], [*data.dev.target]
    for place, (one, other) in enumerate(train):
        source[place * 7], target[place * 7] = one.upper().rstrip("."), f" {other}"  # the same words in another dress
    rewrite_texts(run, "dev", source, target)
    found = examine(run)
    leak = fault(found, "leakage")
    assert leak.numbers["pairs"] == 3 and "dev" in leak.found
    assert of_data(found) == ["leakage"]


def test_a_leaked_test_set(run: Path) -> None:
    data = open_prepared(run / "data")
    places = range(10, 60)
    source = [data.vocabularies.source.decode(data.stores[0].source(place)) for place in places]
    target = [data.vocabularies.target.decode(data.stores[0].target(place)) for place in places]
    rewrite_texts(run, "test", source, target)
    assert fault(examine(run), "leakage").numbers["pairs"] == 50


def test_a_model_with_another_vocabulary(run: Path) -> None:
    letters = CharacterVocabulary(list("abcdefghijklmnopqrstuvwxyzéèàç'.,!? ABCDEFGHIJKLMNOPQRSTUVWXYZ-"))
    config = TransformerConfig(encoder_layers=1, decoder_layers=1, width=16, heads=2, feed_forward=16)
    vocabularies = Vocabularies(letters, letters, joint=True)
    other_model(run, config, vocabularies=vocabularies)
    found = fault(examine(run), "vocabulary")
    assert "model/ and data/" in found.found and vocabularies.digest[:12] in found.found


def test_dev_sides_the_wrong_way_round(run: Path) -> None:
    data = open_prepared(run / "data")
    rewrite_texts(run, "dev", data.dev.target, data.dev.source)
    assert "exchanged" in fault(examine(run), "vocabulary").remedy


def test_a_dev_text_of_another_encoding(run: Path) -> None:
    data = open_prepared(run / "data")
    garbled = [line.replace("e", "ε").replace("a", "α").replace("r", "ρ").replace("s", "σ") for line in data.dev.target]
    rewrite_texts(run, "dev", data.dev.source, garbled)
    found = fault(examine(run), "vocabulary")
    assert found.numbers["target_unknown_dev"] > 0.2 > found.numbers["target_unknown_train"]


# ---- its training ----------------------------------------------------------------------------------------------------------------

_SHORT = {
    "train": {"duration": "155 steps", "validate_every": "155 steps", "validation_sentences": 2},
    "model": {"width": 32, "feed_forward": 32},
}


@pytest.mark.parametrize(("factor", "verdict"), [(1000.0, "too high"), pytest.param(0.001, "too low", marks=pytest.mark.slow)])
def test_a_learning_rate_a_thousand_times_off(tmp_path: Path, factor: float, verdict: str) -> None:
    run = tmp_path / "run"
    train_tiny(run, {**_SHORT, "optimizer": {"learning_rate": 6e-3 * factor}})
    found = examine(run)
    rate = fault(found, "learning rate")
    assert verdict in rate.found and rate.numbers["learning_rate"] == pytest.approx(6e-3 * factor)
    assert fault(found, "learning")
    assert of_data(found) == []


def of_log(run: Path) -> Diagnosis:
    """What a run without a model's folder is told: its log alone matters here, and it takes less time."""
    shutil.rmtree(run / "model")
    return examine(run)


def test_an_overfitted_training(run: Path) -> None:
    lines = [line for epoch in range(1, 9) for line in _epoch(epoch)]
    rewrite_metrics(run, [*lines, {"step": 800, "kind": "finished"}])
    found = fault(of_log(run), "overfitting")
    assert found.numbers["best_step"] == 300 and found.numbers["rise"] > 0.2


def _epoch(epoch: int) -> list[dict[str, object]]:
    """The training loss falls for ever; the dev loss is lowest in the third epoch."""
    return [train_line(100 * epoch, nats=2.0 / epoch), dev_line(100 * epoch, 1.2 + 0.06 * (epoch - 3) ** 2, best=epoch <= 3)]


def test_a_training_that_diverged(run: Path) -> None:
    lines = [train_line(step, nats=5 - step / 40, norm=0.6) for step in range(25, 150, 25)]
    lines += [train_line(step, nats=9.0, norm=80.0) for step in range(150, 300, 25)]
    rewrite_metrics(run, lines)
    found = fault(of_log(run), "steadiness")
    assert "step 150" in found.found and found.numbers["jumps"] == 6


def test_a_training_that_was_stopped_early(run: Path) -> None:
    kept = [line for line in read_json_lines(run / "metrics.jsonl") if line["step"] <= 225]
    rewrite_metrics(run, kept)
    (note,) = [one for one in of_log(run).of("note") if one.check == "completion"]
    assert "50%" in note.found


# ---- its inside ------------------------------------------------------------------------------------------------------------------


def of_head(tensors: dict[str, Tensor], place: str, head: int) -> dict[str, Tensor]:
    """The parts of a head of two, by what they are: views, so that changes reach the model."""
    half = tensors[f"{place}.query.weight"].shape[0] // 2
    rows = slice(head * half, (head + 1) * half)
    parts = {
        f"{which}.{kind}": tensors[f"{place}.{which}.{kind}"][rows] for which in ("query", "key", "value") for kind in ("weight", "bias")
    }
    return parts | {"output": tensors[f"{place}.output.weight"][:, rows]}


def test_duplicated_heads(run: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        for place in ("encoder.0.self_attention", "decoder.0.cross_attention"):
            first, second = of_head(tensors, place, 0), of_head(tensors, place, 1)
            for part, values in first.items():
                second[part].copy_(values)

    change_model(run, change)
    found = fault(examine(run), "heads")
    assert found.numbers["twins"] == 2 and "encoder.0.self_attention heads 0 and 1 are duplicates" in found.found


def test_silent_heads(run: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        of_head(tensors, "encoder.0.self_attention", 1)["output"].zero_()
        of_head(tensors, "decoder.0.self_attention", 0)["output"].zero_()

    change_model(run, change)
    found = fault(examine(run), "heads")
    assert found.numbers["silent"] == 2 and "encoder.0.self_attention head 1 has near-zero output" in found.found


def test_one_head_that_looks_everywhere_alike_is_a_warning(run: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        head = of_head(tensors, "encoder.0.self_attention", 0)
        head["query.weight"].zero_()
        head["query.bias"].zero_()

    change_model(run, change)
    (found,) = [one for one in examine(run).of("warning") if one.check == "heads"]
    assert found.numbers["uniform"] == 1


def test_dead_neurons(run: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors["encoder.0.feed_forward.expand.bias"][8:] = -1000

    change_model(run, change)
    found = fault(examine(run), "neurons")
    assert found.numbers["dead encoder.0.feed_forward"] >= 120 / 128


@pytest.mark.parametrize(("factor", "verdict"), [(10.0, "exploding"), (0.02, "vanishing")])
def test_recurrent_weights_of_the_wrong_size(run: Path, factor: float, verdict: str) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        for name, values in tensors.items():
            if name.endswith("hidden_weight"):
                values.mul_(factor)

    other_model(run, RecurrentConfig(cell="rnn", width=64, embedding_width=32, dropout=0.0), change=change)
    assert fault(examine(run), "gradients").found.startswith(verdict)


def test_recurrent_weights_of_the_right_size_are_no_fault(run: Path) -> None:
    other_model(run, RecurrentConfig(cell="lstm", width=64, embedding_width=32, dropout=0.0, attention="luong-general"))
    assert not [one for one in examine(run).faults if one.check == "gradients"]


def test_a_layer_that_gradients_do_not_reach(run: Path) -> None:
    config = RecurrentConfig(cell="gru", width=32, embedding_width=32, dropout=0.0, encoder_layers=2, attention="luong-general")

    def change(tensors: dict[str, Tensor]) -> None:
        for direction in ("forward_cell", "backward_cell"):
            tensors[f"encoder.1.{direction}.input_weight"].mul_(1e-6)

    other_model(run, config, change=change)
    assert "two layers differ" in fault(examine(run), "gradients").found


# ---- what cannot be looked at ----------------------------------------------------------------------------------------------------


def test_what_is_missing_is_told_by_name(run: Path) -> None:
    for name in ("metrics.jsonl", "config.toml"):
        (run / name).unlink()
    found = {one.check: one.found for one in examine(run).of("unchecked")}
    assert found["overfitting"] == "there is no metrics.jsonl" and found["learning rate"] == "there is no config.toml"
    assert "heads" not in found


def test_a_model_folder_by_itself_is_not_called_healthy(healthy: Path) -> None:
    found = examine(healthy / "model")
    assert found.exit_code == 4
    assert {one.check for one in found.of("unchecked")} == {check.name for check in CHECKS}


def test_a_run_without_a_dev_text(run: Path) -> None:
    index = unseal((run / "data" / "prepared.json").read_bytes())
    for side in ("source", "target"):
        (run / "data" / f"dev.{side}").unlink()
        del index["files"][f"dev.{side}"]
    (run / "data" / "prepared.json").write_bytes(seal(index))
    found = {one.check for one in examine(run).of("unchecked")}
    assert {"heads", "gradients", "same output", "leakage"} <= found


def test_dev_sentences_that_are_too_long_or_too_few_are_told(run: Path) -> None:
    rewrite_texts(run, "dev", ["a b c " * 200], ["d e f " * 200])
    found = {one.check: one.found for one in examine(run).of("unchecked")}
    assert "1 to 100 tokens" in found["heads"] and "1 to 100" in found["gradients"] and "too few" in found["same output"]


def test_a_damaged_checkpoint_is_a_warning(run: Path) -> None:
    newest = max((run / "state").glob("step-*"))
    os.truncate(newest / "model.safetensors", 100)
    (found,) = [one for one in examine(run).of("warning") if one.check == "checkpoints"]
    assert newest.name in found.found


@pytest.mark.parametrize("name", ["model/model.safetensors", "data/store-0/source.ids", "data/dev.source", "model/config.json"])
def test_damage_is_an_error(run: Path, name: str) -> None:
    os.truncate(run / name, 40)
    with pytest.raises(ModelError):
        examine(run)


def test_a_damaged_configuration_is_an_error(run: Path) -> None:
    (run / "config.toml").write_text("model = 3\n")
    with pytest.raises(ModelError, match=r"config\.toml"):
        examine(run)


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: folder.mkdir(), lambda folder: folder.write_text("x")])
def test_what_is_no_run_is_an_error(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "thing")
    with pytest.raises(ModelError):
        examine(tmp_path / "thing")
