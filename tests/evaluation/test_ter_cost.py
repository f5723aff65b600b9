"""TER is bounded: what it costs is known before it is counted, and what is left out is told."""

import random
import sys
import time

import pytest
from sacrebleu.metrics.ter import TER

from vitrail.errors import DataError
from vitrail.evaluation.report import ScoredTexts, evaluate_texts
from vitrail.evaluation.scores import Recipe, evaluate
from vitrail.evaluation.ter_cost import MOST_WORDS, USUAL_CELLS, USUAL_WORDS, excess, ter_cost

WORDS = ["chien", "chat", "mange", "la", "le", "nourriture", "parce", "que", "il", "avait", "faim"]
QUICK, QUICK_PAIRED = Recipe(bootstrap=0), Recipe(bootstrap=2, trials=2)
SIDES = ("translation", "reference", "baseline")


def drawn(size: int, seed: int, words: list[str] = WORDS) -> str:
    return " ".join(random.Random(seed).choices(words, k=size))


def names(hypotheses: list[str], references: list[str], recipe: Recipe = QUICK, baseline: list[str] | None = None) -> list[str]:
    return [one.name for one in evaluate_texts(ScoredTexts(hypotheses, [references], baseline=baseline or ()), recipe=recipe).scores]


@pytest.mark.parametrize(("side", "words"), [("all", 600), ("all", 40_000), ("translation", 600), ("reference", 40_000), ("baseline", 600)])
def test_a_document_on_one_line_is_scored_at_once_without_ter(side, words):
    sides = {name: [drawn(words if side in ("all", name) else 5, seed)] for seed, name in enumerate(SIDES)}
    started = time.process_time()
    found = evaluate_texts(ScoredTexts(sides["translation"], [sides["reference"]], baseline=sides["baseline"]), recipe=QUICK_PAIRED)
    assert time.process_time() - started < 20
    assert [one.name for one in found.scores] == [one.name for one in found.comparisons] == ["BLEU", "chrF2"]
    (note,) = [note for note in found.notes if "TER" in note]
    assert f"line 1 has {words:,} words" in note and "--metrics ter" in note and f"note: {note}" in found.to_text()


def test_ordinary_sentences_have_ter():
    hypotheses, references = [drawn(20, seed) for seed in range(20)], [drawn(20, seed + 99) for seed in range(20)]
    assert names(hypotheses, references) == ["BLEU", "chrF2", "TER"]
    assert excess([drawn(USUAL_WORDS, 1)], [[drawn(USUAL_WORDS, 2)]]) is None


def test_many_long_sentences_together_are_too_much_as_well():
    references = [drawn(100, seed) for seed in range(60)]
    found = excess([drawn(100, seed + 99) for seed in range(60)], [references])
    assert found is not None and not found.too_long and "100 words" in str(found)
    assert excess(references, [references]) is None, "equal lines cost nothing"


def test_ter_by_name_is_counted_up_to_a_ceiling():
    hypothesis, reference = drawn(USUAL_WORDS + 1, 1, [f"w{n}" for n in range(99)]), drawn(USUAL_WORDS + 1, 1)
    (found,) = evaluate_texts(ScoredTexts([hypothesis], [[reference]]), recipe=Recipe(("ter",), bootstrap=0)).scores
    assert found.value == pytest.approx(TER().corpus_score([hypothesis], [[reference]]).score)
    long = drawn(MOST_WORDS + 1, 1)
    for texts in ((["a", long], ["a", "b"]), (["a", "b"], ["a", long])):
        with pytest.raises(DataError, match="line 2 has 1,001 words") as caught:
            evaluate(texts[0], [texts[1]], metrics=["ter"])
        assert "at most 1,000 words" in str(caught.value) and "leave ter out" in str(caught.value)


def work(pair: tuple[str, str]) -> int:
    """The function calls of TER: the same on every machine, unlike its seconds."""
    calls = 0

    def count(_frame: object, _event: str, _argument: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        TER().corpus_score([pair[0]], [[pair[1]]])
    finally:
        sys.setprofile(None)
    return calls


def test_what_it_costs_is_about_what_it_takes():
    """Kinds that cost more take longer, and all that is counted unasked takes a bounded time."""
    big = [f"w{n}" for n in range(300)]
    kinds = [(drawn(40, 1, big), drawn(40, 1, big).replace("w1", "v")), (drawn(30, 1), drawn(30, 2)), (drawn(50, 1), drawn(50, 2))]
    costs, works = [ter_cost(*pair) for pair in kinds], [work(pair) for pair in kinds]
    assert costs == sorted(costs) and works == sorted(works)
    started = time.process_time()
    TER().corpus_score([kinds[2][0]], [[kinds[2][1]]])
    assert USUAL_CELLS / costs[2] * (time.process_time() - started) < 300, "seconds for all that is counted unasked"


@pytest.mark.parametrize("pair", [("", ""), ("a", ""), ("", "a"), ("a b", "a b"), ("a", "b")])
def test_short_and_empty_lines_cost_little(pair):
    assert ter_cost(*pair) <= 200 and excess([pair[0]], [[pair[1]]]) is None
