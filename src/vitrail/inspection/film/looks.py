"""What the film looks at in each kind of model that writes: the same sentences every time, and what the model says of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vitrail.data.batches import Batch, IdRow, collate
from vitrail.data.vocabularies.subwords import PAD, Subwords, Vocabularies
from vitrail.decode.forced import forced_decode, make_batch
from vitrail.decode.generate import Generator
from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.sentences.autoencoder import measure_reconstruction
from vitrail.decode.translate import TranslateConfig, Translator
from vitrail.inspection.contents import make_side
from vitrail.inspection.decoding import describe_steps, piece_of
from vitrail.inspection.film.frames import Choice, ProbeSentence
from vitrail.inspection.maps.norm_statistics import short
from vitrail.models.architectures import TaskName
from vitrail.models.base import AutoregressiveModel, LanguageModel, TranslationModel
from vitrail.models.kinds.autoencoder import AutoencoderModel
from vitrail.train.tasks.validate import NO_PROBES, DevSet, Probes

PROBES = 4
"""Sentences of the dev set whose translations are kept."""
LONGEST = 20
"""Maximal length in tokens of a probe sentence and of its reference, without <eos>, if the dev set has such."""
ROWS = 32
"""Examples that entropies, gradients and norms are measured on; the probes are the first."""
CANDIDATES = 5
"""Tokens that are kept of a distribution over the vocabulary."""
_TOKENS = 1024
"""Positions a side of those, padding counted, at most."""
_WRITTEN = 40
"""Tokens that a language model writes on, at most."""
_LATENT = 32
"""Numbers of an autoencoder's vector that are kept, the first ones."""

Mask = Bool[Tensor, "B T"]


class Answers(NamedTuple):
    """What a model says of all rows, where it is known what is right."""

    logits: Tensor
    nats: Float[Tensor, "B T"]
    """-log p of what is right at each position."""
    counted: Mask
    """Where something is asked; elsewhere `nats` have no meaning."""
    source: Mask
    """Real positions of the source; without one, of the target."""
    target: Mask


class Said(NamedTuple):
    """What a model says of the probes."""

    texts: tuple[str, ...]
    choices: tuple[tuple[Choice, ...], ...] = ()
    latents: tuple[tuple[float, ...], ...] = ()


class Look(ABC):
    """The sentences of one film. Precondition of its methods: the model is in evaluation mode, and is of the same shape every time."""

    task: ClassVar[TaskName]
    probes: tuple[ProbeSentence, ...]

    @abstractmethod
    def ask(self, model: torch.nn.Module) -> Answers:
        """Let the model read all rows; hooks run, and the caller decides whether gradients are recorded."""

    @abstractmethod
    def say(self, model: torch.nn.Module, answers: Answers) -> Said:
        """What it says of the probes."""


def choose_rows(lengths: Sequence[int], *, given: int = 0, longest: int = LONGEST) -> list[int]:
    """The examples to look at: those that are given, which come first; then short ones, in the order of the dev set.

    Args: lengths: tokens of each, 0 for one that cannot be used. longest: what is short.
    """
    usable = [number for number in range(given, len(lengths)) if lengths[number]] or ([] if given else [0])
    order = [*range(given), *sorted(usable, key=lambda number: lengths[number] > longest)]
    rows = order[: max(1, given)]
    for number in order[len(rows) : ROWS]:
        if (len(rows) + 1) * (1 + max(lengths[one] for one in (*rows, number))) > _TOKENS:
            break
        rows.append(number)
    return rows


def choose_probes(dev: DevSet, vocabularies: Vocabularies, given: Probes = NO_PROBES, *, cut: int | None = None) -> tuple[DevSet, Batch]:
    """The probes, and the batch of pairs of which they are the first rows. Args: cut: tokens of a side at most; None: any number."""
    texts = DevSet([*given.source, *dev.source], [*(text or "" for text in given.reference), *dev.target])
    source, target = (
        [row[:cut] for row in rows] for rows in (vocabularies.source.encode_batch(texts.source), _targets(texts, vocabularies))
    )
    lengths = [max(len(one), len(other)) if one and other else 0 for one, other in zip(source, target, strict=True)]
    rows = choose_rows(lengths, given=len(given.source))
    probes = rows[: len(given.source) or PROBES]
    return (
        DevSet([texts.source[number] for number in probes], [texts.target[number] for number in probes]),
        collate([source[number] for number in rows], [target[number] for number in rows]),
    )


