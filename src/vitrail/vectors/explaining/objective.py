"""Which objective word vectors were trained by, from what is known of their training."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Kind = Literal["negatives", "tree", "glove"]
_FASTTEXT_NOISE = 0.5
"""The fastText program draws words in proportion to the square root of their count."""
_FASTTEXT_KINDS: dict[int, Kind] = {1: "tree", 2: "negatives"}
_FASTTEXT_ARCHITECTURES: dict[int, Literal["skip-gram", "cbow"]] = {1: "cbow", 2: "skip-gram"}


class Objective(NamedTuple):
    """The objective of a training."""

    kind: Kind
    method: str
    architecture: Literal["skip-gram", "cbow"] | None
    """None: of GloVe."""
    negatives: int = 0
    noise_power: float = 0.0
    """Words are drawn in proportion to their count raised to this."""
    of_fasttext: bool = False
    """Trained by the fastText program, whose Huffman tree is another."""
    x_max: float = 0.0
    alpha: float = 0.0


def objective_of(facts: Mapping[str, Any]) -> Objective | None:
    """The objective of our own trainings and of the fastText program's; None where nothing is known."""
    match facts:
        case {"training": {"method": "glove", "x_max": int() | float() as x_max, "alpha": int() | float() as alpha}}:
            return Objective("glove", "glove", None, x_max=x_max, alpha=alpha)
        case {
            "training": {
                "method": "word2vec" | "fasttext" as method,
                "architecture": "skip-gram" | "cbow" as architecture,
                "negatives": int(negatives),
                "noise_power": int() | float() as power,
            }
        }:
            return Objective("negatives" if negatives else "tree", method, architecture, negatives, power)
        case {"fasttext": {"loss": int() | float() as loss, "model": int() | float() as model, "neg": int() | float() as negatives}}:
            kind, architecture = _FASTTEXT_KINDS.get(int(loss)), _FASTTEXT_ARCHITECTURES.get(int(model))
            if kind is None or architecture is None:
                return None
            return Objective(kind, "fasttext", architecture, int(negatives) if kind == "negatives" else 0, _FASTTEXT_NOISE, True)
        case _:
            return None
