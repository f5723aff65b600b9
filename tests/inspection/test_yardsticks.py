"""Test sets judge as sacreBLEU and the phrasebook do, and weigh given words as a model's own passes do."""

import numpy as np
import pytest
import sacrebleu
import torch
from grammatical import untrained

from vitrail.decode.forced import distributions
from vitrail.errors import DataError, UsageError
from vitrail.inspection.studies.ablation_metrics import Bleu, Pronouns, challenge_set, interval_of_mean, pronoun_place
from vitrail.phrasebook.corpus import phrasebook, pronoun_accuracy

REFERENCES = ["Un chien a mangé la nourriture parce qu'il avait faim.", "La pie est petite.", "Cette vache est grande et vieille."]
WORSE = ["Un chien a mangé une nourriture parce qu'il avait faim.", "La pie est petite.", "Cette vache est grande et belle."]


def test_the_challenge_set_is_the_phrasebooks() -> None:
    assert challenge_set() == tuple(phrasebook(train_pairs=500).pronouns)


def test_bleu_is_sacrebleus() -> None:
    bleu = Bleu(["a", "b", "c"], REFERENCES)
    before, after = bleu.judge(REFERENCES), bleu.judge(WORSE)
    assert bleu.value(before) == pytest.approx(100)
    assert bleu.value(after) == pytest.approx(sacrebleu.corpus_bleu(WORSE, [REFERENCES]).score)
    low, high = bleu.lost(before, after)
    assert 0 <= low <= 100 - bleu.value(after) <= high
    assert "tok:13a" in bleu.signature
    with pytest.raises(DataError):
        Bleu(["a", "b"], REFERENCES)
    with pytest.raises(DataError):
        Bleu([], [])


def test_pronouns_are_judged_one_by_one() -> None:
    challenges = challenge_set()[:20]
    yardstick = Pronouns(challenges)
    texts = [one.target if number % 4 else one.contrast for number, one in enumerate(challenges)]
    found = yardstick.judge(texts)
    assert yardstick.value(found) == 100 * pronoun_accuracy(challenges, texts).correct / 20 == 75
    low, high = yardstick.lost(yardstick.judge([one.target for one in challenges]), found)
    assert 0 < low < 25 < high < 60


def test_margins_are_differences_of_log_probabilities() -> None:
    one = untrained()
    challenges = challenge_set()[:40]  # more than are weighed at once
    found = Pronouns(challenges).nats(one)
    for challenge, margin in list(zip(challenges, found, strict=True))[::7]:
        target, contrast = one.encode_target(challenge.target), one.encode_target(challenge.contrast)
        at = next(place for place in range(len(target)) if target[place] != contrast[place])
        logs = distributions(one.model, one.encode_source(challenge.source), target)
        assert margin == pytest.approx(float(logs[at, target[at]] - logs[at, contrast[at]]), abs=1e-5)
        assert one.vocabularies.target.decode([target[at]]).strip().endswith(challenge.pronoun[-2:])


def test_references_are_weighed_by_token() -> None:
    one = untrained()
    pairs = [(challenge.source, challenge.target) for challenge in challenge_set()[:3]] + [("", "Bonjour."), ("A dog.", "")]
    found = Bleu([x for x, _ in pairs], [y for _, y in pairs]).nats(one)
    for (x, y), nats in zip(pairs, found, strict=True):
        source = one.encode_source(x) if x else []
        logs = distributions(one.model, source, one.encode_target(y))
        chosen = logs.gather(1, torch.tensor([*one.encode_target(y), 3])[:, None])
        assert nats == pytest.approx(float(chosen.mean()), abs=1e-5)


def test_intervals_hold_the_mean() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = interval_of_mean(values)
    assert low < values.mean() < high and high - low == pytest.approx(4 * 2 / 20, rel=0.2)


def test_alike_pronouns_are_refused() -> None:
    challenge = challenge_set()[0]
    with pytest.raises(UsageError, match="same token for il and elle"):
        pronoun_place(untrained(), challenge._replace(contrast=challenge.target))
