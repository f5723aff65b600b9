"""What length costs, at the smallest size; and how norms take to lengths that they were not trained on."""

import json
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import pytest

from vitrail.bench.training_worker import fresh_model
from vitrail.data.batches import collate
from vitrail.data.vocabularies.subwords import PAD
from vitrail.errors import UsageError
from vitrail.experiments import length as bench
from vitrail.experiments import norms
from vitrail.experiments.length import ARCHITECTURES, LengthConditions, LengthPoint, LengthReport
from vitrail.experiments.length_worker import LengthResult, LengthTask
from vitrail.models.architectures import preset
from vitrail.models.build import count_parameters
from vitrail.runtime.machine import describe_machine
from vitrail.runtime.measure_in_subprocess import measure_in_subprocess

QUICK = LengthConditions(batch_tokens=256, decoded=2, vocabulary=50, repeats=1, threads=1, precision="fp32")


def point(architecture: str, length: int, *, train_seconds: float = 0.2) -> LengthPoint:
    return LengthPoint(architecture, length, 10, LengthResult(1000, train_seconds, 3_000_000, 0.05, 1_000_000))


@pytest.mark.slow
def test_each_architecture_is_measured_at_each_length() -> None:
    said: list[str] = []
    report = bench.run_length_experiment(architectures=["gru"], lengths=[64, 4], conditions=QUICK, say=said.append)
    assert [(one.length, one.sentences) for one in report.points] == [(4, 64), (64, 4)] and len(said) == 2
    for one in report.points:
        assert min(one.train_milliseconds, one.decode_milliseconds) > 0 and one.train_megabytes >= one.decode_megabytes >= 0
    wide = bench.matched_models(["gru"], vocabulary=50)["gru"]
    assert {one.measured.parameters for one in report.points} == {count_parameters(fresh_model(wide, 50))["total"]}


@pytest.mark.slow
def test_memory_is_what_a_batch_keeps() -> None:
    model = preset("tiny").model_dump(mode="json")
    task = LengthTask(model, vocabulary=50, length=32, sentences=256, decoded=1, repeats=1, threads=1, precision="fp32")
    found = LengthResult(**measure_in_subprocess("vitrail.experiments.length_worker", asdict(task), name="it", remedy=""))
    # 8,192 positions of width 128 in float32 are 4 MB, kept several times in each of 8 blocks.
    assert found.decode_bytes < 30_000_000 < found.train_bytes < 3_000_000_000


def test_architectures_have_about_as_many_parameters_as_the_transformer() -> None:
    models = bench.matched_models(list(ARCHITECTURES), vocabulary=2000)
    sizes = {name: count_parameters(fresh_model(model, 2000))["total"] for name, model in models.items()}
    assert sizes == {name: bench.count_trained(model, 2000) for name, model in models.items()}
    assert models["tiny"] == preset("tiny")
    for name, size in sizes.items():
        assert size == pytest.approx(sizes["tiny"], rel=0.05), name


def test_figures_are_a_token_and_a_step() -> None:
    one = point("rnn", 25)
    assert one.train_milliseconds == pytest.approx(1000 * 0.2 / 250 * 1000)
    assert one.decode_milliseconds == pytest.approx(1000 * 0.05 / 25)
    assert (one.train_megabytes, one.decode_megabytes) == (3.0, 1.0)


def test_the_report_shows_every_architecture_and_length(tmp_path: Path) -> None:
    points = tuple(point(name, length, train_seconds=length**2 / 100) for name in ("rnn", "tiny") for length in (8, 16))
    report = LengthReport(describe_machine(), QUICK, (8, 16), points)
    text = report.to_text()
    assert text.count("Transformer  ") == 4 and "   8,000.00  16,000.00" in text and "parameters: RNN 1,000" in text
    record = json.loads(report.to_json())
    assert record["points"][1]["train_milliseconds"] == pytest.approx(16_000) and record["conditions"]["batch_tokens"] == 256
    page, numbers = report.write(tmp_path / "out")
    assert page.name == "length.html" and page.read_text(encoding="utf-8").count("<svg") == 4
    assert json.loads(numbers.read_text(encoding="utf-8")) == record


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(UsageError, match="convolution"):
        bench.run_length_experiment(architectures=["convolution"])
    with pytest.raises(UsageError, match="nothing"):
        bench.run_length_experiment(lengths=[1])
    with pytest.raises(UsageError, match="whole numbers"):
        bench.parse_lengths("8,x")
    with pytest.raises(UsageError, match="at least 1"):
        norms.run_norm_experiment(steps=0)
    assert bench.parse_lengths("8,16") == (8, 16)
    with pytest.raises(UsageError, match="larger --batch-tokens"):
        bench.run_length_experiment(lengths=[512], conditions=QUICK)


@pytest.mark.slow
def test_norms_are_compared_on_each_mixture_of_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    few = [one for one in norms.contenders() if one.title == "Transformer"]
    monkeypatch.setattr(norms, "contenders", lambda: few)
    said: list[str] = []
    report = norms.run_norm_experiment(steps=2, seeds=(1, 2), batch_tokens=128, train_pairs=400, threads=1, say=said.append)
    assert [(row.norm, row.trained_on) for row in report.rows] == [(n, t) for n in ("layer", "batch") for t in norms.LENGTHS]
    assert len(said) == 6 and all(len(row.short_loss) == len(row.long_loss) == 2 for row in report.rows)
    assert all(0 < loss < 20 for row in report.rows for loss in (*row.short_loss, *row.long_loss))
    text = report.to_text()
    assert text.count("batch norm minus layer norm") == 3 and f"over {report.border}" in text
    assert json.loads(report.to_json())["rows"][0]["trained_on"] == "alike"


def test_batches_have_the_lengths_that_are_asked_for() -> None:
    rows = [[5] * length for length in (2, 3, 4, 9, 10, 11)] * 20
    material = norms.Material(norms.Sentences(rows, rows), norms.Sentences([], []), norms.Sentences([], []), 4, 10)

    def ranges(trained_on: norms.Lengths) -> list[tuple[int, int]]:
        made = islice(norms.endless_batches(material, trained_on, batch_tokens=60, seed=1), 12)
        lengths = [(batch.source != PAD).sum(1) - 1 for batch in made]
        return [(int(found.min()), int(found.max())) for found in lengths]

    def narrow(trained_on: norms.Lengths) -> int:
        return sum(longest - shortest <= 2 for shortest, longest in ranges(trained_on))

    assert max(longest for _, longest in ranges("short")) == 4
    assert max(longest for _, longest in ranges("alike")) == max(longest for _, longest in ranges("mixed")) == 11
    assert narrow("alike") > 8 and narrow("mixed") < 4


def test_a_loss_by_band_is_a_sum_over_its_tokens() -> None:
    model = fresh_model(preset("tiny"), 20).eval()
    rows = [[5, 6, 7]] * 150 + [[8]] * 10
    found = norms.validation_loss(model, norms.Sentences(rows, rows))
    whole = model.loss(collate(rows, rows))
    assert found == pytest.approx(float(whole.plain_nats.detach()) / int(whole.tokens), rel=1e-5)
