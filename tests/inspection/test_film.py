"""The training film: what a frame says against other ways to find it, and that filming leaves a training as it was, also a killed one."""

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import TRANSLATING, Kind
from recorded import model

sys.path.append(str(Path(__file__).parent.parent / "train"))  # training_runs
from training_runs import differing, logged, run, tiny

from vitrail.data.vocabularies.subwords import PAD
from vitrail.errors import ModelError
from vitrail.files import read_json_lines
from vitrail.inspection.collect import collect
from vitrail.inspection.film.filming import ATTENDED, Recorder, attention_entropy, group_of, take
from vitrail.inspection.film.frames import FRAMES, Film, Frame, read_film, shift
from vitrail.inspection.film.looks import LONGEST, PROBES, ROWS, TranslationLook, choose_probes
from vitrail.inspection.maps.norm_statistics import Moments, record_norms
from vitrail.models.base import TranslationModel
from vitrail.train import loop
from vitrail.train.run_config import RunConfig
from vitrail.train.tasks.validate import DevSet

pytestmark = pytest.mark.sampled(7)

DEV = DevSet(["afc bd", "ab", "dd ce", "ha", "gag"], ["bead", "cafe", "aha", "ab ba", "h"])


def a_frame(name: str, dev: DevSet = DEV) -> Frame:
    return take(model(name), TranslationLook(TRANSLATING[name].vocabularies, dev))


def encoded(kind: Kind, row: int) -> tuple[list[int], list[int]]:
    return kind.vocabularies.source.encode(DEV.source[row]), kind.vocabularies.target.encode(DEV.target[row])


# ---- one frame -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRANSLATING)
def test_a_frame_of_every_kind_of_model(name: str) -> None:
    one = model(name)
    before = {key: values.clone() for key, values in one.state_dict().items()}
    frame = a_frame(name)
    assert all(torch.equal(values, before[key]) for key, values in one.state_dict().items())
    assert all(weight.grad is None for weight in one.parameters()) and not one.training
    assert len(frame.probes) == len(frame.translations) == len(frame.losses) == len(frame.attention) == PROBES
    vocabulary = TRANSLATING[name].vocabularies.target
    assert frame.probes[0].target_tokens == (*vocabulary.pieces(vocabulary.encode(DEV.target[0])), "<eos>")
    assert all(value is not None and value > 0 for value in frame.losses)
    assert all(value is not None and np.isfinite(value) for value in frame.gradients.values())
    for heads in (heads for layers in frame.entropies.values() for heads in layers):
        assert all(value is not None and 0 <= value <= 1 for value in heads)
    assert Frame.model_validate(json.loads(frame.model_dump_json())) == frame


@pytest.mark.parametrize("name", ["unequal-depths-wide-heads", "gru-bahdanau", "lstm-luong-general", "pre-batch"])
def test_attention_and_losses_are_those_of_a_sentence_alone(name: str) -> None:
    frame = a_frame(name)
    for row in range(ATTENDED):
        arrays = collect(model(name), *encoded(TRANSLATING[name], row))
        places = sorted(place for place in arrays if place.endswith("attention.weights") and "self" not in place)
        assert len(frame.attention[row]) == len(places)
        for layer, place in zip(frame.attention[row], places, strict=True):
            np.testing.assert_allclose(np.array(layer), 100 * np.asarray(arrays[place]).mean(axis=0), atol=0.51)
        target = [*encoded(TRANSLATING[name], row)[1], 3]
        chosen = np.asarray(arrays["probabilities"])[np.arange(len(target)), target]
        assert frame.losses[row] == pytest.approx(-np.log(chosen).mean(), rel=1e-3)
    assert frame.attention[ATTENDED:] == ((),) * (PROBES - ATTENDED)


