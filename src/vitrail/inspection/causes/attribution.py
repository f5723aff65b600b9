"""Attribution of each target token to the source tokens, by several methods, which may disagree.

Of a model without a source: of each token of the text to those before it. Then S below is T, the tokens that were read, and the attention
is the text's to itself; what a token is predicted from ends with the one before it, so values right of the diagonal are 0.

Arrays that `attribute` adds, all float32 (T S): a row for each predicted token (the pieces and <eos>, if the translation ends), a column
for each source token.
    attribution.attention               mean over decoder layers and heads of the cross-attention weights; rows sum to 1
    attribution.gradient_x_input        Σ_d x_sd · ∂log p_t/∂x_sd, in nats, signed
    attribution.integrated_gradients    Σ_d (x - b)_sd · ∫ ∂log p_t/∂x_sd at b + α(x - b) dα, α from 0 to 1, in nats, signed
    attribution.occlusion               log p_t - log p_t with x_s = b, in nats, signed
    attribution.value_zeroing           1 - cos(decoder_output_t, the same where nothing reads the value of s), 0 to 2
log p_t is log p(y_t | y_<t, x). x_s is the scaled embedding of a source token, before positions are added (Probe `source_embedded`). b, the
baseline for a missing token, is the mean of all source embeddings: at an embedding of zeros, layer norm has a gradient of up to
1/sqrt(1e-5), and no sum over points approximates the integral.
Extra `attribution`: {"methods": {name: Description}, "integrated_gradients_gap": largest error of a row's sum in nats}.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.config import Config
from vitrail.data.batches import Batch
from vitrail.decode.forced import forced_decode, log_p, make_batch
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.record import Inspection
from vitrail.models.base import AutoregressiveModel
from vitrail.models.places import Side, find
from vitrail.nn.probe import Hook, listen, refuse_compiled, trace

AttributionMatrix = npt.NDArray[np.float32]
"""(T S)."""

AttributionMethod = Literal["attention", "gradient_x_input", "integrated_gradients", "occlusion", "value_zeroing"]

METHODS: tuple[AttributionMethod, ...] = get_args(AttributionMethod)

POINTS = 32
"""Points of the path of integrated gradients. For a Transformer `tiny` on the phrasebook the error of the row sums is then 1 to 3 %."""
_TOKENS = 2048
"""Tokens of both sides in all sentences computed at once: it bounds memory."""
_SAME = 1e-3
"""Tolerance for probabilities of a record by the same model, made perhaps with other threads or on another device."""


class Description(Config):
    """The description of a method, in English and in French."""

    title: str
    says: str
    """What a cell means."""
    unit: str
    title_fr: str
    says_fr: str
    unit_fr: str


DESCRIPTIONS: dict[AttributionMethod, Description] = {
    "attention": Description(
        title="Attention",
        says="Cross-attention weights of the source token, averaged over layers and heads.",
        unit="share",
        title_fr="Attention",
        says_fr="Combien le décodeur a regardé le mot source : poids d'attention croisée, moyenne des couches et des têtes.",
        unit_fr="part",
    ),
    "gradient_x_input": Description(
        title="Gradient x input",
        says="The source token's embedding times the gradient of the target token's log-probability: its effect if the model were linear.",
        unit="nats",
        title_fr="Gradient x entrée",
        says_fr="Le vecteur du mot source fois la pente de la log-probabilité du mot cible : ce qu'il ajoute si tout était linéaire.",
        unit_fr="nats",
    ),
    "integrated_gradients": Description(
        title="Integrated gradients",
        says="The gradient, averaged along the path from mean embeddings to this source: a row sums to the effect of the whole source.",
        unit="nats",
        title_fr="Gradients intégrés",
        says_fr="La pente, moyennée sur le chemin depuis une source de vecteurs moyens : une ligne somme à ce que la source ajoute.",
        unit_fr="nats",
    ),
    "occlusion": Description(
        title="Occlusion",
        says="The decrease of the target token's log-probability when the source token is replaced by the mean embedding.",
        unit="nats",
        title_fr="Occultation",
        says_fr="De combien la log-probabilité du mot cible baisse quand le vecteur moyen prend la place du mot source.",
        unit_fr="nats",
    ),
    "value_zeroing": Description(
        title="Value zeroing",
        says="The change of the decoder's vector (1 - cosine) when no attention reads the value at the source token's position.",
        unit="1 - cosine",
        title_fr="Annulation des valeurs",
        says_fr="De combien le vecteur du décodeur tourne quand aucune attention ne prend rien à la position du mot source.",
        unit_fr="1 - cosinus",
    ),
}

OF_TEXT: dict[AttributionMethod, Description] = {
    "attention": Description(
        title="Attention",
        says="Self-attention weights of the earlier token, averaged over layers and heads.",
        unit="share",
        title_fr="Attention",
        says_fr="Combien le modèle a regardé le token d'avant : poids d'auto-attention, moyenne des couches et des têtes.",
        unit_fr="part",
    ),
    "gradient_x_input": Description(
        title="Gradient x input",
        says="The earlier token's embedding times the gradient of the token's log-probability: its effect if the model were linear.",
        unit="nats",
        title_fr="Gradient x entrée",
        says_fr="Le vecteur du token d'avant fois la pente de la log-probabilité du token : ce qu'il ajoute si tout était linéaire.",
        unit_fr="nats",
    ),
    "integrated_gradients": Description(
        title="Integrated gradients",
        says="The gradient, averaged along the path from mean embeddings to this text: a row sums to the effect of all that came before.",
        unit="nats",
        title_fr="Gradients intégrés",
        says_fr="La pente, moyennée sur le chemin depuis un texte de vecteurs moyens : une ligne somme à ce que tout l'avant ajoute.",
        unit_fr="nats",
    ),
    "occlusion": Description(
        title="Occlusion",
        says="The decrease of the token's log-probability when the earlier token is replaced by the mean embedding.",
        unit="nats",
        title_fr="Occultation",
        says_fr="De combien la log-probabilité du token baisse quand le vecteur moyen prend la place du token d'avant.",
        unit_fr="nats",
    ),
    "value_zeroing": Description(
        title="Value zeroing",
        says="The change of the last vector (1 - cosine) when no attention reads the value at the earlier token's position.",
        unit="1 - cosine",
        title_fr="Annulation des valeurs",
        says_fr="De combien le dernier vecteur tourne quand aucune attention ne prend rien à la position du token d'avant.",
        unit_fr="1 - cosinus",
    ),
}
"""The same for a text without a source."""


def attribute(inspection: Inspection, model: AutoregressiveModel, *, methods: Sequence[AttributionMethod] | None = None) -> Inspection:
    """Add attributions of each target token to the source tokens to a record.

    Args:    model: the model of the record. methods: None: all that this model supports (without attention, neither `attention` nor
    `value_zeroing`).
    Raises:  UsageError for a method that is unknown, or that this model does not support; ModelError for another or a compiled model.
    Cost:    mainly that of `integrated_gradients`.
    """
    _check_same(inspection, model)
    possible: list[AttributionMethod] = [method for method in METHODS if method not in _READING or _readers(model)]
    unknown: Sequence[str] = methods or ()
    for asked in unknown:
        if asked not in possible:
            why = "this model has no attention" if asked in METHODS else "no such method"
            raise UsageError(f"attribution by {asked!r}: {why}", expected=f"one of {', '.join(possible)}")
    source, target, ended = _source_ids(inspection), inspection.target.ids, not inspection.facts.truncated
    chosen: list[AttributionMethod] = [method for method in possible if methods is None or method in methods]
    arrays = {method: _FUNCTIONS[method](model, source, target, ended=ended) for method in chosen}
    texts = DESCRIPTIONS if "source" in inspection.sides else DESCRIPTIONS | OF_TEXT
    facts: dict[str, Any] = {"methods": {method: texts[method].model_dump() for method in chosen}}
    if "integrated_gradients" in arrays:
        facts["integrated_gradients_gap"] = completeness_gap(model, source, target, arrays["integrated_gradients"], ended=ended)
    return inspection.with_arrays({f"attribution.{method}": values for method, values in arrays.items()}, attribution=facts)


def _check_same(inspection: Inspection, model: AutoregressiveModel) -> None:
    """Raises ModelError where the record is from another model, or the model is compiled."""
    refuse_compiled(model)
    same = model.config.model_dump(mode="json") == inspection.facts.model
    if same:
        try:
            with torch.inference_mode():
                question = _Question.of(model, _source_ids(inspection), inspection.target.ids, ended=not inspection.facts.truncated)
                found = question.log_p(question.decode(1))[0].exp().cpu().numpy()
            predicted = [step.chosen.probability for step in inspection.facts.decoding.steps]
            same = bool(np.abs(found - predicted).max() < _SAME)
        except IndexError:  # a token outside its vocabulary
            same = False
    if not same:
        raise ModelError("this record was made by another model", remedy="inspect the sentence again with this model")


def _source_ids(inspection: Inspection) -> tuple[int, ...]:
    return inspection.source.ids if "source" in inspection.sides else ()


# One sentence and its translation in many variants.


@dataclass(frozen=True)
class _Question:
    """A sentence and its translation, scored by a model in many variants."""

    model: AutoregressiveModel
    source: Int[Tensor, "1 S"]
    target_in: Int[Tensor, "1 T"]
    target_out: Int[Tensor, "1 T"]

    @classmethod
    def of(cls, model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], *, ended: bool = True) -> "_Question":
        """Token ids without SOS and EOS; `ended`: see `make_batch`. Precondition: the model is in evaluation mode."""
        with torch.inference_mode(False):  # ids made in a caller's inference mode would prevent gradients
            return cls(model, *make_batch(model, [source], [target], ended=ended))

    @property
    def side(self) -> Side:
        """The side whose tokens the prediction is attributed to: the source where there is one, else the text itself."""
        return _side(self.model)

    @property
    def read(self) -> Int[Tensor, "1 S"]:
        """The tokens of that side, as the model reads them."""
        return self.source if self.side == "source" else self.target_in

    @property
    def rows(self) -> int:
        """Copies of the sentence that are computed at once."""
        return max(1, _TOKENS // (self.source.shape[1] + self.target_in.shape[1]))

    def chunks(self, count: int) -> Iterator[range]:
        """The numbers of `count` variants, a batch at a time."""
        return (range(start, min(start + self.rows, count)) for start in range(0, count, self.rows))

    def decode(self, rows: int) -> Float[Tensor, "B T D"]:
        """The decoder's vectors for copies of the sentence, which hooks may change."""
        return forced_decode(self.model, Batch(*(part.expand(rows, -1) for part in (self.source, self.target_in, self.target_out))))

    def log_p(self, hidden: Float[Tensor, "B T D"]) -> Float[Tensor, "B T"]:
        """log p(y_t | y_<t, x) from the decoder's vectors."""
        return log_p(self.model, hidden, self.target_out.expand(len(hidden), -1))

    def embedded(self) -> Float[Tensor, "1 S D"]:
        """The scaled embeddings of the tokens that are read."""
        with torch.inference_mode(), trace(self.model) as seen:
            self.decode(1)
        return seen[_embedded(self.model)][0][:1]  # models may add rows

    def absent(self) -> Float[Tensor, " D"]:
        """b: the mean of all embeddings of that side, times the square root of their width, as embeddings are."""
        table = self.model.embedding_of(self.side).detach()
        return table.mean(dim=0) * table.shape[1] ** 0.5


