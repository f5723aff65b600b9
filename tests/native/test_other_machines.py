"""Compiled code for a machine that is not here: LLVM makes object files for ARM of the same functions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENTRIES = [
    ("transformer.run", "run"),
    ("transformer.pooling", "pool"),
    ("recurrent.run", "run"),
    ("recurrent.pooling", "pool"),
]
ELF, MACHINE_AARCH64 = b"\x7fELF", 183
MATHEMATICS = {"expf", "exp", "logf", "log", "sqrtf", "sqrt", "powf", "pow", "memcpy", "memset", "memmove"}


def compile_for_arm(module: str, name: str) -> tuple[bytes, list[str]]:
    """The object file of a compiled entry for 64-bit ARM, and the functions that it calls and does not have.

    Numba knows this machine alone. What it makes for a processor without any extension has no instruction of x86 in it, and LLVM
    compiles it again for the other machine.
    """
    from importlib import import_module

    import llvmlite.binding as llvm

    from vitrail.native import entry
    from vitrail.native.compiled import signature_of

    libraries = list[object]()
    entry._called = lambda library: libraries.append(library) or ()  # type: ignore[assignment]
    function = getattr(import_module(f"vitrail.native.{module}"), name)
    entry.machine_code_of(function, signature_of(function.py_func))
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple = "aarch64-unknown-linux-gnu"
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu="generic", opt=3, reloc="pic")
    made = llvm.parse_bitcode(libraries[-1]._final_module.as_bitcode())  # type: ignore[attr-defined]  as text, its longest labels are misread
    made.triple, made.data_layout = triple, str(machine.target_data)
    made.verify()
    assert not any(b'"target-' in bytes(attribute) for one in made.functions for attribute in one.attributes)
    return machine.emit_object(made), sorted(one.name for one in made.functions if one.is_declaration)


def told(module: str, name: str) -> None:
    code, missing = compile_for_arm(module, name)
    assert code[:4] == ELF and int.from_bytes(code[18:20], "little") == MACHINE_AARCH64 and len(code) > 10_000
    print(*missing)  # noqa: T201


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name"), ENTRIES)
def test_every_program_compiles_for_arm(module: str, name: str, tmp_path: Path) -> None:
    pretence = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "", "VITRAIL_CACHE": str(tmp_path)}
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_other_machines; test_other_machines.told(*sys.argv[2:])"
    call = [sys.executable, "-c", code, str(Path(__file__).parent), module, name]
    found = subprocess.run(call, env=os.environ | pretence, check=True, capture_output=True, text=True)
    needed = {one for one in found.stdout.split() if not one.startswith("llvm.")}
    assert needed <= MATHEMATICS
    assert not [one for one in found.stdout.split() if one.startswith("llvm.x86")]
