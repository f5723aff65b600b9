"""vitrail interpolate: what an autoencoder writes between two sentences."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.commands.shared import console


@console.with_groups
def interpolate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a run of an autoencoder, or its model folder.")],
    first: Annotated[str, typer.Argument(metavar="FIRST", help="Where to start.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="Where to end.")],
    *,
    steps: Annotated[int, typer.Option(min=2, max=10_000, help="Points on the way, both ends included.")] = 7,
    machine: console.Machine,
    json: console.Json = False,
) -> None:
    """Walk from one sentence to another: vitrail interpolate runs/auto "A dog runs." "A man sits."

    Each line: how much of the way, and what the decoder writes from the vector there, on the straight line between both vectors.
    """
    from dataclasses import asdict

    from vitrail.decode.sentences.autoencoder import Autoencoder

    autoencoder = Autoencoder.load(model, threads=machine.threads, device=machine.device)
    found = autoencoder.interpolate(first, second, steps=steps)
    if json:
        console.show_json([asdict(one) for one in found])
    else:
        console.write_lines([f"{one.share:.3f}\t{one.text}" for one in found])
