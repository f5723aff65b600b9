"""The effect of an edit of a model or a sentence: the new translation, and the probability of the old one."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.config import Config
from vitrail.data.cleaning.normalise import encodable, plain
from vitrail.data.vocabularies.subwords import EOS, Subwords, Vocabularies
from vitrail.data.vocabularies.vocabulary import collapse
from vitrail.decode.forced import distributions
from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.textual.results import Searched
from vitrail.decode.textual.text_constraints import TextConstraints
from vitrail.errors import UsageError
from vitrail.inspection.causes.interventions import intervene
from vitrail.inspection.causes.parts import Head, Part, parse_numbers, parse_part
from vitrail.inspection.causes.patching import Patch
from vitrail.inspection.contents import Side, make_side
from vitrail.inspection.decoding import piece_of
from vitrail.inspection.record import Inspection
from vitrail.models.base import AutoregressiveModel, TranslationModel
from vitrail.models.kinds.autoencoder import AutoencoderModel


class Chosen(NamedTuple):
    """The inspected part of a text, as the model reads it."""

    number: int
    """From 1."""
    parts: int
    """Number of parts of the text."""
    text: str
    ids: tuple[int, ...]


class Editable(Protocol):
    """The interface of `InspectableTranslator` that edits need."""

    vocabularies: Vocabularies

    @property
    def model(self) -> TranslationModel: ...
    def encode_target(self, text: str, /) -> tuple[int, ...]: ...
    def choose_part(
        self,
        text: str,
        part: int | None = None,
        *,
        constraints: TextConstraints | None = None,
        given: bool = False,
        edit: "Edit | None" = None,
    ) -> Chosen: ...
    def translate_parts(
        self, text: str, *, constraints: TextConstraints | None = None, search: SearchConfig | None = None, only: int | None = None
    ) -> Searched: ...


@dataclass(frozen=True)
class Edit:
    """The edits to apply to one translation, one or several."""

    off: tuple[str | Part | Head, ...] = ()
    """Parts to switch off, such as `encoder.0.self_attention:2`; see `Part`."""
    hidden: tuple[int | str, ...] = ()
    """Masked source tokens: positions, or words, which mean all tokens at all places where they occur."""
    patches: tuple[Patch, ...] = ()
    """Values from other sentences."""
    words: tuple[tuple[str, str], ...] = ()
    """Words of the source and their replacements, at every occurrence. Positions are those of the changed sentence."""
    prefix: str = ""
    """The prefix of the new translation."""

    def to_lines(self) -> list[str]:
        """The edits, one line each."""
        return [
            *(f"off: {one}" for one in self.off),
            *(f"hidden: {one}" for one in self.hidden),
            *(f"patched: {one}" for one in self.patches),
            *(f"word: {old} -> {new or 'nothing'}" for old, new in self.words),
            *([f"prefix: {self.prefix}"] if self.prefix else []),
        ]


class ScoredTranslation(Config):
    """One translation, and how probable it is, token by token, before and after an edit."""

    text: str
    tokens: tuple[int, ...]
    """Without EOS."""
    pieces: tuple[str, ...]
    """The tokens as people read them, and <eos>, if there is one."""
    truncated: bool = False
    """Whether the translation reached the limit of length, so that there is no <eos>."""
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
    """The effect of an edit."""

    source: str
    edited_source: str
    """The same as `source` unless words were changed."""
    edits: tuple[str, ...]
    """What was changed."""
    part: int = 1
    """The number of the part of the text."""
    parts: int = 1
    old: ScoredTranslation
    """The translation before the edit, or the given one."""
    new: ScoredTranslation
    """What the search finds with the edit."""
    divergence: tuple[float, ...]
    """KL(p before || p after) of the next token, in nats, at each position of the old translation."""

    @property
    def changed(self) -> bool:
        """Whether the translation changed."""
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
        lines = [*([f"part {self.part} of {self.parts}"] if self.parts > 1 else []), self.source, *self.edits]
        lines += [f"-> {self.edited_source}"] if self.edited_source != self.source else []
        shown = (("before", self.old), ("after", self.new)) if self.changed else (("as before", self.old),)
        for which, told in shown:
            lines.append(f"{which}: {told.text}" + (" (cut at the limit of length)" if told.truncated else ""))
            lines.append(f"  log p {told.log_probability_before:.3f} -> {told.log_probability_after:.3f} nats")
        wide = max(map(len, self.old.pieces))
        lines += ["", f"{'token':<{wide}}  p before  p after      KL"]
        rows = zip(self.old.pieces, torch.tensor(self.old.before).exp(), torch.tensor(self.old.after).exp(), self.divergence, strict=True)
        lines += [f"{piece:<{wide}}  {before:8.3f}  {after:7.3f}  {nats:6.3f}" for piece, before, after, nats in rows]
        return "\n".join(lines)


def change(
    translator: Editable,
    text: str,
    edit: Edit,
    *,
    translation: str | None = None,
    part: int | None = None,
    search: SearchConfig | None = None,
    constraints: TextConstraints | None = None,
) -> Change:
    """Translate one part of a text without and with an edit, and score both translations both ways.

    Args:
        translation: use this as the old translation of the part, not the one that the search finds.
        part: which of the parts that the text is translated in, from 1; None: the first.
        search, constraints: of both searches, as for `translate`; a prefix of the edit overrides theirs in the new translation.
    Raises: UsageError for a text without tokens or too long, for a part that does not exist, for words that do not occur or whose change
            splits the text differently, and for parts that the model does not have.
    Cost:   two searches and four passes over given translations.
    """
    edited_text = replace_words(text, edit.words)
    old_part = translator.choose_part(text, part, constraints=constraints, given=translation is not None, edit=edit)
    new_part = translator.choose_part(edited_text, old_part.number, constraints=with_edit_prefix(constraints, edit))
    if old_part.parts != new_part.parts:
        found = f"the changed words split the text into {new_part.parts} parts instead of {old_part.parts}"
        raise UsageError(found, remedy="edit one sentence at a time")
    if translation is None:
        old = _search(translator, text, old_part, search=search, constraints=constraints)
    else:
        old = Given(translator.encode_target(translation), plain(encodable(translation)).strip())
    side = make_side(new_part.ids, translator.vocabularies.source, text=new_part.text)
    with apply_edit(translator.model, side, edit):
        new = _search(translator, edited_text, new_part, search=search, constraints=with_edit_prefix(constraints, edit))
        after = [_log_probabilities(translator.model, new_part.ids, said) for said in (old, new)]
    before = [_log_probabilities(translator.model, old_part.ids, said) for said in (old, new)]
    scored = _score((old, new), translator.vocabularies.target, before=before, after=after)
    texts = {"source": collapse(old_part.text), "edited_source": side.text, "part": old_part.number, "parts": old_part.parts}
    return Change(edits=tuple(edit.to_lines()), **texts, **scored)


def change_text(
    model: AutoregressiveModel,
    vocabulary: Subwords,
    text: str,
    *,
    edit: Edit,
    given: "tuple[Given, Given]",
    edited: Callable[[], AbstractContextManager[None]],
) -> Change:
    """The same for a model without a source. Args: given: the text, and what became of it with the edit. edited: applies the edit."""
    before = [_log_probabilities(model, (), said) for said in given]
    with edited():
        after = [_log_probabilities(model, (), said) for said in given]
    return Change(source=text, edited_source=text, edits=tuple(edit.to_lines()), **_score(given, vocabulary, before=before, after=after))


class Given(NamedTuple):
    """A translation or a text, found or given."""

    tokens: tuple[int, ...]
    text: str | None = None
    """The text as given; None for a found translation."""
    truncated: bool = False


def _search(translator: Editable, text: str, chosen: Chosen, *, search: SearchConfig | None, constraints: TextConstraints | None) -> Given:
    """The translation of one part by `translate`."""
    (found,) = translator.translate_parts(text, constraints=constraints, search=search, only=chosen.number - 1).parts
    return Given(found.hypotheses[0].tokens, truncated=found.hypotheses[0].truncated)


def apply_edit(model: TranslationModel, side: Side, edit: Edit) -> AbstractContextManager[None]:
    """A context manager that applies an edit to the model, see `intervene`. Args: side: the sentence, its words changed already."""
    first = int(isinstance(model, AutoencoderModel) and model.adds_start)
    return intervene(model, off=edit.off, hidden=hidden_positions(side, edit, first=first), patches=edit.patches)


def hidden_positions(side: Side, edit: Edit, *, first: int = 0) -> list[int]:
    """The positions that an edit hides. Args: first: the position of the text's first token. Raises UsageError for an unknown word."""
    words = [[one] if isinstance(one, int) else [first + at for at in _places(side.text, side.spans, one)] for one in edit.hidden]
    return [place for places in words for place in places]


