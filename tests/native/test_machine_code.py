"""Machine code that is kept and called without Numba."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pytest

from vitrail.native.arrays import Doubles, Floats
from vitrail.native.compiled import signature_of
from vitrail.native.machine_code import Entry, MachineCode

numba: Any = pytest.importorskip("numba")


class Numbers(NamedTuple):
    """Some numbers."""

    few: Floats
    factor: float


class Asked(NamedTuple):
    """An argument with all that an argument may have."""

    numbers: Numbers
    sizes: tuple[int, int]
    out: Doubles
    last: int


def weigh(asked: Asked) -> int:
    total = 0.0
    for value in asked.numbers.few:
        total += value * asked.numbers.factor
    asked.out[0] = total + np.log(asked.numbers.factor)
    return asked.sizes[0] * 100 + asked.sizes[1] * 10 + asked.last + len(asked.out)


@pytest.fixture(scope="module")
def made() -> MachineCode:
    from vitrail.native.entry import machine_code_of

    return machine_code_of(numba.njit(inline="always", _nrt=False, error_model="numpy")(weigh), signature_of(weigh))


NUMBERS = Numbers(np.array([1, 2.5, 3], np.float32), 2.0)
OUT = 13 + np.log(2.0)


def test_it_is_called_with_numbers_and_arrays(made: MachineCode) -> None:
    entry, out = Entry(made), np.zeros(4)
    assert entry(Asked(NUMBERS, (7, 8), out, 9)) == 793 and out[0] == pytest.approx(OUT)
    words = entry.words(0, NUMBERS)
    assert entry((words, (-7, 8), out, 0)) == -616 and entry((words, (0, 0), out, -(2**62))) == 4 - 2**62
    assert entry((Numbers(np.zeros(0, np.float32), 1.0), (0, 0), out, 0)) == 4 and out[0] == 0


def test_arguments_of_another_type_are_refused(made: MachineCode) -> None:
    entry, out = Entry(made), np.zeros(4)
    for wrong in ((NUMBERS, (7, 8.5), out, 9), (NUMBERS, (7, 8), out, 9.5), (NUMBERS, (7, 8), 1, 9)):
        with pytest.raises((TypeError, AttributeError)):
            entry(wrong)
    for few in ((NUMBERS, (7, 8, 9), out, 9), (NUMBERS, (7, 8), out), (NUMBERS,)):
        with pytest.raises(ValueError, match=r"shorter|longer"):
            entry(few)
    with pytest.raises(AssertionError, match="<f4 in place of <f8"):
        entry((NUMBERS, (7, 8), np.zeros(4, np.float32), 9))


def test_a_file_keeps_it_and_damage_is_seen(made: MachineCode, tmp_path: Path) -> None:
    path = tmp_path / "weigh.code"
    assert MachineCode.kept(path) is None
    made.keep(path)
    assert MachineCode.kept(path) == made
    data = path.read_bytes()
    at = data.index(b'"code"') + 100
    for damaged in (b"", data[:-100], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], b"{}", b"[]", b"\xff"):
        path.write_bytes(damaged)
        assert MachineCode.kept(path) is None
    made.keep(tmp_path / "weigh.code" / "below")  # cannot be written, and need not


_CODE = """
import sys
from pathlib import Path
import numpy as np
from vitrail.native.machine_code import Entry, MachineCode
made = MachineCode.kept(Path(sys.argv[1]))
if len(sys.argv) > 2:
    made = made._replace(needs=("of_no_library",))
out = np.zeros(4)
print(Entry(made)(((np.ones(3, np.float32), 2.0), (1, 2), out, 3)), round(out[0], 6), "numba" in sys.modules, "torch" in sys.modules)
"""


@pytest.mark.parametrize("needs", [False, True])
def test_another_process_needs_no_numba_but_for_its_libraries(made: MachineCode, tmp_path: Path, needs: bool) -> None:
    made.keep(tmp_path / "weigh.code")
    command = [sys.executable, "-c", _CODE, str(tmp_path / "weigh.code"), *(["needs"] if needs else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["127", str(round(cast(float, 6 + np.log(2.0)), 6)), str(needs), "False"]
