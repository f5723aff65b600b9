"""The machine: what a measurement says of it, and whether it has a GPU. Imports torch only to ask about a GPU that may be there."""

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from vitrail.runtime.cores import usable_cores

Device = Literal["auto", "cpu", "cuda"]
_PACKAGES = ("vitrail", "torch", "transformers")
_GPU_FILES = ("nvidia*", "nvhost*", "nvgpu*", "nvmap", "kfd", "dxg")
"""What Linux has below /dev for the GPUs that torch computes on: those of NVIDIA, its boards, AMD, and Windows where Linux runs in it."""


@dataclass(frozen=True)
class Machine:
    """The processor and the software that figures depend on."""

    processor: str
    cores: int
    """The cores that this process may use."""
    system: str
    python: str
    packages: dict[str, str]
    """Installed versions of vitrail, torch and transformers."""
    load: float
    """Processes that wanted to run in the last minute, before the measurement; well under `cores` on a quiet machine. -1: unknown."""

    def to_text(self) -> str:
        """One line; a second one warns if the machine was busy."""
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        text = f"{self.processor}, {self.cores} cores, {self.system}, Python {self.python}, {packages}"
        if self.load > self.cores / 2:
            text += f"\nnote: the machine was busy (load {self.load:.1f} before the start): these figures are lower than on a quiet one"
        return text


def describe_machine() -> Machine:
    """Describe this machine."""
    packages = {name: number for name in _PACKAGES if (number := _version(name))}
    return Machine(_processor(), usable_cores(), f"{platform.system()} {platform.machine()}", platform.python_version(), packages, _load())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _load() -> float:
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return -1.0


def _processor() -> str:
    """The processor's name, on Linux from /proc."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether torch sees a GPU. Where the system has none, it is not asked. Args: devices: the folder of the system's devices."""
    if sys.platform == "darwin" or (sys.platform == "linux" and not any(any(devices.glob(name)) for name in _GPU_FILES)):
        return False
    import torch

    return torch.cuda.is_available()
