"""Examine a run: all checks whose inputs are in its folder, causes before effects."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from vitrail.doctor.checks.activations import heads, neurons
from vitrail.doctor.checks.gradient_flow import gradients
from vitrail.doctor.checks.learning_curves import completion, learning, overfitting, steadiness, warm_up
from vitrail.doctor.checks.misalignment import misalignment
from vitrail.doctor.checks.outputs import repetition, same_output, unheard_source
from vitrail.doctor.checks.text_checks import leakage, vocabulary
from vitrail.doctor.checks.update_sizes import learning_rate
from vitrail.doctor.findings import Diagnosis, Finding, diagnose
from vitrail.doctor.run_under_test import RunUnderTest, read_run_folder
from vitrail.errors import VitrailError


class Check(NamedTuple):
    """One check, and the parts of a run that it needs (see `RunUnderTest.missing`)."""

    name: str
    look: Callable[[RunUnderTest], list[Finding]]
    needs: tuple[str, ...]


_OF_KINDS = ("pairs", "written", "answers")
"""Parts that not every kind of model has: where one is missing, nothing else need be said."""

CHECKS = (
    Check("vocabulary", vocabulary, ("data",)),
    Check("misaligned lines", misalignment, ("pairs", "data")),
    Check("leakage", leakage, ("data",)),
    Check("warm-up", warm_up, ("config", "metrics")),
    Check("learning rate", learning_rate, ("config", "data", "state")),
    Check("steadiness", steadiness, ("metrics",)),
    Check("learning", learning, ("metrics", "data")),
    Check("overfitting", overfitting, ("metrics",)),
    Check("gradients", gradients, ("model", "data", "dev")),
    Check("heads", heads, ("model", "data", "dev")),
    Check("neurons", neurons, ("model", "data", "dev")),
    Check("unheard source", unheard_source, ("written", "model", "data", "dev")),
    Check("same output", same_output, ("answers", "model", "data", "dev")),
    Check("repetition", repetition, ("written", "model", "data", "dev")),
    Check("completion", completion, ("metrics",)),
)
"""Causes before effects: text, then training, then the model's components, then what it says."""


def examine(folder: str | Path, *, device: torch.device | None = None, say: Callable[[str], None] = lambda line: None) -> Diagnosis:
    """Examine a run: each of `CHECKS` reports what it found, what was expected and what to do.

    Only the run's folder is read and nothing is written, so a running training is not disturbed. A check whose inputs are missing is
    reported as "not checked", with the names of the missing parts.

    Args:   say: called with the name of each check before it starts.
    Raises: ModelError where the folder is missing, is not a run, or a part of it is damaged.
    Cost:   5 s on one core for the demo; sample sizes are constants of the modules of the checks.
    """
    with torch.random.fork_rng(devices=[]):  # models are made with random weights before theirs are read
        return _examine(Path(folder), device, say)


def _examine(folder: Path, device: torch.device | None, say: Callable[[str], None]) -> Diagnosis:
    run = read_run_folder(folder, device=device)
    findings = [_damaged(reason) for reason in run.damaged]
    for check in CHECKS:
        say(check.name)
        lacking = [run.missing[part] for part in check.needs if part in run.missing]
        lacking = lacking[:1] if check.needs[0] in _OF_KINDS and check.needs[0] in run.missing else lacking
        if lacking:
            findings.append(Finding(check=check.name, severity="unchecked", found=", ".join(lacking)))
        else:
            findings += _run_check(check, run)
    return diagnose(str(folder), findings)


def _run_check(check: Check, run: RunUnderTest) -> list[Finding]:
    """The findings of a check; a check that cannot run does not stop the others."""
    try:
        return check.look(run)
    except VitrailError as error:
        return [Finding(check=check.name, severity="unchecked", found=error.found)]


def _damaged(reason: str) -> Finding:
    return Finding(
        check="checkpoints",
        severity="warning",
        found=reason,
        expected="checkpoints as they were written",
        remedy="check the disk; training resumes from the newest valid checkpoint",
    )
