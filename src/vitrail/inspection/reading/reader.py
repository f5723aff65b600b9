"""The masked language model and the classifier with inspection, returned by `vitrail.load`."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from vitrail.data.batches import pad_rows
from vitrail.data.cleaning.normalise import normalise
from vitrail.data.vocabularies.subwords import EOS, Vocabularies
from vitrail.decode.encoding.torch import guess_logits
from vitrail.decode.sentences.classify import Classifier
from vitrail.decode.sentences.masked import MASK, MaskFiller
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.causes.change import Edit, hidden_positions, refuse_rewriting, replace_words
from vitrail.inspection.causes.interventions import intervene
from vitrail.inspection.causes.lens import add_lens
from vitrail.inspection.collect import Arrays, collect_read
from vitrail.inspection.contents import ONE_SIDE, Facts, Side, make_side
from vitrail.inspection.decoding import CANDIDATES, Decoding, describe_steps, piece_of
from vitrail.inspection.reading.attribution import attribute_reading
from vitrail.inspection.reading.change import ReadingChange, compare_readings
from vitrail.inspection.reading.facts import Contribution, GuessAt, Labels, LabelScore, Pooled, guesses_of, labels_of
from vitrail.inspection.reading.questions import LabelQuestion, MaskQuestion
from vitrail.inspection.record import Inspection
from vitrail.inspection.translator import LONGEST
from vitrail.inspection.words import group_spans
from vitrail.models.kinds.classifier import BagClassifier, ClassifierModel, Feature
from vitrail.models.kinds.masked import MaskedLanguageModel
from vitrail.models.places import Place, find, layer_outputs

_NEVER = -1e4
"""log p of what cannot be guessed: its probability is 0, and 0 times it is 0."""


class InspectableFiller(MaskFiller):
    """A `MaskFiller` that can also be inspected."""

    engines = ("torch",)

    @property
    def vocabularies(self) -> Vocabularies:
        """The vocabulary, as analyses of both sides take it."""
        return Vocabularies(self.vocabulary, self.vocabulary, joint=True)

    def inspect(self, text: str, *, at: Sequence[int] = (), top: int = CANDIDATES, edit: Edit | None = None) -> Inspection:
        """Read a text with masks, and record every layer and head, and the guesses at each `[MASK]`.

        Args:
            at: further positions to guess at, among `source_tokens`; the model reads what stands there.
            top: guesses at each position, at most.
            edit: inspect the text and the model with this edit applied; positions are those of `source_tokens`.
        Raises: UsageError for a text without tokens or too long for the model, and for a position outside it; ModelError for a compiled
            model.
        """
        edit = Edit() if edit is None else edit
        refuse_rewriting(edit, "a masked language model", words=True)
        side = self._read(replace_words(text, edit.words))
        model, source = self.model, _as_row(side.ids, self.model, start=True)
        masks = [place for place, id in enumerate(side.ids, start=1) if id == model.mask_id]
        wrong = [str(one) for one in at if not 0 < one <= len(side.ids)]
        if wrong or top < 1:
            found = f"position {', '.join(wrong)} of the text" if wrong else f"{top} guesses"
            raise UsageError(found, expected=f"positions 1 to {len(side.ids)}" if wrong else "1 or more")
        places = sorted({*masks, *at})
        with _edited(model, side, edit):
            with torch.inference_mode():
                logits = model.read_out(model.encode(source).memory)[0]
                shares = guess_logits(logits).double().softmax(1).float().cpu().numpy()
            guesses = self._guesses(side, shares, places, top)
            question = MaskQuestion(model, source, [one.position for one in guesses], [one.chosen.token for one in guesses])
            arrays = collect_read(model, lambda: model.read_out(model.encode(source).memory), loss=question.nats if guesses else None)
            arrays["probabilities"] = shares
            facts = _facts(self.model, side, asked=text, language=str(self.facts.get("language") or ""))
            record = _with_vector(Inspection(facts, arrays), model, source)
        return record.with_arrays({}, guesses=[one.model_dump(mode="json") for one in guesses], **_told(edit))

    def edit(self, text: str, edit: Edit, *, at: Sequence[int] = ()) -> ReadingChange:
        """The effect of an edit on the guesses at each `[MASK]`. Args: at: as for `inspect`; not where words are changed.

        Raises: as `inspect`, and UsageError for an edit that changes the number of masks, and for parts that the model does not have.
        """
        if at and edit.words:
            raise UsageError("further positions, with other words", expected="one of them: positions may differ then")
        return compare_readings(self.inspect(text, at=at), self.inspect(text, at=at, edit=edit), self.vocabulary)

    def applied(self, edit: Edit, inspection: Inspection) -> AbstractContextManager[None]:
        """A context manager: the model with the edit that a record was made with."""
        return _edited(self.model, inspection.source, edit)

    def attribute(self, inspection: Inspection) -> Inspection:
        """Add what each guess of a record hangs on, see `reading.attribution`. Raises ModelError for a record of another model."""
        _check_same(inspection, self.model)
        guesses, source = guesses_of(inspection), _as_row(inspection.source.ids, self.model, start=True)
        with torch.inference_mode(False):
            question = MaskQuestion(self.model, source.clone(), [one.position for one in guesses], [one.chosen.token for one in guesses])
        return attribute_reading(inspection, question, rows=[(one.chosen.piece, one.position) for one in guesses])

    @torch.inference_mode()
    def lens(self, inspection: Inspection) -> Inspection:
        """Add the logit lens: what the model would guess after each layer, at the positions of its guesses; see `causes.lens`.

        Raises ModelError for a record of another model. Cost: as many products with the output matrix as there are layers, and one.
        """
        _check_same(inspection, self.model)
        guesses, device = guesses_of(inspection), next(self.model.parameters()).device
        first = find(inspection.places, "position", "source")
        assert first is not None, "an encoder of blocks has positions"
        names = [place.name for place in (first, *layer_outputs(inspection.places, "source"))]
        layers: list[npt.NDArray[np.float64]] = []
        for name in names:
            values = self.model.finish(torch.as_tensor(inspection[name])[None].to(device))[0]
            logits = guess_logits(self.model.read_out(values[[one.position for one in guesses]]))[:, EOS + 1 :]
            shares = logits.double().log_softmax(1).cpu().numpy()
            layers.append(np.pad(shares, ((0, 0), (EOS + 1, 0)), constant_values=_NEVER))
        tokens = [one.chosen.token for one in guesses]
        return add_lens(inspection, np.stack(layers), names=names, predicted=tokens, vocabulary=self.vocabulary)

    def _guesses(self, side: Side, shares: Any, places: Sequence[int], top: int) -> list[GuessAt]:
        hidden = [side.ids[place - 1] == self.model.mask_id for place in places]
        tokens = [int(shares[place].argmax()) if mask else side.ids[place - 1] for place, mask in zip(places, hidden, strict=True)]
        steps = describe_steps(shares[list(places)], tokens, self.vocabulary, count=min(top, self.vocabulary.size - EOS - 1))
        return [GuessAt(**step.model_dump(), position=place, hidden=mask) for step, place, mask in zip(steps, places, hidden, strict=True)]

    def _read(self, text: str) -> Side:
        found = self.segment(text)
        if not found.ids:
            raise UsageError(f"{text!r}: nothing to inspect", expected="a text")
        self.require_room(found.ids)
        _require_short(len(found.ids))
        pieces = tuple(MASK if id == self.model.mask_id else piece_of(id, self.vocabulary) for id in found.ids)
        words = tuple(map(tuple, group_spans(found.spans, text=found.text)))
        return Side(text=found.text, ids=found.ids, pieces=pieces, spans=found.spans, words=words)


class InspectableClassifier(Classifier):
    """A `Classifier` that can also be inspected."""

    engines = ("torch",)

    @property
    def vocabularies(self) -> Vocabularies:
        """The vocabulary of its texts, as analyses of both sides take it."""
        return Vocabularies(self.vocabulary, self.vocabulary, joint=True)

    def inspect(self, text: str, *, edit: Edit | None = None) -> Inspection:
        """Read a text, and record every layer, head and gate, the vector of the text, and the score of each label.

        Args: edit: inspect the text and the model with this edit applied; positions are those of `source_tokens`.
        Raises: UsageError for a text without tokens, or with more than `LONGEST` that are read; ModelError for a compiled model.
        """
        edit = Edit() if edit is None else edit
        refuse_rewriting(edit, "a classifier", words=True)
        read = normalise(replace_words(text, edit.words))
        side, cut = _cut(make_side(self.vocabulary.encode(read), self.vocabulary, text=read), self.longest)
        if not side.ids:
            raise UsageError(f"{text!r}: nothing to inspect", expected="a text")
        _require_short(len(side.ids))
        model, source = self.model, _as_row(side.ids, self.model, start=self.model.marks_start)
        with _edited(model, side, edit):
            labels = self._labels_of(source)
            chosen = _explained(labels)
            arrays = collect_read(model, lambda: model.classify(source), loss=LabelQuestion(model, source, chosen).nats)
            arrays["probabilities"] = np.array([[one.probability for one in labels.labels]], dtype=np.float32)
            facts = _facts(model, side, asked=text, language=str(self.facts.get("language") or ""), cut=cut)
            record = _with_vector(Inspection(facts, arrays), model, source)
        return record.with_arrays({}, labels=labels.model_dump(mode="json"), **_told(edit))

    def edit(self, text: str, edit: Edit) -> ReadingChange:
        """The effect of an edit on the probability of each label.

        Raises: as `inspect`, and UsageError for parts that the model does not have.
        """
        return compare_readings(self.inspect(text), self.inspect(text, edit=edit), self.vocabulary)

    def applied(self, edit: Edit, inspection: Inspection) -> AbstractContextManager[None]:
        """A context manager: the model with the edit that a record was made with."""
        return _edited(self.model, inspection.source, edit)

    def attribute(self, inspection: Inspection, *, labels: Sequence[str] = ()) -> Inspection:
        """Add what labels of a record hang on, see `reading.attribution`. Args: labels: none: what the model says.

        Raises: UsageError for an unknown label; ModelError for a record of another model.
        """
        _check_same(inspection, self.model)
        told = labels_of(inspection)
        if told is None:
            raise ModelError("this record was made by another model", remedy="inspect the text again with this model")
        names = [one.label for one in told.labels]
        for one in labels:
            if one not in names:
                raise UsageError(f"the label {one!r}", expected=f"one of {', '.join(names[:20])}")
        chosen = [names.index(one) for one in labels] or _explained(told)
        with torch.inference_mode(False):
            source = _as_row(inspection.source.ids, self.model, start=self.model.marks_start).clone()
        question = LabelQuestion(self.model, source, chosen)
        found = attribute_reading(inspection, question, rows=[(names[one], None) for one in chosen])
        parts = [one.model_dump(mode="json") for one in _contributions(self.model, source, chosen)]
        return found.with_arrays({}, features=parts) if parts else found

    @torch.inference_mode()
    def _labels_of(self, source: Int[Tensor, "1 S"]) -> Labels:
        head = self.model.head
        logits = self.model.classify(source).float()
        shares: list[float] = head.probabilities(logits)[0].tolist()
        by_label: list[float] = head.by_label(logits)[0].tolist()
        best = int(np.argmax(shares))
        chosen = [share > 0.5 if self.several else label == best for label, share in enumerate(shares)]
        rows = zip(self.labels, by_label, shares, chosen, strict=True)
        scores = tuple(LabelScore(label=label, logit=logit, probability=share, chosen=own) for label, logit, share, own in rows)
        return Labels(output=head.output, several=self.several, labels=scores)


Reader = InspectableFiller | InspectableClassifier
"""What reads a text and writes none, with inspection."""


def _edited(model: MaskedLanguageModel | ClassifierModel, side: Side, edit: Edit) -> AbstractContextManager[None]:
    return intervene(model, off=edit.off, hidden=hidden_positions(side, edit, first=int(model.marks_start)), patches=edit.patches)


def _told(edit: Edit) -> dict[str, list[str]]:
    return {"edits": edit.to_lines()} if edit.to_lines() else {}


def _contributions(model: ClassifierModel, source: Int[Tensor, "1 S"], labels: Sequence[int]) -> list[Contribution]:
    """What each token and n-gram adds to the logits of some labels, and the bias; none for a model whose score is no such sum."""
    if not isinstance(model, BagClassifier):
        return []
    found = [*model.features(source), Feature(-1, 0, model.head.linear.bias.detach())]
    logits = model.head.by_label(torch.stack([one.logits for one in found]))[:, list(labels)].tolist()
    return [Contribution(first=one.first, size=one.size, logits=tuple(row)) for one, row in zip(found, logits, strict=True)]


def _explained(labels: Labels) -> list[int]:
    """The labels to explain: those that are chosen, or else the likeliest."""
    chosen = [number for number, one in enumerate(labels.labels) if one.chosen]
    return chosen or [max(range(len(labels.labels)), key=lambda number: labels.labels[number].probability)]


def _as_row(ids: Sequence[int], model: MaskedLanguageModel | ClassifierModel, *, start: bool) -> Int[Tensor, "1 S"]:
    return pad_rows([ids], start=start).to(next(model.parameters()).device)


def _require_short(tokens: int) -> None:
    if tokens > LONGEST:
        raise UsageError(f"a text of {tokens:,} tokens", expected=f"at most {LONGEST}, for a record", remedy="inspect a shorter text")


def _cut(side: Side, longest: int) -> tuple[Side, bool]:
    """What is read of a text, and whether that is not all."""
    if len(side.ids) <= longest:
        return side, False
    words = tuple(kept for word in side.words if (kept := tuple(token for token in word if token < longest)))
    text = side.text[: side.spans[longest - 1][1]]
    return Side(text=text, ids=side.ids[:longest], pieces=side.pieces[:longest], spans=side.spans[:longest], words=words), True


def _facts(model: MaskedLanguageModel | ClassifierModel, side: Side, *, asked: str, language: str, cut: bool = False) -> Facts:
    return Facts(
        format=ONE_SIDE,
        source=side,
        target=None,
        first=_first(model),
        given=True,
        asked=asked,
        cut=cut,
        model=model.config.model_dump(mode="json"),
        languages=(language, ""),
        decoding=Decoding(beams=1, length_penalty=0.0, nodes=(), finished=(), steps=()),
    )


def _first(model: MaskedLanguageModel | ClassifierModel) -> str:
    return "<sos>" if model.marks_start else ""


def _with_vector(inspection: Inspection, model: MaskedLanguageModel | ClassifierModel, source: Int[Tensor, "1 S"]) -> Inspection:
    """Add the vector of the text, and which tokens it is made of."""
    how, length = model.config.pooling, source.shape[1]
    shares = np.zeros(length, dtype=np.float32)
    match how:
        case "first":
            shares[0] = 1
        case "mean":
            shares[:] = 1 / length
        case _:
            ends = _ends(inspection.places, length)
            for end in ends:
                shares[end] += 1 / len(ends)
    with torch.inference_mode():
        vector = model.embed(source)[0].float().cpu().numpy()
    arrays: Arrays = {"sentence_vector": vector, "pooling": shares}
    pooled = Pooled(how=how, tokens=tuple(np.flatnonzero(shares).tolist()))
    return inspection.with_arrays(arrays, pooling=pooled.model_dump(mode="json"))


def _ends(places: Sequence[Place], length: int) -> list[int]:
    """Where each direction of the highest recurrent layer ends: the positions whose states are the last ones."""
    last = max(place.layer or 0 for place in layer_outputs(places, "source"))
    cells = [place for place in places if place.role == "hidden" and place.layer == last]
    return [place.reading_order(length).index(length - 1) for place in cells]


def _check_same(inspection: Inspection, model: MaskedLanguageModel | ClassifierModel) -> None:
    """Raises ModelError where the record is from a model of another shape, or with a smaller vocabulary."""
    rows = model.get_parameter("source_embedding.weight").shape[0]
    if model.config.model_dump(mode="json") != inspection.facts.model or max(inspection.source.ids) >= rows:
        raise ModelError("this record was made by another model", remedy="inspect the text again with this model")