def _changing(model: nn.Module, changes: Mapping[str, Callable[[Tensor], Tensor]]) -> AbstractContextManager[None]:
    """Replace the values of Probes: name -> change."""

    def changer(change: Callable[[Tensor], Tensor]) -> Hook:
        return lambda output, inputs: change(output)

    return listen(model, ((name, changer(change)) for name, change in changes.items()))


def _embedded(model: AutoregressiveModel) -> str:
    """The Probe of the embeddings of the tokens that are read."""
    place = find(model.places(), "embedded", _side(model))
    if place is None:
        raise ModelError("attribution to tokens: no Probe records this model's embeddings")
    return place.name


def _side(model: AutoregressiveModel) -> Side:
    return "target" if find(model.places(), "embedded", "source") is None else "source"


def _embedding(model: AutoregressiveModel, variants: Float[Tensor, "B S D"]):
    """Let the model read these embeddings, a sentence each."""

    def change(values: Tensor) -> Tensor:
        # A model may repeat its last row for equal rounding; the outputs of these rows are dropped.
        surplus = len(values) - len(variants)
        return torch.cat([variants, variants[-1:].expand(surplus, -1, -1)])

    return _changing(model, {_embedded(model): change})


def _readers(model: AutoregressiveModel) -> list[str]:
    """The Probes of all attention weights that read the tokens in question: those of the source, or of the text itself."""
    return [place.name for place in model.places() if place.role == "attention" and place.reads == _side(model)]


