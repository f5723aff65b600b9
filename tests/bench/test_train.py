"""The throughput benchmark, end to end at the smallest size."""

import json
import math

import pytest
import torch

from vitrail.bench import train as bench
from vitrail.bench.peers import Marian, TorchTransformer
from vitrail.bench.train import BenchReport, Row, System
from vitrail.data.batches import collate
from vitrail.data.subwords import PAD
from vitrail.errors import UsageError, VitrailError
from vitrail.models.transformer import Transformer, TransformerConfig

SMALL = TransformerConfig(encoder_layers=1, decoder_layers=1, width=16, heads=2, feed_forward=32)
PAIRS = [(f"the {a} sees {n} {b}s", f"le {a} voit {n} {b}s") for a in ("fox", "owl", "cat") for b in ("tree", "star") for n in range(2, 30)]
OURS = System("vitrail", "fp32", keep_memory=True)
PEERS = (
    System("torch", "bf16", keep_memory=False, fused_attention=False),
    System("marian", "fp32", keep_memory=True, fused_attention=True),
)


def row(system: System, *speeds: float) -> Row:
    return Row(system, "fp32", 1000, speeds, 5.0, 4.0)


@pytest.fixture
def machine():
    return bench.describe_machine()


def test_all_systems_are_measured_on_the_same_tokens() -> None:
    corpus = bench.make_corpus(PAIRS, vocabulary=600, batch_tokens=256, count=3)
    said: list[str] = []
    report = bench.compare(corpus, model=SMALL, systems=(OURS, *PEERS), threads=1, repeats=1, warmup=1, say=said.append)
    assert len(corpus.batches) == 3 and len(said) == 3
    assert [one.system for one in report.rows] == [OURS, *PEERS]
    assert [one.precision for one in report.rows] == ["fp32", "bf16", "fp32"]
    for one in report.rows:
        assert all(speed > 0 for speed in one.tokens_per_second)
        assert 0.5 * math.log(corpus.vocabulary) < one.first_loss < 2 * math.log(corpus.vocabulary)
    assert [ratio.peer for ratio in report.ratios()] == ["torch", "marian"]
    record = json.loads(report.to_json())
    assert record["ratios"][0]["best"]["precision"] == "bf16" and record["machine"]["cores"] >= 1
    assert "MarianMT at its best" in report.to_text() and torch.__version__ in report.to_text()


def test_peers_have_the_sizes_of_ours_and_do_not_look_ahead() -> None:
    pytest.importorskip("transformers")
    config = SMALL.model_copy(update={"encoder_layers": 2, "decoder_layers": 3})
    ours = Transformer(config, source_vocabulary=50, target_vocabulary=50)
    torchs, marian = TorchTransformer(config, 50), Marian(config, 50, fused_attention=False)

    def size(model: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)

    assert size(torchs) == size(ours)
    assert size(marian) == size(ours) - 2 * 2 * config.width  # post-norm: no norm at the end of either half
    batch = collate([[5, 6, 7, 8], [9]], [[10, 11, 12], [13]])
    changed = batch._replace(target_in=batch.target_in.clone())
    changed.target_in[0, 3] = 20
    padded = batch._replace(source=torch.nn.functional.pad(batch.source, (0, 2), value=PAD))
    for model in (torchs.eval(), marian.eval()):
        logits = model(batch)
        assert logits.shape == (2, 4, 50)
        torch.testing.assert_close(model(changed)[0, :3], logits[0, :3])
        assert not torch.allclose(model(changed)[0, 3], logits[0, 3])
        torch.testing.assert_close(model(padded), logits)


def test_every_setting_of_the_peers_is_tried_and_ours_comes_first() -> None:
    systems = bench.all_systems("auto")
    assert systems[0] == System("vitrail", "auto", keep_memory=True) and systems[1].precision == "fp32"
    assert len(set(systems)) == len(systems) == 2 + 2 * 2 * 2 * 2
    assert [one.maker for one in bench.all_systems("fp32")].count("vitrail") == 1


def test_the_ratio_is_against_the_best_of_a_peer(machine) -> None:
    slow, fast = System("torch", "fp32", keep_memory=False), System("torch", "fp32", keep_memory=True)
    report = BenchReport(machine, "", (row(OURS, 100, 120, 110), row(slow, 50, 10, 50), row(fast, 80, 60, 55)), {})
    (ratio,) = report.ratios()
    assert ratio.best == fast
    assert ratio.of_medians == pytest.approx(110 / 60) and (ratio.least, ratio.most) == pytest.approx((100 / 80, 2.0))


def test_a_peer_that_is_not_installed_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "is_installed", lambda package: False)
    result = bench.Measured(tokens=10, seconds=2.0, precision="fp32", parameters=1, first_loss=1.0, last_loss=1.0)
    monkeypatch.setattr(bench, "measure_apart", lambda task: result)
    corpus = bench.make_corpus(PAIRS, vocabulary=600, batch_tokens=256, count=2)
    report = bench.compare(corpus, model=SMALL, systems=(OURS, *PEERS), threads=1, repeats=2)
    assert [one.system.maker for one in report.rows] == ["vitrail", "torch"]
    assert report.rows[0].tokens_per_second == (5.0, 5.0)
    assert "not installed: pip install 'vitrail[hf]'" in report.to_text()


def test_a_measurement_that_fails_says_why(tmp_path) -> None:
    corpus = bench.make_corpus(PAIRS, vocabulary=600, batch_tokens=256, count=2)
    too_small = corpus._replace(vocabulary=3)
    with pytest.raises(VitrailError, match=r"measuring vitrail ended with 1: .*range"):
        bench.compare(too_small, model=SMALL, systems=(OURS,), threads=1, repeats=1, warmup=1)


def test_what_cannot_be_measured_is_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        bench.run(steps=0)
    with pytest.raises(UsageError, match="preset"):
        bench.run(preset="huge")
    with pytest.raises(UsageError, match="neither"):
        bench.read_pairs(tmp_path / "a.en", None)


def test_pairs_come_from_two_files(tmp_path) -> None:
    source, target = tmp_path / "a.en", tmp_path / "a.fr"
    source.write_text("one\ntwo\n", encoding="utf-8")
    target.write_text("un\ndeux\n", encoding="utf-8")
    assert bench.read_pairs(source, target) == [("one", "un"), ("two", "deux")]
