"""Metrics of ablations for models that translate nothing: hidden tokens that are guessed, labels that are found, sentences given back."""

from collections.abc import Sequence

import numpy as np
import torch

from vitrail.data.batches import IdRow
from vitrail.data.cleaning.normalise import normalise
from vitrail.decode.forced import losses
from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.sentences.autoencoder import give_back
from vitrail.decode.sentences.masked import guess_hidden
from vitrail.errors import UsageError
from vitrail.inspection.reading.reader import InspectableClassifier, InspectableFiller
from vitrail.inspection.studies.ablation_metrics import ConfidenceInterval, Numbers, interval_of_mean, interval_of_share
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.kinds.autoencoder import AutoencoderModel


class HiddenTokens:
    """Of a masked language model: how often a hidden token is the likeliest guess, and log p of the hidden tokens."""

    name, nats_name, how = "accuracy of hidden tokens", "mean log p of a hidden token", "with the same tokens hidden"

    def __init__(self, filler: InspectableFiller, lines: Sequence[str]) -> None:
        texts = [text for text in map(normalise, lines) if text]
        rows = [(text, ids) for text, ids in zip(texts, filler.vocabulary.encode_batch(texts), strict=True) if ids]
        if not rows:
            raise UsageError("no line with a token", expected="lines of text", remedy="give text: --source FILE")
        self._longest = filler.model.config.context - 2
        self._cut = sum(len(ids) > self._longest for _, ids in rows)
        rows.sort(key=lambda row: len(row[1]))
        self.sources = [text for text, _ in rows]
        self.ids: list[IdRow] = [ids[: self._longest] for _, ids in rows]

    def answers(self, inspector: InspectableFiller, search: SearchConfig) -> Numbers:
        """(N 2): how many hidden tokens of each line were guessed, and how many were hidden."""
        return self._by_line(inspector)[:, :2]

    def value(self, found: Numbers) -> float:
        """Percent of all hidden tokens."""
        return 100 * float(found[:, 0].sum() / found[:, 1].sum())

    def lost(self, before: Numbers, after: Numbers) -> ConfidenceInterval:
        """Paired bootstrap over lines, in points."""
        return interval_of_share(before[:, 0] - after[:, 0], before[:, 1])

    def nats(self, inspector: InspectableFiller) -> Numbers:
        """Of each line: the mean over its hidden tokens."""
        found = self._by_line(inspector)
        return found[:, 2] / found[:, 1]

    def _by_line(self, inspector: InspectableFiller) -> Numbers:
        """(N 3): guessed right, hidden, and the sum of log p, of each line; at least one token of a line is hidden."""
        found = np.zeros((len(self.ids), 3))
        for one in guess_hidden(inspector.model, inspector.vocabulary, self.ids):
            rows = one.rows.cpu().numpy()
            columns = (one.right.double(), torch.ones_like(one.right, dtype=torch.double), one.log_p[:, 0].double())
            found += np.stack([np.bincount(rows, weights=own.cpu().numpy(), minlength=len(self.ids)) for own in columns], axis=1)
        return found

    @property
    def signature(self) -> str:
        """The text, and how it is read."""
        cut = f"; {self._cut} cut at {self._longest} tokens" if self._cut else ""
        return f"{len(self.ids)} lines, each by itself, tokens hidden by the rule of training{cut}"


class RightLabels:
    """Of a classifier: how often it gives a text its labels, and log p of these."""

    name, nats_name, how = "accuracy of labels", "mean log p of the labels of a text", "classified"

    def __init__(self, classifier: InspectableClassifier, texts: Sequence[str], labels: Sequence[str]) -> None:
        if not texts:
            raise UsageError("no text with a label", expected="texts and their labels", remedy="give text: --source FILE --reference FILE")
        self.sources, self._labels = list(texts), list(labels)
        self._right = torch.from_numpy(classifier.measure(self.sources, self._labels).predictions.right.astype(np.float32))

    def answers(self, inspector: InspectableClassifier, search: SearchConfig) -> Numbers:
        """1 for each text that gets its labels, all of them and no others, else 0."""
        found = inspector.measure(self.sources, self._labels).predictions
        return (found.right == found.predicted).all(axis=1).astype(np.float64)

    def value(self, found: Numbers) -> float:
        """Percent."""
        return 100 * float(found.mean())

    def lost(self, before: Numbers, after: Numbers) -> ConfidenceInterval:
        """Paired bootstrap, in points."""
        return interval_of_mean(100 * (before - after))

    def nats(self, inspector: InspectableClassifier) -> Numbers:
        """Of each text."""
        return -inspector.model.head.nats(inspector.logits(self.sources), self._right).double().numpy()

    @property
    def signature(self) -> str:
        """The texts."""
        return f"{len(self.sources)} texts with their labels"


class GivenBack:
    """Of an autoencoder: how like a sentence is what is given back from its vector, and log p of the sentence."""

    name, nats_name, how = (
        "mean chrF of what is given back",
        "mean log p of a token of the sentence, given its vector",
        "given back greedily",
    )

    def __init__(self, autoencoder: InspectableTranslator, lines: Sequence[str]) -> None:
        longest, texts = _autoencoder(autoencoder).config.context - 1, [text for text in map(normalise, lines) if text]
        rows = zip(texts, autoencoder.vocabularies.source.encode_batch(texts), strict=True)
        kept = [(text, ids) for text, ids in rows if 0 < len(ids) <= longest]
        if not kept:
            raise UsageError(f"no line of 1 to {longest} tokens", expected="lines of text", remedy="give text: --source FILE")
        self.sources = [text for text, _ in kept]
        self.ids: list[IdRow] = [ids for _, ids in kept]

    def answers(self, inspector: InspectableTranslator, search: SearchConfig) -> Numbers:
        """chrF of each line."""
        from sacrebleu.metrics import CHRF

        chrf, vocabulary = CHRF(), inspector.vocabularies.target
        written = [vocabulary.decode(row) for row in give_back(_autoencoder(inspector), self.ids)]
        return np.array([chrf.sentence_score(text, [line]).score for text, line in zip(written, self.sources, strict=True)])

    def value(self, found: Numbers) -> float:
        """The mean."""
        return float(found.mean())

    def lost(self, before: Numbers, after: Numbers) -> ConfidenceInterval:
        """Paired bootstrap over lines."""
        return interval_of_mean(before - after)

    def nats(self, inspector: InspectableTranslator) -> Numbers:
        """Of each line, its end included."""
        return -losses(_autoencoder(inspector), self.ids, self.ids).per_token

    @property
    def signature(self) -> str:
        """The text, and how it is compared."""
        return f"{len(self.ids)} lines, sacreBLEU's chrF of each by itself"


def _autoencoder(inspector: InspectableTranslator) -> AutoencoderModel:
    assert isinstance(inspector.model, AutoencoderModel)
    return inspector.model
