"""vitrail import: a model folder from the layout of another program."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.commands.shared import console


def import_model(
    folder: Annotated[
        Path,
        typer.Argument(metavar="WHAT", help="A folder of Hugging Face's layout: Marian, OPUS-MT, Pegasus, or of ours; a .bin of fastText."),
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The model folder to write.")],
) -> None:
    """Read a translator of Marian's or Pegasus's layout, a language model back from Hugging Face's, or a classifier of fastText.

    vitrail import opus-mt-en-fr -o models/en-fr

    vitrail import bert-hf -o models/bert

    vitrail import reviews.bin -o models/reviews
    """
    from vitrail.export.fasttext import import_fasttext
    from vitrail.export.huggingface import import_huggingface
    from vitrail.export.translators.seq2seq_folder import import_seq2seq, is_seq2seq

    if folder.is_file():
        import_fasttext(folder, output, say=console.say)
    elif is_seq2seq(folder):
        import_seq2seq(folder, output)
    else:
        import_huggingface(folder, output)
    console.say(f"{output}: written")
