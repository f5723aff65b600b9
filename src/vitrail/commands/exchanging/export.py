"""vitrail export: a model in the layout of another program."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vitrail.commands.shared import console
from vitrail.errors import ModelError

_MOST = 1e-4
"""Largest difference of a logit that is still rounding."""


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a run, or its model folder.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the other program's folder is written.")],
    to: Annotated[Literal["huggingface"], typer.Option(help="The layout: huggingface.")] = "huggingface",
    check: Annotated[bool, typer.Option(help="Load it with that program, and compare every logit.")] = True,
) -> None:
    """Write a language model for Hugging Face's transformers: vitrail export runs/bert -o bert-hf

    A masked model becomes an EsmForMaskedLM (rotary positions), a BertForMaskedLM (post-norm) or a RobertaPreLayerNormForMaskedLM, which
    sentence-transformers loads as well; a causal one a GPTNeoXForCausalLM (rotary positions) or a GPT2LMHeadModel.
    What a layout cannot hold is refused by name.
    """
    from vitrail.export.huggingface import export_huggingface, largest_difference

    export_huggingface(model, output)
    if not check:
        console.say(f"{output}: written")
        return
    difference = largest_difference(model, output)
    if difference > _MOST:
        raise ModelError(f"{output}: logits differ by {difference:.2e}", expected=f"at most {_MOST:.0e}", remedy="report this as a fault")
    console.say(f"{output}: written, and checked: no logit differs by more than {difference:.1e}")
