"""Zero configuration: what is chosen for which corpus."""

import itertools
import math
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitrail.config import merge, with_overrides
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.vocabularies.subwords import BEFORE_CHARACTERS
from vitrail.errors import UsageError
from vitrail.models.architectures import MODEL_KINDS, PRESETS, TASK_MODELS
from vitrail.train.choosing import choose_labels, choose_text
from vitrail.train.choosing.choose import (
    LEARNING_RATES,
    LEAST_STEPS,
    TABLE,
    TOKENS_PER_WORD,
    WARMUPS,
    Choice,
    CorpusFacts,
    Needed,
    choose,
    gather_facts,
    shared_letters,
    still_automatic,
    to_table,
)
from vitrail.train.optim import Warmup
from vitrail.train.request import to_run_config

FACTS = st.builds(
    CorpusFacts,
    pairs=st.integers(1, 10**9),
    mean_target_words=st.floats(1, 200),
    shared_letters=st.floats(0, 1),
    cores=st.integers(1, 256),
    gpu=st.booleans(),
    unspaced_letters=st.none() | st.floats(0, 5_000),
)
# A busy machine is no fault of these laws.
law = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
TEXT = {"data": {"corpora": [{"source": "a.en", "target": "a.fr"}]}}


def by_name(choices: list[Choice]) -> dict[str, object]:
    return {choice.name: choice.value for choice in choices}


@law
@given(FACTS)
def test_every_choice_has_a_reason_and_together_they_make_a_run(facts: CorpusFacts) -> None:
    choices = choose(facts)
    assert choose(facts) == choices
    assert all(choice.reason for choice in choices)
    config = to_run_config(merge(TEXT, to_table(choices)))
    assert config.model.tie == "all" or not config.data.subwords.joint
    assert config.train.duration.unit == "epochs" and config.train.duration.amount >= 1


@law
@given(FACTS)
def test_the_text_is_prepared_alike_on_any_machine(facts: CorpusFacts) -> None:
    for cores, gpu in itertools.product((1, 64), (False, True)):
        elsewhere = by_name(choose(facts._replace(cores=cores, gpu=gpu)))
        assert {name: value for name, value in elsewhere.items() if name.startswith("data.")} == {
            name: value for name, value in by_name(choose(facts)).items() if name.startswith("data.")
        }


@law
@given(FACTS)
def test_little_text_takes_many_epochs(facts: CorpusFacts) -> None:
    found = by_name(choose(facts))
    tokens = facts.pairs * facts.mean_target_words * TOKENS_PER_WORD
    steps = max(1, round(tokens / int(str(found["train.batch_tokens"])))) * int(str(found["train.duration"]).split()[0])
    assert steps >= LEAST_STEPS / 2
    assert Warmup.parse(str(found["schedule.warmup"])).within(steps) <= steps / 10 + 1e-6


def test_more_text_larger_vocabulary_less_dropout() -> None:
    assert [row.pairs for row in TABLE] == sorted(row.pairs for row in TABLE)
    assert [row.vocabulary for row in TABLE] == sorted(row.vocabulary for row in TABLE)
    assert [row.dropout for row in TABLE] == sorted((row.dropout for row in TABLE), reverse=True)
    assert (
        LEARNING_RATES.keys()
        == WARMUPS.keys()
        == {name for name, config in PRESETS.items() if MODEL_KINDS[config.kind].task == "translation"}
    )
    by_task = {task: {name for name, config in PRESETS.items() if MODEL_KINDS[config.kind].task == task} for task in TASK_MODELS}
    assert choose_text.LEARNING_RATES.keys() == by_task["language"] | by_task["masked"] | by_task["autoencoding"]
    assert choose_labels.LEARNING_RATES.keys() == by_task["classification"]


def test_another_script_has_a_vocabulary_of_its_own() -> None:
    found = by_name(choose(CorpusFacts(50_000, 8.0, 0.02, 2, gpu=False)))
    assert found["data.subwords.joint"] is False and found["model.tie"] == "target"


