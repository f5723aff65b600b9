"""vitrail doctor: find what is wrong with a training or this machine, with the remedy."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.commands.shared import console


@console.with_groups
def doctor(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="The folder of a run; without one, this machine is examined.", show_default=False),
    ] = None,
    *,
    machine: console.Machine,
    json: console.Json = False,
) -> None:
    """Find what is wrong with a training, with the remedy: fast checks of its text, learning curves, weights and translations.

    Only the run's folder is read; a running training is not disturbed. Without RUN: versions, threads, memory, device, extras, disk.
    Exit code 0: no fault; 1: a fault was found (warnings and notes do not count); 4: the folder is not a run, or is damaged, or nothing
    could be checked.
    """
    from vitrail.doctor.checks.environment import examine_machine
    from vitrail.doctor.examine import examine
    from vitrail.runtime.device import choose_device, set_threads

    if run is None:
        found = examine_machine()
    else:
        set_threads(machine.threads)
        found = examine(run, device=choose_device(machine.device))
    console.show_json(found.model_dump(mode="json")) if json else console.show(found.to_text())
    if found.exit_code:
        raise typer.Exit(found.exit_code)
