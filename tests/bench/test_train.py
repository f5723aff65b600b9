"""The throughput benchmark, end to end at the smallest size."""

import json
import math

import pytest
import torch
from torch import nn

from vitrail.bench import training_speed as bench
from vitrail.bench.peers import systems as known
from vitrail.bench.peers.all_peers import all_systems, peers_of
from vitrail.bench.peers.recurrent_peers import JoeyNMT, TorchRecurrent
from vitrail.bench.peers.systems import PeerModel, System
from vitrail.bench.peers.transformer_peers import Marian, TorchTransformer
from vitrail.bench.training_speed import BenchReport, SpeedRow
from vitrail.config import parse_override
from vitrail.data.batches import Batch, collate
from vitrail.data.vocabularies.subwords import PAD
from vitrail.errors import UsageError, VitrailError
from vitrail.models.configs.recurrent import PRESETS, RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.kinds.recurrent import Recurrent
from vitrail.models.kinds.transformer import Transformer

SMALL = TransformerConfig(encoder_layers=1, decoder_layers=1, width=16, heads=2, feed_forward=32)
PAIRS = [(f"the {a} sees {n} {b}s", f"le {a} voit {n} {b}s") for a in ("fox", "owl", "cat") for b in ("tree", "star") for n in range(2, 30)]
OURS = System("vitrail", "fp32", keep_memory=True)
PEERS = (
    System("torch", "bf16", keep_memory=False, way="explicit attention"),
    System("marian", "fp32", keep_memory=True, way="fused attention"),
)
RECURRENT = RecurrentConfig(cell="lstm", attention="luong-general", width=16, embedding_width=8)
TITLES = {"vitrail": "vitrail", "torch": "torch.nn.Transformer"}


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def row(system: System, *speeds: float) -> SpeedRow:
    return SpeedRow(system, TITLES[system.maker], "fp32", 1000, speeds, 5.0, 4.0)


@pytest.fixture
def machine():
    return bench.describe_machine()


@pytest.mark.slow
def test_all_systems_are_measured_on_the_same_tokens() -> None:
    corpus = bench.make_bench_corpus(PAIRS, vocabulary=600, batch_tokens=256, count=3)
    said: list[str] = []
    report = bench.compare_systems(corpus, model=SMALL, systems=(OURS, *PEERS), threads=1, repeats=1, warmup=1, say=said.append)
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


def looks_ahead_or_at_padding(model: PeerModel) -> None:
    """Fail where a target position sees a later one, or a sentence the padding beside it."""
    batch = collate([[5, 6, 7, 8], [9]], [[10, 11, 12], [13]])
    changed = batch._replace(target_in=batch.target_in.clone())
    changed.target_in[0, 3] = 20
    padded = batch._replace(source=nn.functional.pad(batch.source, (0, 2), value=PAD))
    logits = model.eval()(batch)
    torch.testing.assert_close(model(changed)[0, :3], logits[0, :3])
    assert not torch.allclose(model(changed)[0, 3], logits[0, 3])
    torch.testing.assert_close(model(padded), logits)


def copy_weights(ours: Recurrent, peer: TorchRecurrent) -> None:
    """Give torch's layers our numbers."""

    def copy_cell(cell: nn.Module, layer: nn.RNNBase, ending: str) -> None:
        for name in ("input_weight", "hidden_weight", "input_bias", "hidden_bias"):
            side, kind = name.split("_")
            getattr(layer, f"{kind}_{'ih' if side == 'input' else 'hh'}_{ending}").copy_(cell.get_parameter(name))

    with torch.no_grad():
        for number, layer in enumerate(ours.encoder):
            copy_cell(layer.forward_cell, peer.encoder, f"l{number}")
            copy_cell(layer.backward_cell, peer.encoder, f"l{number}_reverse")
        for number, cell in enumerate(ours.decoder):
            copy_cell(cell, peer.decoder, f"l{number}")
        pairs = [(ours.target_embedding.weight, peer.target_embedding.weight), (ours.output_bias, peer.output.bias)]
        linears = [(part, peer.bridge[place]) for place, part in enumerate(part for bridge in ours.bridge for part in bridge.parts)]
        linears.append((ours.readout, peer.readout))
        if peer.key is not None:
            linears.append((ours.attention.key, peer.key))
        if peer.query is not None:
            linears.append((ours.attention.query, peer.query))
            pairs.append((ours.attention.vector, peer.vector.weight[0]))
        for mine, theirs in linears:
            pairs += zip(mine.parameters(), theirs.parameters(), strict=True)
        for mine, theirs in pairs:
            theirs.copy_(mine)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize(
    ("attention", "input_feeding"),
    [("none", False), ("bahdanau", False), ("luong-dot", True), ("luong-general", False), ("luong-general", True), ("luong-concat", False)],
)
def test_the_loop_of_torchs_layers_is_our_model_written_otherwise(cell: str, attention: str, input_feeding: bool, layers: int) -> None:
    sizes = {"width": 16, "embedding_width": 8, "encoder_layers": layers, "decoder_layers": 2}
    config = RecurrentConfig(cell=cell, attention=attention, input_feeding=input_feeding, **sizes)  # pyright: ignore
    ours = Recurrent(config, source_vocabulary=30, target_vocabulary=30).eval()
    peer = TorchRecurrent(config, 30, packed=True).eval()
    assert size(peer) == size(ours)
    copy_weights(ours, peer)
    batch = collate([[5, 6, 7, 8], [9]], [[10, 11, 12], [13]])
    expected = ours.decode(batch.target_in, ours.encode(batch.source)) @ ours.output_weight.t() + ours.output_bias
    real = batch.target_out != PAD
    torch.testing.assert_close(peer(batch)[real], expected[real])
    looks_ahead_or_at_padding(peer)


