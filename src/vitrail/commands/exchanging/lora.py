"""vitrail lora: adapters by themselves, put into their base and taken out again."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.commands.shared import console
from vitrail.commands.shared.output_folder import require_place

lora = typer.Typer(name="lora", help="Low-rank adapters: save one, merge it, take it out.", no_args_is_help=True)

_RUN = typer.Argument(metavar="RUN", help="Folder of a run that was trained with lora.rank.")


@lora.command("save")
def save(
    run: Annotated[Path, _RUN],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The adapter's folder to write.")],
) -> None:
    """Write a run's adapter by itself, a small part of the model: vitrail lora save runs/own -o own-adapter"""
    from vitrail.models.adapters import load_adapter, save_adapter

    require_place(output, inputs=[run])
    adapter = load_adapter(run)
    save_adapter(output, adapter)
    numbers = sum(part.numel() for both in adapter.weights.values() for part in both)
    console.say(f"{output}: {len(adapter.weights)} matrices, {numbers:,} numbers; they belong to the model {adapter.base[:12]}")


@lora.command("merge")
def merge(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The base that the adapter belongs to: folder of a run, or a model.")],
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="Folder of an adapter, or of the run that it was trained in.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The model folder to write.")],
) -> None:
    """Write the model that a base and an adapter make: vitrail lora merge runs/big own-adapter -o own

    It has the same bits as the model of the run that the adapter was trained in. Any other base is refused.
    """
    from vitrail.models.adapters import merge_folder

    require_place(output, inputs=[model, adapter])
    merge_folder(model, adapter, output)
    console.say(f"{output}: written")


@lora.command("unmerge")
def unmerge(
    run: Annotated[Path, _RUN],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The model folder to write.")],
) -> None:
    """Write the base of a run's adapter, bit for bit, where it is gone: vitrail lora unmerge runs/own -o big

    It is read from the run's checkpoint: a difference of rounded numbers would not give the same bits.
    """
    from vitrail.train.starting.unmerge import unmerge_run

    require_place(output, inputs=[run])
    unmerge_run(run, output)
    console.say(f"{output}: written")
