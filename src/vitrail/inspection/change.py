"""What an edit of a model, or of a sentence, changes: the translation, and how probable the old one still is."""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.config import Config
from vitrail.data.batches import collate
from vitrail.data.subwords import EOS
from vitrail.decode.search import SearchConfig
from vitrail.decode.translate import Wishes
from vitrail.errors import UsageError
from vitrail.inspection.decoding import piece_of
from vitrail.inspection.edit import applied
from vitrail.inspection.parts import Head, Part, parse_numbers, parse_part
from vitrail.inspection.patching import Patch
from vitrail.inspection.record import make_side
from vitrail.models.base import TranslationModel

if TYPE_CHECKING:
    from vitrail.inspection.translator import InspectableTranslator


@dataclass(frozen=True)
class Edit:
    """What to change about one translation; several things may change at once."""

    off: tuple[str | Part | Head, ...] = ()
    """Parts to switch off, such as `encoder.0.self_attention:2`; see `Part`."""
    hidden: tuple[int | str, ...] = ()
    """Source tokens that nobody reads: positions, or words, which stand for all tokens of all places where they occur."""
    patches: tuple[Patch, ...] = ()
    """Values from other sentences."""
    words: tuple[tuple[str, str], ...] = ()
    """Words of the source, and what to say instead, wherever they occur. Positions are those of the changed sentence."""
    prefix: str = ""
    """What the new translation begins with."""

    def to_lines(self) -> list[str]:
        """What is changed, a line each."""
        return [
            *(f"off: {one}" for one in self.off),
            *(f"hidden: {one}" for one in self.hidden),
            *(f"patched: {one}" for one in self.patches),
            *(f"word: {old} -> {new or 'nothing'}" for old, new in self.words),
            *([f"prefix: {self.prefix}"] if self.prefix else []),
        ]


class Told(Config):
    """One translation, and how probable it is, token by token, before and after an edit."""

    text: str
    tokens: tuple[int, ...]
    """Without EOS."""
    pieces: tuple[str, ...]
    """The tokens as people read them, and <eos>."""
    before: tuple[float, ...]
    """log p of each token, given those before it, in nats."""
    after: tuple[float, ...]
    """The same with the edit."""

    @property
    def log_probability_before(self) -> float:
        """Of the whole translation, in nats."""
        return sum(self.before)

    @property
    def log_probability_after(self) -> float:
        """The same with the edit."""
        return sum(self.after)


class Change(Config):
    """What an edit changed."""

    source: str
    edited_source: str
    """The same as `source` unless words were changed."""
    edits: tuple[str, ...]
    """What was changed."""
    old: Told
    """The translation before the edit, or the given one."""
    new: Told
    """What the search finds with the edit."""
    divergence: tuple[float, ...]
    """KL(p before || p after) of the next token, in nats, at each position of the old translation."""

    @property
    def changed(self) -> bool:
        """Whether the translation is another one."""
        return self.old.tokens != self.new.tokens

    def to_record(self) -> dict[str, Any]:
        """For JSON."""
        sums = {
            which: {"before": told.log_probability_before, "after": told.log_probability_after}
            for which, told in (("old", self.old), ("new", self.new))
        }
        return {**self.model_dump(mode="json"), "changed": self.changed, "log_probability": sums}

    def to_text(self) -> str:
        """To read in a terminal."""
        lines = [self.source, *self.edits]
        lines += [f"-> {self.edited_source}"] if self.edited_source != self.source else []
        shown = (("before", self.old), ("after", self.new)) if self.changed else (("as before", self.old),)
        for which, told in shown:
            lines.append(f"{which}: {told.text}")
            lines.append(f"  log p {told.log_probability_before:.3f} -> {told.log_probability_after:.3f} nats")
        wide = max(map(len, self.old.pieces))
        lines += ["", f"{'token':<{wide}}  p before  p after      KL"]
        rows = zip(self.old.pieces, torch.tensor(self.old.before).exp(), torch.tensor(self.old.after).exp(), self.divergence, strict=True)
        lines += [f"{piece:<{wide}}  {before:8.3f}  {after:7.3f}  {nats:6.3f}" for piece, before, after, nats in rows]
        return "\n".join(lines)


def change(
    translator: "InspectableTranslator",
    text: str,
    edit: Edit,
    *,
    translation: str | None = None,
    search: SearchConfig | None = None,
    wishes: Wishes | None = None,
) -> Change:
    """Translate one sentence as ever and with an edit, and weigh both translations both ways.

    Args:
        translation: take this one for the old one rather than what the search finds.
        search, wishes: of both searches, as for `translate`; where the edit has a prefix, the new translation begins with that one.
    Raises: UsageError for a text without tokens or too long, for words that do not occur, and for what the model does not have.
    Cost:   two searches and four passes over given translations.
    """
    model = translator.model
    edited_text = replace_words(text, edit.words)
    source, edited_source = translator.encode_source(text), translator.encode_source(edited_text)
    if translation is None:
        old = translator.search_one(source, wishes=wishes, search=search)[0].tokens
    else:
        old = translator.encode_target(translation)
    with edit_applied(translator, edited_text, edit):
        new = translator.search_one(edited_source, wishes=begun(wishes, edit), search=search)[0].tokens
        after = [log_probabilities(model, edited_source, target) for target in (old, new)]
    before = [log_probabilities(model, source, target) for target in (old, new)]
    told = [_tell(translator, target, before=one, after=other) for target, one, other in zip((old, new), before, after, strict=True)]
    divergence = (before[0].exp() * (before[0] - after[0])).sum(-1).clamp(min=0)
    return Change(
        source=make_side(source, translator.vocabularies.source).text,
        edited_source=make_side(edited_source, translator.vocabularies.source).text,
        edits=tuple(edit.to_lines()),
        old=told[0],
        new=told[1],
        divergence=tuple(divergence.tolist()),
    )


