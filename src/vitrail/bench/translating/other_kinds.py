"""What engines make of a model that need not translate: vectors, labels and continuations, in turn: `vitrail bench engines`."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitrail.decode.encoding.engine import Precision
from vitrail.decode.generate import Generator
from vitrail.decode.search_config import SamplingConfig, SearchConfig
from vitrail.decode.sentences.classify import Classifier
from vitrail.decode.sentences.embedding import Embedder
from vitrail.errors import UsageError
from vitrail.models.architectures import task_of
from vitrail.models.stored import read_model_config
from vitrail.runtime.device import set_threads
from vitrail.runtime.machine import Machine, describe_machine

Compute = Callable[[Sequence[str]], Any]
REFERENCE = "torch"
_PROMPT_WORDS, _TOKENS = 3, 40
"""Words of a line that a continuation begins with, and tokens that it has at most."""
_SYSTEMS: dict[str, tuple[str, Precision]] = {
    REFERENCE: ("torch", "fp32"),
    "native fp32": ("native", "fp32"),
    "native int8": ("native", "int8"),
}
_LEGEND = """texts/s: and second of processor time; x: the ratio to torch, the median of the rounds
agreement with torch: of vectors the mean cosine, the least, and the share with the same nearest text; else equal labels or texts"""


class Task(NamedTuple):
    """What is computed for each text."""

    name: str
    load: Callable[[str, Precision], Compute]
    """Args: engine and precision."""
    agree: Callable[[Any, Any], tuple[float, ...]]
    """How near two results are."""


@dataclass(frozen=True)
class EngineRow:
    """One system with one task."""

    task: str
    system: str
    cpu_seconds: tuple[float, ...]
    """Processor time of all threads for all texts, in each round."""
    agreement: tuple[float, ...]
    """With torch; see `_LEGEND`."""


@dataclass(frozen=True)
class EngineBench:
    """All rows, the machine, and what was not measured."""

    machine: Machine
    model: str
    texts: int
    threads: int
    missing: tuple[str, ...]
    rows: tuple[EngineRow, ...]

    def ratio(self, row: EngineRow) -> float:
        """How many times as fast as torch: the median of the rounds."""
        (torch,) = (one for one in self.rows if one.task == row.task and one.system == REFERENCE)
        return statistics.median(b / a for a, b in zip(row.cpu_seconds, torch.cpu_seconds, strict=True))

    def to_json(self) -> str:
        """The fields by name, as JSON, with ratios."""
        return json.dumps({**asdict(self), "rows": [{**asdict(row), "times_torch": self.ratio(row)} for row in self.rows]}, indent=2)

    def to_text(self) -> str:
        """A table for people."""
        lines = [self.machine.to_text(), f"{self.model}: {self.texts:,} texts, {self.threads} threads"]
        lines += [f"not measured: {one}" for one in self.missing]
        lines += ["", f"{'':<16}{'':<14} {'texts/s':>10} {'x':>7}   agreement"]
        for row in self.rows:
            speed = self.texts / statistics.median(row.cpu_seconds)
            shown = " ".join(f"{one:.6f}" if row.task == "vectors" else f"{one:.1%}" for one in row.agreement)
            lines.append(f"{row.task:<16}{row.system:<14} {speed:>10,.0f} {self.ratio(row):>7.2f}   {shown}")
        return "\n".join([*lines, "", _LEGEND]) + "\n"


def compare_kinds(model: Path, *, texts: Sequence[str], threads: int, repeats: int, say: Callable[[str], None]) -> EngineBench:
    """Compute what a model is for with each system in turn, once before the rounds that count. Raises UsageError without texts."""
    if not texts:
        raise UsageError("no texts", expected="at least one")
    threads = set_threads(threads)
    rows: list[EngineRow] = []
    missing: list[str] = []
    for task in _tasks(model):
        say(f"{task.name}: once without counting, then {repeats} rounds")
        systems: dict[str, Compute] = {}
        for name, (engine, precision) in _SYSTEMS.items():
            try:
                systems[name] = task.load(engine, precision)
            except UsageError as error:
                missing.append(f"{task.name} by {name}: {error.found}")
        found = {name: compute(texts) for name, compute in systems.items()}
        times: dict[str, list[float]] = {name: [] for name in systems}
        for _ in range(repeats):
            for name, compute in systems.items():
                began = time.process_time()
                compute(texts)
                times[name].append(time.process_time() - began)
        for name in systems:
            rows.append(EngineRow(task.name, name, tuple(times[name]), task.agree(found[name], found[REFERENCE])))
    return EngineBench(describe_machine(), model.name, len(texts), threads, tuple(missing), tuple(rows))


def _tasks(model: Path) -> list[Task]:
    """What a model is used for."""

    def vectors(engine: str, precision: Precision) -> Compute:
        return Embedder.load(model, engine=engine, precision=precision).embed

    def labels(engine: str, precision: Precision) -> Compute:
        classifier = Classifier.load(model, engine=engine, precision=precision)
        return lambda texts: [one.label for one in classifier.classify(list(texts))]

    def continuations(search: SearchConfig) -> Callable[[str, Precision], Compute]:
        def load(engine: str, precision: Precision) -> Compute:
            generator = Generator.load(model, engine=engine, precision=precision)

            def write(texts: Sequence[str]) -> list[str]:
                prompts = [" ".join(text.split()[:_PROMPT_WORDS]) for text in texts]
                return [many[0].text for many in generator.generate(prompts, search=search)]

            return write

        return load

    match task_of(read_model_config(model)):
        case "language":
            searches = {"greedy": SearchConfig(beams=1, max_extra=_TOKENS), "5 beams": SearchConfig(beams=5, max_extra=_TOKENS)}
            searches["drawn"] = SearchConfig(beams=1, max_extra=_TOKENS, sampling=SamplingConfig(top_p=0.95))
            return [Task(name, continuations(search), _equal) for name, search in searches.items()]
        case "classification":
            return [Task("vectors", vectors, _cosines), Task("labels", labels, _equal)]
        case _:
            return [Task("vectors", vectors, _cosines)]


def _cosines(found: Any, expected: Any) -> tuple[float, ...]:
    products = (found * expected).sum(1, dtype=np.float64)
    cosines = products / (np.linalg.norm(found, axis=1).astype(np.float64) * np.linalg.norm(expected, axis=1))
    return float(cosines.mean()), float(cosines.min()), float((_nearest(found) == _nearest(expected)).mean())


def _nearest(vectors: Any) -> Any:
    """Which other text is nearest to each by cosine."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    return cosines.argmax(1)


def _equal(found: Any, expected: Any) -> tuple[float, ...]:
    return (sum(one == other for one, other in zip(found, expected, strict=True)) / len(expected),)