def _writers(model: AutoregressiveModel) -> list[str]:
    """Of these, the ones whose rows are the predicted tokens."""
    return [place.name for place in model.places() if place.name in _readers(model) and place.side == "target"]


# The methods: each a function of a model in evaluation mode and of token ids without SOS and EOS.


def attention(model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], *, ended: bool = True) -> AttributionMatrix:
    """Mean of the weights over decoder layers and heads: of cross-attention, or else self-attention. Precondition: the model has some."""
    with torch.inference_mode(), trace(model) as seen:
        _Question.of(model, source, target, ended=ended).decode(1)
    layers = [torch.cat(seen[name], dim=2)[0] for name in _writers(model)]  # (H T S); a recurrent decoder: one call per step
    return torch.cat(layers).mean(dim=0).float().cpu().numpy()


def gradient_x_input(model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], *, ended: bool = True) -> AttributionMatrix:
    """Σ_d x_sd · ∂log p_t/∂x_sd, signed. Source: Shrikumar et al. 2017 (Denil et al. 2014 for words).

    Cost: a forward pass, and a backward pass for each target token.
    """
    question = _Question.of(model, source, target, ended=ended)
    embedded = question.embedded()
    return _array(_slopes(question, embedded, embedded[0])[0])


def integrated_gradients(
    model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], *, points: int = POINTS, ended: bool = True
) -> AttributionMatrix:
    """Σ_d (x - b)_sd · ∫ ∂log p_t/∂x_sd at b + α(x - b) dα, by Gauss and Legendre's rule; a row sums to log p_t(x) - log p_t(b).

    Source: Sundararajan et al. 2017, eq. 1. Differs from it: the baseline b is the mean embedding, not zeros (see above), and the
    quadrature is not a Riemann sum: `completeness_gap` gives its error. b replaces every source position, <eos> included.
    Cost: for each point a forward pass, and a backward pass for each target token.
    """
    question = _Question.of(model, source, target, ended=ended)
    absent = question.absent()
    difference = question.embedded() - absent
    nodes, weights = np.polynomial.legendre.leggauss(points)
    shares = torch.as_tensor((nodes + 1) / 2).to(difference)
    total = torch.zeros(question.target_in.shape[1], question.read.shape[1], dtype=torch.float64)
    for chunk in question.chunks(points):
        found = _slopes(question, absent + shares[chunk, None, None] * difference, difference[0])
        total += torch.einsum("m,mts->ts", torch.as_tensor(weights[chunk] / 2), found.double().cpu())
    return _array(total)