def _targets(texts: DevSet, vocabularies: Vocabularies) -> list[list[int]]:
    return vocabularies.target.encode_batch(texts.target)


def pieces(ids: Tensor, vocabulary: Subwords) -> tuple[str, ...]:
    """The tokens of a row as people read them, without padding."""
    return tuple(piece_of(token, vocabulary) for token in ids.tolist() if token != PAD)


def moved(batch: Batch, model: torch.nn.Module) -> Batch:
    """On the device of the model."""
    device = next(model.parameters()).device
    return Batch(*(part.to(device) for part in batch))


def ask_given(model: AutoregressiveModel, batch: Batch) -> tuple[Tensor, Float[Tensor, "B T"], Mask]:
    """Logits, -log p of the targets, and which are real."""
    logits = model.read_out(forced_decode(model, batch)).float()
    nats = F.cross_entropy(logits.transpose(1, 2), batch.target_out, ignore_index=PAD, reduction="none")
    return logits, nats, batch.target_out.ne(PAD)


def choices_of(
    shares: Float[Tensor, "T V"], wanted: Sequence[int | None], vocabulary: Subwords, *, positions: Sequence[int]
) -> tuple[Choice, ...]:
    """What is likeliest at some positions. Args: shares: probabilities. wanted: what is right there; None: not known."""
    rows = shares.double().cpu().numpy()
    tokens = [int(row.argmax()) if token is None else token for row, token in zip(rows, wanted, strict=True)]
    steps = describe_steps(rows, tokens, vocabulary, count=CANDIDATES)
    return tuple(
        Choice(
            position=position,
            wanted="" if token is None else step.chosen.piece,
            rank=None if token is None else step.rank,
            chance=None if token is None else short(step.chosen.probability),
            candidates=tuple((one.piece, float(f"{one.probability:.3g}")) for one in step.candidates if one.probability > 0),
        )
        for step, token, position in zip(steps, wanted, positions, strict=True)
    )


class TranslationLook(Look):
    """Sentences that are translated, and the reading of their references."""

    task: ClassVar[TaskName] = "translation"

    def __init__(
        self,
        vocabularies: Vocabularies,
        dev: DevSet,
        given: Probes = NO_PROBES,
        *,
        cut: int | None = None,
        search: SearchConfig | None = None,
    ) -> None:
        self._vocabularies, self._search = vocabularies, search or SearchConfig()
        self.texts, self.batch = choose_probes(dev, vocabularies, given, cut=cut)
        self.probes = tuple(
            ProbeSentence(
                source=source,
                reference=reference,
                source_tokens=pieces(self.batch.source[row], vocabularies.source),
                target_tokens=pieces(self.batch.target_out[row], vocabularies.target),
            )
            for row, (source, reference) in enumerate(zip(*self.texts, strict=True))
        )

    def ask(self, model: torch.nn.Module) -> Answers:
        """See `Look.ask`."""
        assert isinstance(model, TranslationModel)
        batch = moved(self.batch, model)
        logits, nats, real = ask_given(model, batch)
        return Answers(logits, nats, real, batch.source.ne(PAD), real)

    def say(self, model: torch.nn.Module, answers: Answers) -> Said:
        """See `Look.say`: translations, found greedily."""
        assert isinstance(model, TranslationModel)
        config = TranslateConfig(search=self._search.greedy(), exact=False)
        translator = Translator(model, vocabularies=self._vocabularies, config=config, device=answers.nats.device)
        return Said(tuple(one.text for one in translator.translate(list(self.texts.source))))


