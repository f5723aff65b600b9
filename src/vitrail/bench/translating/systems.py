"""The systems that translate side by side: where each is installed, what can be chosen for it, and its process."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ctypes.util import find_library
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, get_args

from vitrail.bench.translating import workers
from vitrail.bench.translating.carried import carry, obstacle
from vitrail.errors import UsageError, VitrailError
from vitrail.models.model_folder import LoadedModel
from vitrail.native.compiled import has_numba
from vitrail.native.matrices.packing import Precision
from vitrail.runtime.cores import KERNELS, WAITING

Settings = Mapping[str, Any]
Axis = Sequence[Settings]
"""Settings of which one is the best."""
REFERENCE = "torch fp32"
PEERS = ("ctranslate2", "huggingface", "opennmt", "joeynmt")
"""Names of their environments: see benchmarks/environments.sh."""
FIXED_LENGTHS = ("torch", "native", "ctranslate2")
"""Systems whose workers take a number of tokens for every translation."""
_MODULES = {"ctranslate2": "ctranslate2"}
"""Peers that are measured where they are installed beside Vitrail, too."""
_KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_TOP_PAD_": str(64 << 20)}
"""glibc keeps freed memory."""


@dataclass(frozen=True)
class System:
    """One row of a comparison."""

    name: str
    worker: str
    """Module of `workers`."""
    python: str
    folder: Path
    settings: Settings
    """To begin with."""
    choices: tuple[Axis, ...] = ()
    """Settings to choose among for many sentences, one axis after the other."""
    alone: tuple[Axis, ...] = ()
    """The same for one sentence at a time."""
    environments: tuple[Axis, ...] = ()
    """Variables of the environment to choose among."""


class Timed(NamedTuple):
    """Translations and what they took: one figure for all texts together, or one for each."""

    translations: list[str]
    seconds: list[float]
    """By the clock."""
    cpu_seconds: list[float]
    """Processor time of all threads."""


@dataclass
class Running:
    """A system's process."""

    system: System
    environment: Mapping[str, str]
    process: "subprocess.Popen[str]"
    errors: Any
    versions: dict[str, str] = field(default_factory=dict[str, str])

    def translate(self, texts: Sequence[str], *, beams: int, settings: Settings, alone: bool = False) -> Timed:
        """Translate, timed in its process. Raises VitrailError with what its process says."""
        wanted = {**self.system.settings, **settings}
        found = self.ask({"texts": list(texts), "beams": beams, "settings": wanted, "alone": alone})
        return Timed(found["translations"], found["seconds"], found["cpu_seconds"])

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One line in, one line out."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            found: dict[str, Any] = json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            self.errors.seek(0)
            last = self.errors.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise VitrailError(f"measuring {self.system.name}: its process has ended: {last or 'no message'}") from None
        if "error" in found:
            raise VitrailError(f"measuring {self.system.name}: {found['error']}")
        return found


@contextmanager
def running(system: System, environment: Mapping[str, str]) -> Generator[Running, None, None]:
    """A system's process with some variables of the environment. It is ended on exit."""
    script = Path(str(workers.__file__)).with_name("serve.py")
    # What Vitrail has set for its own threads is not for others; where it is the worker, it sets it again.
    inherited = {name: value for name, value in os.environ.items() if name not in (*WAITING, *KERNELS, "PYTHONPATH")}
    said = {**inherited, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONUTF8": "1", **environment}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [system.python, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=said,
            text=True,
            encoding="utf-8",
        ) as process,
    ):
        try:
            one = Running(system, environment, process, errors)
            one.versions = one.ask({"peer": system.worker, "folder": str(system.folder)})["versions"]
            yield one
        finally:
            process.kill()
            assert process.stdin is not None
            with suppress(OSError):  # what was not yet written to one that has ended
                process.stdin.close()


def list_systems(
    model: Path, loaded: LoadedModel, carried: Path, *, peers: Path | None, only: Sequence[str], threads: int
) -> tuple[list[System], list[str]]:
    """The systems of a model, ours first, and why others are not among them.

    Args:
        carried: an empty folder for the model as peers read it.
        peers: the folder of their environments; None: those alone that are installed beside Vitrail.
        only: beginnings of the names of those wanted; () for all. Our torch, to which others are compared, is always there.
    Raises UsageError for a wanted system that is not known.
    """
    found, missing = _ours(model, threads=threads), list[str]()
    known = [one.name.split()[0] for one in found] + list(PEERS)
    if unknown := [name for name in only if name.split()[0] not in known]:
        raise UsageError(f"system {unknown[0]!r}", expected=", ".join(dict.fromkeys(known)))
    if not has_numba():
        found = [one for one in found if one.name == REFERENCE]
        missing.append("native: numba is not installed: pip install 'vitrail[fast]'")

    def wanted(name: str) -> bool:
        return not only or any(name.startswith(one) or one.startswith(name) for one in only)

    lacks, places = obstacle(loaded), dict[str, str]()
    for name in filter(wanted, PEERS):
        place, reason = _python_of(name, peers)
        if place and not lacks:
            places[name] = place
        elif place or peers is not None or name in _MODULES:
            missing.append(f"{name}: {lacks or reason}")
    if places:
        carry(loaded, carried)
    found += [one for name, place in places.items() for one in _MAKERS[name](place, carried, threads)]
    return [one for one in found if one.name == REFERENCE or wanted(one.name)], missing


