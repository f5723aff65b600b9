"""Products with matrices against numpy: every size of a block, every number of rows, on this processor and on pretended ones."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from vitrail.native.arrays import Floats, allocate
from vitrail.native.compiled import compiled
from vitrail.native.matrices.packing import Linear, Matrices, Pool, Precision, Quantised, make_quantised, matrix_bytes, to_halves
from vitrail.native.matrices.products import multiply
from vitrail.native.references import refer

PRECISIONS: tuple[Precision, ...] = ("int8", "bf16", "fp32")


@compiled
def _multiply(matrices: Matrices, linear: Linear, layer: int, x: Floats, rows: int, room: Quantised, out: Floats) -> None:
    multiply(refer(matrices), linear, layer, x, rows, refer(room), out)


def _rounded(values: np.ndarray, precision: Precision) -> np.ndarray:
    """What the numbers of rows are in a precision, in float64."""
    if precision == "bf16":
        return (to_halves(values).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if precision == "int8":
        scale = np.abs(values).max(-1, keepdims=True) / 127
        return np.rint(values / scale).astype(np.float64) * scale
    return values.astype(np.float64)


def products_are_those_of_numpy() -> None:
    """For 2, 6 and 20 tiles; each row is the same to the last bit whatever the number of rows."""
    draw = np.random.default_rng(1)
    for precision in PRECISIONS:
        for inputs, outputs, adds in ((32, 32, False), (64, 96, True), (160, 320, False)):
            weights, biases = draw.normal(size=(2, outputs, inputs)).astype(np.float32), draw.normal(size=(2, outputs)).astype(np.float32)
            pool = Pool(precision)
            pool.add([(weights[0], biases[0])])
            linear = pool.add(list(zip(weights, biases, strict=True)), adds=adds)
            x = draw.normal(size=(99, inputs)).astype(np.float32)
            expected = _rounded(x, precision) @ _rounded(weights[1], precision).T + biases[1] + (1 if adds else 0)
            whole = np.ones((99, outputs), np.float32)
            for rows in (99, *range(1, 18)):
                out = np.ones((rows + 1, outputs), np.float32)
                room = make_quantised(rows, inputs, allocate)
                _multiply(pool.matrices(), linear, 1, x.reshape(-1), rows, room, out.reshape(-1))
                whole = out if rows == 99 else whole
                np.testing.assert_allclose(out[:rows], expected[:rows], rtol=2e-3, atol=2e-4, err_msg=f"{precision} {rows} x {outputs}")
                assert (out[:rows] == whole[:rows]).all() and (out[rows] == 1).all()


def test_products_are_those_of_numpy() -> None:
    products_are_those_of_numpy()


def test_a_matrix_has_its_bytes() -> None:
    for precision, each in zip(PRECISIONS, (1, 2, 4), strict=True):
        pool = Pool(precision)
        pool.add([(np.ones((32, 64), np.float32), np.ones(32, np.float32))])
        assert matrix_bytes(pool.matrices()) == 32 * 64 * each


PRETENDED = {
    "AVX-512 without VNNI and BF16": "+avx2,+fma,+avx512f,+avx512bw",
    "AVX2": "+avx2,+fma",
    "SSE2": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("features", PRETENDED.values(), ids=PRETENDED)
def test_products_are_those_of_numpy_on_other_processors(features: str, tmp_path: Path) -> None:
    from vitrail.native.compiled import processor_features

    if missing := {name[1:] for name in features.split(",") if name} - processor_features():
        pytest.skip(f"this processor lacks {', '.join(sorted(missing))}")
    pretence = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features, "VITRAIL_CACHE": str(tmp_path)}
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_products; test_products.products_are_those_of_numpy()"
    subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], env=os.environ | pretence, check=True)
