"""Checks of this machine: versions, cores and threads, memory, device, extras, the current folder, the encoding of the terminal."""

import locale
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import torch

from vitrail.doctor.checks.programs import installed_programs, judge_programs
from vitrail.doctor.findings import Diagnosis, Finding, diagnose
from vitrail.runtime.cores import SPIN_COUNT, WAITING, control_groups, read_system_lines, read_words, usable_cores
from vitrail.runtime.device import choose_device, choose_dtype, set_threads

LITTLE_MEMORY, NO_MEMORY = 3e9, 1e9
"""Bytes below which there is a warning, a fault. A training of the Transformer `tiny` on Multi30k took 2.9 GB at its peak."""
LITTLE_DISK, NO_DISK = 2e9, 2e8
"""Free bytes below which there is a warning, a fault. The folder of the demo's run (1.6 million parameters) has 61 MB, and every million
parameters more adds 16 MB for each checkpoint that is kept."""
SLOWER = 1.5
"""How many times faster the other number type must be to be recommended: such short timings vary."""
FAIR_SHARE = 0.8
"""Share of the cores below which other processes use them."""
_SHARE_SECONDS = 0.3
_MATRIX = 512
_TIMES = 5
_REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([0-9.]+)(?:; extra == '([\w-]+)')?")
BRINGS = {
    "track": "TensorBoard files while training",
    "hf": "the figures of Hugging Face models for comparison",
    "moses": "scores on Moses-tokenised text, as papers have them",
    "plot": "figures as PNG, SVG and PDF",
    "maps": "t-SNE maps of embeddings and states",
    "onnx": "translators in ONNX, and the program that checks them",
}
"""What each extra is for; an extra without an entry is described by its packages."""


class Environment(NamedTuple):
    """Facts of a machine; -1 where they are unknown."""

    python: tuple[int, ...]
    packages: Mapping[str, str]
    """Versions of what is installed."""
    requirements: Mapping[str, str]
    """The minimum version of each required package; "python" too."""
    extras: Mapping[str, Mapping[str, str]]
    """For each extra, the minimum versions of its packages."""
    cores: int
    """Cores that this process may use, by affinity and by its cgroup's quota, rounded up."""
    threads: int
    """Threads that torch uses for a matrix product."""
    omp_threads: str
    """OMP_NUM_THREADS; empty where it is not set."""
    load: float
    """Average number of runnable processes of the whole machine in the last minute."""
    share: float
    """Share of its cores that this process got with one busy thread per core."""
    waiting: str
    """Environment variables that set how OpenMP threads wait; empty: they busy-wait for a long time before they sleep."""
    memory: float
    """Available bytes: the smaller of the machine's and its cgroup's."""
    device: str
    """cpu, or the name of the GPU."""
    device_memory: float
    chosen: str
    """Number type that `precision = auto` takes: bfloat16 or float32."""
    seconds: Mapping[str, float]
    """Of one matrix product in each number type."""
    folder: str
    writable: bool
    disk: float
    """Free bytes on the disk of the folder."""
    encoding: str
    """Of the standard output."""
    locale_encoding: str
    programs: Mapping[str, bool]
    """For each exit of `vitrail export`, whether its program is installed."""


def examine_machine(folder: Path | None = None) -> Diagnosis:
    """Examine this machine and the folder that runs would be written to. Nothing is written. Cost: a second, plus importing torch."""
    return diagnose("this machine", judge_machine(measure_environment(Path.cwd() if folder is None else folder)))


def measure_environment(folder: Path) -> Environment:
    """Measure what `judge_machine` judges."""
    needed, extras = read_requirements(requires("vitrail") or [])
    wanted = needed | {name: least for part in extras.values() for name, least in part.items()}
    device, cores = choose_device("auto"), usable_cores()
    return Environment(
        python=tuple(sys.version_info[:3]),
        packages={name: found for name in wanted if (found := _version(name))},
        requirements={"python": str(metadata("vitrail")["Requires-Python"]).removeprefix(">="), **needed},
        extras=extras,
        cores=cores,
        threads=set_threads(0),
        omp_threads=os.environ.get("OMP_NUM_THREADS", ""),
        load=_load(),
        share=_share(cores),
        waiting=_waiting(),
        memory=_memory(),
        device="cpu" if device.type == "cpu" else torch.cuda.get_device_name(device),
        device_memory=-1.0 if device.type == "cpu" else float(torch.cuda.mem_get_info(device)[0]),
        chosen=str(choose_dtype("auto", device)).removeprefix("torch."),
        seconds={str(kind).removeprefix("torch."): _time_product(kind, device) for kind in (torch.float32, torch.bfloat16)},
        folder=str(folder),
        writable=os.access(folder, os.W_OK | os.X_OK),
        disk=float(shutil.disk_usage(folder).free) if folder.exists() else -1.0,
        encoding=getattr(sys.stdout, "encoding", None) or "",
        locale_encoding=locale.getpreferredencoding(False),
        programs=installed_programs(),
    )


