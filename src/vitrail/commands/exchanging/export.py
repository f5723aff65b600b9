"""vitrail export: a model in the layout of another program."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from vitrail.commands.shared import console
from vitrail.commands.shared.output_folder import require_place
from vitrail.doctor.checks.programs import EXITS, installed_programs
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.export.translators.parity import GivenPairs

To = Literal["huggingface", "ctranslate2", "marian", "onnx", "argos", "sentence-transformers", "bergamot"]
Compute = Literal["float32", "int8", "int8_float32", "int8_bfloat16", "int8_float16", "int16", "bfloat16", "float16"]


def _list(wanted: bool) -> None:
    if not wanted:
        return
    for name, there in installed_programs().items():
        one = EXITS[name]
        state = "installed" if there else f"not installed: {one.install}"
        console.show(f"{name:<21} {one.carries}; {one.program}: {state}")
    raise typer.Exit


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a run, or its model folder.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the other program's folder is written.")],
    to: Annotated[To, typer.Option(help="The layout; see --list.")] = "huggingface",
    compute: Annotated[
        Compute | None, typer.Option(help="Numbers of the weights: with ctranslate2 and argos (float32), bergamot (int8, or float32).")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also write a page that translates offline, with onnx; the folder of npm's onnxruntime-web."),
    ] = None,
    shortlist: Annotated[
        bool | None,
        typer.Option(
            "--shortlist/--no-shortlist",
            help="Write the lists of vitrail shortlist too, with bergamot.",
            show_default="where the model has them",
        ),
    ] = None,
    python: Annotated[
        Path | None, typer.Option(metavar="PYTHON", help="Interpreter of the environment that has Argos Translate, with argos.")
    ] = None,
    check: Annotated[bool, typer.Option(help="Load it with that program, and compare.")] = True,
    source: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Sentences to compare, one a line.", show_default="the run's development set"),
    ] = None,
    reference: Annotated[Path | None, typer.Option(metavar="FILE", help="Their translations, for BLEU.", show_default=False)] = None,
    shown: Annotated[
        bool, typer.Option("--list", help="List the layouts, and which programs are installed.", is_eager=True, callback=_list)
    ] = False,
) -> None:
    """Write a model for another program: vitrail export runs/en-fr --to ctranslate2 -o en-fr-ct2

    A translator becomes a folder of CTranslate2, or a MarianMTModel (post-norm) or PegasusForConditionalGeneration (pre-norm) of Hugging
    Face's transformers; sentences are then translated by both programs. Of language models, a masked one becomes an EsmForMaskedLM
    (rotary positions), a BertForMaskedLM (post-norm) or a RobertaPreLayerNormForMaskedLM, which sentence-transformers loads as well; a
    causal one a GPTNeoXForCausalLM (rotary positions) or a GPT2LMHeadModel. With onnx, Transformers and recurrent networks become two
    graphs and a program that runs them, and with --page a page that translates offline. What a layout cannot hold is refused by name.
    """
    del shown
    every = get_args(Compute)
    allowed: dict[To, tuple[str, ...]] = {"ctranslate2": every, "argos": every, "bergamot": ("int8", "float32")}
    if compute is not None and compute not in allowed.get(to, ("float32",)):
        raise UsageError(f"--compute {compute} --to {to}", expected="--to ctranslate2 or --to argos; int8 or float32 with bergamot")
    if python is not None and to != "argos":
        raise UsageError(f"--python --to {to}", expected="--to argos")
    if page is not None and to != "onnx":
        raise UsageError(f"--page --to {to}", expected="--to onnx")
    if shortlist is not None and to != "bergamot":
        raise UsageError(f"--{'' if shortlist else 'no-'}shortlist --to {to}", expected="--to bergamot")
    _refuse_other_kinds(model, to)
    require_place(output, inputs=[model])
    given = _given(source, reference, check=check)
    match to:
        case "huggingface":
            _huggingface(model, output, check=check, given=given)
        case "ctranslate2":
            _ctranslate2(model, output, compute=compute or "float32", check=check, given=given)
        case "marian":
            _marian(model, output, check=check, given=given)
        case "bergamot":
            _bergamot(model, output, rounds=compute != "float32", shortlist=shortlist, check=check, given=given)
        case "onnx":
            _onnx(model, output, page=page, check=check, given=given)
        case "argos":
            _argos(model, output, compute=compute or "float32", python=python, check=check, given=given)
        case "sentence-transformers":
            _encoder(model, output, check=check, given=given)


def _given(source: Path | None, reference: Path | None, *, check: bool) -> "GivenPairs | None":
    """The sentences of files and their translations. Raises UsageError for a reference alone, and where nothing is checked."""
    if source is None:
        if reference is not None:
            raise UsageError("--reference without --source", expected="--source FILE --reference FILE")
        return None
    if not check:
        raise UsageError("--source with --no-check", expected="one of them: these sentences are what the check compares")
    from vitrail.evaluation.report import read_sentences
    from vitrail.export.translators.parity import GivenPairs

    sources = read_sentences(source)
    references = [""] * len(sources) if reference is None else read_sentences(reference, like=sources, beside=source)
    return GivenPairs(list(zip(sources, references, strict=True)), source.name)


def _refuse_other_kinds(model: Path, to: To) -> None:
    """Raises UsageError where the exit carries no such kind of model, with those that do; ModelError where no model is there."""
    from vitrail.models.architectures import TASK_MODELS, task_of
    from vitrail.models.stored import read_model_config

    config = read_model_config(model)
    if config.kind in EXITS[to].kinds:
        return
    others = [f"vitrail export {model} --to {name}" for name, one in EXITS.items() if config.kind in one.kinds]
    raise UsageError(
        f"{model}: holds {TASK_MODELS[task_of(config)]} ({config.kind}), which {f'--to {to} does' if others else 'no exit can'} not carry",
        expected=EXITS[to].carries,
        remedy=", or ".join(others),
    )


def _huggingface(model: Path, output: Path, *, check: bool, given: "GivenPairs | None") -> None:
    from vitrail.export.translators.seq2seq_folder import export_seq2seq
    from vitrail.models.stored import task_of_folder

    if task_of_folder(model) != "translation":
        if given is not None:
            raise UsageError(f"{model}: is no translator; --source", expected="no --source: the logits of texts of its own are compared")
        _language_model(model, output, check=check)
        return
    found = export_seq2seq(model, output, check=check, given=given)
    if found is not None:
        console.show(found.to_text())
    console.show(f"{output}: written; how to run it: {output / 'README.md'}")


def _language_model(model: Path, output: Path, *, check: bool) -> None:
    from vitrail.export.huggingface import export_huggingface

    difference = export_huggingface(model, output, check=check)
    checked = "" if difference is None else f", and checked: no logit differs by more than {difference:.1e}"
    console.say(f"{output}: written{checked}")


def _marian(model: Path, output: Path, *, check: bool, given: "GivenPairs | None") -> None:
    from vitrail.export.marian.npz import export_marian

    found = export_marian(model, output, check=check, given=given)
    if found is not None:
        console.show(found.to_text())
    console.show(f"{output}: written; how to run it: marian-decoder -m model.npz -v vocab.yml vocab.yml, on pieces of source.spm")


def _bergamot(model: Path, output: Path, *, rounds: bool, shortlist: bool | None, check: bool, given: "GivenPairs | None") -> None:
    from vitrail.export.marian.browser import export_browser

    compute = "int8" if rounds else "float32"
    found = export_browser(model, output, compute=compute, shortlist=shortlist, check=check, given=given)
    if found is not None:
        console.show(found.to_text())
    size = sum(path.stat().st_size for path in output.iterdir())
    console.show(f"{output}: written, {size / 1e6:.1f} MB; how to run it: {output / 'README.md'}")


def _ctranslate2(model: Path, output: Path, *, compute: Compute, check: bool, given: "GivenPairs | None") -> None:
    from vitrail.export.translators.ctranslate2_folder import export_ctranslate2

    found = export_ctranslate2(model, output, compute=compute, check=check, given=given)
    if found is not None:
        console.show(found.to_text())
    console.show(f"{output}: written; how to run it: {output / 'README.md'}")


def _onnx(model: Path, output: Path, *, page: Path | None, check: bool, given: "GivenPairs | None") -> None:
    from vitrail.export.onnx.folder import export_onnx

    found = export_onnx(model, output, page=page, check=check, given=given)
    if found is not None:
        console.show(found.to_text())
    console.show(f"{output}: written; how to run it: {output / 'README.md'}")


def _argos(model: Path, output: Path, *, compute: Compute, python: Path | None, check: bool, given: "GivenPairs | None") -> None:
    from vitrail.export.argos.package import export_argos, named

    found = export_argos(model, output, compute=compute or "float32", python=python, check=check, given=given)
    if found is not None:
        console.show(found.to_text())
    console.show(f"{named(output)}: written; how to install it: argospm install {named(output).name}")


def _encoder(model: Path, output: Path, *, check: bool, given: "GivenPairs | None") -> None:
    from vitrail.export.encoder_states import export_encoder

    found = export_encoder(model, output, check=check, given=given)
    if found is not None:
        console.show(f"checked with sentence-transformers: no number of a vector differs by more than {found:.1e}")
    console.show(f"{output}: written; how to run it: {output / 'README.md'}")