def completeness_gap(
    model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], values: AttributionMatrix, *, ended: bool = True
) -> float:
    """The largest difference in nats between a row sum of integrated gradients and log p_t(x) - log p_t(b): 0 for the exact integral."""
    question = _Question.of(model, source, target, ended=ended)
    both = torch.cat([question.absent().expand_as(question.embedded()), question.embedded()])
    with torch.inference_mode(), _embedding(model, both):
        without, whole = question.log_p(question.decode(2)).double().cpu()
    return float((torch.as_tensor(values).double().sum(dim=1) - (whole - without)).abs().max())


def _slopes(question: _Question, variants: Float[Tensor, "B S D"], along: Float[Tensor, "S D"]) -> Float[Tensor, "B T S"]:
    """The derivative of log p_t by x_s in a direction, at several variants of the source embeddings."""
    # The caller may be in inference mode, where nothing has a gradient.
    with torch.inference_mode(False), torch.enable_grad():
        leaf = variants.detach().clone().requires_grad_()
        with _embedding(question.model, leaf):
            hidden = question.decode(len(leaf))
        # log p_t depends only on h_t: one backward pass through the output, often the largest matrix, not T.
        head = hidden.detach().requires_grad_()
        pulls = torch.autograd.grad(question.log_p(head).sum(), head)[0]
        last = hidden.shape[1] - 1
        gradients = (
            torch.autograd.grad(hidden[:, at], leaf, grad_outputs=pulls[:, at], retain_graph=at < last)[0] for at in range(last + 1)
        )
        return torch.stack([(gradient * along).sum(dim=2) for gradient in gradients], dim=1)