def refuse_rewriting(edit: Edit, what: str = "a language model", *, words: bool = False) -> None:
    """Raises UsageError for a prefix, where nothing is translated, and for other words. Args: words: other words are no reason to."""
    if edit.prefix or (edit.words and not words):
        which = "a prefix" if edit.prefix else "other words"
        expected = f"off=PART, hide=POSITIONS or WORD, {'word=OLD:NEW, ' if words else ''}or patch=NAME@POSITIONS:TEXT"
        raise UsageError(f"an edit with {which}, for {what}", expected=expected, remedy="inspect the other text by itself")


def with_edit_prefix(constraints: TextConstraints | None, edit: Edit) -> TextConstraints:
    """The constraints of the new translation: a prefix of the edit overrides the given one."""
    constraints = TextConstraints() if constraints is None else constraints
    return replace(constraints, prefix=edit.prefix or constraints.prefix)


def _log_probabilities(model: AutoregressiveModel, source: Sequence[int], said: Given) -> Float[Tensor, "T V"]:
    return distributions(model, source, said.tokens, ended=not said.truncated)


def _score(said: tuple[Given, Given], vocabulary: Subwords, *, before: Sequence[Tensor], after: Sequence[Tensor]) -> dict[str, Any]:
    """The fields of a change that say how probable old and new are, before and after."""
    old, new = (
        _score_translation(one, vocabulary, before=first, after=second) for one, first, second in zip(said, before, after, strict=True)
    )
    divergence = (before[0].exp() * (before[0] - after[0])).sum(-1).clamp(min=0)
    return {"old": old, "new": new, "divergence": tuple(divergence.tolist())}


