"""The other programs that `vitrail export` writes for, and whether they are installed."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import NamedTuple

from vitrail.doctor.findings import Finding


class Exit(NamedTuple):
    """One exit: what it carries, and the program that checks it."""

    carries: str
    program: str
    """The name of its module."""
    install: str


EXITS: dict[str, Exit] = {
    "huggingface": Exit("Transformers that translate, language models", "transformers", "pip install 'vitrail[hf]'"),
    "ctranslate2": Exit("Transformers that translate", "ctranslate2", "pip install ctranslate2"),
    "marian": Exit("Transformers that came from Marian, by its .npz", "ctranslate2", "pip install ctranslate2"),
    "onnx": Exit("Transformers and recurrent networks that translate", "onnxruntime", "pip install 'vitrail[onnx]'"),
    "sentence-transformers": Exit("encoders of Transformers that translate", "sentence_transformers", "pip install sentence-transformers"),
    "argos": Exit("Transformers with BPE or unigram pieces", "argostranslate", "benchmarks/environments.sh, then --python"),
}
"""By the name that `--to` has for it."""


def installed_programs() -> dict[str, bool]:
    """Whether the program of each exit is installed; nothing is imported."""
    return {name: find_spec(one.program) is not None for name, one in EXITS.items()}


def judge_programs(installed: Mapping[str, bool]) -> Finding:
    """One line: the exits that can be checked here, and how to install what checks the others."""
    there = ", ".join(name for name, present in installed.items() if present) or "none"
    others = [f"{name}: {EXITS[name].install}" for name, present in installed.items() if not present]
    told = f"checked here: {there}" + (f"; not installed: {', '.join(others)}" if others else "")
    return Finding(check="exits", severity="ok", found=told)