class AutoencodingLook(TranslationLook):
    """Sentences that are given back from one vector, and that vector."""

    task: ClassVar[TaskName] = "autoencoding"

    def __init__(self, model: AutoencoderModel, vocabularies: Vocabularies, dev: DevSet, given: Probes) -> None:
        given = Probes(given.source, given.source)
        super().__init__(vocabularies, dev, given, cut=model.config.context - 1)
        self._marked = model.adds_start
        if self._marked:
            self.probes = tuple(one.model_copy(update={"source_tokens": ("<sos>", *one.source_tokens)}) for one in self.probes)

    def ask(self, model: torch.nn.Module) -> Answers:
        """See `Look.ask`; where the first vector is read, there is a position before the sentence."""
        found = super().ask(model)
        return found._replace(source=F.pad(found.source, (1, 0), value=True)) if self._marked else found

    def say(self, model: torch.nn.Module, answers: Answers) -> Said:
        """See `Look.say`: the sentences as given back, greedily, and the first numbers of their vectors."""
        assert isinstance(model, AutoencoderModel)
        shown = len(self.probes)
        with torch.inference_mode():
            vectors = model.latent(moved(self.batch, model).source[:shown])[:, :_LATENT]
        found = measure_reconstruction(model, self._vocabularies.target, self.texts.source)
        return Said(found.texts, latents=tuple(tuple(float(f"{value:.3g}") for value in row) for row in vectors.tolist()))


class LanguageLook(Look):
    """Beginnings of lines that are written on, and the reading of the whole lines."""

    task: ClassVar[TaskName] = "language"

    def __init__(self, model: LanguageModel, vocabulary: Subwords, dev: DevSet, given: Probes) -> None:
        self._vocabulary = vocabulary
        lines, room = [*given.source, *dev.source], (model.context or _TOKENS) - 1
        ids: list[IdRow] = list(vocabulary.encode_batch(lines))
        rows = choose_rows([min(len(row), room) for row in ids], given=len(given.source), longest=2 * LONGEST)
        self._batch = Batch(*(part.cpu() for part in make_batch(model, [()] * len(rows), [ids[number][:room] for number in rows])))
        for row, number in enumerate(rows):
            if len(ids[number]) > room:  # it goes on where it is cut
                self._batch.target_out[row, room] = PAD
        probes: list[ProbeSentence] = []
        for row, number in enumerate(rows[: len(given.source) or PROBES]):
            own = ids[number]
            begun = lines[number] if number < len(given.source) else self._beginning(own[:room])
            wanted = pieces(self._batch.target_out[row], vocabulary)
            read = pieces(self._batch.target_in[row], vocabulary)[: len(wanted)]
            probes.append(ProbeSentence(source=begun, reference=lines[number], source_tokens=read, target_tokens=wanted))
        self.probes = tuple(probes)

    def _beginning(self, ids: IdRow) -> str:
        """The first half of a line, in whole words where it has such."""
        half = max(1, len(ids) // 2)
        starts = [word[0] for word in make_side(list(ids), self._vocabulary).words if 0 < word[0] <= half]
        return self._vocabulary.decode(list(ids)[: max(starts, default=half)])

    def ask(self, model: torch.nn.Module) -> Answers:
        """See `Look.ask`."""
        assert isinstance(model, LanguageModel)
        batch = moved(self._batch, model)
        logits, nats, real = ask_given(model, batch)
        return Answers(logits, nats, real, batch.target_in.ne(PAD), batch.target_in.ne(PAD))

    def say(self, model: torch.nn.Module, answers: Answers) -> Said:
        """See `Look.say`: what is likeliest next at each position, and each beginning written on, greedily."""
        assert isinstance(model, LanguageModel)
        search = SearchConfig(beams=1, max_extra=_WRITTEN)
        written = Generator(model, self._vocabulary).generate([one.source for one in self.probes], search=search)
        choices: list[tuple[Choice, ...]] = []
        for row in range(len(self.probes)):
            wanted = [token for token in self._batch.target_out[row].tolist() if token != PAD][: 2 * LONGEST + 1]
            shares = answers.logits[row, : len(wanted)].detach().softmax(1)
            choices.append(choices_of(shares, wanted, self._vocabulary, positions=range(len(wanted))))
        return Said(tuple(one[0].text for one in written), tuple(choices))
