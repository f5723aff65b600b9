"""The findings of the doctor (numbers, the expected state, a remedy) and the diagnosis made of them."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from vitrail.config import Config

Severity = Literal["fault", "warning", "note", "ok", "unchecked"]
"""fault: the training is wrong, or its result is worth little. warning: likely wrong, or wasteful. note: worth knowing. ok: checked,
nothing wrong. unchecked: not checked, and why."""

SEVERITIES: tuple[Severity, ...] = ("fault", "warning", "note", "ok", "unchecked")
"""Most severe first."""

_SHOWN = {"fault": "FAULT", "warning": "warning", "note": "note", "ok": "ok", "unchecked": "not checked"}


class Finding(Config):
    """The result of one check."""

    check: str
    """Name of the check."""
    severity: Severity
    found: str
    """What was found, with numbers."""
    expected: str = ""
    """What should have been found; empty where that is obvious."""
    remedy: str = ""
    """What to do; empty where there is nothing to do."""
    numbers: Mapping[str, float] = Field(default_factory=dict[str, float])
    """The measured values by name, for programs."""

    def to_text(self) -> str:
        """The finding on one line, what was expected and the remedy indented below."""
        below = [f"\n    {name}: {text}" for name, text in (("expected", self.expected), ("try", self.remedy)) if text]
        quiet = self.severity in ("ok", "unchecked")
        return f"{_SHOWN[self.severity]:<11}  {self.check}: {self.found}" + ("" if quiet else "".join(below))


class Diagnosis(Config):
    """All findings, most severe first; within a severity, causes before their effects."""

    subject: str
    """What was examined: the folder of a run, or "this machine"."""
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings of severity "fault"."""
        return self.of("fault")

    @property
    def clean(self) -> bool:
        """Neither faults nor warnings."""
        return not self.of("fault") and not self.of("warning")

    @property
    def unexamined(self) -> bool:
        """Whether there was nothing that could be checked."""
        return len(self.of("unchecked")) == len(self.findings) > 0

    @property
    def exit_code(self) -> int:
        """1 where there is a fault, 4 where nothing could be checked, else 0."""
        return 1 if self.faults else 4 if self.unexamined else 0

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of a severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def to_text(self) -> str:
        """The whole diagnosis as text; the last line is a summary."""
        lines = [self.subject, *(finding.to_text() for finding in self.findings), self._summary()]
        return "\n".join(lines) + "\n"

    def _summary(self) -> str:
        if self.unexamined:
            return "nothing could be checked: give the folder of a run, with its data/ and metrics.jsonl"
        counts = {severity: len(self.of(severity)) for severity in SEVERITIES}
        told = [_count(counts["fault"], "fault"), _count(counts["warning"], "warning"), _count(counts["note"], "note")]
        unchecked = f", {counts['unchecked']} not checked" if counts["unchecked"] else ""
        return f"{', '.join(told)}; {counts['ok']} ok{unchecked}"


def diagnose(subject: str, findings: "list[Finding]") -> Diagnosis:
    """Sort findings by severity; findings of one severity keep their order."""
    return Diagnosis(subject=subject, findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))))


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
