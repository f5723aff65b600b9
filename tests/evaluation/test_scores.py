"""Every number against sacreBLEU itself, and the laws of a corpus score."""

import json
import random
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest

from vitrail.errors import DataError, UsageError
from vitrail.evaluation import scores
from vitrail.evaluation.scores import Recipe, collect_statistics, compare, evaluate, score, tokenized_bleu

VOCABULARY = "le la une petite grande maison route, verte ; rouge Chat chien court dort près de l'eau : sous pont d'été (1934) vite !"
WORDS = VOCABULARY.split()


def corpus(size: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(3, 14))) + "." for _ in range(size)]


def damaged(texts: list[str], rate: float, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) if draw.random() < rate else word for word in text.split()) for text in texts]


REFERENCES = [corpus(60), damaged(corpus(60), 0.2, 9)]
SYSTEM = damaged(REFERENCES[0], 0.25, 1)
BASELINE = damaged(REFERENCES[0], 0.3, 2)


def named() -> dict[str, BLEU | CHRF | TER]:
    return {"bleu": BLEU(), "chrf": CHRF(), "chrf++": CHRF(word_order=2), "ter": TER()}


@pytest.mark.parametrize("name", ["bleu", "chrf", "chrf++", "ter"])
@pytest.mark.parametrize("sets", [1, 2])
def test_value_interval_and_signature_are_sacrebleus(name, sets):
    metric = named()[name]
    theirs = metric.corpus_score(SYSTEM, REFERENCES[:sets], n_bootstrap=200)
    (ours,) = evaluate(SYSTEM, REFERENCES[:sets], metrics=[name], bootstrap=200)
    assert ours.value == pytest.approx(theirs.score, abs=1e-9)
    assert (ours.high - ours.low) / 2 == pytest.approx(theirs._ci, abs=1e-4)  # theirs sums in float32
    assert (ours.name, ours.signature, ours.sentences) == (theirs.name, metric.get_signature().format(), 60)


def test_all_metrics_at_once_equal_each_alone():
    together = evaluate(SYSTEM, REFERENCES, metrics=["ter", "bleu", "chrf++", "chrf"], bootstrap=50)
    for one, name in zip(together, ["ter", "bleu", "chrf++", "chrf"], strict=True):
        assert [one] == evaluate(SYSTEM, REFERENCES, metrics=[name], bootstrap=50)


def test_command_line_of_sacrebleu_prints_the_same(tmp_path):
    for name, lines in (("ref", REFERENCES[0]), ("hyp", SYSTEM)):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = ["-i", "hyp", "-m", "bleu", "chrf", "--confidence", "--confidence-n", "300", "-w", "4", "-lc", "--chrf-lowercase"]
    done = subprocess.run(
        [sys.executable, "-m", "sacrebleu", "ref", *options], cwd=tmp_path, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    for theirs, ours in zip(json.loads(done.stdout), evaluate(SYSTEM, REFERENCES[:1], bootstrap=300, lowercase=True)[:2], strict=True):
        assert (theirs["name"], theirs["signature"]) == (ours.name, ours.signature)
        assert theirs["score"] == pytest.approx(ours.value, abs=1e-4)
        assert theirs["confidence_var"] == pytest.approx((ours.high - ours.low) / 2, abs=2e-4)


@pytest.mark.parametrize("kind", ["bs", "ar"])
def test_paired_tests_are_sacrebleus(kind):
    samples = 300
    metrics = {"bleu": BLEU(), "chrf": CHRF()}
    signatures, found = PairedTest([("a", BASELINE), ("b", SYSTEM)], metrics, REFERENCES, test_type=kind, n_samples=samples)()
    ours = compare(BASELINE, SYSTEM, REFERENCES, recipe=Recipe(("bleu", "chrf"), bootstrap=samples, trials=samples))
    for one in ours:
        before, after = found[one.name]
        assert (one.baseline, one.system) == (pytest.approx(before.score, abs=1e-9), pytest.approx(after.score, abs=1e-9))
        assert one.difference == pytest.approx(after.score - before.score, abs=1e-9)
        p_value = one.p_bootstrap if kind == "bs" else one.p_randomisation
        assert 0.0 < p_value < 1.0
        assert p_value == pytest.approx(after.p_value, abs=1e-9)
        assert f"{kind}:{samples}|seed:12345" in signatures[one.name].format()
        assert f"bs:{samples}|ar:{samples}|seed:12345" in one.signature


def test_randomisation_in_blocks_draws_the_same(monkeypatch):
    whole = compare(BASELINE, SYSTEM, REFERENCES, recipe=Recipe(("bleu",), bootstrap=2, trials=500))
    zeros = scores.np.zeros((99_999, 1))  # 40 rows fit the budget of one block here, hence blocks of 32
    recipe = Recipe(("bleu",), trials=70)
    flags = scores.np.random.default_rng(recipe.seed).integers(2, size=(70, 99_999), dtype=bool)
    got = scores.np.concatenate(list(scores._swaps(zeros, zeros + 1, recipe)))
    assert (got[:, 1] == flags.sum(axis=1)).all()
    assert whole[0].p_randomisation < 1


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(corpus(40)), min_size=1, max_size=12))
def test_a_text_against_itself_is_perfect(texts):
    bleu, chrf, ter = evaluate(texts, [texts], bootstrap=20)
    assert [bleu.value, chrf.value, ter.value] == [pytest.approx(100), pytest.approx(100), 0]
    assert [bleu.low, chrf.low, ter.low] == [pytest.approx(100), pytest.approx(100), 0]


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(12)))
def test_order_of_sentences_does_not_matter(order):
    straight = evaluate(SYSTEM[:12], [lines[:12] for lines in REFERENCES], bootstrap=0)
    shuffled = evaluate([SYSTEM[i] for i in order], [[lines[i] for i in order] for lines in REFERENCES], bootstrap=0)
    assert [one.value for one in shuffled] == pytest.approx([one.value for one in straight])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 0.5))