def edit_applied(translator: "InspectableTranslator", text: str, edit: Edit) -> AbstractContextManager[None]:
    """The model as an edit has it while this is open, see `applied`. Args: text: the sentence, its words changed already."""
    side = make_side(translator.encode_source(text), translator.vocabularies.source)
    hidden = [place for one in edit.hidden for place in ([one] if isinstance(one, int) else _places(side.text, side.spans, one))]
    return applied(translator.model, off=edit.off, hidden=hidden, patches=edit.patches)


def begun(wishes: Wishes | None, edit: Edit) -> Wishes:
    """What is asked of a translation, but with the edit's prefix, where it has one."""
    wishes = Wishes() if wishes is None else wishes
    return replace(wishes, prefix=edit.prefix or wishes.prefix)


@torch.inference_mode()
def log_probabilities(model: TranslationModel, source: Sequence[int], target: Sequence[int]) -> Float[Tensor, "T V"]:
    """log p(token | source, target before it) at each position of a given translation, its end included; in float64 from the logits on."""
    device = next(model.parameters()).device
    batch = collate([list(source)], [list(target)])
    hidden = model.decode(batch.target_in.to(device), model.encode(batch.source.to(device)))
    return model.read_out(hidden)[0].double().log_softmax(-1).cpu()


def _tell(translator: "InspectableTranslator", target: Sequence[int], *, before: Tensor, after: Tensor) -> Told:
    vocabulary, predicted = translator.vocabularies.target, torch.tensor([*target, EOS])[:, None]
    return Told(
        text=vocabulary.decode(target),
        tokens=tuple(target),
        pieces=tuple(piece_of(token, vocabulary) for token in (*target, EOS)),
        before=tuple(before.gather(1, predicted)[:, 0].tolist()),
        after=tuple(after.gather(1, predicted)[:, 0].tolist()),
    )


def replace_words(text: str, words: Sequence[tuple[str, str]]) -> str:
    """Say other words in a sentence, all at once. Raises UsageError where one does not occur."""
    if not words:
        return text
    instead = dict(words)
    for old in instead:
        if not old or re.search(_standing_alone(old), text) is None:
            raise UsageError(f"word {old!r} does not occur in {text!r}", expected="a word of the sentence, as it is written there")
    pattern = "|".join(_standing_alone(old) for old in sorted(instead, key=len, reverse=True))
    return re.sub(pattern, lambda match: instead[match[0]], text)


def _standing_alone(word: str) -> str:
    return rf"(?<!\w){re.escape(word)}(?!\w)"


def _places(text: str, spans: Sequence[tuple[int, int]], word: str) -> list[int]:
    """The tokens that write a word. Raises UsageError where it does not occur."""
    matches = [match.span() for match in re.finditer(_standing_alone(word), text)] if word else []
    found = [place for place, (first, last) in enumerate(spans) for begin, end in matches if first < end and last > begin and first < last]
    if not found:
        raise UsageError(f"word {word!r} does not occur in {text!r}", expected="a word of the sentence, or a position")
    return list(dict.fromkeys(found))


_EDITS = "off=PART, hide=POSITIONS or WORD, word=OLD:NEW, prefix=TEXT, or patch=NAME@POSITIONS:SENTENCE"


def parse_edit(translator: "InspectableTranslator", texts: Sequence[str]) -> Edit:
    """Read edits from a command line, one thing in each text.

        off=encoder.0.self_attention:2   off=encoder.1.feed_forward:3,17-20   off=decoder.1
        hide=3   hide=dog   word=dog:magpie   prefix=Le chien
        patch=memory@1:A magpie ate it.   (values of that sentence; without @: all positions)

    Raises: UsageError that says what was not understood, and for parts, values and words that do not exist.
    """
    off: list[Part] = []
    hidden: list[int | str] = []
    patches: list[Patch] = []
    words: list[tuple[str, str]] = []
    prefix = ""
    for text in texts:
        what, equals, value = text.partition("=")
        match what.strip():
            case "off" if value.strip():
                off.append(parse_part(value))
            case "hide" if value.strip():
                hidden += parse_numbers(value) if re.fullmatch(r"[\d\s,-]*\d[\d\s,-]*", value) else (value.strip(),)
            case "word" if ":" in value:
                old, _, new = value.partition(":")
                words.append((old.strip(), new.strip()))
            case "prefix" if equals:
                prefix = value
            case "patch" if ":" in value:
                patches.append(_parse_patch(translator, value))
            case _:
                raise UsageError(f"edit {text!r}", expected=_EDITS)
    return Edit(tuple(off), tuple(hidden), tuple(patches), tuple(words), prefix)


def _parse_patch(translator: "InspectableTranslator", text: str) -> Patch:
    place, _, sentence = text.partition(":")
    name, at, positions = place.partition("@")
    return Patch.take(translator.inspect(sentence), name.strip(), at=parse_numbers(positions) if at else None)
