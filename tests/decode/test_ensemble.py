"""An ensemble averages probabilities and is one model to search."""

import pytest
import torch
from toy import ToyModel, query

from vitrail.data.vocabularies.subwords import EOS, SOS
from vitrail.decode.ensemble import Ensemble
from vitrail.decode.search.beams import beam_search
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import ModelError

SOURCE = torch.tensor([[5, 6, 7, EOS], [8, 4, EOS, 0], [9, 9, 9, EOS]])
HOW = SearchConfig(beams=3, n_best=3)


def test_twice_the_same_model_is_that_model() -> None:
    model = ToyModel(12, seed=1)
    both = Ensemble([model, model], digests=["x", "x"])
    queries = [query(HOW, 3), query(HOW, 2), query(HOW, 3)]
    alone = beam_search(model.step, model.start(model.encode(SOURCE)), queries, config=HOW)
    together = beam_search(both.step, both.start(both.encode(SOURCE)), queries, config=HOW)
    for one, two in zip(alone, together, strict=True):
        assert [item.tokens for item in one] == [item.tokens for item in two]
        assert [item.score for item in one] == pytest.approx([item.score for item in two], abs=1e-5)


def test_probabilities_are_averaged_at_every_step() -> None:
    models = [ToyModel(12, seed=seed, width=6 + seed) for seed in range(3)]
    ensemble = Ensemble(models, digests=["x"] * 3)
    found = beam_search(ensemble.step, ensemble.start(ensemble.encode(SOURCE)), [query(HOW, 3)] * 3, config=HOW)
    for row, items in enumerate(found):
        for item in items:
            for at, log_prob in enumerate(item.token_log_probabilities):
                token = (*item.tokens, EOS)[at]
                shares = [torch.tensor(model.log_probs(model.encode(SOURCE)[row], item.tokens[:at]))[token].exp() for model in models]
                assert log_prob == pytest.approx(torch.stack(shares).mean().log().item(), abs=1e-4)


def test_step_gives_a_distribution() -> None:
    models = [ToyModel(12, seed=seed) for seed in range(2)]
    ensemble = Ensemble(models, digests=["x", "x"])
    step = ensemble.step(torch.full((3,), SOS), ensemble.start(ensemble.encode(SOURCE)))
    torch.testing.assert_close(step.logits.exp().sum(-1), torch.ones(3))


def test_other_vocabulary_is_refused() -> None:
    model = ToyModel(12)
    with pytest.raises(ModelError, match="model 2 of the ensemble has vocabulary"):
        Ensemble([model, model], digests=["x", "y"])
    with pytest.raises(ModelError, match="no models"):
        Ensemble([], digests=[])
