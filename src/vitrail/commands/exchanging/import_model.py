"""vitrail import: a model folder from the layout of another program."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.commands.shared import console
from vitrail.commands.shared.output_folder import require_place
from vitrail.errors import ModelError


def import_model(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="WHAT",
            help="Folder of Marian, OPUS-MT, Pegasus or ours (Hugging Face), of CTranslate2; a .bin of fastText.",
        ),
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The model folder to write.")],
) -> None:
    """Read a translator of Marian, Pegasus or CTranslate2, a language model of ours in Hugging Face's layout, or a classifier of fastText.

    vitrail import opus-mt-en-fr -o models/en-fr

    vitrail import bert-hf -o models/bert

    vitrail import reviews.bin -o models/reviews
    """
    from vitrail.export.fasttext import import_fasttext
    from vitrail.export.huggingface import import_huggingface
    from vitrail.export.marian.npz import import_marian, is_marian
    from vitrail.export.translators.ctranslate2_reading import import_ctranslate2, is_ctranslate2
    from vitrail.export.translators.seq2seq_folder import import_seq2seq, is_seq2seq

    require_place(output, inputs=[folder])
    _require_another(folder)
    if is_marian(folder):
        import_marian(folder, output)
    elif folder.is_file():
        import_fasttext(folder, output, say=console.say)
    elif is_ctranslate2(folder):
        import_ctranslate2(folder, output)
    elif is_seq2seq(folder):
        import_seq2seq(folder, output)
    else:
        import_huggingface(folder, output)
    console.say(f"{output}: written")


def _require_another(path: Path) -> None:
    """Raises ModelError where there is nothing, a model of ours, or a folder that no program's model can be in."""
    from vitrail.models.stored import CONFIG, is_model, model_folder

    read = "a folder of Marian, OPUS-MT, Pegasus, CTranslate2 or Hugging Face's transformers, or a .bin of fastText"
    if not path.exists():
        raise ModelError(f"{path}: no such file or folder", expected=read)
    if path.is_dir() and is_model(model_folder(path)):
        raise ModelError(f"{path}: holds a model of vitrail already", remedy="use it as it is; vitrail export writes it for other programs")
    if path.is_dir() and not (path / CONFIG).exists() and not list(path.glob("*.npz")):
        raise ModelError(f"{path}: no model that can be read is there: neither {CONFIG} nor an .npz", expected=read)
