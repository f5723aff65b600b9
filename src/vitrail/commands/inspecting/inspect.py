"""vitrail inspect: look inside a model, for one sentence or for many."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol

import typer

from vitrail.commands.shared import console
from vitrail.errors import ModelError, UsageError

if TYPE_CHECKING:
    from vitrail.decode.search.beams import SearchConfig
    from vitrail.inspection.causes.change import Edit
    from vitrail.inspection.record import Inspection
    from vitrail.inspection.translator import InspectableTranslator

_PAGE, _RECORD, _FIGURE, _DRAWING, _FACTS = "-o FILE.html", "-o FILE.npz", "-o FILE.svg", "--text", "--json"
_OUTLETS = {".html": _PAGE, ".htm": _PAGE, ".npz": _RECORD, ".png": _FIGURE, ".svg": _FIGURE, ".pdf": _FIGURE}
_LOOKS = (_PAGE, _RECORD, _FIGURE, _DRAWING, _FACTS)
_BLEU, _PRONOUNS = "--ablate heads", "--ablate heads --score pronouns"
_READERS = {
    "text": ("--edit", "--permute", *_LOOKS),
    "translation": ("--edit", *_LOOKS),
    "prefix": ("--edit", *_LOOKS),
    "beams": ("--edit", *_LOOKS),
    "part": ("--edit", "--permute", *_LOOKS),
    "kind": (_DRAWING, _FIGURE),
    "layer": (_DRAWING, _FIGURE),
    "head": (_DRAWING, _FIGURE),
    "language": (_PAGE,),
    "plain": (_PAGE, _RECORD, _DRAWING, _FACTS),
    "score": (_BLEU, _PRONOUNS),
    "source": (_BLEU, "--maps"),
    "reference": (_BLEU, "--maps"),
    "sentences": (_BLEU, _PRONOUNS, "--maps"),
    "fresh": ("--aer",),
    "layout": ("--maps", _PAGE),
    "against": ("--maps", _PAGE),
}
"""What reads each option that not everything reads."""
Kind = Literal["encoder", "decoder", "cross"]


class Result(Protocol):
    """What a study found: for people, and for programs."""

    def to_text(self) -> str: ...
    def to_record(self) -> dict[str, Any]: ...


def inspect(
    context: typer.Context,
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
    part: Annotated[
        int | None, typer.Option(min=1, help="Which part of a text that is translated in several.", show_default="the first")
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
    sentences: Annotated[int | None, typer.Option(min=1, help="With --ablate, --maps: so many of them.", show_default="200, 1000")] = None,
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
    layout: Annotated[
        Literal["pca", "tsne", "umap"],
        typer.Option(help="How --maps and the page lay out points; tsne needs the extra maps, umap the extra umap."),
    ] = "pca",
    against: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Hold its layers against this model's, in --maps and the page.", show_default=False)
    ] = None,
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

    outlet = _outlet(output)
    studying = {
        _PRONOUNS if score == "pronouns" else _BLEU: ablate is not None,
        "--antecedent": antecedent,
        "--aer": aer,
        "--maps": maps,
        "--film": film,
        "--projector": projector is not None,
        "--permute": permute,
        "--edit": bool(edit),
    }
    looking = outlet is not None or draw or not any(studying.values())
    if json and draw:
        raise UsageError("--text and --json", expected="one of them")
    looks = {outlet or "": outlet is not None, _FACTS: json and looking, _DRAWING: draw or (looking and outlet is None and not json)}
    _refuse_unread(context, [use for use, wanted in (studying | looks).items() if wanted])

    translator = vitrail.load(model, device=device, threads=threads)
    other = None if against is None else (str(against), vitrail.load(against, device=device, threads=threads))
    search = _search(translator, beams)
    edits = _parse(translator, edit) if edit else None
    studies: list[Result] = []
    if ablate is not None:
        studies.append(_ablate(translator, model, score=score, source=source, reference=reference, sentences=sentences or 200))
    if antecedent:
        studies.append(_antecedents(translator))
    if aer:
        studies.append(_alignment_errors(translator, fresh))
    if maps:
        pairs = _pairs(model, source, reference, sentences or 1000)
        studies.append(_maps(translator, pairs, layout=layout, against=other))
    if film:
        studies.append(_film(model))
    if projector is not None:
        _project(translator, projector)
    if permute:
        studies.append(_permute(translator, _required(text), part))
    if edits is not None:
        studies.append(_change(translator, _required(text), edits, _Asked(translation, part, prefix, search)))
    if any(studying.values()):
        _show(studies, json=json)
    if not looking:
        return
    inspection = _look(translator, _required(text), edits, _Asked(translation, part, prefix, search))
    if not plain and outlet in (_PAGE, _RECORD):
        from vitrail.inspection.complete import MAPPED, complete

        mapped = MAPPED if outlet == _PAGE else 0
        inspection = complete(inspection, translator, model, edit=edits, maps=mapped, layout=layout, against=other)
    elif not plain and (outlet is None or draw or json):
        inspection = _align(inspection, translator, model)
    if output is not None:
        _write(inspection, output, outlet, language=language, attention=(kind, layer, head))
    if json and not studies:
        console.show(inspection.facts.model_dump_json(indent=2))
    if looks[_DRAWING]:
        _draw(inspection, attention=(kind, layer, head))


def _outlet(output: Path | None) -> str | None:
    """What to write, by the name of the file."""
    if output is None:
        return None
    if output.suffix.lower() not in _OUTLETS:
        raise UsageError(f"{output}: how to write it, its name does not tell", expected=f"a name that ends in one of {', '.join(_OUTLETS)}")
    return _OUTLETS[output.suffix.lower()]


def _refuse_unread(context: typer.Context, uses: list[str]) -> None:
    """Raises UsageError for an option that was given and that nothing asked for reads."""
    for name, readers in _READERS.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and not set(readers) & set(uses):
            told = "a sentence" if name == "text" else f"--{name}"
            raise UsageError(f"{told}, which {' and '.join(uses)} does not read", expected=f"with {' or '.join(readers)}")


def _required(text: str) -> str:
    if not text.strip():
        raise UsageError("no sentence to look at", expected='vitrail inspect MODEL "A sentence." -o page.html')
    return text


def _search(translator: "InspectableTranslator", beams: int | None) -> "SearchConfig":
    from vitrail.commands.translating.translate import adapt_search

    return adapt_search(translator.search, beams=beams, n_best=1, length_penalty=None, sampling=None)


def _parse(translator: "InspectableTranslator", edits: list[str]) -> "Edit":
    from vitrail.inspection.causes.change import parse_edit

    return parse_edit(translator, edits)


class _Asked(NamedTuple):
    """What the options say of the translation to look at."""

    translation: str | None
    part: int | None
    prefix: str
    search: "SearchConfig"


def _look(translator: "InspectableTranslator", text: str, edits: "Edit | None", asked: _Asked) -> "Inspection":
    from vitrail.decode.translate import TextConstraints

    constraints = TextConstraints(prefix=asked.prefix)
    return translator.inspect(text, asked.translation, part=asked.part, search=asked.search, constraints=constraints, edit=edits)


def _align(inspection: "Inspection", translator: "InspectableTranslator", model: Path) -> "Inspection":
    from vitrail.inspection.alignment.word_alignment import align, heads_for

    return align(inspection, heads=heads_for(translator, model)) if inspection.attentions("cross") else inspection


def _write(
    inspection: "Inspection", output: Path, outlet: str | None, *, language: str, attention: tuple[Kind, int | None, int | None]
) -> None:
    if outlet == _FIGURE:
        from vitrail.inspection.drawing.figures import draw_attention

        kind, layer, head = attention
        draw_attention(inspection, output, kind=kind, layer=layer, head=head)
    elif outlet == _PAGE:
        from vitrail.files import write_file
        from vitrail.inspection.page import is_page, to_html

        write_file(output, to_html(inspection, language=language).encode("utf-8", "replace"), ours=is_page)
    else:
        inspection.save(output)
    console.say(f"wrote {output}")


def _draw(inspection: "Inspection", *, attention: tuple[Kind, int | None, int | None]) -> None:
    from vitrail.inspection.drawing.terminal import to_text

    kind, layer, head = attention
    console.show(to_text(inspection, kind=kind, layer=layer, head=head, colour=sys.stdout.isatty()))


def _change(translator: "InspectableTranslator", text: str, edits: "Edit", asked: _Asked) -> Result:
    from vitrail.decode.translate import TextConstraints

    constraints = TextConstraints(prefix=asked.prefix)
    return translator.edit(text, edits, translation=asked.translation, part=asked.part, search=asked.search, constraints=constraints)


def _permute(translator: "InspectableTranslator", text: str, part: int | None) -> Result:
    from vitrail.inspection.causes.permutation import permute

    return permute(translator, text, part=part)


def _ablate(
    translator: "InspectableTranslator", model: Path, *, score: str, source: Path | None, reference: Path | None, sentences: int
) -> Result:
    from vitrail.inspection.causes.ablation import ablate_heads, ablate_pronouns

    if score == "pronouns":
        return ablate_pronouns(translator, sentences=sentences, say=console.say)
    sources, references = _pairs(model, source, reference, sentences)
    return ablate_heads(translator, sources, references, say=console.say)


def _antecedents(translator: "InspectableTranslator") -> Result:
    from vitrail.inspection.studies.antecedent import find_antecedents

    return find_antecedents(translator, say=console.say)


def _alignment_errors(translator: "InspectableTranslator", fresh: int | None) -> Result:
    from vitrail.inspection.alignment.alignment_error import phrasebook_aer

    return phrasebook_aer(translator, fresh=fresh)


def _maps(
    translator: "InspectableTranslator",
    pairs: tuple[list[str], list[str]],
    *,
    layout: Literal["pca", "tsne", "umap"],
    against: "tuple[str, InspectableTranslator] | None",
) -> Result:
    from vitrail.inspection.maps.model_map import map_model

    name, other = against or ("", None)
    return map_model(translator, pairs[0], translations=pairs[1], method=layout, other=other, other_name=name)


def _film(model: Path) -> Result:
    from vitrail.inspection.film.frames import read_film

    found = read_film(model)
    if not found.frames:
        raise ModelError(f"{model}: holds no film", expected="a run trained with --film, as is usual")
    return found


def _project(translator: "InspectableTranslator", folder: Path) -> None:
    from vitrail.inspection.maps.projector import export_embeddings

    export_embeddings(translator, folder)
    console.say(f"wrote {folder}: tensorboard --logdir {folder}")


def _pairs(model: Path, source: Path | None, reference: Path | None, count: int) -> tuple[list[str], list[str]]:
    """Sentences and their translations: the files', or those of the run's dev set."""
    from vitrail.evaluation.report import read_sentences
    from vitrail.inspection.maps.model_map import dev_pairs

    if (source is None) != (reference is None):
        raise UsageError("one side of the text", expected="--source FILE and --reference FILE")
    if source is None or reference is None:
        try:
            return dev_pairs(model, count=count)
        except ModelError as error:
            raise ModelError(error.found, expected=error.expected, remedy="give text: --source FILE --reference FILE") from None
    sources = read_sentences(source)
    references = read_sentences(reference, like=sources, beside=source)
    return list(sources[:count]), list(references[:count])


def _show(studies: list[Result], *, json: bool) -> None:
    if json:
        records = [study.to_record() for study in studies]
        console.show_json(records[0] if len(records) == 1 else records)
    else:
        for study in studies:
            console.show(study.to_text())
