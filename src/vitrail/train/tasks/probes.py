"""Sentences that the user asks to be filmed (`train.probes`), checked before the training begins."""

from collections.abc import Sequence

from vitrail.data.cleaning.normalise import normalise
from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import EOS
from vitrail.errors import UsageError
from vitrail.train.tasks.task import Task
from vitrail.train.tasks.validate import NO_PROBES, Probes

_SHOWN = 60
"""Characters of a sentence in a message."""


def read_probes(task: Task, given: Sequence[str]) -> Probes:
    """The sentences of `train.probes`, each perhaps with a tab and what is right for it.

    Raises: UsageError for one that this kind of model cannot be asked, and where there is no dev set, so that nothing is validated.
    """
    if not given:
        return NO_PROBES
    if not task.has_dev:
        raise UsageError(
            "train.probes without a dev set",
            expected="a dev set: sentences are filmed at each validation",
            remedy="leave train.probes out, or hold lines out for a dev set (docs/data.md)",
        )
    read = [_read(task, text) for text in given]
    return Probes([source for source, _ in read], [reference for _, reference in read])


def _read(task: Task, text: str) -> tuple[str, str | None]:
    written, tab, beside = text.partition("\t")
    source, reference = normalise(written), normalise(beside) if tab else None
    shown = f"train.probes: {text[:_SHOWN]!r}"
    _check_columns(task, shown, beside=bool(tab))
    words = task.prepared.vocabularies
    sides = [(source, words.source)]
    if task.probe_reference and reference is not None and not isinstance(words.target, LabelVocabulary):
        sides.append((reference, words.target))
    for side, vocabulary in sides:
        tokens = len(vocabulary.encode(side))
        if not 0 < tokens <= task.longest_probe:
            raise UsageError(
                f"{shown}: {side[:_SHOWN]!r} has {tokens:,} tokens",
                expected=f"1 to {task.longest_probe:,}, which this model can be asked",
                remedy="a shorter sentence" if tokens else "a sentence",
            )
    if isinstance(words.target, LabelVocabulary) and reference is not None:
        _check_label(words.target, reference, shown)
    return source, reference


def _check_columns(task: Task, shown: str, *, beside: bool) -> None:
    what = task.probe_reference
    if beside and not what:
        raise UsageError(f"{shown}: a tab", expected="a sentence alone", remedy="leave out the tab and what follows it")
    if what and task.needs_reference and not beside:
        raise UsageError(f"{shown}: a sentence alone", expected=f"a sentence, a tab and {what}", remedy=r'"A sentence.\tIts translation."')


def _check_label(labels: LabelVocabulary, reference: str, shown: str) -> None:
    (ids,) = labels.encode_batch([reference])
    if any(id <= EOS for id in ids) or not (ids or labels.several):
        names = ", ".join(one[:30] for one in labels.labels[:20])
        raise UsageError(f"{shown}: the label {reference[:_SHOWN]!r}", expected=f"one of {names}", remedy="a label of the training text")
