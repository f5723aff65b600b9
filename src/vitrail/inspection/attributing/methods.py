"""The methods of attribution, each a function of a `Question`: scores of a text that a model computes in many variants of what it reads."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.models.places import Place
from vitrail.nn.probe import Hook, listen, trace

AttributionMatrix = npt.NDArray[np.float32]
"""(T S)."""

_TOKENS = 2048
"""Tokens of both sides in all sentences computed at once: it bounds memory."""


class Question(ABC):
    """T scores of a text of S tokens, computed by a model in many variants. The model is in evaluation mode."""

    @property
    @abstractmethod
    def whose(self) -> nn.Module:
        """The model."""

    @property
    @abstractmethod
    def read(self) -> Int[Tensor, "1 S"]:
        """The tokens to attribute to, as the model reads them."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Positions that the model computes for one copy."""

    @property
    @abstractmethod
    def probe(self) -> str:
        """The Probe of the scaled embeddings of these tokens."""

    @property
    @abstractmethod
    def table(self) -> Float[Tensor, "V D"]:
        """Their embeddings, unscaled."""

    @property
    @abstractmethod
    def readers(self) -> list[Place]:
        """The attention weights that read these tokens."""

    @property
    @abstractmethod
    def writers(self) -> list[str]:
        """Of these, the names of those whose rows are the scores'."""

    @abstractmethod
    def decode(self, rows: int) -> Float[Tensor, "B T D"]:
        """The vector that each score is computed from, for copies of the text, which hooks may change."""

    @abstractmethod
    def log_p(self, hidden: Float[Tensor, "B T D"]) -> Float[Tensor, "B T"]:
        """The scores, each from its vector alone: log p of a token, or the logit of a label."""

    @property
    def rows(self) -> int:
        """Copies of the text that are computed at once."""
        return max(1, _TOKENS // self.length)

    def chunks(self, count: int) -> Iterator[range]:
        """The numbers of `count` variants, a batch at a time."""
        return (range(start, min(start + self.rows, count)) for start in range(0, count, self.rows))

    def embedded(self) -> Float[Tensor, "1 S D"]:
        """The scaled embeddings of the tokens that are read."""
        with torch.inference_mode(), trace(self.whose) as seen:
            self.decode(1)
        return seen[self.probe][0][:1]  # models may add rows

    def absent(self) -> Float[Tensor, " D"]:
        """b: the mean of all embeddings of that side, times the square root of their width, as embeddings are."""
        table = self.table.detach()
        return table.mean(dim=0) * table.shape[1] ** 0.5

    def embedding(self, variants: Float[Tensor, "B S D"]) -> AbstractContextManager[None]:
        """Let the model read these embeddings, a sentence each."""

        def change(values: Tensor) -> Tensor:
            # A model may repeat its last row for equal rounding; the outputs of these rows are dropped.
            surplus = len(values) - len(variants)
            return torch.cat([variants, variants[-1:].expand(surplus, -1, -1)])

        return _changing(self.whose, {self.probe: change})


def _changing(model: nn.Module, changes: Mapping[str, Callable[[Tensor], Tensor]]) -> AbstractContextManager[None]:
    """Replace the values of Probes: name -> change."""

    def changer(change: Callable[[Tensor], Tensor]) -> Hook:
        return lambda output, inputs: change(output)

    return listen(model, ((name, changer(change)) for name, change in changes.items()))


def attention(question: Question) -> AttributionMatrix:
    """Mean over the weights of all layers and heads. Precondition: there are some."""
    with torch.inference_mode(), trace(question.whose) as seen:
        question.decode(1)
    layers = [torch.cat(seen[name], dim=2)[0] for name in question.writers]  # (H T S); a recurrent decoder: one call per step
    return torch.cat(layers).mean(dim=0).float().cpu().numpy()


def gradient_x_input(question: Question) -> AttributionMatrix:
    """Σ_d x_sd · ∂score_t/∂x_sd, signed. Source: Shrikumar et al. 2017 (Denil et al. 2014 for words).

    Cost: a forward pass, and a backward pass for each score.
    """
    embedded = question.embedded()
    return _array(_slopes(question, embedded, embedded[0])[0])


def integrated_gradients(question: Question, *, points: int) -> AttributionMatrix:
    """Σ_d (x - b)_sd · ∫ ∂score_t/∂x_sd at b + α(x - b) dα, by Gauss and Legendre's rule; a row sums to score_t(x) - score_t(b).

    Source: Sundararajan et al. 2017, eq. 1. Differs from it: the baseline b is the mean embedding, not zeros, and the quadrature is not
    a Riemann sum: `completeness_gap` gives its error. b replaces every position, <eos> included.
    Cost: for each point a forward pass, and a backward pass for each score.
    """
    absent = question.absent()
    difference = question.embedded() - absent
    nodes, weights = np.polynomial.legendre.leggauss(points)
    shares = torch.as_tensor((nodes + 1) / 2).to(difference)
    total: Tensor | None = None
    for chunk in question.chunks(points):
        found = _slopes(question, absent + shares[chunk, None, None] * difference, difference[0])
        part = torch.einsum("m,mts->ts", torch.as_tensor(weights[chunk] / 2), found.double().cpu())
        total = torch.zeros_like(part) + part if total is None else total + part
    assert total is not None
    return _array(total)


def completeness_gap(question: Question, values: AttributionMatrix) -> float:
    """The largest difference between a row sum of integrated gradients and score_t(x) - score_t(b): 0 for the exact integral."""
    both = torch.cat([question.absent().expand_as(question.embedded()), question.embedded()])
    with torch.inference_mode(), question.embedding(both):
        without, whole = question.log_p(question.decode(2)).double().cpu()
    return float((torch.as_tensor(values).double().sum(dim=1) - (whole - without)).abs().max())


def _slopes(question: Question, variants: Float[Tensor, "B S D"], along: Float[Tensor, "S D"]) -> Float[Tensor, "B T S"]:
    """The derivative of each score by x_s in a direction, at several variants of the embeddings."""
    # The caller may be in inference mode, where nothing has a gradient.
    with torch.inference_mode(False), torch.enable_grad():
        leaf = variants.detach().clone().requires_grad_()
        with question.embedding(leaf):
            hidden = question.decode(len(leaf))
        # A score depends only on its own vector: one backward pass through the output, often the largest matrix, not T.
        head = hidden.detach().requires_grad_()
        pulls = torch.autograd.grad(question.log_p(head).sum(), head)[0]
        last = hidden.shape[1] - 1
        gradients = (
            torch.autograd.grad(hidden[:, at], leaf, grad_outputs=pulls[:, at], retain_graph=at < last)[0] for at in range(last + 1)
        )
        return torch.stack([(gradient * along).sum(dim=2) for gradient in gradients], dim=1)


def occlusion(question: Question, *, groups: Sequence[Sequence[int]] | None = None) -> AttributionMatrix:
    """score_t - score_t with x_s replaced by b. Source: Zeiler and Fergus 2014; Li et al. 2016 for words. Cost: S forward passes.

    Args: groups: positions that are replaced together, such as those of a word: a column for each group; None: each by itself.
    """
    embedded, absent = question.embedded(), question.absent()
    together = [[position] for position in range(embedded.shape[1])] if groups is None else groups
    with torch.inference_mode():
        whole, columns = question.log_p(question.decode(1))[0], list[Tensor]()
        for chunk in question.chunks(len(together)):
            variants = embedded.repeat(len(chunk), 1, 1)
            for row, group in enumerate(chunk):
                variants[row, list(together[group])] = absent
            with question.embedding(variants):
                columns.append(whole - question.log_p(question.decode(len(chunk))))
    return _array(torch.cat(columns).t())


def value_zeroing(question: Question) -> AttributionMatrix:
    """1 - cos(h_t, h_t with every attention's weight on position s set to 0, the others unchanged), h the vectors of the scores.

    That is what a value vector of 0 at s does in every head that reads s.
    Source: Mohebbi et al. 2023, eq. 3. Differs from it: there one layer at a time, measured at that layer; here all at once, measured at
    the end, so one number covers all paths from s. Precondition: the model has attention. Cost: S forward passes.
    """
    names = [place.name for place in question.readers]
    with torch.inference_mode():
        with trace(question.whose):  # the explicit path, as below
            whole, columns = question.decode(1), list[Tensor]()
        for chunk in question.chunks(question.read.shape[1]):

            def silence(weights: Tensor, chunk: range = chunk) -> Tensor:
                kept = torch.ones(len(chunk), 1, 1, weights.shape[3], dtype=weights.dtype, device=weights.device)
                kept[range(len(chunk)), :, :, chunk] = 0
                return weights * kept

            with _changing(question.whose, dict.fromkeys(names, silence)):
                columns.append(1 - F.cosine_similarity(question.decode(len(chunk)), whole, dim=2))
    return _array(torch.cat(columns).t().clamp(min=0))  # rounding: equal vectors may have a cosine of 1.0000001


def _array(values: Float[Tensor, "T S"]) -> AttributionMatrix:
    return np.ascontiguousarray(values.float().cpu().numpy())
