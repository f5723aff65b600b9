"""Verdicts on what a model says."""

import math

import pytest
import torch

from vitrail.data.batches import collate
from vitrail.data.vocabularies.subwords import CharacterVocabulary, Vocabularies
from vitrail.decode.forced import losses
from vitrail.doctor.checks.outputs import judge_loops, judge_source_use, judge_variety, loops
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import TransformerConfig


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the dog the dog the dog the dog", True),
        ("he is very very very very good", True),
        ("no, no, no, I will not do that", False),
        ("I saw a dog and a cat and a cow and a hen", False),
        ("LLLLLLLL", True),
        ("我我我我我我", True),
        ("我看见一只狗", False),
        ("", False),
    ],
)
def test_loops(text: str, expected: bool) -> None:
    assert loops(text) is expected


@pytest.mark.parametrize(("different", "severity"), [(100, "ok"), (60, "ok"), (30, "warning"), (5, "fault"), (1, "fault")])
def test_variety(different: int, severity: str) -> None:
    found = judge_variety([f"text {place % different}" for place in range(100)], [f"right {place}" for place in range(100)])
    assert found.severity == severity and found.numbers["different"] == different


def test_variety_is_held_against_that_of_the_references() -> None:
    """Where half of all sentences are answered by yes or no, a model that does so is right."""
    answers = ["yes" if place % 2 else "no" for place in range(100)]
    assert judge_variety(answers, answers).severity == "ok"
    assert judge_variety(["yes"] * 4, ["no"] * 4).severity == "unchecked"


@pytest.mark.parametrize(("looping", "severity"), [(0, "ok"), (3, "ok"), (5, "warning"), (20, "fault")])
def test_repetition(looping: int, severity: str) -> None:
    found = judge_loops(["a a a a"] * looping, [], 128)
    assert found.severity == severity


@pytest.mark.parametrize(("shuffled", "severity"), [(6.0, "ok"), (1.3, "warning"), (1.05, "fault"), (0.9, "fault"), (math.nan, "fault")])
def test_hearing(shuffled: float, severity: str) -> None:
    assert judge_source_use(1.0, shuffled, sentences=128).severity == severity


def test_the_loss_of_single_sentences_adds_up_to_the_models_own() -> None:
    letters = CharacterVocabulary(list("abcdefgh"))
    config = TransformerConfig(encoder_layers=1, decoder_layers=1, width=16, heads=2, feed_forward=16, dropout=0.0)
    torch.manual_seed(0)
    model = build_model(config, Vocabularies(letters, letters, joint=True)).eval()
    rows = [[4 + (place * step) % 8 for place in range(1 + step % 9)] for step in range(1, 40)]
    nats, tokens = losses(model, rows, rows[::-1])
    with torch.no_grad():
        whole = model.loss(collate(rows, rows[::-1]))
        alone = model.loss(collate(rows[7:8], rows[::-1][7:8]))
    assert nats.sum() == pytest.approx(float(whole.plain_nats), rel=1e-5) and tokens.sum() == int(whole.tokens)
    assert nats[7] == pytest.approx(float(alone.plain_nats), rel=1e-4) and tokens[7] == int(alone.tokens)
