"""The benchmark of language models: the plain loop trains the same model as ours, and the report says who is faster."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from vitrail.bench.language_speed import LanguageRow, LanguageSpeedReport, measure_language_speed
from vitrail.bench.language_worker import LanguageSpeedTask, measure_language
from vitrail.bench.peers.causal_peer import PlainLanguageModel
from vitrail.data.windows import TextWindow
from vitrail.models.configs.causal import CausalConfig
from vitrail.models.kinds.causal import CausalLanguageModel
from vitrail.runtime.machine import describe_machine

SHAPE = {"layers": 2, "width": 16, "heads": 2, "feed_forward": 24, "context": 8, "activation": "gelu", "dropout": 0.0}
CONFIG = CausalConfig.model_validate(SHAPE | {"positions": "learned", "max_positions": 8})


def test_the_plain_model_is_ours() -> None:
    ours, plain = CausalLanguageModel(CONFIG, vocabulary=20).eval(), PlainLanguageModel(CONFIG, vocabulary=20).eval()
    with torch.no_grad():
        plain.embedding.weight.copy_(ours.target_embedding.weight)
        plain.positions.weight.copy_(ours.target_positions.weight)  # pyright: ignore[reportArgumentType]
        plain.norm.load_state_dict(ours.decoder_norm.norm.state_dict())  # pyright: ignore
        for mine, its in zip(ours.decoder, plain.blocks, strict=True):
            block: Any = mine
            other: Any = its
            attention = block.self_attention
            projections = (attention.query, attention.key, attention.value)
            other.query_key_value.weight.copy_(torch.cat([one.weight for one in projections]))
            other.query_key_value.bias.copy_(torch.cat([one.bias for one in projections]))
            other.project.load_state_dict(attention.output.state_dict())
            other.expand.load_state_dict(block.feed_forward.expand.state_dict())
            other.contract.load_state_dict(block.feed_forward.contract.state_dict())
            other.norm_1.load_state_dict(block.residual_1.norm.norm.state_dict())
            other.norm_2.load_state_dict(block.residual_2.norm.norm.state_dict())
        ours.target_embedding.weight /= 4  # ours scales embeddings by sqrt(16); the output stays as it was
        ours.output_weight = torch.nn.Parameter(plain.embedding.weight.clone())
        tokens = torch.randint(4, 20, (3, 9))
        found = ours.loss(TextWindow(tokens[:, :-1], tokens[:, 1:], torch.zeros(3, 8, dtype=torch.long)))
        assert float(found.nats / found.tokens) == pytest.approx(float(plain.loss(tokens[:, :-1], tokens[:, 1:])), rel=1e-5)


def test_both_learn_and_are_timed() -> None:
    task = LanguageSpeedTask("vitrail", "fp32", False, 4, 8, 20, 5, 1, CONFIG.model_dump(mode="json"))
    sizes = set[int]()
    for maker in ("vitrail", "plain torch"):
        early, late = (measure_language(replace(task, maker=maker, steps=steps)) for steps in (5, 150))
        assert late.tokens_per_second > 0 and late.precision == "fp32" and late.last_loss < early.last_loss
        sizes.add(late.parameters)
    assert len(sizes) == 1


def test_ratios_are_medians_over_rounds_against_the_loop_as_it_comes_and_at_its_best() -> None:
    rows = (
        LanguageRow("vitrail", "bf16", "kept", 9, (30.0, 40.0, 33.0)),
        LanguageRow("plain torch", "fp32", "as it comes", 9, (10.0, 20.0, 11.0)),
        LanguageRow("plain torch", "bf16", "kept", 9, (20.0, 25.0, 30.0)),
    )
    report = LanguageSpeedReport(describe_machine(), "small", rows)
    assert report.ratio == 3 and report.ratio_to_best == 1.5
    assert "3.00 x the plain loop as it comes, 1.50 x its best settings" in report.to_text()


@pytest.mark.slow
def test_the_whole_comparison() -> None:
    said: list[str] = []
    report = measure_language_speed(rows=2, context=8, steps=5, repeats=1, threads=1, say=said.append)
    assert len(report.rows) == 5 and all(row.median > 0 for row in report.rows) and said == ["round 1 of 1"]