def test_gradients_are_those_of_the_loss_that_is_trained() -> None:
    """For weights of every group, against `backward` of the models' own loss."""
    for name in ("pre-layer-sinusoidal", "post-layer-untied", "lstm-luong-general"):
        one, vocabularies = deepcopy(model(name)), TRANSLATING[name].vocabularies
        batch = choose_probes(DEV, vocabularies)[1]
        loss = one.loss(batch)
        (loss.nats / loss.tokens).backward()
        squares: dict[str, float] = {}
        for weight, gradient in ((key, weight.grad) for key, weight in one.named_parameters()):
            assert gradient is not None
            squares[group_of(weight)] = squares.get(group_of(weight), 0.0) + float(gradient.double().square().sum())
        found = a_frame(name).gradients
        tied = {"output_weight": "source_embedding"} if TRANSLATING[name].joint else {}
        assert found == pytest.approx({tied.get(group, group): square**0.5 for group, square in squares.items()}, rel=1e-3)
        assert next(iter(found)) == "source_embedding" and list(found)[-1].startswith("output") == (not tied or "lstm" in name)


def test_spread_of_even_of_single_and_of_masked_rows() -> None:
    keep = torch.tensor([[True, True, True, False], [True, False, False, False]])[None, None]
    weights = torch.tensor([[[1 / 3, 1 / 3, 1 / 3, 0], [1.0, 0, 0, 0]], [[0, 1.0, 0, 0], [1.0, 0, 0, 0]]])[None]
    real = torch.ones(1, 2, dtype=torch.bool)
    # The second row may read one position alone, which says nothing of a head.
    torch.testing.assert_close(attention_entropy(weights, keep, real), torch.tensor([1.0, 0.0]).double())
    assert attention_entropy(weights, keep, ~real).isnan().all()
    half = torch.tensor([[0.5, 0.5, 0, 0], [1.0, 0, 0, 0]])[None, None]
    assert float(attention_entropy(half, keep, real)[0]) == pytest.approx(np.log(2) / np.log(3))


def test_probes_are_short_where_the_dev_set_has_such() -> None:
    long = "abcdefgh" * 4
    dev = DevSet([long, *DEV.source, *["a"] * 60], [*DEV.target, "a", *["b"] * 60])
    vocabularies = TRANSLATING["rnn"].vocabularies
    probes, batch = choose_probes(dev, vocabularies)
    assert probes.source == list(DEV.source[:PROBES]) and len(batch.source) == ROWS
    probes, batch = choose_probes(DevSet([long] * 3, ["a"] * 3), vocabularies)
    assert len(probes.source) == 3 and len(long) > LONGEST
    assert a_frame("rnn", DevSet([long], ["a"])).attention == ((),)
    widest = choose_probes(DevSet(["a" * 500] * 9, ["a"] * 9), vocabularies)[1]
    assert widest.source.numel() <= 1024


# ---- norms -----------------------------------------------------------------------------------------------------------------------


def heard(one: TranslationModel, name: str) -> dict[str, Any]:
    batch = choose_probes(DEV, TRANSLATING[name].vocabularies)[1]
    with torch.no_grad(), record_norms(one) as norms:
        one.decode(batch.target_in, one.encode(batch.source))
    return norms.statistics(batch.source.ne(PAD), batch.target_out.ne(PAD))


