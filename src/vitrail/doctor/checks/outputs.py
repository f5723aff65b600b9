"""Checks of translations: the same for every input, loops, or no use of the source."""

from collections.abc import Sequence

import numpy as np

from vitrail.doctor.findings import Finding
from vitrail.doctor.run_under_test import RunUnderTest
from vitrail.evaluation.learned import FEWEST, SOURCE_WEAK, losses_by_source

SAME = 0.1
"""Different translations as a share of different references, below which a model gives every input the same output. Every healthy
model measured has 1.0, an Elman network that hardly uses the source 0.25, a constant model 1 / (number of sentences)."""
ALIKE = 0.5
"""The same share, below which many inputs get equal outputs."""
SOURCE_NATS = 0.1
"""Nats per token by which a wrong source must make the right target less likely: parallel text shares 1 nat per token and more (the
difference in loss between a language model and a translator), so this is a tenth. With cross-attention cut: 0."""

LOOPING = 0.1
"""Share of looping translations that is a fault."""
LOOPS_SEEN = 0.03
"""Share that is a warning: 4 of 128."""
LOOP_TIMES = 4
"""Repetitions of a word or phrase in a row that count as a loop; more than people write ("no, no, no")."""
LOOP_WORDS = 6
"""Maximal length in words of a repeated phrase."""


def same_output(run: RunUnderTest) -> list[Finding]:
    """Whether different sentences get different translations."""
    return [judge_variety([one.text for one in run.translations], run.dev_sentences[1])]


def judge_variety(translations: Sequence[str], references: Sequence[str]) -> Finding:
    """Compare how many different translations there are with how many different references; sources are all different."""
    check, count, expected = "same output", len(set(translations)), len(set(references))
    share = count / expected if expected else 0.0
    told = f"{count:,} different translations of {len(translations):,} dev sentences ({expected:,} different references)"
    numbers = {"different": count, "sentences": len(translations), "different_references": expected}
    if len(translations) < FEWEST:
        return Finding(check=check, severity="unchecked", found=f"{len(translations)} dev sentences are too few", numbers=numbers)
    if share >= ALIKE:
        return Finding(check=check, severity="ok", found=told, numbers=numbers)
    text, times = _commonest(translations)
    return Finding(
        check=check,
        severity="fault" if share < SAME else "warning",
        found=f"{told}; {times:,} times {text!r}",
        expected="a different translation for nearly every sentence",
        remedy="check warm-up, learning rate, misaligned lines and unheard source first; if they are fine, train longer",
        numbers=numbers,
    )


def _commonest(texts: Sequence[str]) -> tuple[str, int]:
    """The text that occurs most often, cut to a line, and how often."""
    best = max(sorted(set(texts)), key=texts.count)
    return (best if len(best) <= 60 else best[:57] + "..."), texts.count(best)


def repetition(run: RunUnderTest) -> list[Finding]:
    """Whether translations fall into loops, or never end."""
    found = run.translations
    looping = [one.text for one, source in zip(found, run.dev_sentences[0], strict=True) if loops(one.text) and not loops(source)]
    endless = [one.text for one in found if one.truncated]
    return [judge_loops(looping, endless, len(found))]


def loops(text: str) -> bool:
    """Whether a phrase of up to `LOOP_WORDS` words occurs `LOOP_TIMES` times in a row; characters instead of words in text without
    spaces."""
    words = text.split()
    units = words if len(words) > LOOP_TIMES else list(text)
    return any(_repeats(units, length) for length in range(1, LOOP_WORDS + 1))


def _repeats(units: Sequence[str], length: int) -> bool:
    """Whether each of (LOOP_TIMES - 1) * length units in a row equals the one `length` before it."""
    run = 0
    for place in range(length, len(units)):
        run = run + 1 if units[place] == units[place - length] else 0
        if run >= (LOOP_TIMES - 1) * length:
            return True
    return False


def judge_loops(looping: Sequence[str], endless: Sequence[str], sentences: int) -> Finding:
    """Judge by the share of translations that loop or do not end."""
    bad = list(dict.fromkeys([*looping, *endless]))
    affected = len(looping) + len([text for text in endless if text not in set(looping)])
    share = affected / max(1, sentences)
    numbers = {"looping": len(looping), "truncated": len(endless), "sentences": sentences}
    told = f"{len(looping):,} of {sentences:,} translations repeat a phrase {LOOP_TIMES} times in a row, {len(endless):,} do not end"
    if share < LOOPS_SEEN:
        return Finding(check="repetition", severity="ok", found=told, numbers=numbers)
    shown = bad[0] if len(bad[0]) <= 80 else bad[0][:77] + "..."
    return Finding(
        check="repetition",
        severity="fault" if share >= LOOPING else "warning",
        found=f"{told}, such as {shown!r}",
        expected=f"less than {LOOPS_SEEN:.0%} (greedy, without the repetition guard)",
        remedy="train longer; find training pairs whose target repeats itself or is much longer than its source; until then "
        "search.repeat_ngram and search.max_repeats keep loops short",
        numbers=numbers,
    )


def unheard_source(run: RunUnderTest) -> list[Finding]:
    """How much the loss rises with the source of another sentence."""
    pairs = run.dev_pairs
    if len(pairs) < FEWEST:
        return [Finding(check="unheard source", severity="unchecked", found=f"{len(pairs)} dev sentences are too few")]
    own, other = losses_by_source(run.model, pairs.source, pairs.target)
    return [judge_source_use(own, other, sentences=len(pairs))]


def judge_source_use(true_nats: float, shuffled_nats: float, *, sentences: int) -> Finding:
    """Judge by the difference between the loss with wrong sources and with the right ones, in nats per token."""
    gained = shuffled_nats - true_nats
    told = f"wrong sources raise the dev loss by {gained:.3f} nats per token (from {true_nats:.3f}; {sentences:,} sentences)"
    numbers = {"true_nats": true_nats, "shuffled_nats": shuffled_nats, "gained_nats": gained, "sentences": sentences}
    if np.isfinite(gained) and gained >= SOURCE_WEAK:
        return Finding(check="unheard source", severity="ok", found=told, numbers=numbers)
    deaf = not gained >= SOURCE_NATS
    return Finding(
        check="unheard source",
        severity="fault" if deaf else "warning",
        found=f"{told}: the model {'ignores' if deaf else 'hardly uses'} the source",
        expected=f"{SOURCE_WEAK} nats or more",
        remedy="check warm-up, learning rate and misaligned lines first; if they are fine, train longer; "
        "model.attention gives a recurrent model attention",
        numbers=numbers,
    )
