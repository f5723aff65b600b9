"""Scores of labels against scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics

from vitrail.decode.sentences.label_scores import Predictions, flags


def draw(labels: int, *, rows: int = 200, several: bool = False, seed: int = 0) -> Predictions:
    """Labels of which the first is the most frequent, and predictions that are often right."""
    generator = np.random.default_rng(seed)
    if several:
        right = generator.random((rows, labels)) < np.linspace(0.5, 0.05, labels)
        return Predictions(right, right ^ (generator.random((rows, labels)) < 0.2), True)
    shares = np.linspace(3, 1, labels)
    drawn = generator.choice(labels, size=(2, rows), p=shares / shares.sum())
    guessed = np.where(generator.random(rows) < 0.6, drawn[0], drawn[1])
    return Predictions(flags(drawn[0][:, None].tolist(), labels), flags(guessed[:, None].tolist(), labels), False)


@pytest.mark.parametrize("labels", [2, 3, 7])
@pytest.mark.parametrize("several", [False, True])
def test_figures_are_those_of_scikit_learn(labels: int, several: bool) -> None:
    for seed in range(3):
        found = draw(labels, several=several, seed=seed)
        rates = found.rates()
        right, predicted = (found.right, found.predicted) if several else (found.right.argmax(1), found.predicted.argmax(1))
        assert rates.accuracy[0] == pytest.approx(metrics.accuracy_score(right, predicted))
        assert rates.f1[0] == pytest.approx(metrics.f1_score(right, predicted, average="macro"))
        np.testing.assert_allclose(rates.f1_by_label[0], metrics.f1_score(right, predicted, average=None), atol=1e-12)
        precision, recall = found.by_label()
        np.testing.assert_allclose(precision, metrics.precision_score(right, predicted, average=None), atol=1e-12)
        np.testing.assert_allclose(recall, metrics.recall_score(right, predicted, average=None), atol=1e-12)
        if several:
            each = [metrics.matthews_corrcoef(found.right[:, label], found.predicted[:, label]) for label in range(labels)]
            assert rates.matthews[0] == pytest.approx(np.mean(each))
            np.testing.assert_array_equal(found.confusion(), metrics.multilabel_confusion_matrix(right, predicted))
        else:
            assert rates.matthews[0] == pytest.approx(metrics.matthews_corrcoef(right, predicted))
            np.testing.assert_array_equal(found.confusion(), metrics.confusion_matrix(right, predicted, labels=range(labels)))


def test_what_is_not_defined_is_0() -> None:
    always = Predictions(flags([[0], [1], [1]], 3), flags([[1], [1], [1]], 3), False)
    rates = always.rates()
    assert rates.matthews[0] == metrics.matthews_corrcoef([0, 1, 1], [1, 1, 1]) == 0
    assert rates.f1_by_label[0].tolist() == pytest.approx([0, 0.8, 0])
    nothing = Predictions(flags([[], []], 2), flags([[], [0]], 2), True)
    assert nothing.rates().accuracy[0] == 0.5 and nothing.rates().f1[0] == 0 and nothing.rates().matthews[0] == 0


@pytest.mark.parametrize("several", [False, True])
def test_the_bootstrap_is_that_of_rows_drawn_one_by_one(several: bool) -> None:
    """Drawing how often each pattern occurs is drawing rows: the same distribution, here by its mean and spread."""
    found = draw(3, rows=120, several=several)
    generator = np.random.default_rng(1)
    slow: list[list[float]] = []
    for _ in range(400):
        rows = generator.integers(120, size=120)
        part = Predictions(found.right[rows], found.predicted[rows], several).rates()
        slow.append([part.accuracy[0], part.f1[0], part.matthews[0]])
    fast = found.resampled(4_000)
    for place, name in enumerate(("accuracy", "f1", "matthews")):
        values, expected = getattr(fast, name), np.array(slow)[:, place]
        assert values.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() / 20)
        assert values.std() == pytest.approx(expected.std(), rel=0.15)
    assert np.array_equal(fast.f1, found.resampled(4_000).f1), "the same seed, other draws"
