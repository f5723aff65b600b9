"""A text that a masked language model or a classifier read, drawn in the terminal: guesses, labels, and the words that they hang on."""

import numpy as np

from vitrail.inspection.drawing.pen import Pen, bar, columns_of, step_line, wrapped
from vitrail.inspection.reading.facts import Contribution, guesses_of, labels_of
from vitrail.inspection.record import Inspection

_SIGNS = {"<sos>": "<sos> stands for [CLS], <eos> for [SEP]"}
_LONGEST_LABEL = 24
_EVERY_LABEL = _MOST_FEATURES = 20
"""Labels that are shown, at most; the likeliest ones."""


def read_to_parts(inspection: Inspection, pen: Pen) -> list[list[str]]:
    """The parts before the attention."""
    parts = [_text(inspection, pen), _guesses(inspection, pen), _labels(inspection, pen)]
    return [*parts, *_reasons(inspection, pen), *_features(inspection, pen)]


def _text(inspection: Inspection, pen: Pen) -> list[str]:
    tokens, pooling = inspection.source_tokens, inspection.facts.extras["pooling"]
    entering = pooling["tokens"]
    if len(entering) == len(tokens):
        which = f"the mean over all {len(tokens)} tokens" + (
            " and their n-grams" if inspection.facts.model.get("word_ngrams", 1) > 1 else ""
        )
    else:
        which = " and ".join(pen.safe(tokens[one]) for one in entering)
        which = f"the last state, at {which}" if pooling["how"] == "last" else f"the vector of {which}"
    lines = wrapped("; ".join(inspection.notes), pen) if inspection.notes else list[str]()
    lines += [pen.bold(line) for line in wrapped(pen.safe(inspection.source.text), pen)]
    signs = [_SIGNS[sign] for sign in (inspection.facts.first,) if sign in _SIGNS]
    return [*lines, *wrapped("; ".join([f"vector of the text: {which}", *signs]), pen)]


def _guesses(inspection: Inspection, pen: Pen) -> list[str]:
    guesses, tokens = guesses_of(inspection), inspection.source_tokens
    if not guesses:
        return [] if labels_of(inspection) is not None else wrapped("no [MASK] in this text, so nothing is guessed", pen)
    labels = [f"{one.position} {pen.safe(tokens[one.position])}" for one in guesses]
    room = max(map(columns_of, labels))
    title = "Guesses: position and what stands there, probability of the token, entropy in nats, the likeliest tokens"
    lines = [pen.bold(line) for line in wrapped(title, pen)]
    return lines + [step_line(one, pen, label=label, room=room) for label, one in zip(labels, guesses, strict=True)]


def _labels(inspection: Inspection, pen: Pen) -> list[str]:
    found = labels_of(inspection)
    if found is None:
        return []
    rows = sorted(found.labels, key=lambda one: -one.probability)
    room = min(_LONGEST_LABEL, max(columns_of(pen.safe(one.label)) for one in rows))
    how = "sigmoid: each label by itself" if found.several else found.output
    lines = [pen.bold(f"Labels: probability, logit ({how})")]
    for one in rows[:_EVERY_LABEL]:
        mark = pen.mark("→", ">") if one.chosen else " "
        lines.append(f"{mark} {pen.cell(one.label, room)}  {bar(one.probability, pen)} {one.probability:.3f}  {one.logit:+.3f}")
    return lines + ([f"and {len(rows) - _EVERY_LABEL} more labels"] if len(rows) > _EVERY_LABEL else [])


def _reasons(inspection: Inspection, pen: Pen) -> list[list[str]]:
    """For each guess or label, what each word adds to it."""
    told = inspection.facts.extras.get("attribution")
    if told is None or "word_attribution.occlusion" not in inspection.arrays:
        return []
    columns = ("integrated_gradients", "occlusion")
    values = [np.asarray(inspection[f"word_attribution.{name}"], dtype=np.float64) for name in columns]
    words = [pen.safe(inspection.source.word(number)) for number in range(len(inspection.source.words))]
    room = min(_LONGEST_LABEL, max(map(columns_of, words)))
    parts: list[list[str]] = []
    for row, one in enumerate(told["rows"]):
        position = one["position"]
        what = f"“{one['name']}” at {position}, in nats" if position is not None else f"“{one['name']}”, in its logit"
        title = f"What each word adds to {what}: integrated gradients (the sum of its tokens), and occlusion (without the word)"
        lines = [pen.bold(line) for line in wrapped(pen.safe(title), pen)]
        largest = max(float(np.abs(values[0][row]).max()), 1e-12)
        for number, word in enumerate(words):
            by_sum, without = (float(each[row, number]) for each in values)
            sign = "-" if by_sum < 0 else "+"
            lines.append(f"{pen.cell(word, room)}  {sign}{bar(abs(by_sum) / largest, pen)} {by_sum:+.3f}  {without:+.3f}")
        parts.append(lines)
    return parts


def _features(inspection: Inspection, pen: Pen) -> list[list[str]]:
    """Of a bag of words, for each label: what every token and n-gram adds to its logit."""
    found = [Contribution.model_validate(one) for one in inspection.facts.extras.get("features", [])]
    if not found:
        return []
    tokens = [pen.safe(token) for token in inspection.source_tokens]
    parts: list[list[str]] = []
    for row, told in enumerate(inspection.facts.extras["attribution"]["rows"]):
        bias = sum(one.logits[row] for one in found if one.size == 0)
        ranked = sorted((one for one in found if one.size), key=lambda one: -abs(one.logits[row]))
        title = (
            f"Tokens and n-grams in the logit of “{told['name']}”: with {bias:+.3f}, which every text has, these {len(ranked)} sum to it"
        )
        lines = [pen.bold(line) for line in wrapped(pen.safe(title), pen)]
        names = [" ".join(tokens[one.first : one.first + one.size]) for one in ranked[:_MOST_FEATURES]]
        room, largest = min(_LONGEST_LABEL, max(map(columns_of, names))), max(abs(ranked[0].logits[row]), 1e-12)
        for name, one in zip(names, ranked, strict=False):
            value = one.logits[row]
            lines.append(f"{pen.cell(name, room)}  {'-' if value < 0 else '+'}{bar(abs(value) / largest, pen)} {value:+.3f}")
        rest = ranked[_MOST_FEATURES:]
        parts.append([*lines, f"and {len(rest)} more: {sum(one.logits[row] for one in rest):+.3f}"] if rest else lines)
    return parts
