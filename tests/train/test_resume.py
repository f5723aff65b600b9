"""A training that was stopped, however and wherever, ends in the same bits as one that never was."""

import random
from pathlib import Path
from typing import Any

import pytest
from training_runs import Fault, Trainer, differing, logged, tiny

CHANGES_IN_A_SAVE = 45

KINDS: dict[str, dict[str, Any]] = {
    "layer-norm": {"train": {"duration": "36 steps"}},
    "batch-norm": {"train": {"duration": "36 steps"}, "model": {"norm": "batch"}},
    "subword-dropout": {"train": {"duration": "36 steps", "subword_dropout": 0.1}},
    "recurrent": {
        "train": {"duration": "36 steps"},
        "model": {
            "kind": "recurrent",
            "cell": "gru",
            "attention": "bahdanau",
            "embedding_width": 16,
            "width": 16,
            "norm": "batch",
            "variational": True,
            "word_dropout": 0.1,
            "truncate": 4,
        },
    },
    "lstm": {"train": {"duration": "36 steps"}, "model": {"kind": "recurrent", "embedding_width": 16, "width": 16}},
}


def kills(number: int, *, seed: int, steps: int) -> list[Fault]:
    """Half of them in the middle of a step, half in the middle of writing what the step after it brings about."""
    draw = random.Random(seed)
    places = sorted(draw.sample(range(1, steps), number))
    in_saves = set(draw.sample(range(number), number // 2))
    return [
        Fault(step, change=draw.randint(1, CHANGES_IN_A_SAVE)) if place in in_saves else Fault(step, delay=draw.uniform(0.001, 0.02))
        for place, step in enumerate(places)
    ]


_OFTEN = ("recurrent",)
"""The others are killed as well where the long tests run."""


@pytest.mark.parametrize("number", [3, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [kind if kind in _OFTEN else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS])
def test_killed_again_and_again(kind: str, number: int, tmp_path: Path) -> None:
    config = tiny(tmp_path, KINDS[kind])
    unbroken = Trainer(config, tmp_path / "unbroken")
    for fault in kills(number, seed=len(kind), steps=34):
        killed = Trainer(config, tmp_path / "killed", fault=fault)
        assert killed.wait() == -9, (fault, killed.text())
    assert Trainer(config, tmp_path / "killed").wait() == 0
    assert unbroken.wait() == 0, unbroken.text()
    assert not differing(tmp_path / "killed", tmp_path / "unbroken")
    lines = logged(tmp_path / "killed")
    assert {int(line["epoch"]) for line in lines if line["kind"] == "train"} >= {0, 1, 2}
    places = [(line["kind"], line["step"]) for line in lines]
    assert len(places) == len(set(places))
