"""The other programs that `vitrail export` writes for, and whether they are installed."""

import os
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from vitrail.doctor.findings import Finding

BERGAMOT = "@browsermt/bergamot-translator"
BERGAMOT_FOLDER = "VITRAIL_BERGAMOT"
"""Environment: the folder of that package, or one with its node_modules, where these are not in this folder or one above."""


class Exit(NamedTuple):
    """One exit: what it carries, and the program that checks it."""

    carries: str
    program: str
    """The name of its module, or of its package for node."""
    install: str
    kinds: tuple[str, ...] = ("transformer",)
    """Of models (`kind` of their configuration)."""


_HUGGINGFACE, _ONNX = ("transformer", "masked-language", "causal-language"), ("transformer", "recurrent")
EXITS: dict[str, Exit] = {
    "huggingface": Exit("Transformers that translate, language models", "transformers", "pip install 'vitrail[hf]'", _HUGGINGFACE),
    "ctranslate2": Exit("Transformers that translate", "ctranslate2", "pip install ctranslate2"),
    "marian": Exit("Transformers that begin from zeros, by Marian's .npz", "ctranslate2", "pip install ctranslate2"),
    "onnx": Exit("Transformers and recurrent networks that translate", "onnxruntime", "pip install 'vitrail[onnx]'", _ONNX),
    "bergamot": Exit("students (--preset student) for Firefox's engine", BERGAMOT, f"npm install {BERGAMOT}"),
    "sentence-transformers": Exit("encoders of Transformers that translate", "sentence_transformers", "pip install sentence-transformers"),
    "argos": Exit("Transformers with BPE or unigram pieces", "argostranslate", "benchmarks/environments.sh, then --python"),
}
"""By the name that `--to` has for it."""


def installed_programs() -> dict[str, bool]:
    """Whether the program of each exit is installed; nothing is imported."""
    return {
        name: find_bergamot() is not None if one.program == BERGAMOT else find_spec(one.program) is not None for name, one in EXITS.items()
    }


def find_bergamot() -> Path | None:
    """The folder of bergamot-translator's package for node; None without it or without node."""
    if shutil.which("node") is None:
        return None
    given, here = os.environ.get(BERGAMOT_FOLDER), Path.cwd()
    above = [here, *here.parents] if not given else [Path(given)]
    places = [*([Path(given)] if given else []), *(folder / "node_modules" / BERGAMOT for folder in above)]
    return next((place for place in places if (place / "worker" / "bergamot-translator-worker.wasm").is_file()), None)


def judge_programs(installed: Mapping[str, bool]) -> Finding:
    """One line: the exits that can be checked here, and how to install what checks the others."""
    there = ", ".join(name for name, present in installed.items() if present) or "none"
    others = [f"{name}: {EXITS[name].install}" for name, present in installed.items() if not present]
    told = f"checked here: {there}" + (f"; not installed: {', '.join(others)}" if others else "")
    return Finding(check="exits", severity="ok", found=told)
