"""What a frame of the film looks at in models that read a text and write none: guesses at masks, and labels."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from vitrail.data.batches import pad_rows
from vitrail.data.cleaning.normalise import normalise
from vitrail.data.examples.labelled import Labelling
from vitrail.data.examples.masking import Masking
from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import EOS, PAD, UNK, Subwords, Vocabularies
from vitrail.decode.encoding.torch import guess_logits
from vitrail.decode.sentences.masked import MASK, MaskFiller, Segmented
from vitrail.inspection.decoding import piece_of
from vitrail.inspection.film.frames import Choice, ProbeSentence
from vitrail.inspection.film.looks import LONGEST, PROBES, Answers, Look, Said, choices_of, choose_rows, pieces
from vitrail.inspection.maps.norm_statistics import short
from vitrail.models.architectures import TaskName
from vitrail.models.kinds.classifier import ClassifierModel
from vitrail.models.kinds.masked import MaskedLanguageModel
from vitrail.train.tasks.validate import DevSet, Probes

LABELS = 20
"""Labels whose probabilities are kept: all, or the right ones and the likeliest."""


class MaskedLook(Look):
    """Sentences with hidden tokens, the same ones every time."""

    task: ClassVar[TaskName] = "masked"

    def __init__(self, model: MaskedLanguageModel, vocabulary: Subwords, dev: DevSet, given: Probes) -> None:
        self._vocabulary, room = vocabulary, model.config.context - 2
        filler, lines = MaskFiller(model, vocabulary), [*given.source, *dev.source]
        asked = [list(filler.segment(text).ids) for text in given.source]
        ids = [row[:room] for row in (*asked, *vocabulary.encode_batch(dev.source))]
        rows = choose_rows([len(row) for row in ids], given=len(given.source), longest=2 * LONGEST)
        self._source = pad_rows([ids[number] for number in rows], start=True)
        self._following = torch.full_like(self._source, PAD)
        hide = Masking.of(vocabulary, share=model.config.mask_share, whole_words=model.config.whole_words)
        for row, number in enumerate(rows):
            if model.mask_id not in ids[number]:
                chosen = hide([ids[number]], seed=row).following[0]
                self._following[row, : len(chosen)] = chosen
        self._source[self._following != PAD] = model.mask_id
        self.probes = tuple(
            self._probe(filler.segment(lines[number]), row, model.mask_id) for row, number in enumerate(rows[: len(given.source) or PROBES])
        )

    def _probe(self, line: Segmented, row: int, mask: int) -> ProbeSentence:
        source = self._source[row]
        read = tuple(MASK if token == mask else piece_of(token, self._vocabulary) for token in source.tolist() if token != PAD)
        text = line.text
        for place in reversed(range(len(read) - 2)):
            first, last = line.spans[place]
            if read[place + 1] == MASK and line.ids[place] != mask:
                hidden = text[first:last].lstrip()
                space = text[first : last - len(hidden)] if hidden else ""  # the space before a word stays; one by itself is hidden
                text = f"{text[:first]}{space}{MASK}{text[last:]}"
        return ProbeSentence(source=text, reference=line.text, source_tokens=read, target_tokens=())

    def _at(self, model: torch.nn.Module) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B S"], Tensor]:
        assert isinstance(model, MaskedLanguageModel)
        device = next(model.parameters()).device
        source = self._source.to(device)
        return source, self._following.to(device), source == model.mask_id

    def ask(self, model: torch.nn.Module) -> Answers:
        """See `Look.ask`; logits are those of hidden tokens, row by row. A norm of the output reads these alone."""
        assert isinstance(model, MaskedLanguageModel)
        source, following, hidden = self._at(model)
        logits = model.read_out(model.encode(source).memory[hidden]).float()
        nats = F.cross_entropy(logits, following[hidden], ignore_index=PAD, reduction="none")
        places = tuple(hidden.nonzero(as_tuple=True))
        spread = torch.zeros(source.shape, device=source.device).index_put(places, nats)
        return Answers(logits, spread, following != PAD, source.ne(PAD), torch.ones(1, len(logits), dtype=torch.bool, device=source.device))

    def say(self, model: torch.nn.Module, answers: Answers) -> Said:
        """See `Look.say`: the guesses at each mask, and the text with the likeliest ones in their places."""
        source, following, hidden = self._at(model)
        shares, at = guess_logits(answers.logits.detach()).softmax(1), 0
        texts, choices = list[str](), list[tuple[Choice, ...]]()
        for row in range(len(self.probes)):
            positions: list[int] = hidden[row].nonzero()[:, 0].tolist()
            own, at = shares[at : at + len(positions)], at + len(positions)
            wanted = [None if (token := int(following[row, place])) == PAD else token for place in positions]
            choices.append(choices_of(own, wanted, self._vocabulary, positions=positions))
            filled = source[row].clone()
            filled[positions] = own.argmax(1)
            texts.append(self._vocabulary.decode([token for token in filled.tolist() if token > EOS or token == UNK]))
        return Said(tuple(texts), tuple(choices))


class ClassificationLook(Look):
    """Texts whose labels are known, or were asked for by the user."""

    task: ClassVar[TaskName] = "classification"

    def __init__(self, model: ClassifierModel, vocabularies: Vocabularies, dev: DevSet, given: Probes) -> None:
        labels = vocabularies.target
        assert isinstance(labels, LabelVocabulary)
        self._labels, room = labels, model.config.context - 1 - model.marks_start
        texts, right = [*given.source, *dev.source], [*given.reference, *dev.target]
        ids = [row[:room] for row in vocabularies.source.encode_batch([normalise(text) for text in texts])]
        rows = choose_rows([len(row) for row in ids], given=len(given.source), longest=2 * LONGEST)
        wanted = labels.encode_batch([right[number] or "" for number in rows])
        self._known = torch.tensor(
            [right[number] is not None and all(id > EOS for id in own) for number, own in zip(rows, wanted, strict=True)]
        )
        held = [[id for id in own if id > EOS] for own in wanted]
        self._source, self._right = Labelling(len(labels.labels), bool(model.marks_start))([ids[number] for number in rows], held)
        self.probes = tuple(
            ProbeSentence(
                source=texts[number],
                reference=right[number] or "",
                source_tokens=pieces(self._source[row], vocabularies.source),
                target_tokens=(),
            )
            for row, number in enumerate(rows[: len(given.source) or PROBES])
        )

    def ask(self, model: torch.nn.Module) -> Answers:
        """See `Look.ask`."""
        assert isinstance(model, ClassifierModel)
        device = next(model.parameters()).device
        source = self._source.to(device)
        logits = model.classify(source)
        nats = model.head.nats(logits, self._right.to(device))[:, None]
        return Answers(logits, nats, self._known.to(device)[:, None], source.ne(PAD), source.ne(PAD))

    def say(self, model: torch.nn.Module, answers: Answers) -> Said:
        """See `Look.say`: the probability of each label, and which the model gives."""
        assert isinstance(model, ClassifierModel)
        shares = model.head.probabilities(answers.logits.detach())[: len(self.probes)].tolist()
        rows = [(self._given(own), (self._choice(row, own),)) for row, own in enumerate(shares)]
        return Said(tuple(text for text, _ in rows), tuple(choice for _, choice in rows))

    def _given(self, shares: Sequence[float]) -> str:
        order = sorted(range(len(shares)), key=lambda label: -shares[label])
        chosen = [label for label in order if shares[label] > 0.5] if self._labels.several else order[:1]
        return ", ".join(self._labels.labels[label] for label in chosen)

    def _choice(self, row: int, shares: Sequence[float]) -> Choice:
        right = [label for label, holds in enumerate(self._right[row].tolist()) if holds and bool(self._known[row])]
        likeliest = sorted(range(len(shares)), key=lambda label: (label not in right, -shares[label]))
        kept = sorted(likeliest[:LABELS])
        single = right[0] if len(right) == 1 else None
        return Choice(
            position=0,
            wanted=self.probes[row].reference,
            rank=None if single is None else 1 + sum(share > shares[single] for share in shares),
            chance=None if single is None else short(shares[single]),
            candidates=tuple((self._labels.labels[label], float(f"{shares[label]:.3g}")) for label in kept),
        )