def test_the_rest_goes_by_the_preset_that_was_asked_for() -> None:
    choices = choose(CorpusFacts(30_000, 12.0, 1.0, 2, gpu=False), preset="base")
    assert "preset" not in by_name(choices)
    assert by_name(choices)["optimizer.learning_rate"] == LEARNING_RATES["base"]
    with pytest.raises(UsageError, match="tall"):
        choose(CorpusFacts(30_000, 12.0, 1.0, 2, gpu=False), preset="tall")


def test_what_is_asked_for_is_not_chosen() -> None:
    choices = choose(CorpusFacts(30_000, 12.0, 1.0, 2, gpu=False))
    left = by_name(still_automatic(choices, {"model": {"dropout": 0.5, "width": 8}, "preset": "tiny"}))
    assert "model.dropout" not in left and "preset" not in left and "schedule.warmup" in left
    with pytest.raises(UsageError, match=r"model\.dropout"):
        still_automatic(choices, with_overrides({}, []) | {"model": 3})


def test_facts_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("One two.\nA dog\n")
    (tmp_path / "a.fr").write_text("Un deux trois.\nAbé o w\n")
    corpus = ParallelText(source=tmp_path / "a.en", target=tmp_path / "a.fr")
    facts = gather_facts([corpus, corpus], cores=3, gpu=True)
    # With capitals, spaces and full stops, 11 and 17 different characters, 9 of them in both.
    # Letters, a side: onetwoadog and undeuxtroisabéow. Of 10 and 16, those in common: n 1, e 1, t 1, w 1, o 3 and 2, a 1, d 1.
    assert facts._replace(shared_letters=0) == CorpusFacts(4, 3.0, 0, 3, gpu=True, characters=Needed(11, 17, 19))
    assert facts.shared_letters == 6 * min(1 / 10, 1 / 16) + min(3 / 10, 2 / 16) == 0.5


# ---- letters and characters of many scripts --------------------------------------------------------------------------------------

SCRIPTS = {
    "Latin": "the quick brown fox jumps over the lazy dog",
    "Cyrillic": "съешь ещё этих мягких французских булок да выпей чаю",
    "Hebrew": "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "N'Ko": "ߒߞߏ ߦߋ߫ ߞߊ߲ ߠߎ߬ ߟߊ߫ ߛߓߍ ߘߐ߫",
    "Arabic": "نص حكيم له سر قاطع وذو شأن عظيم",
    "Devanagari": "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा",
    "Han": "天地玄黃宇宙洪荒日月盈昃辰宿列張寒來暑往秋收冬藏",
    "Hangul": "키스의 고유조건은 입술끼리 만나야 하고",
    "Thai": "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
}


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(SCRIPTS, 2)))
def test_some_names_make_no_common_alphabet(one: str, other: str, tmp_path: Path) -> None:
    """Counted by kind, half of the Latin letters stand in a Hebrew text with a few Latin names."""
    texts = [f"{SCRIPTS[script]} {SCRIPTS[script]} {SCRIPTS[script]}" + " Lukas" for script in (one, other)]
    for side, text in zip("ab", texts, strict=True):
        (tmp_path / f"{side}.txt").write_text(f"{text}\n" * 5, encoding="utf-8")
    facts = gather_facts([ParallelText(source=tmp_path / "a.txt", target=tmp_path / "b.txt")], cores=2, gpu=False)
    assert facts.shared_letters < 0.2 and by_name(choose(facts))["data.subwords.joint"] is False
    alike = gather_facts([ParallelText(source=tmp_path / "a.txt", target=tmp_path / "a.txt")], cores=2, gpu=False)
    assert alike.shared_letters == 1.0 and by_name(choose(alike))["data.subwords.joint"] is True


def test_a_text_without_letters_may_share_a_vocabulary() -> None:
    assert shared_letters(Counter("1 2 3"), Counter("4 5")) == 1.0
    assert shared_letters(Counter("abAB"), Counter("aabb")) == 1.0


