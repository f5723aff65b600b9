"""The best settings of each system on this machine, found by trying: one axis after the other, the fastest stays."""

import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from vitrail.bench.translating.systems import FIXED_LENGTHS, REFERENCE, Axis, Running, Settings, System, Timed, list_systems, running
from vitrail.errors import VitrailError
from vitrail.models.model_folder import load_model

_TRIALS = 2
_MOST_SENTENCES, _TRIAL_SECONDS, _FIRST_SENTENCES = 300, 0.7, 16
"""Of a trial: as many sentences as take so long."""


class Wanted(NamedTuple):
    """What is to be compared."""

    model: Path
    beams: Sequence[int]
    threads: int
    peers: Path | None = None
    """See `systems.list_systems`, and for `only`."""
    only: Sequence[str] = ()
    alone: bool = False
    """One sentence at a time."""
    tokens: int = 0
    """Of every translation; 0: as the model ends them. Peers but CTranslate2 are not measured so."""


class Tuned(NamedTuple):
    """A process with the best variables of its environment, and the best settings for each number of beams."""

    process: Running
    settings: Mapping[int, Settings]

    alone: bool

    def describe(self, beams: int) -> str:
        """What was found, in a line; empty where there was nothing to choose."""
        found = {**self.settings[beams], **self.process.environment}
        return ", ".join(f"{name} {value}" for name, value in found.items())

    def translate(self, texts: Sequence[str], beams: int) -> Timed:
        """Translate with the best settings."""
        return self.process.translate(texts, beams=beams, settings=self.settings[beams], alone=self.alone)


class Best(NamedTuple):
    """All systems that could be had, at their best, and why others could not."""

    systems: Mapping[str, Tuned]
    missing: Sequence[str]

    @property
    def versions(self) -> dict[str, dict[str, str]]:
        """Of each system's programs."""
        return {name: dict(one.process.versions) for name, one in self.systems.items()}


@contextmanager
def at_their_best(wanted: Wanted, texts: Sequence[str], *, say: Callable[[str], None]) -> Generator[Best, None, None]:
    """Each system in a process of its own, with the settings that are the fastest on some of the texts; ended on exit.

    A peer that fails is missing. Raises VitrailError where one of ours does.
    """
    sample = texts[:: -(-len(texts) // _MOST_SENTENCES)]
    with tempfile.TemporaryDirectory(prefix="vitrail-bench-") as folder, ExitStack() as stack:
        loaded = load_model(wanted.model)
        systems, missing = list_systems(wanted.model, loaded, Path(folder), peers=wanted.peers, only=wanted.only, threads=wanted.threads)
        if wanted.tokens:
            fixed = [one for one in systems if one.name.split()[0] in FIXED_LENGTHS]
            missing += [f"{one.name}: not with translations of a fixed length" for one in systems if one not in fixed]
            systems = [replace(one, settings={**one.settings, "tokens": wanted.tokens}) for one in fixed]
        ready: dict[str, Tuned] = {}
        for system in systems:
            try:
                ready[system.name] = one = _tune(system, wanted, sample, stack)
            except VitrailError as error:
                if system.name == REFERENCE:
                    raise
                missing.append(str(error))
                continue
            for count in wanted.beams:
                if found := one.describe(count):
                    say(f"{system.name}, {count} beams: {found}")
        yield Best(ready, missing)


def _tune(system: System, wanted: Wanted, texts: Sequence[str], stack: ExitStack) -> Tuned:
    """A system at its best: the variables are chosen with the first number of beams, settings for each.

    Least seconds by the clock of two trials decide.
    """
    environment: dict[str, str] = {}
    for axis in system.environments:
        found = [(_try_environment(system, {**environment, **one}, texts, wanted), one) for one in axis]
        environment |= dict(min(found, key=lambda pair: pair[0])[1])
    process = stack.enter_context(running(system, environment))
    axes = system.alone if wanted.alone else system.choices
    settings = {beams: choose_settings(process, axes, texts, beams, alone=wanted.alone) for beams in wanted.beams}
    return Tuned(process, settings, wanted.alone)


def _try_environment(system: System, environment: Settings, texts: Sequence[str], wanted: Wanted) -> float:
    with running(system, environment) as process:
        return _seconds_a_sentence(process, {}, texts, wanted.beams[0], wanted.alone)


def choose_settings(process: Running, axes: Sequence[Axis], texts: Sequence[str], beams: int, *, alone: bool) -> Settings:
    """The fastest setting of each axis, with those chosen before."""
    chosen: dict[str, object] = {}
    for axis in axes:
        found = [(_seconds_a_sentence(process, {**chosen, **one}, texts, beams, alone), one) for one in axis]
        chosen |= dict(min(found, key=lambda pair: pair[0])[1])
    return chosen


def _seconds_a_sentence(process: Running, settings: Settings, texts: Sequence[str], beams: int, alone: bool) -> float:
    """By the clock, the least of some trials after one that does not count."""

    def seconds(some: Sequence[str]) -> float:
        return sum(process.translate(some, beams=beams, settings=settings, alone=alone).seconds) / len(some)

    first = texts[:_FIRST_SENTENCES]
    seconds(first)
    some = texts[: max(_FIRST_SENTENCES, int(_TRIAL_SECONDS / seconds(first)))]
    return min(seconds(some) for _ in range(_TRIALS))
