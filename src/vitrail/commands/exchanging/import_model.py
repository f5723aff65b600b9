"""vitrail import: a model folder from the layout of another program."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.commands.shared import console


def import_model(
    folder: Annotated[
        Path,
        typer.Argument(metavar="WHAT", help="The folder that vitrail export wrote, perhaps trained further since; or a .bin of fastText."),
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The model folder to write.")],
) -> None:
    """Read a language model back from Hugging Face's layout, or a classifier of the fastText program.

    vitrail import bert-hf -o models/bert

    vitrail import reviews.bin -o models/reviews
    """
    from vitrail.export.fasttext import import_fasttext
    from vitrail.export.huggingface import import_huggingface

    if folder.is_file():
        import_fasttext(folder, output, say=console.say)
    else:
        import_huggingface(folder, output)
    console.say(f"{output}: written")
