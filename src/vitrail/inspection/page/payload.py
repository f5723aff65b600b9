"""What of a record goes into its page, and how: facts as JSON, arrays as base64, within a budget of bytes."""

import base64
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail.inspection.record import Inspection

BUDGET = 1_800_000
"""Bytes of a page."""


def make_payload(inspection: Inspection, *, reserved: int = 0) -> dict[str, Any]:
    """`meta`, the facts of the record, and `arrays`, what the views draw."""
    arrays = {name: _pack(values) for name, values in inspection.arrays.items() if name not in ("logits", "probabilities")}
    return {"meta": inspection.facts.model_dump(mode="json") | {"walk": []}, "arrays": arrays}


def to_json(payload: dict[str, Any]) -> str:
    """As JSON that may stand inside a script element: no character in it can end one, or begin another."""
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _pack(values: npt.NDArray[np.generic]) -> dict[str, Any]:
    kind = "uint8" if values.dtype == np.bool_ else "float32"
    data = np.ascontiguousarray(values, dtype="<f4" if kind == "float32" else "u1").tobytes()
    return {"shape": list(values.shape), "type": kind, "data": base64.b64encode(data).decode("ascii")}