@pytest.mark.parametrize("joint", [True, False])
def test_a_vocabulary_has_room_for_many_characters_and_words(joint: bool) -> None:
    """Each side by itself where the vocabularies are separate."""
    facts = CorpusFacts(3_000, 12.0, 0.0, 2, gpu=False, characters=Needed(80, 1_700, 1_780))
    asked = {"data": {"subwords": {"joint": joint}}}
    size = by_name(choose(facts, asked=asked))["data.subwords.size"]
    assert size == 500 * math.ceil((TABLE[0].vocabulary + (1_780 if joint else 1_700)) / 500)
    few = by_name(choose(facts._replace(characters=Needed(80, 120, 150)), asked=asked))
    assert few["data.subwords.size"] == TABLE[0].vocabulary


def test_the_length_goes_by_the_batches_that_were_asked_for() -> None:
    facts = CorpusFacts(30_000, 12.0, 1.0, 2, gpu=False)
    tokens = 30_000 * 12.0 * TOKENS_PER_WORD
    for train in ({}, {"batch_tokens": 16_384}, {"accumulate": 4}, {"batch_tokens": 512, "accumulate": 2}):
        found = {choice.name: choice for choice in choose(facts, asked={"train": train})}
        a_step = train.get("batch_tokens", 2_048) * train.get("accumulate", 1)
        steps = math.ceil(tokens / a_step)
        assert f"about {steps:,} steps" in found["train.validate_every"].reason
        assert int(str(found["train.duration"].value).split()[0]) * steps >= LEAST_STEPS
    assert choose(facts, asked={"train": {"batch_tokens": "many"}}) == choose(facts)


# ---- writings without spaces -------------------------------------------------------------------------------------------------------

WORDS = {
    "Hani": ("农夫", "老师", "卖", "买", "一本书", "热茶", "新房子", "在家", "每天"),
    "Jpan": ("先生", "りんご", "を", "は", "パン", "買います", "見つけます", "毎日", "村で"),
    "Thai": ("ชาวนา", "ครู", "ขาย", "ซื้อ", "หนังสือ", "ชาร้อน", "บ้าน", "ทุกวัน", "ตลาด"),
    "Khmr": ("កសិករ", "គ្រូ", "លក់", "ទិញ", "សៀវភៅ", "តែ", "ផ្ទះ", "ផ្សារ", "នំប៉័ង"),
}


def facts_of(tmp_path: Path, script: str, joint: str, *, words: int = 6, lines: int = 3_000) -> CorpusFacts:
    """Of random sentences of a few words of a script, English lines as their sources, and with something between the words."""
    draw = random.Random(3)
    (tmp_path / "a.en").write_text("the farmer sells old bread\n" * lines)
    sentences = [joint.join(draw.choices(WORDS[script], k=words)) for _ in range(lines)]
    (tmp_path / "a.xx").write_text("\n".join(sentences) + "\n", encoding="utf-8")
    return gather_facts([ParallelText(source=tmp_path / "a.en", target=tmp_path / "a.xx")], cores=2, gpu=False)


@pytest.mark.parametrize("script", WORDS)
def test_words_are_estimated_where_no_spaces_part_them(script: str, tmp_path: Path) -> None:
    without, parted = facts_of(tmp_path, script, ""), facts_of(tmp_path, script, " ")
    assert parted.mean_target_words == 6 and parted.unspaced_letters is None
    assert 3 <= without.mean_target_words <= 14
    epochs = [int(str(by_name(choose(facts))["train.duration"]).split()[0]) for facts in (without, parted)]
    assert epochs[0] < 3 * epochs[1]


@pytest.mark.parametrize("script", WORDS)
def test_subwords_stay_about_as_long_as_words_where_no_spaces_end_them(script: str, tmp_path: Path) -> None:
    facts = facts_of(tmp_path, script, "")
    size = by_name(choose(facts))["data.subwords.size"]
    assert facts.unspaced_letters is not None
    room = size - BEFORE_CHARACTERS - facts.characters.target
    assert facts.pairs * facts.unspaced_letters / 100 <= room <= facts.pairs * facts.unspaced_letters / 100 + 100
    assert by_name(choose(facts_of(tmp_path, script, " ")))["data.subwords.size"] == TABLE[0].vocabulary
    many = facts._replace(pairs=5_000, unspaced_letters=90.0)
    assert by_name(choose(many))["data.subwords.size"] == TABLE[0].vocabulary, "text of many letters has room for as many as any"