def _score_translation(said: Given, vocabulary: Subwords, *, before: Tensor, after: Tensor) -> ScoredTranslation:
    predicted = (*said.tokens, *(() if said.truncated else (EOS,)))
    chosen = torch.tensor(predicted)[:, None]
    return ScoredTranslation(
        text=plain(vocabulary.decode(said.tokens)).strip() if said.text is None else said.text,
        tokens=said.tokens,
        pieces=tuple(piece_of(token, vocabulary) for token in predicted),
        truncated=said.truncated,
        before=tuple(before.gather(1, chosen)[:, 0].tolist()),
        after=tuple(after.gather(1, chosen)[:, 0].tolist()),
    )


def replace_words(text: str, words: Sequence[tuple[str, str]]) -> str:
    """Replace words in a sentence, all at once. Raises UsageError where one does not occur."""
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
    """The tokens of a word. Raises UsageError where it does not occur."""
    matches = [match.span() for match in re.finditer(_standing_alone(word), text)] if word else []
    found = [place for place, (first, last) in enumerate(spans) for begin, end in matches if first < end and last > begin and first < last]
    if not found:
        raise UsageError(f"word {word!r} does not occur in {text!r}", expected="a word of the sentence, or a position")
    return list(dict.fromkeys(found))


_EDITS = "off=PART, hide=POSITIONS or WORD, word=OLD:NEW, prefix=TEXT, or patch=NAME@POSITIONS:SENTENCE"


class Inspects(Protocol):
    """What records a text, for patches."""

    def inspect(self, text: str, /) -> Inspection: ...


def parse_edit(inspector: Inspects, texts: Sequence[str]) -> Edit:
    """Parse edits from the command line, one edit per text.

        off=encoder.0.self_attention:2   off=encoder.1.feed_forward:3,17-20   off=decoder.1
        hide=3   hide=dog   word=dog:magpie   prefix=Le chien
        patch=memory@1:A magpie ate it.   (values of that sentence; without @: all positions)

    Raises: UsageError for text that cannot be parsed, and for parts, values and words that do not exist.
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
                patches.append(_parse_patch(inspector, value))
            case _:
                raise UsageError(f"edit {text!r}", expected=_EDITS)
    return Edit(tuple(off), tuple(hidden), tuple(patches), tuple(words), prefix)


def _parse_patch(inspector: Inspects, text: str) -> Patch:
    place, _, sentence = text.partition(":")
    name, at, positions = place.partition("@")
    record = inspector.inspect(sentence)
    if record.facts.parts > 1:
        raise UsageError(f"a patch from a text that is translated in {record.facts.parts} parts", expected="one sentence")
    return Patch.take(record, name.strip(), at=parse_numbers(positions) if at else None)