def occlusion(model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], *, ended: bool = True) -> AttributionMatrix:
    """log p_t - log p_t with x_s replaced by b. Source: Zeiler and Fergus 2014; Li et al. 2016 for words. Cost: S forward passes."""
    question = _Question.of(model, source, target, ended=ended)
    embedded, absent = question.embedded(), question.absent()
    with torch.inference_mode():
        whole, columns = question.log_p(question.decode(1))[0], list[Tensor]()
        for chunk in question.chunks(embedded.shape[1]):
            variants = embedded.repeat(len(chunk), 1, 1)
            variants[range(len(chunk)), chunk] = absent
            with _embedding(model, variants):
                columns.append(whole - question.log_p(question.decode(len(chunk))))
    return _array(torch.cat(columns).t())


def value_zeroing(model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], *, ended: bool = True) -> AttributionMatrix:
    """1 - cos(h_t, h_t with every attention's weight on position s set to 0, the others unchanged), h the decoder's vectors.

    That is what a value vector of 0 at s does in every head of the encoder's self-attention and of cross-attention.
    Source: Mohebbi et al. 2023, eq. 3. Differs from it: there one layer at a time, measured at that layer; here all at once, measured at
    the end, so one number covers all paths from s. Precondition: the model has attention. Cost: S forward passes.
    """
    question, names = _Question.of(model, source, target, ended=ended), _readers(model)
    with torch.inference_mode():
        with trace(model):  # the explicit path, as below
            whole, columns = question.decode(1), list[Tensor]()
        for chunk in question.chunks(question.read.shape[1]):

            def silence(weights: Tensor, chunk: range = chunk) -> Tensor:
                kept = torch.ones(len(chunk), 1, 1, weights.shape[3], dtype=weights.dtype, device=weights.device)
                kept[range(len(chunk)), :, :, chunk] = 0
                return weights * kept

            with _changing(model, dict.fromkeys(names, silence)):
                columns.append(1 - F.cosine_similarity(question.decode(len(chunk)), whole, dim=2))
    return _array(torch.cat(columns).t().clamp(min=0))  # rounding: equal vectors may have a cosine of 1.0000001


def _array(values: Float[Tensor, "T S"]) -> AttributionMatrix:
    return np.ascontiguousarray(values.float().cpu().numpy())


class _Function(Protocol):
    def __call__(self, model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], *, ended: bool) -> AttributionMatrix: ...


_FUNCTIONS: dict[AttributionMethod, _Function] = {
    "attention": attention,
    "gradient_x_input": gradient_x_input,
    "integrated_gradients": integrated_gradients,
    "occlusion": occlusion,
    "value_zeroing": value_zeroing,
}
_READING: tuple[AttributionMethod, ...] = ("attention", "value_zeroing")
"""Methods that need attention."""