def test_sequences_that_are_not_packed_differ_at_padding_alone() -> None:
    packed, padded = (TorchRecurrent(RECURRENT, 30, packed=packed).eval() for packed in (True, False))
    padded.load_state_dict(packed.state_dict())
    even = collate([[5, 6], [9, 8]], [[10, 11, 12], [13]])
    torch.testing.assert_close(padded(even), packed(even))
    uneven = collate([[5, 6], [9]], [[10, 11, 12], [13]])
    assert not torch.allclose(padded(uneven)[1, 0], packed(uneven)[1, 0])


@pytest.mark.parametrize("attention", ["bahdanau", "luong-general"])
def test_joeynmts_model_has_our_sizes_and_its_own_loss(attention: str) -> None:
    pytest.importorskip("joeynmt")
    config = RECURRENT.model_copy(update={"attention": attention, "embedding_width": 16, "width": 16})
    model = JoeyNMT(config, 30)
    assert model.model.decoder.output_layer.weight is model.model.trg_embed.lut.weight is model.model.src_embed.lut.weight
    assert model.model.encoder.rnn.hidden_size == 8 and model.model.decoder.rnn.hidden_size == 16
    looks_ahead_or_at_padding(model)
    shuffled = Batch(*(part.flip(0) for part in collate([[5, 6, 7, 8], [9]], [[10, 11, 12], [13]])))
    with torch.no_grad():
        loss, logits = model.loss(shuffled), model(shuffled).flatten(0, 1)
    assert 0 < float(loss) < 2 * math.log(30)
    plain = nn.functional.cross_entropy(logits, shuffled.target_out.flatten(), ignore_index=PAD, label_smoothing=0.1)
    # It is a divergence, not a cross-entropy: smaller by the entropy of the smoothed targets, which no model can change.
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1 / 30))
    assert float(loss) == pytest.approx(float(plain) - entropy, abs=0.05)
    assert JoeyNMT(RECURRENT, 30).model.decoder.output_layer.weight.shape == (30, 16)


def test_every_setting_of_the_peers_is_tried_and_ours_comes_first() -> None:
    systems = all_systems(SMALL, "auto")
    assert systems[0] == System("vitrail", "auto", keep_memory=True) and systems[1].precision == "fp32"
    assert len(set(systems)) == len(systems) == 2 + 2 * 2 * 2 * 2
    assert [one.maker for one in all_systems(SMALL, "fp32")].count("vitrail") == 1
    recurrent = all_systems(RECURRENT, "bf16")
    assert {one.maker for one in recurrent} == {"vitrail", "torch", "joeynmt"}
    torchs = [(one.precision, one.keep_memory, one.way) for one in recurrent if one.maker == "torch"]
    assert len(set(torchs)) == 8 and {way for _, _, way in torchs} == {"packed sequences", "padded sequences"}


