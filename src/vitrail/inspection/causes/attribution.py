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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.config import Config
from vitrail.data.batches import Batch
from vitrail.decode.forced import forced_decode, log_p, make_batch
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.attributing import methods as by
from vitrail.inspection.attributing.methods import AttributionMatrix, Question
from vitrail.inspection.record import Inspection
from vitrail.models.base import AutoregressiveModel
from vitrail.models.places import Place, Side, find
from vitrail.nn.probe import refuse_compiled

AttributionMethod = Literal["attention", "gradient_x_input", "integrated_gradients", "occlusion", "value_zeroing"]

METHODS: tuple[AttributionMethod, ...] = get_args(AttributionMethod)

POINTS = 32
"""Points of the path of integrated gradients. For a Transformer `tiny` on the phrasebook the error of the row sums is then 1 to 3 %."""
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
    attends = any(place.role == "attention" for place in _Pair.of(model, _source_ids(inspection), inspection.target.ids).readers)
    possible: list[AttributionMethod] = [method for method in METHODS if method not in _READING or attends]
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
                question = _Pair.of(model, _source_ids(inspection), inspection.target.ids, ended=not inspection.facts.truncated)
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
class _Pair(Question):
    """A sentence and its translation, or a text by itself: log p(y_t | y_<t, x) of each target token."""

    model: AutoregressiveModel
    source: Int[Tensor, "1 S"]
    target_in: Int[Tensor, "1 T"]
    target_out: Int[Tensor, "1 T"]

    @classmethod
    def of(cls, model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], *, ended: bool = True) -> "_Pair":
        """Token ids without SOS and EOS; `ended`: see `make_batch`. Precondition: the model is in evaluation mode."""
        with torch.inference_mode(False):  # ids made in a caller's inference mode would prevent gradients
            return cls(model, *make_batch(model, [source], [target], ended=ended))

    @property
    def whose(self) -> AutoregressiveModel:
        return self.model

    @property
    def side(self) -> Side:
        """The side whose tokens the prediction is attributed to: the source where there is one, else the text itself."""
        return "target" if find(self.model.places(), "embedded", "source") is None else "source"

    @property
    def read(self) -> Int[Tensor, "1 S"]:
        return self.source if self.side == "source" else self.target_in

    @property
    def length(self) -> int:
        return self.source.shape[1] + self.target_in.shape[1]

    @property
    def probe(self) -> str:
        place = find(self.model.places(), "embedded", self.side)
        if place is None:
            raise ModelError("attribution to tokens: no Probe records this model's embeddings")
        return place.name

    @property
    def table(self) -> Float[Tensor, "V D"]:
        return self.model.embedding_of(self.side)

    @property
    def readers(self) -> list[Place]:
        side = self.side
        return [place for place in self.model.places() if place.role == "attention" and place.reads == side]

    @property
    def writers(self) -> list[str]:
        return [place.name for place in self.readers if place.side == "target"]

    def decode(self, rows: int) -> Float[Tensor, "B T D"]:
        return forced_decode(self.model, Batch(*(part.expand(rows, -1) for part in (self.source, self.target_in, self.target_out))))

    def log_p(self, hidden: Float[Tensor, "B T D"]) -> Float[Tensor, "B T"]:
        return log_p(self.model, hidden, self.target_out.expand(len(hidden), -1))


# The methods: each a function of a model in evaluation mode and of token ids without SOS and EOS; see `attributing.methods`.


def attention(model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], *, ended: bool = True) -> AttributionMatrix:
    """Mean of the weights over decoder layers and heads: of cross-attention, or else self-attention. Precondition: the model has some."""
    return by.attention(_Pair.of(model, source, target, ended=ended))


def gradient_x_input(model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], *, ended: bool = True) -> AttributionMatrix:
    """See `methods.gradient_x_input`."""
    return by.gradient_x_input(_Pair.of(model, source, target, ended=ended))


def integrated_gradients(
    model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], *, points: int = POINTS, ended: bool = True
) -> AttributionMatrix:
    """See `methods.integrated_gradients`."""
    return by.integrated_gradients(_Pair.of(model, source, target, ended=ended), points=points)


def completeness_gap(
    model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], values: AttributionMatrix, *, ended: bool = True
) -> float:
    """See `methods.completeness_gap`."""
    return by.completeness_gap(_Pair.of(model, source, target, ended=ended), values)


def occlusion(model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], *, ended: bool = True) -> AttributionMatrix:
    """See `methods.occlusion`."""
    return by.occlusion(_Pair.of(model, source, target, ended=ended))


def value_zeroing(model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], *, ended: bool = True) -> AttributionMatrix:
    """See `methods.value_zeroing`: of the encoder's self-attention and of cross-attention, or of the text's attention to itself."""
    return by.value_zeroing(_Pair.of(model, source, target, ended=ended))


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
