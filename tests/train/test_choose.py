"""Zero configuration: what is chosen for which corpus."""

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitrail.config import merge, with_overrides
from vitrail.data.text import ParallelText
from vitrail.errors import UsageError
from vitrail.models.build import PRESETS
from vitrail.train.api import to_run_config
from vitrail.train.choose import (
    LEARNING_RATES,
    LEAST_STEPS,
    TABLE,
    TOKENS_PER_WORD,
    WARMUPS,
    Choice,
    Facts,
    choose,
    gather_facts,
    still_automatic,
    to_table,
)
from vitrail.train.optim import Warmup

FACTS = st.builds(
    Facts,
    pairs=st.integers(1, 10**9),
    mean_target_words=st.floats(1, 200),
    shared_letters=st.floats(0, 1),
    cores=st.integers(1, 256),
    gpu=st.booleans(),
)
# A busy machine is no fault of these laws.
law = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
TEXT = {"data": {"corpora": [{"source": "a.en", "target": "a.fr"}]}}


def by_name(choices: list[Choice]) -> dict[str, object]:
    return {choice.name: choice.value for choice in choices}


@law
@given(FACTS)
def test_every_choice_has_a_reason_and_together_they_make_a_run(facts: Facts) -> None:
    choices = choose(facts)
    assert choose(facts) == choices
    assert all(choice.reason for choice in choices)
    config = to_run_config(merge(TEXT, to_table(choices)))
    assert config.model.tie == "all" or not config.data.subwords.joint
    assert config.train.duration.unit == "epochs" and config.train.duration.amount >= 1


@law
@given(FACTS)
def test_the_text_is_prepared_alike_on_any_machine(facts: Facts) -> None:
    for cores, gpu in itertools.product((1, 64), (False, True)):
        elsewhere = by_name(choose(facts._replace(cores=cores, gpu=gpu)))
        assert {name: value for name, value in elsewhere.items() if name.startswith("data.")} == {
            name: value for name, value in by_name(choose(facts)).items() if name.startswith("data.")
        }


@law
@given(FACTS)
def test_little_text_takes_many_epochs(facts: Facts) -> None:
    found = by_name(choose(facts))
    tokens = facts.pairs * facts.mean_target_words * TOKENS_PER_WORD
    steps = max(1, round(tokens / int(str(found["train.batch_tokens"])))) * int(str(found["train.duration"]).split()[0])
    assert steps >= LEAST_STEPS / 2
    assert Warmup.parse(str(found["schedule.warmup"])).within(steps) <= steps / 10 + 1e-6


def test_more_text_larger_vocabulary_less_dropout() -> None:
    assert [row.pairs for row in TABLE] == sorted(row.pairs for row in TABLE)
    assert [row.vocabulary for row in TABLE] == sorted(row.vocabulary for row in TABLE)
    assert [row.dropout for row in TABLE] == sorted((row.dropout for row in TABLE), reverse=True)
    assert LEARNING_RATES.keys() == WARMUPS.keys() == PRESETS.keys()


def test_another_script_has_a_vocabulary_of_its_own() -> None:
    found = by_name(choose(Facts(50_000, 8.0, 0.02, 2, gpu=False)))
    assert found["data.subwords.joint"] is False and found["model.tie"] == "target"


def test_the_rest_goes_by_the_preset_that_was_asked_for() -> None:
    choices = choose(Facts(30_000, 12.0, 1.0, 2, gpu=False), preset="base")
    assert "preset" not in by_name(choices)
    assert by_name(choices)["optimizer.learning_rate"] == LEARNING_RATES["base"]
    with pytest.raises(UsageError, match="tall"):
        choose(Facts(30_000, 12.0, 1.0, 2, gpu=False), preset="tall")


def test_what_is_asked_for_is_not_chosen() -> None:
    choices = choose(Facts(30_000, 12.0, 1.0, 2, gpu=False))
    left = by_name(still_automatic(choices, {"model": {"dropout": 0.5, "width": 8}, "preset": "tiny"}))
    assert "model.dropout" not in left and "preset" not in left and "schedule.warmup" in left
    with pytest.raises(UsageError, match=r"model\.dropout"):
        still_automatic(choices, with_overrides({}, []) | {"model": 3})


def test_facts_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("One two.\nA dog\n")
    (tmp_path / "a.fr").write_text("Un deux trois.\nAbé o w\n")
    corpus = ParallelText(source=tmp_path / "a.en", target=tmp_path / "a.fr")
    facts = gather_facts([corpus, corpus], cores=3, gpu=True)
    # Letters of the target: u n d e x t r o i s a b é w; of these the source has n d e t o a w.
    assert facts == Facts(4, 3.0, 0.5, 3, gpu=True)
