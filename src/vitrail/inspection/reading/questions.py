"""What attribution asks of a masked language model and of a classifier: why this token at a mask, why this label."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.decode.encoding.torch import guess_logits
from vitrail.errors import ModelError
from vitrail.inspection.attributing.methods import Question
from vitrail.models.base import Model
from vitrail.models.kinds.classifier import ClassifierModel
from vitrail.models.kinds.masked import MaskedLanguageModel
from vitrail.models.places import Place, find


@dataclass(frozen=True)
class _Read(Question):
    """A text that an encoder reads."""

    model: Model
    source: Int[Tensor, "1 S"]

    @property
    def whose(self) -> nn.Module:
        return self.model

    @property
    def read(self) -> Int[Tensor, "1 S"]:
        return self.source

    @property
    def length(self) -> int:
        return self.source.shape[1]

    @property
    def probe(self) -> str:
        place = find(self.model.places(), "embedded", "source")
        if place is None:
            raise ModelError("attribution to tokens: no Probe records this model's embeddings")
        return place.name

    @property
    def table(self) -> Float[Tensor, "V D"]:
        return self.model.get_parameter("source_embedding.weight")

    @property
    def readers(self) -> list[Place]:
        return [place for place in self.model.places() if place.role == "attention"]

    @property
    def writers(self) -> list[str]:
        return [place.name for place in self.readers]

    @property
    @abstractmethod
    def scores(self) -> int:
        """How many scores there are."""

    def nats(self) -> Tensor:
        """The sum of the scores, negated."""
        return -self.log_p(self.decode(1)).sum()


@dataclass(frozen=True)
class MaskQuestion(_Read):
    """log p of a token at each of some positions."""

    model: MaskedLanguageModel
    positions: Sequence[int]
    tokens: Sequence[int]

    @property
    def scores(self) -> int:
        return len(self.positions)

    def decode(self, rows: int) -> Float[Tensor, "B T D"]:
        return self.model.encode(self.source.expand(rows, -1)).memory[:, list(self.positions)]

    def log_p(self, hidden: Float[Tensor, "B T D"]) -> Float[Tensor, "B T"]:
        shares = guess_logits(self.model.read_out(hidden.flatten(0, 1))).log_softmax(1).view(*hidden.shape[:2], -1)
        return shares[:, range(self.scores), list(self.tokens)]


@dataclass(frozen=True)
class LabelQuestion(_Read):
    """The logit of each of some labels."""

    model: ClassifierModel
    labels: Sequence[int]

    @property
    def scores(self) -> int:
        return len(self.labels)

    def decode(self, rows: int) -> Float[Tensor, "B T D"]:
        return self.model.embed(self.source.expand(rows, -1))[:, None].expand(-1, self.scores, -1)

    def log_p(self, hidden: Float[Tensor, "B T D"]) -> Float[Tensor, "B T"]:
        head = self.model.head
        logits = head.by_label(head(hidden.flatten(0, 1)).float()).view(*hidden.shape[:2], -1)
        return logits[:, range(self.scores), list(self.labels)]

    def nats(self) -> Tensor:
        """-log p of the labels."""
        head = self.model.head
        probabilities = head.probabilities(self.model.classify(self.source))[0, list(self.labels)]
        return -torch.log(probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny)).sum()