@pytest.mark.parametrize("name", ["pre-layer-sinusoidal", "post-rms-learned-gelu", "pre-batch", "lstm-bahdanau-layer-norm"])
def test_norm_statistics_are_those_of_the_sentences_one_by_one(name: str) -> None:
    one, kind = model(name), TRANSLATING[name]
    found = heard(one, name)
    assert {statistics.kind for statistics in found.values()} == {kind.config.norm}
    if "lstm" in name:
        assert any(".layer_norms.1" in place for place in found) and any(".cell_norm" in place for place in found)
        return
    arrays = [collect(one, *encoded(kind, row)) for row in range(len(DEV.source))]
    pre = kind.config.norm_position == "pre"
    for place in ("encoder.0.residual_1", "decoder.1.residual_3"):
        values = np.concatenate([np.asarray(part[f"{place}.{'input' if pre else 'sum'}"], dtype=np.float64) for part in arrays])
        after = np.concatenate([np.asarray(part[f"{place}.normed"], dtype=np.float64) for part in arrays])
        statistics = found[f"{place}.norm"]
        for moments, reference in ((statistics.input, values), (statistics.output, after)):
            assert moments.mean == pytest.approx(reference.mean(), rel=1e-2, abs=1e-4)
            assert moments.variance == pytest.approx(reference.var(), rel=1e-2)
            np.testing.assert_allclose(np.array(moments.units)[:, 0], reference[:, :16].mean(axis=0), rtol=1e-2, atol=1e-3)
            np.testing.assert_allclose(np.array(moments.units)[:, 1], reference[:, :16].std(axis=0), rtol=1e-2, atol=1e-3)
        if statistics.running is not None:
            norm = dict(one.named_modules())[f"{place}.norm"]
            mean, variance = (np.asarray(getattr(norm, f"running_{which}"), dtype=np.float64) for which in ("mean", "variance"))
            drift = np.abs(values.mean(axis=0) - mean) / np.sqrt(variance + 1e-5)
            assert statistics.running.mean_drift == pytest.approx(drift.mean(), rel=1e-2)
            ratio = np.abs(np.log((values.var(axis=0, ddof=1) + 1e-5) / (variance + 1e-5)))
            assert statistics.running.variance_drift == pytest.approx(ratio.mean(), rel=1e-2)


def test_running_statistics_that_are_right_do_not_drift() -> None:
    """Batch norm in training mode, again and again on the same batch, takes that batch's statistics on."""
    kind = TRANSLATING["pre-batch"]
    one = kind.build().train()
    batch = choose_probes(DEV, kind.vocabularies)[1]
    with torch.no_grad():
        for _ in range(100):
            one.loss(batch)
    drifts = [statistics.running for statistics in heard(one.eval(), "pre-batch").values()]
    # Exact at the first norm; later ones hear what evaluation makes of it, with the unbiased variance of a few tokens.
    assert drifts[0].mean_drift < 1e-3 and drifts[0].variance_drift < 1e-3
    assert all(drift.mean_drift < 0.05 and drift.variance_drift < 0.15 for drift in drifts)
    with torch.no_grad():
        one.get_parameter("source_embedding.weight").mul_(2)
    assert heard(one, "pre-batch")["encoder.0.residual_1.norm"].running.variance_drift > 0.2


def test_shift_is_in_deviations() -> None:
    before = Moments(mean=0, variance=1, units=((0.0, 2.0), (5.0, 1.0), (1.0, 0.0)))
    after = Moments(mean=0, variance=1, units=((1.0, 9.0), (3.5, 9.0), (7.0, 0.0)))
    assert shift(before, after) == pytest.approx((0.5 + 1.5) / 2)
    assert shift(before.model_copy(update={"units": ()}), after.model_copy(update={"units": ()})) is None


# ---- a filmed training -----------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it but the closing of files."""


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    real = loop.update

    def update(*arguments: Any, **more: Any) -> loop.Update:
        if more["step"] == step:
            raise Killed
        return real(*arguments, **more)

    monkeypatch.setattr(loop, "update", update)


