"""Why this guess, why this label: attribution of each to the tokens and words of the text.

Arrays that `attribute_reading` adds, all float32. R rows: each guess at a mask, or each label that is asked for.
    attribution.gradient_x_input, .integrated_gradients, .occlusion, .value_zeroing   (R S), as in `causes.attribution`
    word_attribution.gradient_x_input, .integrated_gradients   (R W), sums over the tokens of each word of the source
    word_attribution.occlusion   (R W), the same with all tokens of a word replaced together
The score of a guess is its log-probability; that of a label its logit.
Extra `attribution`: {"methods": {name: Description}, "integrated_gradients_gap": largest error of a row's sum,
    "rows": [{"name": what is explained, "position": of the guess, or null}]}.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vitrail.errors import UsageError
from vitrail.inspection.attributing import methods as by
from vitrail.inspection.attributing.methods import AttributionMatrix, Question
from vitrail.inspection.causes.attribution import POINTS, AttributionMethod, Description
from vitrail.inspection.collect import Arrays
from vitrail.inspection.record import Inspection

SUMMED: tuple[AttributionMethod, ...] = ("gradient_x_input", "integrated_gradients")
"""Methods whose values of tokens add up to that of their word."""


def attribute_reading(
    inspection: Inspection, question: Question, *, rows: Sequence[tuple[str, int | None]], points: int = POINTS
) -> Inspection:
    """Add attributions to a record.

    Args:   rows: the name of each score, and the position of the token that it is of.
    Raises: UsageError where there is nothing to explain.
    Cost:   mainly that of `integrated_gradients`: `points` passes forward and backward.
    """
    if not rows:
        raise UsageError("nothing to explain in this text", expected="a text with [MASK], or a position to guess at")
    words = words_of(inspection)
    found: dict[AttributionMethod, AttributionMatrix] = {
        "gradient_x_input": by.gradient_x_input(question),
        "integrated_gradients": by.integrated_gradients(question, points=points),
        "occlusion": by.occlusion(question),
    }
    if question.readers:
        found["value_zeroing"] = by.value_zeroing(question)
    by_word = {method: np.stack([found[method][:, list(word)].sum(1) for word in words], axis=1) for method in SUMMED if words}
    if words:
        by_word["occlusion"] = by.occlusion(question, groups=words)
    arrays: Arrays = {f"attribution.{method}": values for method, values in found.items()}
    arrays |= {f"word_attribution.{method}": values for method, values in by_word.items()}
    texts = OF_GUESS if rows[0][1] is not None else OF_LABEL
    facts: dict[str, Any] = {
        "methods": {method: texts[method].model_dump() for method in found},
        "integrated_gradients_gap": by.completeness_gap(question, found["integrated_gradients"]),
        "rows": [{"name": name, "position": position} for name, position in rows],
    }
    return inspection.with_arrays(arrays, attribution=facts)


def words_of(inspection: Inspection) -> list[tuple[int, ...]]:
    """The positions of each word of the source among `source_tokens`."""
    first = len(inspection.source_tokens) - len(inspection.source.pieces) - 1
    return [tuple(token + first for token in word) for word in inspection.source.words]


def _descriptions(what: str, what_fr: str, unit: str, unit_fr: str) -> dict[AttributionMethod, Description]:
    return {
        "gradient_x_input": Description(
            title="Gradient x input",
            says=f"The token's embedding times the gradient of {what}: its effect if the model were linear.",
            unit=unit,
            title_fr="Gradient x entrée",
            says_fr=f"Le vecteur du token fois la pente de {what_fr} : ce qu'il ajoute si tout était linéaire.",
            unit_fr=unit_fr,
        ),
        "integrated_gradients": Description(
            title="Integrated gradients",
            says=f"The gradient of {what}, averaged along the path from mean embeddings: a row sums to the effect of the whole text.",
            unit=unit,
            title_fr="Gradients intégrés",
            says_fr=f"La pente de {what_fr}, moyennée depuis un texte de vecteurs moyens : une ligne somme à ce que le texte ajoute.",
            unit_fr=unit_fr,
        ),
        "occlusion": Description(
            title="Occlusion",
            says=f"The decrease of {what} when the token is replaced by the mean embedding.",
            unit=unit,
            title_fr="Occultation",
            says_fr=f"De combien baisse {what_fr} quand le vecteur moyen prend la place du token.",
            unit_fr=unit_fr,
        ),
        "value_zeroing": Description(
            title="Value zeroing",
            says="The change of the vector behind it (1 - cosine) when no attention reads the value at the token's position.",
            unit="1 - cosine",
            title_fr="Annulation des valeurs",
            says_fr="De combien tourne le vecteur dont il est calculé quand aucune attention ne prend rien à la position du token.",
            unit_fr="1 - cosinus",
        ),
    }


OF_GUESS = _descriptions("the guess's log-probability", "la log-probabilité du token deviné", "nats", "nats")
OF_LABEL = _descriptions("the label's logit", "le logit de l'étiquette", "logit", "logit")
