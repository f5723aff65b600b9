"""vitrail inspect: look inside a model, for one sentence, or at the whole model by one of the studies."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from vitrail.commands.inspecting.looking import Asked, Mapped, look
from vitrail.commands.inspecting.studies import STUDIES, Mapping, Model, load_inspectable, require_sentence, show
from vitrail.commands.shared import console
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.inspection.record import Inspection

_PAGE, _RECORD, _FIGURE, _DRAWING, _FACTS = "-o FILE.html", "-o FILE.npz", "-o FILE.svg", "--text", "--json"
_OUTLETS = {".html": _PAGE, ".htm": _PAGE, ".npz": _RECORD, ".png": _FIGURE, ".svg": _FIGURE, ".pdf": _FIGURE}
_READERS = {
    "--kind": (_DRAWING, _FIGURE),
    "--layer": (_DRAWING, _FIGURE),
    "--head": (_DRAWING, _FIGURE),
    "--language": (_PAGE,),
    "--plain": (_PAGE, _RECORD, _DRAWING, _FACTS),
    "--layout": (_PAGE,),
    "--against": (_PAGE,),
}
"""What reads each option that not every kind of output reads."""
Kind = Literal["encoder", "decoder", "cross"]


@dataclass(frozen=True)
class Showing:
    """What is written and drawn of it."""

    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A page (.html), the record (.npz), or a figure of the attention (.svg, .pdf, .png).",
            show_default=False,
        ),
    ] = None
    draw: Annotated[bool, typer.Option("--text", help="Draw in the terminal, as is done where no file is named.")] = False
    json: console.Json = False
    kind: Annotated[
        Kind | None, typer.Option(help="Which attention the terminal or a figure shows.", show_default="to the source, else of the text")
    ] = None
    layer: Annotated[int | None, typer.Option(min=0, help="Its layer, from 0.", show_default="the last")] = None
    head: Annotated[int | None, typer.Option(min=0, help="Its head, from 0.", show_default="the average")] = None
    language: Annotated[Literal["en", "fr"] | None, typer.Option(help="Of the page's own words.", show_default="en")] = None
    plain: Annotated[bool, typer.Option("--plain", help="The record alone, without attributions, alignment and maps.")] = False

    @property
    def outlet(self) -> str | None:
        """What to write, by the name of the file. Raises UsageError."""
        if self.output is None:
            return None
        if self.output.suffix.lower() not in _OUTLETS:
            expected = f"a name that ends in one of {', '.join(_OUTLETS)}"
            raise UsageError(f"{self.output}: how to write it, its name does not tell", expected=expected)
        return _OUTLETS[self.output.suffix.lower()]

    def uses(self, *, edited: bool) -> list[str]:
        """All that is made. Without a word about it, a drawing; of an edit, what it changed alone."""
        looks = self.outlet is not None or self.draw or not edited
        drawn = self.draw or (looks and self.outlet is None and not self.json)
        made = {"--edit": edited, self.outlet or "": self.outlet is not None, _FACTS: self.json and looks, _DRAWING: drawn}
        return [use for use, wanted in made.items() if wanted]


@console.with_groups
def sentence(
    model: Model,
    text: Annotated[
        str, typer.Argument(metavar="SENTENCE", help="The sentence, or the text; [MASK] hides a token.", show_default=False)
    ] = "",
    *,
    asked: Asked,
    search: console.SearchWithin,
    showing: Showing,
    mapping: Mapping,
    machine: console.Machine,
) -> None:
    """See through a model: what it attends to, layer by layer, and how it found a translation, what it expects, guesses or decides.

    vitrail inspect runs/en-fr "I am good." -o page.html

    A study looks at the whole model: vitrail inspect heads runs/en-fr
    """
    if showing.json and showing.draw:
        raise UsageError("--text and --json", expected="one of them")
    uses = showing.uses(edited=bool(asked.edit))
    _refuse_unread([*console.given_options(showing), *console.given_options(mapping)], uses)
    inspector = load_inspectable(model, machine)
    text = require_sentence(text, example='vitrail inspect MODEL "A sentence." -o page.html')
    looked = look(inspector, text, asked, search, mapping)
    other = mapping.other(machine)
    if asked.edit:
        show(looked.change(), json=showing.json)
    if uses == ["--edit"]:
        return
    inspection = looked.inspect()
    if not showing.plain and showing.outlet in (_PAGE, _RECORD):
        mapped = Mapped(mapping.layout or "pca", other) if showing.outlet == _PAGE else None
        inspection = looked.complete(inspection, model, mapping=mapped)
    elif not showing.plain and {_DRAWING, _FACTS} & set(uses):
        inspection = looked.explain(inspection, model)
    _put_out(inspection, showing, uses)


def _put_out(inspection: "Inspection", showing: Showing, uses: list[str]) -> None:
    if showing.output is not None:
        _write(inspection, showing.output, showing)
    if _FACTS in uses and "--edit" not in uses:
        console.show(inspection.facts.model_dump_json(indent=2))
    if _DRAWING in uses:
        from vitrail.inspection.drawing.terminal import to_text

        console.show(to_text(inspection, kind=showing.kind, layer=showing.layer, head=showing.head, colour=sys.stdout.isatty()))


def _refuse_unread(given: list[str], uses: list[str]) -> None:
    """Raises UsageError for an option that was given and that nothing asked for reads."""
    for option, readers in _READERS.items():
        if option in given and not set(readers) & set(uses):
            raise UsageError(f"{option}, which {' and '.join(uses)} does not read", expected=f"with {' or '.join(readers)}")


def _write(inspection: "Inspection", output: Path, showing: Showing) -> None:
    if showing.outlet == _FIGURE:
        from vitrail.inspection.drawing.figures import draw_attention

        draw_attention(inspection, output, kind=showing.kind, layer=showing.layer, head=showing.head)
    elif showing.outlet == _PAGE:
        from vitrail.files import write_file
        from vitrail.inspection.page import is_page, to_html

        write_file(output, to_html(inspection, language=showing.language or "en").encode("utf-8", "replace"), ours=is_page)
    else:
        inspection.save(output)
    console.say(f"wrote {output}")


# ---- one sentence, or a study ----------------------------------------------------------------------------------------------------

_MOVED = {
    "--ablate": "heads {model}",
    "--antecedent": "antecedents {model}",
    "--aer": "align {model}",
    "--maps": "maps {model}",
    "--film": "film {model}",
    "--projector": "projector {model} -o FOLDER",
    "--permute": 'order {model} "A SENTENCE."',
}
"""Options of the release before, and the studies that they became."""


class _SentenceCommand(TyperCommand):
    """Looks at one sentence; its help lists the studies as well."""

    studies: TyperGroup | None = None

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.studies is None:
            return
        rows = [(name, study.get_short_help_str(formatter.width)) for name, study in self.studies.commands.items()]
        with formatter.section("Studies, each with a --help of its own"):
            formatter.write_dl(rows)


class _StudyOrSentence(TyperGroup):
    """A study where its name comes first, else one sentence."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.default = self.commands.pop(sentence.__name__)
        """What is done where no study is named first."""
        assert isinstance(self.default, _SentenceCommand)
        self.default.studies = self

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        if args and args[0] in self.commands:
            _refuse_ambiguous(args)
            return super().make_context(info_name, args, parent, **extra)
        _refuse_moved(args)
        return self.default.make_context(info_name, args, parent, **extra)


def _refuse_ambiguous(args: list[str]) -> None:
    """Raises UsageError where a folder has the name of a study, and what follows is neither a model nor an option."""
    rest = args[1:2]
    if Path(args[0]).is_dir() and not any(one.startswith("-") or Path(one).exists() for one in rest):
        raise UsageError(
            f"{args[0]}: a study, and a folder here",
            expected=f"vitrail inspect {args[0]} MODEL",
            remedy=f"for the model in the folder: vitrail inspect ./{args[0]}",
        )


def _refuse_moved(args: list[str]) -> None:
    """Raises UsageError for an option that became a study."""
    options = args[: args.index("--")] if "--" in args else args
    for option in (argument.partition("=")[0] for argument in options):
        if option in _MOVED:
            model = args[0] if not args[0].startswith("-") else "MODEL"
            raise UsageError(
                f"vitrail inspect {option}", expected="a study by its name", remedy=f"vitrail inspect {_MOVED[option].format(model=model)}"
            )


inspect = typer.Typer(name="inspect", cls=_StudyOrSentence, help="See through a model: one sentence, or a study of the whole.")
inspect.command(cls=_SentenceCommand)(sentence)
for _study in STUDIES:
    inspect.command()(_study)
