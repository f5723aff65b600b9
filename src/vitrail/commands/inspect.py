"""vitrail inspect: look inside a model, for one sentence or for many."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import typer

from vitrail.commands import console
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.inspection.record import Inspection
    from vitrail.inspection.translator import InspectableTranslator

_PAGES, _FIGURES = (".html", ".htm"), (".png", ".svg", ".pdf")
Kind = Literal["encoder", "decoder", "cross"]


class Result(Protocol):
    """What a study found: for people, and for programs."""

    def to_text(self) -> str: ...
    def to_record(self) -> dict[str, Any]: ...


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run or a model folder.")],
    text: Annotated[str, typer.Argument(metavar="[SENTENCE]", help="The sentence to look at.", show_default=False)] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A page (.html), the record (.npz), or a figure of the attention (.svg, .pdf, .png).",
            show_default=False,
        ),
    ] = None,
    translation: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Look at this translation, not at the model's own.", show_default=False)
    ] = None,
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="The translation begins with it.", show_default=False)] = "",
    beams: Annotated[
        int | None, typer.Option(min=1, help="Hypotheses kept side by side; 1 is greedy.", show_default="the model's own")
    ] = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT=VALUE",
            help="See what changes: off=encoder.0.self_attention:2, hide=dog, word=dog:cat, prefix=TEXT, patch=memory@1:SENTENCE.",
            show_default=False,
        ),
    ] = None,
    draw: Annotated[bool, typer.Option("--text", help="Draw in the terminal, as is done where no file is named.")] = False,
    kind: Annotated[Kind, typer.Option(help="Which attention the terminal or a figure shows.")] = "cross",
    layer: Annotated[int | None, typer.Option(min=0, help="Its layer, from 0.", show_default="the last")] = None,
    head: Annotated[int | None, typer.Option(min=0, help="Its head, from 0.", show_default="the average")] = None,
    language: Annotated[Literal["en", "fr"], typer.Option(help="Of the page's own words.")] = "en",
    plain: Annotated[bool, typer.Option("--plain", help="The record alone, without attributions, alignment and maps.")] = False,
    ablate: Annotated[
        Literal["heads"] | None, typer.Option(help="Switch off one head after the other, and score a test set.", show_default=False)
    ] = None,
    score: Annotated[Literal["bleu", "pronouns"], typer.Option(help="With --ablate; pronouns: on the phrasebook.")] = "bleu",
    source: Annotated[Path | None, typer.Option(metavar="FILE", help="With --ablate, --maps: sentences.", show_default="the run's")] = None,
    reference: Annotated[Path | None, typer.Option(metavar="FILE", help="Their translations.", show_default="the run's")] = None,
    sentences: Annotated[int, typer.Option(min=1, help="With --ablate, --maps: so many of them.")] = 200,
    permute: Annotated[bool, typer.Option("--permute", help="Does the order of the words matter to the encoder?")] = False,
    antecedent: Annotated[
        bool, typer.Option("--antecedent", help="Which heads look from a pronoun to what it stands for (phrasebook)?")
    ] = False,
    aer: Annotated[bool, typer.Option("--aer", help="Alignment error rate of cross-attention (phrasebook).")] = False,
    fresh: Annotated[
        int | None,
        typer.Option(metavar="SEED", help="With --aer: not the test set, but new sentences of this seed.", show_default=False),
    ] = None,
    maps: Annotated[bool, typer.Option("--maps", help="Likeness of layers, retrieval of translations, neighbours.")] = False,
    film: Annotated[bool, typer.Option("--film", help="What became of the probe sentences as the run was trained.")] = False,
    projector: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write embeddings for TensorBoard's projector.", show_default=False)
    ] = None,
    threads: console.Threads = 0,
    device: console.Device = "cpu",
    json: console.Json = False,
) -> None:
    """See through a model: what it attends to, layer by layer, and how it found a translation.

    vitrail inspect runs/en-fr "I am good." -o page.html
    """
    import vitrail

    if fresh is not None and not aer:
        raise UsageError("--fresh by itself", expected="--aer --fresh SEED")
    translator = vitrail.load(model, device=device, threads=threads)
    studies: list[Result] = []
    if ablate is not None:
        studies.append(_ablate(translator, model, score=score, source=source, reference=reference, sentences=sentences))
    if antecedent:
        studies.append(_antecedents(translator))
    if aer:
        studies.append(_alignment_errors(translator, fresh))
    if maps:
        studies.append(_maps(translator, model, source=source, reference=reference, sentences=sentences))
    if film:
        studies.append(_film(model))
    if projector is not None:
        _project(translator, projector)
    if permute:
        studies.append(_permute(translator, _required(text)))
    if edit:
        studies.append(_change(translator, _required(text), edit, translation=translation))
    if studies or projector is not None:
        _show(studies, json=json)
        if output is None and not draw:
            return
    inspection = _look(translator, _required(text), translation=translation, prefix=prefix, beams=beams)
    if output is not None:
        _write(inspection, translator, model, output, language=language, plain=plain, attention=(kind, layer, head))
    if json:
        if not studies:
            console.show(inspection.facts.model_dump_json(indent=2))
    elif draw or output is None:
        _draw(inspection, translator, model, attention=(kind, layer, head), plain=plain)


def _required(text: str) -> str:
    if not text.strip():
        raise UsageError("no sentence to look at", expected='vitrail inspect MODEL "A sentence." -o page.html')
    return text


def _look(translator: "InspectableTranslator", text: str, *, translation: str | None, prefix: str, beams: int | None) -> "Inspection":
    from vitrail.commands.translate import adapt_search
    from vitrail.decode.translate import Wishes

    search = adapt_search(translator.search, beams=beams, n_best=1, length_penalty=None, sampling=None)
    return translator.inspect(text, translation, search=search, wishes=Wishes(prefix=prefix))


def _write(
    inspection: "Inspection",
    translator: "InspectableTranslator",
    model: Path,
    output: Path,
    *,
    language: str,
    plain: bool,
    attention: tuple[Kind, int | None, int | None],
) -> None:
    suffix = output.suffix.lower()
    if suffix in _FIGURES:
        from vitrail.inspection.figures import draw_attention

        kind, layer, head = attention
        draw_attention(inspection, output, kind=kind, layer=layer, head=head)
    elif suffix in _PAGES:
        from vitrail.files import write_file
        from vitrail.inspection.page import to_html
        from vitrail.inspection.whole import complete

        inspection = inspection if plain else complete(inspection, translator, model)
        write_file(output, to_html(inspection, language=language).encode("utf-8", "replace"))
    else:
        from vitrail.inspection.whole import complete

        (inspection if plain else complete(inspection, translator, model, maps=0)).save(output)
    console.say(f"wrote {output}")


def _draw(
    inspection: "Inspection",
    translator: "InspectableTranslator",
    model: Path,
    *,
    attention: tuple[Kind, int | None, int | None],
    plain: bool,
) -> None:
    from vitrail.inspection.alignment import align, heads_for
    from vitrail.inspection.text import to_text

    kind, layer, head = attention
    if not plain and inspection.attentions("cross"):
        inspection = align(inspection, heads=heads_for(translator, model))
    console.show(to_text(inspection, kind=kind, layer=layer, head=head, colour=sys.stdout.isatty()))


def _change(translator: "InspectableTranslator", text: str, edits: list[str], *, translation: str | None) -> Result:
    from vitrail.inspection.change import parse_edit

    return translator.edit(text, parse_edit(translator, edits), translation=translation)


def _permute(translator: "InspectableTranslator", text: str) -> Result:
    from vitrail.inspection.permutation import permute

    return permute(translator, text)


def _ablate(
    translator: "InspectableTranslator", model: Path, *, score: str, source: Path | None, reference: Path | None, sentences: int
) -> Result:
    from vitrail.inspection.ablation import ablate_heads, ablate_pronouns

    if score == "pronouns":
        return ablate_pronouns(translator, sentences=sentences, say=console.say)
    sources, references = _pairs(model, source, reference, sentences)
    return ablate_heads(translator, sources, references, say=console.say)


def _antecedents(translator: "InspectableTranslator") -> Result:
    from vitrail.inspection.antecedent import find_antecedents

    return find_antecedents(translator, say=console.say)


def _alignment_errors(translator: "InspectableTranslator", fresh: int | None) -> Result:
    from vitrail.inspection.alignment_error import phrasebook_aer

    return phrasebook_aer(translator, fresh=fresh)


def _maps(translator: "InspectableTranslator", model: Path, *, source: Path | None, reference: Path | None, sentences: int) -> Result:
    from vitrail.inspection.maps import map_model

    sources, references = _pairs(model, source, reference, max(sentences, 1000))
    return map_model(translator, sources, translations=references)


def _film(model: Path) -> Result:
    from vitrail.errors import ModelError
    from vitrail.inspection.film import read_film

    found = read_film(model)
    if not found.frames:
        raise ModelError(f"{model}: holds no film", expected="a run trained with --film, as is usual")
    return found


def _project(translator: "InspectableTranslator", folder: Path) -> None:
    from vitrail.inspection.projector import export_embeddings

    export_embeddings(translator, folder)
    console.say(f"wrote {folder}: tensorboard --logdir {folder}")


def _pairs(model: Path, source: Path | None, reference: Path | None, count: int) -> tuple[list[str], list[str]]:
    """Sentences and their translations: the files', or those of the run's dev set."""
    from vitrail.evaluation.report import read_lines
    from vitrail.inspection.maps import dev_pairs

    if (source is None) != (reference is None):
        raise UsageError("one side of the text", expected="--source FILE and --reference FILE")
    if source is None or reference is None:
        return dev_pairs(model, count=count)
    sources = read_lines(source)
    references = read_lines(reference, like=sources, beside=source)
    return list(sources[:count]), list(references[:count])


def _show(studies: list[Result], *, json: bool) -> None:
    if json:
        records = [study.to_record() for study in studies]
        console.show_json(records[0] if len(records) == 1 else records)
    else:
        for study in studies:
            console.show(study.to_text())
