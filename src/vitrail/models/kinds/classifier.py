"""Classifiers: one vector for the whole text, of an encoder or of a bag of words, and a linear layer that scores each label."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.data.examples.labelled import LabelledBatch
from vitrail.data.vocabularies.subwords import PAD, UNK
from vitrail.errors import UsageError
from vitrail.models.base import Encoded, Model
from vitrail.models.configs.classifier import BagClassifierConfig, HeadConfig, RecurrentClassifierConfig, TransformerClassifierConfig
from vitrail.models.kinds.blocks import initialise_matrices
from vitrail.models.kinds.encoders import RecurrentEncoder, TransformerEncoder
from vitrail.models.places import Place
from vitrail.nn.bag import Known, ngram_rows, shared_out, whole_ngrams
from vitrail.nn.layers import Dropout, pool
from vitrail.nn.losses import LossSum, token_cross_entropy
from vitrail.nn.probe import Probe
from vitrail.vectors.ngrams import word_hashes


class Head(nn.Module):
    """z = W·dropout(v) + b: the logits of a text from its vector."""

    def __init__(self, config: HeadConfig, *, width: int, labels: int) -> None:
        super().__init__()
        self.output: Literal["sigmoid", "softmax"] = config.output_for(labels)
        self.several, self.labels = config.several, labels
        self.dropout = Dropout(config.head_dropout)
        self.linear = nn.Linear(width, config.scores_for(labels))

    def forward(self, vector: Float[Tensor, "B D"]) -> Float[Tensor, "B logits"]:
        """The logits: one for each label, or one alone (see `HeadConfig.output`)."""
        return self.linear(self.dropout(vector))

    def by_label(self, logits: Float[Tensor, "B logits"]) -> Float[Tensor, "B labels"]:
        """One logit for each label: its probability is their sigmoid or softmax. With one logit z alone: -z and z."""
        return torch.cat([-logits, logits], dim=1) if logits.shape[1] < self.labels else logits

    def probabilities(self, logits: Float[Tensor, "B logits"]) -> Float[Tensor, "B labels"]:
        """The probability of each label. With one logit z: 1 - sigmoid(z) and sigmoid(z)."""
        logits = logits.float()
        if self.output == "softmax":
            return logits.softmax(1)
        return logits.sigmoid() if self.several else torch.cat([(-logits).sigmoid(), logits.sigmoid()], dim=1)

    def nats(self, logits: Float[Tensor, "B logits"], labels: Float[Tensor, "B labels"]) -> Float[Tensor, " B"]:
        """-log p of the labels of each text."""
        if self.output == "softmax":
            return F.cross_entropy(logits.float(), labels.argmax(1), reduction="none")
        wanted = labels if self.several else labels[:, 1:]
        return F.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="none").sum(1)

    def loss(self, vector: Float[Tensor, "B D"], labels: Float[Tensor, "B labels"], *, label_smoothing: float) -> LossSum:
        """Sum of -log p of the labels over the texts, which are counted as tokens.

        Smoothing puts the share epsilon evenly on all labels, or, with a sigmoid for each, on yes and no of each label.
        """
        rows = torch.tensor(len(labels), device=labels.device)
        if self.output == "softmax":
            found = token_cross_entropy(
                self.dropout(vector), labels.argmax(1), weight=self.linear.weight, bias=self.linear.bias, label_smoothing=label_smoothing
            )
            return LossSum(found.nats, found.plain_nats, rows)
        logits = self(vector).float()
        wanted = labels if self.several else labels[:, 1:]
        smoothed = wanted * (1 - label_smoothing) + label_smoothing / 2
        nats = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="sum")
        plain = self.nats(logits.detach(), labels).sum()
        return LossSum(nats, plain, rows)


class ClassifierModel(Model):
    """What all classifiers do with the vector of a text."""

    head: Head
    logits: Probe
    config: Any
    """Its configuration; each model has its own class."""
    marks_start: bool
    """See `Embeds.marks_start`."""

    @abstractmethod
    def embed(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B D"]:
        """See `Embeds.embed`: the vector that the head reads."""

    def classify(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B logits"]:
        """See `Classifies.classify`."""
        return self.logits(self.head(self.embed(source)))

    def loss(self, batch: LabelledBatch, *, label_smoothing: float = 0.0) -> LossSum:
        """Sum of -log p of the right labels."""
        return self.head.loss(self.embed(batch.source), batch.labels, label_smoothing=label_smoothing)

    def places(self) -> tuple[Place, ...]:
        """See `Model.places`."""
        return self.config.places()

    def _make_head(self, config: Any, labels: int) -> None:
        self.head, self.logits = Head(config, width=config.width, labels=labels), Probe()
        initialise_matrices(self)


class TransformerClassifier(ClassifierModel, TransformerEncoder):
    """p(label | x) from the pooled output of a Transformer's encoder.

    Source: Devlin et al. 2019. Differs from them: mean over tokens by default, and no further layer before the last one.
    """

    marks_start = True
    config: TransformerClassifierConfig

    def __init__(self, config: TransformerClassifierConfig, *, vocabulary: int, labels: int) -> None:
        super().__init__()
        if config.positions == "learned" and config.max_positions < config.context:
            raise UsageError(
                f"model.context = {config.context} with {config.max_positions} learned positions",
                remedy=f"--set model.max_positions={config.context}, or rotary positions",
            )
        self.config = config
        self.make_encoder(config, vocabulary)
        self._make_head(config, labels)
        nn.init.normal_(self.source_embedding.weight, std=config.width**-0.5)

    def embed(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B D"]:
        """See `Embeds.embed`."""
        encoded = self.encode(source)
        return pool(encoded.memory, encoded.keep, self.config.pooling)


class RecurrentClassifier(ClassifierModel, RecurrentEncoder):
    """p(label | x) from the pooled output, or the last states, of a recurrent encoder."""

    config: RecurrentClassifierConfig

    def __init__(self, config: RecurrentClassifierConfig, *, vocabulary: int, labels: int) -> None:
        super().__init__()
        self.config = config
        self.make_encoder(config, vocabulary)
        self._make_head(config, labels)
        nn.init.normal_(self.source_embedding.weight, std=config.embedding_width**-0.5)

    def embed(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B D"]:
        """See `Embeds.embed`."""
        encoded = self.encode(source)
        return pool(encoded.memory, encoded.keep, "mean") if self.config.pooling == "mean" else self._last(encoded)

    def _last(self, encoded: Encoded) -> Float[Tensor, "B D"]:
        """h of the highest layer at the end of each direction; of an LSTM's two states h is the first."""
        assert encoded.summary is not None
        states = encoded.summary.split(self.config.width, dim=1)
        return states[-len(states) // self.config.encoder_layers]


class Feature(NamedTuple):
    """A token or an n-gram of a text, and what it adds to each logit."""

    first: int
    """Position of its first token."""
    size: int
    """How many tokens it has."""
    logits: Float[Tensor, " logits"]


class BagClassifier(ClassifierModel):
    """p(label | x) from the mean of the vectors of a text's tokens and n-grams: z = W·v + b, v = sqrt(D)·sum_f E_f / n.

    Source: Joulin et al. 2017, "Bag of tricks for efficient text classification", and the fastText program. The end of a text is a token
    of it; unknown words are left out. Differs from it: n-grams with an unknown word are left out as well, and the vectors of n-grams begin
    as zeros, so that those that were never seen say nothing; vectors are scaled by sqrt(D) and drawn as those of every other kind here.
    """

    marks_start = False
    config: BagClassifierConfig
    hashes: Tensor

    def __init__(self, config: BagClassifierConfig, *, vocabulary: int, labels: int) -> None:
        super().__init__()
        self.config = config
        self.source_embedding = nn.Embedding(vocabulary, config.width)
        self.source_ngrams = nn.Embedding(config.buckets, config.width) if config.word_ngrams > 1 else None
        self.register_buffer("hashes", torch.arange(vocabulary), persistent=False)
        self.known, self.source_embedded, self.memory = Known((PAD, UNK)), Probe(), Probe()
        self._make_head(config, labels)
        nn.init.normal_(self.source_embedding.weight, std=config.width**-0.5)
        if self.source_ngrams is not None:
            nn.init.zeros_(self.source_ngrams.weight)

    @property
    def longest(self) -> int | None:
        """See `Embeds.longest`."""
        return None

    def name_tokens(self, tokens: Sequence[str]) -> None:
        """Take the text of each token: n-grams are hashed by their words, so that their rows do not depend on the order of a vocabulary."""
        self.hashes = torch.from_numpy(word_hashes(tokens)).to(self.hashes.device)

    def lookup_tables(self) -> list[nn.Embedding]:
        """See `Model.lookup_tables`."""
        return [table for table in (self.source_embedding, self.source_ngrams) if table is not None]

    def embed(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B D"]:
        """See `Embeds.embed`."""
        known = self.known(source)
        values, counts = self.source_embedding(source) * known[:, :, None], known.sum(1)
        for size, vectors, whole in self._ngrams(source, known):
            values, counts = values + shared_out(vectors, size=size), counts + whole.sum(1)
        values = self.source_embedded(values * self.config.width**0.5)
        # Of each position its part of the text's vector, times their number: so that the mean over the positions is that vector.
        keep = source != PAD
        values = self.memory(values * (keep.sum(1) / counts.clamp(min=1)).to(values.dtype)[:, None, None])
        return pool(values, keep, "mean")

    def _ngrams(
        self, source: Int[Tensor, "B S"], known: Bool[Tensor, "B S"]
    ) -> Iterator[tuple[int, Float[Tensor, "B R D"], Bool[Tensor, "B R"]]]:
        """For each number of tokens: the unscaled vectors of all n-grams, zeros where one does not count; and which count."""
        if self.source_ngrams is None:
            return
        hashes = self.hashes[source]
        for size in range(2, min(self.config.word_ngrams, source.shape[1]) + 1):
            whole = whole_ngrams(known, size=size)
            rows = ngram_rows(hashes, size=size, buckets=self.config.buckets)
            yield size, self.source_ngrams(rows) * whole[:, :, None], whole

    @torch.inference_mode()
    def features(self, source: Int[Tensor, "1 S"]) -> list[Feature]:
        """What every token and n-gram of a text adds to each logit; with the bias, they sum to the logits. Without dropout."""
        known = self.known(source)
        parts = [(1, self.source_embedding(source), known), *self._ngrams(source, known)]
        number = max(1, sum(int(whole.sum()) for _, _, whole in parts))
        found: list[Feature] = []
        for size, vectors, whole in parts:
            added = vectors[0] @ self.head.linear.weight.t() * (self.config.width**0.5 / number)
            found += [Feature(first, size, added[first]) for first in whole[0].nonzero()[:, 0].tolist()]
        return found