def short(folder: Path, **train: Any) -> RunConfig:
    """With batch norm, whose running statistics a careless look would move."""
    return tiny(folder, {"model": {"norm": "batch"}, "train": {"duration": "20 steps", "validate_every": "6 steps", **train}})


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a filmed run, `run`, beside one of the same that was not, `plain`. Read only."""
    folder = tmp_path_factory.mktemp("filmed")
    run(short(folder), folder / "plain")
    run(short(folder), folder / "run", watch=Recorder())
    return folder


def test_filming_changes_no_bit_of_a_training(filmed: Path) -> None:
    assert not differing(filmed / "plain", filmed / "run")
    assert (filmed / "run" / "film.jsonl").exists() and not (filmed / "plain" / "film.jsonl").exists()


@pytest.mark.slow
def test_a_killed_training_has_every_frame_once(filmed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = short(filmed)
    for step in (8, 19):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_at(patch, step)
            run(config, tmp_path / "run", watch=Recorder())
        film = tmp_path / "run" / "film.jsonl"
        film.write_bytes(film.read_bytes() + film.read_bytes().splitlines()[-1][:100])  # it died in the middle of a line
        assert read_film(tmp_path / "run").steps
    run(config, tmp_path / "run", watch=Recorder())
    assert (tmp_path / "run" / "film.jsonl").read_bytes() == (filmed / "run" / "film.jsonl").read_bytes()
    assert not differing(tmp_path / "run", filmed / "plain")


def test_going_on_without_filming_cuts_what_is_still_to_come(filmed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = short(filmed, save_every="100 steps")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 8)
        run(config, tmp_path / "run", watch=Recorder())
    film = tmp_path / "run" / "film.jsonl"
    film.write_text(film.read_text(encoding="utf-8") + json.dumps({"step": 99}) + "\n", encoding="utf-8")
    run(config, tmp_path / "run")
    assert {line["step"] for line in read_json_lines(film)} == {6}


def test_the_record_of_a_film(filmed: Path) -> None:
    film = read_film(filmed / "run")
    record = json.loads(json.dumps(film.to_record(), allow_nan=False))
    frames = len(record["steps"])
    assert record["steps"] == [6, 12, 18, 20] == [line["step"] for line in logged(filmed / "run") if line["kind"] == "validation"]
    losses = [line["dev_loss_nats_per_token"] for line in logged(filmed / "run") if line["kind"] == "validation"]
    assert record["scores"]["dev_loss_nats_per_token"] == losses
    samples = {(line["step"], line["source"]): line["translation"] for line in read_json_lines(filmed / "run" / "samples.jsonl")}
    for probe, translations in zip(record["probes"], record["translations"], strict=True):
        assert translations == [samples[step, probe["source"]] for step in record["steps"]]
    for probe, by_frame in list(zip(record["probes"], record["attention"], strict=True))[:ATTENDED]:
        for layers in by_frame:
            assert np.array(layers).shape == (1, len(probe["target_tokens"]), len(probe["source_tokens"]))
    assert set(record["entropies"]) == {"encoder", "decoder", "cross"}
    assert np.array(record["entropies"]["cross"]).shape == (1, 2, frames)
    assert np.array(record["gradients"]["norms"]).shape == (len(record["gradients"]["places"]), frames)
    for norm in record["norms"]:
        assert norm["kind"] == "batch" and len(norm["running"]["mean_drift"]) == frames
        assert np.array(norm["input"]["units"]).shape == (4, frames, 2)
        assert norm["input"]["shift"][0] is None and all(value >= 0 for value in norm["output"]["shift"][1:])
    assert "4 frames, steps 6 to 20" in film.to_text() and record["probes"][0]["source"] in film.to_text()


def test_a_long_film_keeps_its_ends(filmed: Path) -> None:
    film = read_film(filmed / "run")
    many = Film(tuple(film.frames[0].model_copy(update={"step": step}) for step in range(500)), {})
    steps = many.to_record()["steps"]
    assert len(steps) == FRAMES and steps[0] == 0 and steps[-1] == 499 and len(set(np.diff(steps))) <= 2


def test_no_film_and_damaged_ones(filmed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not read_film(tmp_path).steps and read_film(tmp_path).to_record()["steps"] == []
    assert "not filmed" in read_film(tmp_path).to_text()
    text = (filmed / "run" / "film.jsonl").read_text(encoding="utf-8")
    film = tmp_path / "film.jsonl"
    film.write_text(text[:-20], encoding="utf-8")  # half a last line
    assert read_film(tmp_path).steps == (6, 12, 18)
    film.write_text(text + '{"step": 31}\n', encoding="utf-8")
    assert read_film(tmp_path).steps == (6, 12, 18, 20)
    assert caplog.messages[-1].endswith("a line of step 31 is not a frame of a film (probes); left out")
    film.write_text(text + '{"step": 31, "format": 3}\n', encoding="utf-8")
    with pytest.raises(ModelError, match="format 3"):
        read_film(tmp_path)
