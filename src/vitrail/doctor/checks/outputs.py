"""Checks of what a model says: the same for every input, loops, or no use of the source."""

from collections.abc import Sequence

import numpy as np
import torch

from vitrail.data.vocabularies.subwords import EOS
from vitrail.doctor.findings import Finding
from vitrail.doctor.run_under_test import RunUnderTest
from vitrail.evaluation.learned import FEWEST, SOURCE_WEAK, losses_by_source
from vitrail.models.kinds.classifier import ClassifierModel

SAME = 0.1
"""Different translations as a share of different references, below which a model gives every input the same output. Every healthy
model measured has 1.0, an Elman network that hardly uses the source 0.25, a constant model 1 / (number of sentences)."""
ALIKE = 0.5
"""The same share, below which many inputs get equal outputs."""
SOURCE_NATS = 0.1
"""Nats per token by which a wrong source must make the right target less likely: parallel text shares 1 nat per token and more (the
difference in loss between a language model and a translator), so this is a tenth. With cross-attention cut: 0."""

MOSTLY = 0.9
"""Share of the texts with the commonest labels from which giving them to all is a warning only: little is lost by it."""

LOOPING = 0.1
"""Share of looping translations that is a fault."""
LOOPS_SEEN = 0.03
"""Share that is a warning: 4 of 128."""
LOOP_TIMES = 4
"""Repetitions of a word or phrase in a row that count as a loop; more than people write ("no, no, no")."""
LOOP_WORDS = 6
"""Maximal length in words of a repeated phrase."""


def same_output(run: RunUnderTest) -> list[Finding]:
    """Whether different sentences get different translations, or labels."""
    if isinstance(run.model, ClassifierModel):
        return [judge_labels(_labels(run, run.model), [tuple(ids) for ids in run.dev_pairs.target])]
    return [judge_variety([one.text for one in run.outputs], run.dev_sentences[1], what=_written(run))]


def _written(run: RunUnderTest) -> str:
    return "reconstructions" if run.task == "autoencoding" else "translations"


@torch.inference_mode()
def _labels(run: RunUnderTest, model: ClassifierModel) -> list[tuple[int, ...]]:
    """The ids of the labels that a model gives each dev text."""
    head = model.head
    shares = [head.probabilities(model.classify(run.batch([place]).source))[0] for place in range(len(run.dev_pairs))]
    chosen = [(row > 0.5).nonzero()[:, 0].tolist() if head.several else [int(row.argmax())] for row in shares]
    return [tuple(EOS + 1 + label for label in row) for row in chosen]


def judge_labels(given: Sequence[tuple[int, ...]], right: Sequence[tuple[int, ...]]) -> Finding:
    """Whether all texts get the same labels, though they have different ones."""
    check, count, expected = "same output", len(set(given)), len(set(right))
    numbers = {"different": count, "texts": len(given), "different_right": expected}
    told = f"{count:,} different answers for {len(given):,} dev texts, whose labels differ in {expected:,} ways"
    if len(given) < FEWEST or expected < 2:
        return Finding(check=check, severity="unchecked", found=f"{told}: too few", numbers=numbers)
    if count > 1:
        return Finding(check=check, severity="ok", found=told, numbers=numbers)
    commonest = max(right.count(one) for one in set(right))
    return Finding(
        check=check,
        severity="warning" if commonest > MOSTLY * len(right) else "fault",
        found=f"{told}; the commonest is right for {commonest / len(right):.0%}",
        expected="different answers for different texts",
        remedy="check warm-up and learning rate first; if they are fine, train longer, on more examples of the rarer labels",
        numbers=numbers,
    )


def judge_variety(translations: Sequence[str], references: Sequence[str], *, what: str = "translations") -> Finding:
    """Compare how many different outputs there are with how many different references; sources are all different."""
    check, count, expected = "same output", len(set(translations)), len(set(references))
    share = count / expected if expected else 0.0
    told = f"{count:,} different {what} of {len(translations):,} dev sentences ({expected:,} different references)"
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
        expected=f"different {what} for nearly all sentences",
        remedy="check the findings above first; if they are fine, train longer",
        numbers=numbers,
    )


def _commonest(texts: Sequence[str]) -> tuple[str, int]:
    """The text that occurs most often, cut to a line, and how often."""
    best = max(sorted(set(texts)), key=texts.count)
    return (best if len(best) <= 60 else best[:57] + "..."), texts.count(best)


def repetition(run: RunUnderTest) -> list[Finding]:
    """Whether translations fall into loops, or never end."""
    found = run.outputs
    looping = [one.text for one, source in zip(found, run.dev_sentences[0], strict=True) if loops(one.text) and not loops(source)]
    endless = [one.text for one in found if one.truncated]
    return [judge_loops(looping, endless, len(found), what=_written(run))]


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


def judge_loops(looping: Sequence[str], endless: Sequence[str], sentences: int, *, what: str = "translations") -> Finding:
    """Judge by the share of outputs that loop or do not end."""
    bad, pairs = list(dict.fromkeys([*looping, *endless])), what == "translations"
    affected = len(looping) + len([text for text in endless if text not in set(looping)])
    share = affected / max(1, sentences)
    numbers = {"looping": len(looping), "truncated": len(endless), "sentences": sentences}
    told = f"{len(looping):,} of {sentences:,} {what} repeat a phrase {LOOP_TIMES} times in a row, {len(endless):,} do not end"
    if share < LOOPS_SEEN:
        return Finding(check="repetition", severity="ok", found=told, numbers=numbers)
    shown = bad[0] if len(bad[0]) <= 80 else bad[0][:77] + "..."
    return Finding(
        check="repetition",
        severity="fault" if share >= LOOPING else "warning",
        found=f"{told}, such as {shown!r}",
        expected=f"less than {LOOPS_SEEN:.0%} (greedy, without the repetition guard)",
        remedy=f"train longer; find training {'pairs whose target repeats itself or is much longer than its source' if pairs else 'lines'}"
        f"{'' if pairs else ' that repeat themselves'}; until then search.repeat_ngram and search.max_repeats keep loops short",
        numbers=numbers,
    )


def unheard_source(run: RunUnderTest) -> list[Finding]:
    """How much the loss rises with the source of another sentence."""
    pairs = run.dev_pairs
    if len(pairs) < FEWEST:
        return [Finding(check="unheard source", severity="unchecked", found=f"{len(pairs)} dev sentences are too few")]
    own, other = losses_by_source(run.writer, pairs.source, pairs.target)
    return [judge_source_use(own, other, sentences=len(pairs), autoencoder=run.task == "autoencoding")]


def judge_source_use(true_nats: float, shuffled_nats: float, *, sentences: int, autoencoder: bool = False) -> Finding:
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
        found=f"{told}: the {'decoder' if autoencoder else 'model'} {'ignores' if deaf else 'hardly uses'} the "
        f"{'vector of the sentence' if autoencoder else 'source'}",
        expected=f"{SOURCE_WEAK} nats or more",
        remedy="check warm-up and learning rate first; if they are fine, train longer, with a larger model.bottleneck; where it is "
        "variational, with a smaller model.kl_weight or more model.free_nats"
        if autoencoder
        else "check warm-up, learning rate and misaligned lines first; if they are fine, train longer; "
        "model.attention gives a recurrent model attention",
        numbers=numbers,
    )
