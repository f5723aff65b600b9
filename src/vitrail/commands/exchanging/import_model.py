"""vitrail import: a model folder from the layout of another program."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.commands.shared import console


def import_model(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What vitrail export wrote, perhaps trained further since.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The model folder to write.")],
) -> None:
    """Read a language model back from Hugging Face's layout: vitrail import bert-hf -o models/bert"""
    from vitrail.export.huggingface import import_huggingface

    import_huggingface(folder, output)
    console.say(f"{output}: written")