@pytest.mark.parametrize(
    ("changes", "torch_lacks", "joey_lacks"),
    [
        ({}, "", ""),
        ({"attention": "bahdanau"}, "", ""),
        ({"attention": "none"}, "", "without"),
        ({"cell": "rnn"}, "", "cells gru and lstm"),
        ({"bidirectional": False}, "", "bidirectional"),
        ({"norm": "layer", "residual": True}, "has no model.norm, model.residual", "has no model.norm, model.residual"),
    ],
)
def test_a_peer_that_cannot_be_this_model_says_what_it_lacks(changes: dict[str, object], torch_lacks: str, joey_lacks: str) -> None:
    loop, joey = peers_of(RECURRENT.model_copy(update=changes))
    assert loop.obstacle() == torch_lacks
    assert joey_lacks in joey.lacks and bool(joey.lacks) == bool(joey_lacks)


@pytest.mark.slow
def test_recurrent_systems_are_measured_on_the_same_tokens() -> None:
    corpus = bench.make_bench_corpus(PAIRS, vocabulary=600, batch_tokens=256, count=3)
    systems = (
        OURS,
        System("torch", "bf16", keep_memory=False, way="packed sequences"),
        System("torch", "fp32", keep_memory=True, way="padded sequences"),
        System("joeynmt", "fp32", keep_memory=True),
    )
    report = bench.compare_systems(corpus, model=RECURRENT, systems=systems, threads=1, repeats=1, warmup=1)
    there = known.is_installed("joeynmt")
    assert [one.title for one in report.rows] == ["vitrail", *["torch.nn.LSTM loop"] * 2, *["JoeyNMT"] * there]
    assert there or report.missing["JoeyNMT"].startswith("not installed: pip install --no-deps")
    for one in report.rows:
        assert 0.5 * math.log(corpus.vocabulary) < one.first_loss < 2 * math.log(corpus.vocabulary)
    assert "torch.nn.LSTM loop at its best" in report.to_text() and "attention luong-general" in report.conditions


def test_settings_change_the_model_and_are_checked() -> None:
    model = bench.sized_model("lstm-attention", [parse_override("model.embedding_width=256")])
    assert model == PRESETS["lstm-attention"].model_copy(update={"embedding_width": 256})
    with pytest.raises(UsageError, match=r"widht: no such key of kind recurrent; model\.width"):
        bench.sized_model("lstm", [parse_override("model.widht=3")])


def test_the_ratio_is_against_the_best_of_a_peer(machine) -> None:
    slow, fast = System("torch", "fp32", keep_memory=False), System("torch", "fp32", keep_memory=True)
    report = BenchReport(machine, "", (row(OURS, 100, 120, 110), row(slow, 50, 10, 50), row(fast, 80, 60, 55)), {})
    (ratio,) = report.ratios()
    assert ratio.best == fast
    assert ratio.of_medians == pytest.approx(110 / 60) and (ratio.least, ratio.most) == pytest.approx((100 / 80, 2.0))


def test_a_peer_that_is_not_installed_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "is_installed", lambda package: False)
    result = bench.SpeedResult(tokens=10, seconds=2.0, precision="fp32", parameters=1, first_loss=1.0, last_loss=1.0)
    monkeypatch.setattr(bench, "measure_system", lambda task, *, title: result)
    corpus = bench.make_bench_corpus(PAIRS, vocabulary=600, batch_tokens=256, count=2)
    report = bench.compare_systems(corpus, model=SMALL, systems=(OURS, *PEERS), threads=1, repeats=2)
    assert [one.system.maker for one in report.rows] == ["vitrail", "torch"]
    assert report.rows[0].tokens_per_second == (5.0, 5.0)
    assert "not installed: pip install 'vitrail[hf]'" in report.to_text()


def test_a_measurement_that_fails_says_why(tmp_path) -> None:
    corpus = bench.make_bench_corpus(PAIRS, vocabulary=600, batch_tokens=256, count=2)
    too_small = corpus._replace(vocabulary=3)
    with pytest.raises(VitrailError, match=r"measuring vitrail ended with 1: .*range"):
        bench.compare_systems(too_small, model=SMALL, systems=(OURS,), threads=1, repeats=1, warmup=1)


def test_what_cannot_be_measured_is_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        bench.measure_training_speed(steps=0)
    with pytest.raises(UsageError, match="preset"):
        bench.measure_training_speed(preset="huge")
    with pytest.raises(UsageError, match="neither"):
        bench.read_pairs(tmp_path / "a.en", None)


def test_pairs_come_from_two_files(tmp_path) -> None:
    source, target = tmp_path / "a.en", tmp_path / "a.fr"
    source.write_text("one\ntwo\n", encoding="utf-8")
    target.write_text("un\ndeux\n", encoding="utf-8")
    assert bench.read_pairs(source, target) == [("one", "un"), ("two", "deux")]
