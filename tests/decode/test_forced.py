"""Given translations: their probabilities are those that search meets on its way, whatever else is in the batch."""

import pytest
import torch
from builders import KINDS
from torch import Tensor

from vitrail.data.vocabularies.subwords import EOS, SOS
from vitrail.decode.forced import batches, distributions, forced_decode, log_p, losses, make_batch
from vitrail.models.base import TranslationModel

pytestmark = pytest.mark.sampled(9)

PAIRS = [([4, 5, 6, 7, 8, 9], [5, 6]), ([7], [8, 9, 10, 11, 12]), ([9, 8, 7], [4]), ([], [6, 5]), ([6, 5, 4, 4], [])]
SOURCES, TARGETS = [source for source, _ in PAIRS], [target for _, target in PAIRS]


@torch.inference_mode()
def step_by_step(model: TranslationModel, source: list[int], target: list[int]) -> Tensor:
    """log p of each token of the vocabulary at each step, by what search calls."""
    state = model.start(model.encode(torch.tensor([[*source, EOS]])))
    rows: list[Tensor] = []
    for token in (SOS, *target):
        logits, state = model.step(torch.tensor([token]), state)
        rows.append(logits[0].double().log_softmax(0))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_given_translation_has_the_probability_that_search_meets(kind: str) -> None:
    model = KINDS[kind].build().eval()
    found = losses(model, SOURCES, TARGETS)
    for number, (source, target) in enumerate(PAIRS):
        rows = step_by_step(model, source, target)
        torch.testing.assert_close(distributions(model, source, target), rows, atol=2e-5, rtol=0)
        said = torch.tensor([*target, EOS])[:, None]
        assert found.nats[number] == pytest.approx(-float(rows.gather(1, said).sum()), abs=1e-4)
        assert found.tokens[number] == len(target) + 1
        assert found.per_token[number] == found.nats[number] / found.tokens[number]


def test_a_translation_that_was_cut_has_no_end() -> None:
    model = KINDS["pre-layer-sinusoidal"].build().eval()
    whole, cut = (distributions(model, [4, 5, 6], [7, 8], ended=ended) for ended in (True, False))
    torch.testing.assert_close(cut, whole[:2], atol=1e-6, rtol=0)
    assert make_batch(model, [[4]], [[7, 8]], ended=False).target_out.tolist() == [[7, 8]]


def test_gradients_flow_where_the_caller_wants_them() -> None:
    model = KINDS["lstm-luong-general"].build().eval()
    batch = make_batch(model, SOURCES, TARGETS)
    asked = log_p(model, forced_decode(model, batch), batch.target_out)
    assert asked.requires_grad and asked.shape == batch.target_out.shape
    with torch.no_grad():
        assert not forced_decode(model, batch).requires_grad


@pytest.mark.parametrize("bounds", [{"rows": 1}, {"rows": 2}, {"tokens": 12}, {"cells": 60}, {"rows": 3, "tokens": 9, "cells": 40}, {}])
def test_batches_hold_each_pair_once_and_keep_their_bounds(bounds: dict[str, int]) -> None:
    lengths = [(3, 9), (1, 1), (0, 2), (8, 3), (30, 1), (2, 2), (5, 4), (4, 4)]
    found = list(batches([[4] * source for source, _ in lengths], [[5] * target for _, target in lengths], **bounds))
    assert sorted(number for batch in found for number in batch) == list(range(len(lengths)))
    for batch in found:
        longest = 1 + max(max(lengths[number]) for number in batch)
        sizes = {"rows": len(batch), "tokens": len(batch) * longest, "cells": len(batch) * longest**2}
        assert len(batch) == 1 or all(sizes[name] <= most for name, most in bounds.items())
    assert list(batches([], [])) == []
