"""Training speed of a causal language model against a plain eager loop of the same model: `vitrail bench language`."""

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

from vitrail.bench.language_worker import LanguageMaker, LanguageSpeed, LanguageSpeedTask
from vitrail.models.architectures import preset
from vitrail.models.configs.causal import CausalConfig
from vitrail.runtime.device import Precision
from vitrail.runtime.machine import Machine, describe_machine
from vitrail.runtime.measure_in_subprocess import measure_in_subprocess

VOCABULARY = 68
"""The characters of tinyshakespeare and the special tokens."""


@dataclass(frozen=True)
class LanguageRow:
    """One system: its settings, and tokens per second in each round."""

    name: str
    precision: str
    memory: str
    parameters: int
    tokens_per_second: tuple[float, ...]

    @property
    def median(self) -> float:
        """Tokens per second."""
        return statistics.median(self.tokens_per_second)


@dataclass(frozen=True)
class LanguageSpeedReport:
    """All systems, ours first; of the plain loop as it comes, and with its best settings."""

    machine: Machine
    conditions: str
    rows: tuple[LanguageRow, ...]

    @property
    def ratio(self) -> float:
        """Ours against the plain loop as it comes: fp32, memory as by default. Median of the ratios of each round."""
        return self._against(next(row for row in self.rows[1:] if row.precision == "fp32" and row.memory == "as it comes"))

    @property
    def ratio_to_best(self) -> float:
        """Ours against the fastest settings of the plain loop."""
        return self._against(max(self.rows[1:], key=lambda row: row.median))

    def _against(self, other: LanguageRow) -> float:
        return statistics.median(a / b for a, b in zip(self.rows[0].tokens_per_second, other.tokens_per_second, strict=True))

    def to_json(self) -> str:
        """The fields by name, as JSON."""
        return json.dumps({**asdict(self), "ratio": self.ratio, "ratio_to_best": self.ratio_to_best}, indent=2)

    def to_text(self) -> str:
        """A table for people."""
        lines = [self.machine.to_text(), self.conditions, "", f"{'':<12}  {'':<5}  {'memory':<12}  tokens/s"]
        lines += [f"{row.name:<12}  {row.precision:<5}  {row.memory:<12}  {row.median:8,.0f}" for row in self.rows]
        return (
            "\n".join(
                [*lines, "", f"Vitrail is {self.ratio:.2f} x the plain loop as it comes, {self.ratio_to_best:.2f} x its best settings"]
            )
            + "\n"
        )


class _System(NamedTuple):
    maker: LanguageMaker
    precision: Precision
    keep_memory: bool


def measure_language_speed(
    *, rows: int = 12, context: int = 64, steps: int = 100, repeats: int = 3, threads: int = 2, say: Callable[[str], None]
) -> LanguageSpeedReport:
    """Measure ours and the plain loop in turn, each in a process of its own.

    Args:   rows, context: of a batch. The model is gpt-mini with learned positions and this context.
    Raises: VitrailError where a measurement fails.
    """
    shape = {"context": context, "positions": "learned", "max_positions": context, "dropout": 0.0}
    config = CausalConfig.model_validate(preset("gpt-mini", task="language").model_dump() | shape)
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    plain: list[_System] = [_System("plain torch", precision, keep) for precision in precisions for keep in (False, True)]
    systems = [_System("vitrail", "auto", True), *plain]
    found: dict[_System, list[LanguageSpeed]] = {system: [] for system in systems}
    for turn in range(repeats):
        say(f"round {turn + 1} of {repeats}")
        for system in systems:
            task = LanguageSpeedTask(*system, rows, context, VOCABULARY, steps, threads, config.model_dump(mode="json"))
            name, remedy = f"{system.maker}, {system.precision}", "fewer --rows or a shorter --context"
            result = measure_in_subprocess("vitrail.bench.language_worker", asdict(task), name=name, remedy=remedy)
            found[system].append(LanguageSpeed(**result))
    table = tuple(
        LanguageRow(
            system.maker,
            results[0].precision,
            "kept" if system.keep_memory else "as it comes",
            results[0].parameters,
            tuple(one.tokens_per_second for one in results),
        )
        for system, results in found.items()
    )
    conditions = f"{config.layers} layers, width {config.width}, {rows} x {context} tokens a step, {steps} steps, {threads} threads"
    return LanguageSpeedReport(describe_machine(), conditions, table)
