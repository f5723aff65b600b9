"""The text of tokens as they come, and stop strings in it, for every kind of vocabulary and several scripts."""

import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.vocabularies.subwords import EOS, UNK, Subwords, SubwordsConfig, train_vocabulary
from vitrail.decode.textual.spelling import Spelling, StopRule, StopStrings
from vitrail.errors import UsageError

TEXTS = {
    "latin": ["the old man sees a small red boat", "é un gatto nero, l'estate è finita", "a_b ▁ c ▁▁ d", "naïve café 🙂 end"],
    "chinese": ["他在河边看见一只小船", "今天的天气很好，我们去公园", "我喜欢喝茶。"],
    "japanese": ["彼女は駅で友達に会いました", "コーヒーを飲みますか", "犬が走る"],
    "hindi": ["लड़की पानी पीती है", "हम कल बाज़ार जाएँगे", "यह किताब अच्छी है"],
    "arabic": ["ذهب الولد إلى المدرسة", "القِطَّة تنام في البيت", "الماء بارد"],
}
KINDS = ["bpe", "unigram", "word", "character"]
SIZES = {"bpe": 330, "unigram": 330, "word": 40, "character": 60}


@cache
def vocabulary(kind: str, script: str) -> Subwords:
    config = SubwordsConfig.model_validate({"kind": kind, "size": SIZES[kind], "character_coverage": 0.98})
    return train_vocabulary(TEXTS[script] * 4, config=config).target


@pytest.mark.parametrize("script", TEXTS)
@pytest.mark.parametrize("kind", KINDS)
@given(draw=st.randoms(use_true_random=False))
@settings(max_examples=12, deadline=None)
def test_the_text_grows_to_that_of_all_tokens_in_whole_characters(kind: str, script: str, draw: random.Random) -> None:
    ours = vocabulary(kind, script)
    prompt = draw.choice(["", *TEXTS[script]])
    # Of texts and of anything at all: bytes that are no character, spaces in a row, unknown tokens.
    tokens = [
        token
        for _ in range(3)
        for token in (ours.encode(draw.choice(TEXTS[script])), [draw.randrange(1, ours.size)] * 2)[draw.random() < 0.5]
    ]
    tokens = [token for token in tokens if token != EOS]
    read = tuple(ours.encode(prompt))
    spelling = Spelling(ours, prompt, read)
    seen = [spelling.text]
    for token in tokens:
        spelling = spelling.then(token)
        seen.append(spelling.text)
    before = ours.decode(read)
    whole = ours.decode([*read, *tokens])
    assert whole.startswith(before) and spelling.finished == prompt + whole[len(before) :]
    assert all(after.startswith(one) for one, after in zip(seen, [*seen[1:], spelling.finished], strict=True))
    assert not any(one.endswith("\ufffd") and one != prompt for one in seen)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_vocabulary_does_not_know_of_a_prompt_stays(kind: str) -> None:
    ours = vocabulary(kind, "latin")
    prompt = "the жук sees"
    assert (UNK in ours.encode(prompt)) == (kind in ("word", "character"))
    after = tuple(ours.encode("the old man"))[1:]
    assert Spelling(ours, prompt, tuple(ours.encode(prompt))).then_all(after).finished.startswith(prompt)


def test_a_character_of_several_bytes_is_told_whole() -> None:
    ours = vocabulary("bpe", "chinese")
    ids = ours.encode("在🙂河")
    spelling, seen = Spelling(ours), list[str]()
    for token in ids:
        spelling = spelling.then(token)
        seen.append(spelling.text)
    assert len(ids) >= 6 and set(seen) <= {"", "在", "在🙂", "在🙂河"} and seen[-1] == "在🙂河"
    cut = Spelling(ours).then_all(ids[:-2])
    assert cut.text == "在" and cut.finished.startswith("在\ufffd")


def test_a_line_begins_as_a_line() -> None:
    ours = vocabulary("bpe", "latin")
    line = ours.encode("the old man")
    assert Spelling(ours).then_all([*line, EOS, *line]).finished == "the old man\nthe old man"
    assert Spelling(ours).then_all([EOS, EOS]).finished == "\n\n"


def plain_find(text: str, strings: list[str], *, after: int) -> tuple[int, int] | None:
    """Read character by character: the first place where some string ends, and the longest one."""
    for end in range(after + 1, len(text) + 1):
        fit = [one for one in strings if text[:end].endswith(one)]
        if fit:
            return end - max(map(len, fit)), end
    return None


@given(
    text=st.text("ab", max_size=12),
    strings=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
    after=st.integers(0, 12),
)
@settings(max_examples=300, deadline=None)
def test_the_string_that_ends_first_is_found(text: str, strings: list[str], after: int) -> None:
    after = min(after, len(text))
    stops = StopStrings.of(strings)
    assert stops.find(text, after=after) == plain_find(text, strings, after=after)
    begun = stops.begun(text)
    ends = [at for at in range(len(text)) for one in strings if one.startswith(text[at:]) and len(one) > len(text) - at]
    assert begun == min(ends, default=len(text))


def test_stop_strings_are_found_composed_or_not_and_refused() -> None:
    for form in ("cafe\u0301", "caf\u00e9"):
        assert all(StopStrings.of(form).find(f"un {text}", after=0) for text in ("cafe\u0301", "caf\u00e9"))
    assert StopStrings.of(["a", "b", "a"]).strings == ("a", "b")
    for bad in ("", ["a", ""], "\ud800"):
        with pytest.raises(UsageError, match="stop string"):
            StopStrings.of(bad)


@pytest.mark.parametrize("script", TEXTS)
@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
def test_a_rule_stops_at_the_token_that_completes_the_string(kind: str, script: str) -> None:
    ours = vocabulary(kind, script)
    line = TEXTS[script][0]
    prompt, stop = line[:3].strip(), line[2:6]
    read = ours.encode(prompt)
    ids = ours.encode(line)
    if ids[: len(read)] != read:  # the prompt's tokens are others inside the line
        read, prompt = [], ""
    rule = StopRule(StopStrings.of(stop), Spelling(ours, prompt, tuple(read)))
    rest = ids[len(read) :]
    expected = next(count for count in range(1, len(rest) + 1) if stop in ours.decode([*read, *rest[:count]]))
    asked = [rule(rest[:count]) for count in range(1, expected + 1)]
    assert asked == [False] * (expected - 1) + [True]
    assert StopRule(StopStrings.of(stop), Spelling(ours, prompt, tuple(read)))(rest[:expected]), "whatever was asked before"
