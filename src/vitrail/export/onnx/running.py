"""The exported models in onnxruntime, from Python: the logits of given translations."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail.export.onnx.parts import Carried

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"


class OnnxModel:
    """Both graphs of a folder, on one thread. Raises UsageError where onnxruntime is not installed."""

    def __init__(self, folder: Path, *, given: Sequence[str], carried: Sequence[Carried]) -> None:
        program: Any = import_module("onnxruntime")
        options = program.SessionOptions()
        options.intra_op_num_threads = 1
        self._encoder, self._decoder = (
            program.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"]) for name in (ENCODER, DECODER)
        )
        self._given, self._carried = given, carried

    def encode(self, source: npt.NDArray[np.int64]) -> dict[str, Any]:
        """All outputs of the encoder by name, for sources (B S) that end in </s>, then padding."""
        names = [one.name for one in self._encoder.get_outputs()]
        return dict(zip(names, self._encoder.run(names, {"source": source}), strict=True))

    def logits(self, source: npt.NDArray[np.int64], target: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The logits (B T V) of given targets (B T), <s> first, one step after the other."""
        encoded = self.encode(source)
        given = {name: encoded[name] for name in self._given}
        states = {one.read: encoded[one.start] if one.start else _zeros(len(source), one) for one in self._carried}
        found: list[Any] = []
        for last in target.T:
            logits, *written = self._decoder.run(["logits", *(one.written for one in self._carried)], {"last": last, **given, **states})
            states = {one.read: value for one, value in zip(self._carried, written, strict=True)}
            found.append(logits)
        return np.stack(found, axis=1)


def _zeros(rows: int, one: Carried) -> npt.NDArray[np.float32]:
    return np.zeros((rows, *one.zeros), np.float32)