def read_requirements(lines: list[str]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The minimum versions of the required packages and of each extra but `dev`, from the package's metadata."""
    needed: dict[str, str] = {}
    extras: dict[str, dict[str, str]] = {}
    for match in filter(None, map(_REQUIREMENT.fullmatch, lines)):
        name, least, extra = match.groups()
        if extra is None:
            needed[name] = least
        elif extra != "dev":
            extras.setdefault(extra, {})[name] = least
    return needed, extras


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _load() -> float:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return -1.0


def _share(cores: int) -> float:
    """The share of its cores that this process gets with one busy thread per core, measured for a moment."""
    end = time.perf_counter() + _SHARE_SECONDS
    block = bytes(1 << 18)

    def work() -> None:
        while time.perf_counter() < end:
            sha256(block)  # releases the interpreter's lock

    threads = [Thread(target=work) for _ in range(cores)]
    started, used = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return min(1.0, (time.process_time() - used) / (time.perf_counter() - started) / cores)


def _waiting() -> str:
    return ", ".join(f"{name}={os.environ[name]}" for name in ("OMP_WAIT_POLICY", *WAITING) if name in os.environ)


def _memory() -> float:
    found = [float(line.split()[1]) * 1024 for line in read_system_lines(Path("/proc/meminfo")) if line.startswith("MemAvailable:")]
    for group in control_groups("memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            numbers = [word for name in (limit, used) for word in read_words(group / name)]
            if len(numbers) == 2 and all(word.isdecimal() for word in numbers):
                found.append(float(numbers[0]) - float(numbers[1]))
    return min(found, default=-1.0)


def _time_product(kind: torch.dtype, device: torch.device) -> float:
    """The fastest of a few products of two square matrices of 512 rows, in seconds."""
    matrix = torch.ones(_MATRIX, _MATRIX, dtype=kind, device=device)
    best = float("inf")
    for _ in range(_TIMES):
        started = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return best


def judge_machine(machine: Environment) -> list[Finding]:
    """All checks of a machine, one finding or more for each."""
    return [
        _versions(machine),
        _threads(machine),
        _other_work(machine),
        _free_memory(machine),
        _device(machine),
        _precision(machine),
        *_extras(machine),
        judge_programs(machine.programs),
        _folder(machine),
        _encoding(machine),
    ]


def _versions(machine: Environment) -> Finding:
    installed = {"python": ".".join(map(str, machine.python)), **machine.packages}
    old = [name for name, least in machine.requirements.items() if not _reaches(installed.get(name, ""), least)]
    shown = ", ".join(f"{name} {installed.get(name, 'missing')}" for name in machine.requirements)
    if not old:
        return Finding(check="versions", severity="ok", found=shown)
    return Finding(
        check="versions",
        severity="fault",
        found="; ".join(f"{name} {installed.get(name) or 'is missing'}" for name in old),
        expected=", ".join(f"{name} {machine.requirements[name]} or newer" for name in old),
        remedy="pip install -U vitrail" if old != ["python"] else "a newer Python",
    )


def _reaches(found: str, least: str) -> bool:
    numbers = [[int(part) for part in re.findall(r"\d+", text.split("+")[0])] for text in (found, least)]
    return bool(found) and numbers[0] >= numbers[1]


def _threads(machine: Environment) -> Finding:
    told = f"{machine.cores} core{'s' * (machine.cores != 1)}, {machine.threads} thread{'s' * (machine.threads != 1)}"
    told += f" (OMP_NUM_THREADS={machine.omp_threads})" if machine.omp_threads else ""
    numbers = {"cores": machine.cores, "threads": machine.threads}
    if machine.threads > machine.cores:
        return Finding(
            check="threads",
            severity="warning",
            found=f"{told}: more threads than cores",
            expected="no more threads than cores",
            remedy=f"OMP_NUM_THREADS={machine.cores}, or --set train.threads={machine.cores}",
            numbers=numbers,
        )
    if machine.threads < machine.cores:
        remedy = f"--set train.threads={machine.cores}, unless other processes need them"
        return Finding(check="threads", severity="note", found=f"{told}: unused cores", remedy=remedy, numbers=numbers)
    return Finding(check="threads", severity="ok", found=told, numbers=numbers)


def _other_work(machine: Environment) -> Finding:
    told = f"this process gets {machine.share:.0%} of its {machine.cores} core{'s' * (machine.cores != 1)} when it uses all"
    told += f"; load {machine.load:.1f}" if machine.load >= 0 else ""
    numbers = {"share": machine.share, "load": machine.load}
    if machine.share >= FAIR_SHARE:
        return Finding(check="other work", severity="ok", found=told, numbers=numbers)
    spinning = "" if machine.waiting else "; OpenMP threads busy-wait, which slows training to a crawl"
    spins = "" if machine.waiting else f"GOMP_SPINCOUNT={SPIN_COUNT} before torch is imported, or import vitrail first; "
    fewer = max(1, round(machine.cores * machine.share))
    return Finding(
        check="other work",
        severity="warning",
        found=f"{told}: other processes use the cores, or the container's CPU limit is lower{spinning}",
        expected=f"{FAIR_SHARE:.0%} or more",
        remedy=f"{spins}end the other processes, or --set train.threads={fewer}; speeds measured now are unreliable",
        numbers=numbers,
    )


def _free_memory(machine: Environment) -> Finding:
    if machine.memory < 0:
        return Finding(check="memory", severity="unchecked", found="free memory is unknown on this system")
    told = f"{machine.memory / 1e9:.1f} GB of memory available"
    if machine.memory >= LITTLE_MEMORY:
        return Finding(check="memory", severity="ok", found=told, numbers={"bytes": machine.memory})
    return Finding(
        check="memory",
        severity="fault" if machine.memory < NO_MEMORY else "warning",
        found=told,
        expected=f"{LITTLE_MEMORY / 1e9:.0f} GB or more",
        remedy="end other programs or raise the container's limit; a smaller train.batch_tokens needs less",
        numbers={"bytes": machine.memory},
    )


def _device(machine: Environment) -> Finding:
    if machine.device == "cpu":
        return Finding(check="device", severity="ok", found="the processor; torch sees no GPU")
    return Finding(check="device", severity="ok", found=f"{machine.device}, {machine.device_memory / 1e9:.1f} GB of its memory free")


def _precision(machine: Environment) -> Finding:
    single, half = machine.seconds["float32"], machine.seconds["bfloat16"]
    gain = single / half if half > 0 else 0.0
    told = f"a product in bfloat16 is {gain:.2g} times as fast as in float32; precision = auto takes {machine.chosen}"
    numbers = {"float32_seconds": single, "bfloat16_seconds": half}
    if machine.chosen == "bfloat16" and gain < 1 / SLOWER:
        remedy = "--set train.precision=fp32"
        return Finding(check="precision", severity="warning", found=told, expected="the faster of the two", remedy=remedy, numbers=numbers)
    if machine.chosen == "float32" and gain > SLOWER:
        remedy = "--set train.precision=bf16 may be worth a try"
        return Finding(check="precision", severity="note", found=told, remedy=remedy, numbers=numbers)
    return Finding(check="precision", severity="ok", found=told, numbers=numbers)


def _extras(machine: Environment) -> list[Finding]:
    found: list[Finding] = []
    for extra, wanted in machine.extras.items():
        brings = BRINGS.get(extra, ", ".join(wanted))
        lacking = [name for name in wanted if name not in machine.packages]
        old = [name for name in wanted if name in machine.packages and not _reaches(machine.packages[name], wanted[name])]
        name = f"extra {extra}"
        if old:
            told = ", ".join(f"{package} {machine.packages[package]}" for package in old)
            least = ", ".join(f"{package} {wanted[package]} or newer" for package in old)
            found.append(Finding(check=name, severity="warning", found=told, expected=least, remedy=f"pip install -U 'vitrail[{extra}]'"))
        elif lacking:
            found.append(Finding(check=name, severity="ok", found=f"not installed; pip install 'vitrail[{extra}]' brings {brings}"))
        else:
            found.append(Finding(check=name, severity="ok", found=f"installed: {brings}"))
    return found


def _folder(machine: Environment) -> Finding:
    told = f"{machine.folder}: {machine.disk / 1e9:.1f} GB free" if machine.disk >= 0 else f"{machine.folder}: does not exist"
    if not machine.writable or machine.disk < 0:
        expected, remedy = "a folder that can be written", "another folder: -o FOLDER, or write permission"
        return Finding(check="folder", severity="fault", found=f"{told}, not writable", expected=expected, remedy=remedy)
    if machine.disk >= LITTLE_DISK:
        return Finding(check="folder", severity="ok", found=f"{told}, writable", numbers={"free_bytes": machine.disk})
    return Finding(
        check="folder",
        severity="fault" if machine.disk < NO_DISK else "warning",
        found=told,
        expected=f"{LITTLE_DISK / 1e9:.0f} GB or more",
        remedy="free disk space, or write to another disk: -o FOLDER; train.keep_last and train.keep_best limit the checkpoints kept",
        numbers={"free_bytes": machine.disk},
    )


def _encoding(machine: Environment) -> Finding:
    told = f"standard output in {machine.encoding or 'an unknown encoding'}, locale in {machine.locale_encoding}"
    if _is_utf8(machine.encoding) and _is_utf8(machine.locale_encoding):
        return Finding(check="encoding", severity="ok", found=told)
    return Finding(
        check="encoding",
        severity="warning",
        found=told,
        expected="UTF-8: Vitrail always reads and writes it, and other programs may garble it in this locale",
        remedy="LC_ALL=C.UTF-8 or PYTHONUTF8=1; on Windows, chcp 65001",
    )


def _is_utf8(name: str) -> bool:
    return name.lower().replace("-", "").replace("_", "") == "utf8"