def test_interval_contains_value(seed, rate):
    texts = corpus(50, seed)
    for one in evaluate(damaged(texts, rate, seed + 1), [texts], metrics=["bleu", "chrf"], bootstrap=200, seed=seed):
        assert one.low < one.value < one.high
        assert f"seed:{seed}" in one.signature


def test_a_system_against_itself_is_no_discovery():
    for one in compare(SYSTEM, SYSTEM, REFERENCES, recipe=Recipe(bootstrap=50, trials=50)):
        assert (one.difference, one.low, one.high, one.p_bootstrap, one.p_randomisation) == (0, 0, 0, 1, 1)


def test_a_much_better_system_is_one_in_both_tests():
    poor = damaged(REFERENCES[0], 0.9, 3)
    bleu, chrf, ter = compare(poor, SYSTEM, REFERENCES, recipe=Recipe(bootstrap=200, trials=200))
    assert bleu.low > 0 and chrf.low > 0 and ter.high < 0
    assert all(one.p_randomisation == pytest.approx(1 / 201) and one.p_bootstrap < 0.05 for one in (bleu, chrf, ter))


def test_counts_give_the_value():
    bleu, chrf, ter = evaluate(["a b c d e", "f g"], [["a b c d x", "f g h"]], bootstrap=0, tokenize="none")
    assert bleu.counts["hypothesis_words"] == 7 and bleu.counts["reference_words"] == 8
    assert [bleu.counts[f"matched_{n}grams"] for n in (1, 2, 3, 4)] == [6, 4, 2, 1]
    assert [bleu.counts[f"possible_{n}grams"] for n in (1, 2, 3, 4)] == [7, 5, 3, 2]
    assert ter.counts == {"edits": 2, "reference_words": 8} and ter.value == 25
    assert chrf.counts == {"hypothesis_characters": 7, "reference_characters": 8, "matched_characters": 6}
    assert (bleu.low, bleu.high) == (None, None) and "bs:" not in bleu.signature


def test_rows_score_as_if_alone():
    some = [3, 5, 8, 13, 21]
    part = score(collect_statistics(SYSTEM, REFERENCES, recipe=Recipe(bootstrap=20)).rows(some))
    assert part == evaluate([SYSTEM[i] for i in some], [[lines[i] for i in some] for lines in REFERENCES], bootstrap=20)


def test_lowercase_and_tokenizer_change_number_and_signature():
    lower, exact = (evaluate(["Le Chat dort."], [["le chat dort."]], metrics=["bleu"], lowercase=flag)[0] for flag in (True, False))
    assert lower.value == pytest.approx(100) and exact.value < 50
    assert "case:lc" in lower.signature and "case:mixed" in exact.signature
    plain = tokenized_bleu(["le chat dort ."], [["le chat dort ."]])
    assert "tok:none" in plain.signature and plain.counts["reference_words"] == 4
    assert tokenized_bleu(["le chat dort."], [["le chat dort."]]).counts["reference_words"] == 3


@pytest.mark.parametrize(
    ("hypotheses", "references"),
    [([], [[]]), (["a"], []), (["a"], [["a", "b"]]), (["a", "b"], [["a", "b"], ["a"]]), (["a"], ["a"])],
)
def test_what_cannot_be_scored_is_a_data_error(hypotheses, references):
    with pytest.raises(DataError) as caught:
        evaluate(hypotheses, references)
    assert caught.value.expected


@pytest.mark.parametrize(
    "options", [{"metrics": ()}, {"metrics": ("rouge",)}, {"tokenize": "spm"}, {"bootstrap": 1}, {"bootstrap": -5}, {"trials": 0}]
)
def test_what_cannot_be_asked_is_a_usage_error(options):
    with pytest.raises(UsageError):
        collect_statistics(["a"], [["a"]], recipe=Recipe(**options))


def test_comparison_needs_one_recipe_the_same_sentences_and_resamples():
    one, other = (collect_statistics(["a", "b"], [["a", "b"]], recipe=Recipe(seed=seed)) for seed in (1, 2))
    with pytest.raises(UsageError):
        scores.compare_statistics(one, other)
    with pytest.raises(DataError):
        scores.compare_statistics(one, one.rows([0]))
    with pytest.raises(UsageError):
        compare(["a"], ["a"], [["a"]], recipe=Recipe(bootstrap=0))


def test_a_tokenizer_whose_packages_are_missing_says_so(monkeypatch):
    import sacrebleu.tokenizers.tokenizer_ja_mecab as japanese

    monkeypatch.setattr(japanese, "MeCab", None)
    with pytest.raises(UsageError, match=r"sacrebleu\[ja\]"):
        evaluate(["a"], [["a"]], tokenize="ja-mecab")


def test_thousand_sentences_take_little_time():
    texts = corpus(1000)
    start = time.process_time()
    evaluate(damaged(texts, 0.3, 1), [texts], metrics=["bleu"])
    assert time.process_time() - start < 10


def test_import_leaves_sacrebleu_and_torch_alone():
    code = "import sys, vitrail.evaluation.report; sys.exit(any(name in sys.modules for name in ('sacrebleu', 'sacremoses', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