def _python_of(name: str, peers: Path | None) -> tuple[str, str]:
    """The Python of a peer's environment, or why there is none."""
    if peers is None:
        here = name in _MODULES and find_spec(_MODULES[name]) is not None
        return (sys.executable if here else ""), f"not installed: pip install {name}, or --peers FOLDER"
    said, python = peers / name / "missing.txt", peers / name / "bin" / "python"
    if said.is_file():
        return "", " ".join(said.read_text(encoding="utf-8").split()) or "could not be installed"
    return (str(python.absolute()), "") if python.exists() else ("", f"not in {peers}: benchmarks/environments.sh builds it")


def _ours(model: Path, *, threads: int) -> list[System]:
    found: list[System] = []
    kinds = [(REFERENCE, "torch", "fp32"), *((f"native {precision}", "native", precision) for precision in get_args(Precision))]
    for name, engine, precision in kinds:
        settings = {"engine": engine, "precision": precision, "threads": threads}
        found.append(System(name, "vitrail_peer", sys.executable, model.absolute(), settings, alone=(_threads(threads),)))
    return found


def _threads(most: int) -> Axis:
    return [{"threads": number} for number in dict.fromkeys((most, 1))]


def _memory() -> Axis:
    """Ways to allocate memory, with other allocators where the machine has them."""
    others = [found for name in ("tcmalloc_minimal", "tcmalloc", "jemalloc", "mimalloc") if (found := find_library(name))]
    return [{}, {"MALLOC_ARENA_MAX": "1"}, _KEPT, *({"LD_PRELOAD": one} for one in others)]


def _ctranslate2(python: str, carried: Path, threads: int) -> list[System]:
    workers: Axis = [{"inter": inter, "intra": threads // inter} for inter in dict.fromkeys((threads, 1)) if threads % inter == 0]
    batches: Axis = [
        *({"batch_type": "examples", "batch": size} for size in (32, 16, 64, 128)),
        *({"batch_type": "tokens", "batch": size} for size in (512, 1024, 2048)),
    ]
    libraries: Axis = [{}, {"CT2_USE_MKL": "1"}, {"CT2_USE_MKL": "1", "CT2_USE_EXPERIMENTAL_PACKED_GEMM": "1"}, {"CT2_USE_MKL": "0"}]
    alone: Axis = [{"inter": 1, "intra": number} for number in dict.fromkeys((1, threads))]
    begin = {"inter": threads, "intra": 1, "batch": 32, "batch_type": "examples"}
    return [
        System(
            f"ctranslate2 {name}",
            "ctranslate2_peer",
            python,
            carried,
            {**begin, "compute": compute},
            choices=(workers, batches),
            alone=(alone,),
            environments=(libraries, _memory()),
        )
        for name, compute in (("int8", "int8"), ("fp32", "float32"))
    ]


def _huggingface(python: str, carried: Path, threads: int) -> list[System]:
    attention: Axis = [{"attention": "sdpa"}, {"attention": "eager"}]
    batches: Axis = [{"batch": size} for size in (64, 32, 128, 256)]
    begin = {"threads": threads, "batch": 64, "attention": "sdpa"}
    memory: Axis = [{}, _KEPT]
    choices, alone = (attention, _threads(threads), batches), (_threads(threads), attention)
    return [System("huggingface", "huggingface_peer", python, carried, begin, choices=choices, alone=alone, environments=(memory,))]


def _plain(name: str, python: str, carried: Path, threads: int) -> list[System]:
    """A toolkit on torch without settings of its own."""
    begin, batches = {"threads": threads, "batch": 64}, [{"batch": size} for size in (64, 32, 128)]
    memory: Axis = [{}, _KEPT]
    axes = (_threads(threads), batches)
    return [System(name, f"{name}_peer", python, carried, begin, choices=axes, alone=axes[:1], environments=(memory,))]


_MAKERS: dict[str, Callable[[str, Path, int], list[System]]] = {
    "ctranslate2": _ctranslate2,
    "huggingface": _huggingface,
    "opennmt": partial(_plain, "opennmt"),
    "joeynmt": partial(_plain, "joeynmt"),
}
