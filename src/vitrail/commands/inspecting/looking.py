"""What `vitrail inspect` looks at, with each kind of model: a translation, a text that is written on, a text that is read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

import typer

from vitrail.commands.inspecting.studies import Mapping, Part
from vitrail.commands.shared import console
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.decode.search_config import SearchConfig
    from vitrail.inspection.causes.change import Change, Edit
    from vitrail.inspection.generator import InspectableGenerator
    from vitrail.inspection.maps.similarity import ProjectionMethod
    from vitrail.inspection.reading.change import ReadingChange
    from vitrail.inspection.reading.reader import InspectableClassifier, InspectableFiller, Reader
    from vitrail.inspection.record import Inspection
    from vitrail.inspection.translator import InspectableTranslator


@dataclass(frozen=True)
class Asked:
    """Which translation or text is looked at, and with what changed."""

    translation: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Look at this translation, not at the model's own.", show_default=False)
    ] = None
    part: Part = None
    of: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL|POSITION",
            help="What to explain: a label of a classifier, or the position of a token that a masked language model is to guess as well.",
            show_default="the label that the model gives; each mask",
        ),
    ] = None
    edit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT=VALUE",
            help="See what changes: off=encoder.0.self_attention:2, hide=dog, word=dog:cat, prefix=TEXT, patch=memory@1:SENTENCE.",
            show_default=False,
        ),
    ] = None


class Mapped(NamedTuple):
    """How maps are made."""

    layout: "ProjectionMethod"
    against: "tuple[str, InspectableTranslator] | None"
    """Another model by name, whose layers are compared with these."""


class Look(Protocol):
    """What is looked at, and what is to be changed."""

    def change(self) -> "Change | ReadingChange":
        """What the edit changes."""
        ...

    def inspect(self) -> "Inspection":
        """All that is computed, edited where there is an edit."""
        ...

    def explain(self, inspection: "Inspection", model: Path) -> "Inspection":
        """With what a drawing shows of causes."""
        ...

    def complete(self, inspection: "Inspection", model: Path, *, mapping: "Mapped | None") -> "Inspection":
        """With all analyses. Args: mapping: how to make maps; None: no maps."""
        ...


def look(
    inspector: "InspectableTranslator | InspectableGenerator | Reader",
    text: str,
    asked: Asked,
    search: console.SearchWithin,
    mapping: Mapping,
) -> Look:
    """What is looked at with this model. Raises UsageError for an option of another kind of model."""
    from vitrail.inspection.generator import InspectableGenerator
    from vitrail.inspection.translator import InspectableTranslator

    if not isinstance(inspector, InspectableTranslator | InspectableGenerator):
        return _look_read(inspector, text, asked, [*console.given_options(search), *console.given_options(mapping)])
    if asked.of:
        raise UsageError("--of, with a model that writes", expected="a masked language model or a classifier", remedy="leave --of out")
    if isinstance(inspector, InspectableTranslator):
        return _Looked(inspector, text, asked, search)
    unread = [option for option in ("--translation", "--part") if option in console.given_options(asked)]
    unread += [one for one in console.given_options(search) if one in ("--prefix", "--forbid", "--force")]
    unread += [one for one in console.given_options(mapping) if one == "--against"]
    if unread:
        raise UsageError(
            f"{', '.join(unread)}, with a language model", expected="a model that translates", remedy="--max-length N to write on"
        )
    if console.given_options(search) and not search.max_length:
        given = ", ".join(console.given_options(search))
        raise UsageError(f"{given} without --max-length", expected="--max-length N: so many tokens are written on, at most")
    return _LookedText(inspector, text, asked, search)


def _look_read(inspector: "Reader", text: str, asked: Asked, others: list[str]) -> "_Read":
    """The same for a model that writes nothing. Args: others: further options that were given."""
    from vitrail.inspection.reading.reader import InspectableFiller

    masked = isinstance(inspector, InspectableFiller)
    if unread := [one for one in console.given_options(asked) if one not in ("--of", "--edit")] + others:
        what = "a masked language model" if masked else "a classifier"
        raise UsageError(
            f"{', '.join(unread)}, with {what}", expected=f"with {what}: --of, --edit", remedy=f"leave {' and '.join(unread)} out"
        )
    return _Read(inspector, text, asked)


class _Read:
    """A text that is guessed at or classified."""

    def __init__(self, reader: "InspectableFiller | InspectableClassifier", text: str, asked: Asked) -> None:
        from vitrail.inspection.causes.change import Edit, parse_edit

        self._reader, self._text, self._asked = reader, text, asked
        self._edit = parse_edit(reader, asked.edit) if asked.edit else Edit()

    def change(self) -> "ReadingChange":
        """See `Look.change`."""
        from vitrail.inspection.reading.reader import InspectableFiller

        if isinstance(self._reader, InspectableFiller):
            return self._reader.edit(self._text, self._edit, at=_positions(self._asked.of or ()))
        return self._reader.edit(self._text, self._edit)

    def inspect(self) -> "Inspection":
        """All that is computed for the text, edited where there is an edit."""
        from vitrail.inspection.reading.reader import InspectableFiller

        if isinstance(self._reader, InspectableFiller):
            return self._reader.inspect(self._text, at=_positions(self._asked.of or ()), edit=self._edit)
        return self._reader.inspect(self._text, edit=self._edit)

    def complete(self, inspection: "Inspection", model: Path, *, mapping: "Mapped | None") -> "Inspection":
        """See `Look.complete`."""
        from vitrail.inspection.complete import add_film
        from vitrail.inspection.reading.reader import InspectableFiller

        if isinstance(self._reader, InspectableFiller) and inspection.facts.extras["guesses"]:
            with self._reader.applied(self._edit, inspection):
                inspection = self._reader.lens(inspection)
        return add_film(self.explain(inspection, model), model)

    def explain(self, inspection: "Inspection", model: Path) -> "Inspection":
        """With what each guess or label hangs on."""
        from vitrail.inspection.reading.reader import InspectableFiller

        with self._reader.applied(self._edit, inspection):
            if not isinstance(self._reader, InspectableFiller):
                return self._reader.attribute(inspection, labels=self._asked.of or ())
            return self._reader.attribute(inspection) if inspection.facts.extras["guesses"] else inspection


def _positions(of: Sequence[str]) -> list[int]:
    """Positions of tokens. Raises UsageError for anything else."""
    if wrong := [one for one in of if not one.isdecimal()]:
        raise UsageError(f"--of {wrong[0]}", expected="the position of a token, with a masked language model", remedy="--of 3")
    return [int(one) for one in of]


class _LookedText:
    """A text of a language model, and what is to be changed."""

    def __init__(self, generator: "InspectableGenerator", text: str, asked: Asked, search: console.SearchWithin) -> None:
        from vitrail.decode.search_config import SearchConfig
        from vitrail.inspection.causes.change import parse_edit

        self._generator, self._text, self._more = generator, text, search.max_length or 0
        self._search = replace(search, max_length=None).adapt(SearchConfig(beams=1))
        self.edit: Edit | None = parse_edit(generator, asked.edit) if asked.edit else None

    def change(self) -> "Change":
        """What the edit changes."""
        assert self.edit is not None
        return self._generator.edit(self._text, self.edit, more=self._more, search=self._search)

    def inspect(self) -> "Inspection":
        """All that is computed for the text, edited where there is an edit."""
        return self._generator.inspect(self._text, more=self._more, search=self._search, edit=self.edit)

    def explain(self, inspection: "Inspection", model: Path) -> "Inspection":
        """A language model's text is told by its steps alone."""
        return inspection

    def complete(self, inspection: "Inspection", model: Path, *, mapping: "Mapped | None") -> "Inspection":
        """See `Look.complete`."""
        from vitrail.inspection.complete import MAPPED, complete

        layout, against = mapping or Mapped("pca", None)
        maps = 0 if mapping is None else MAPPED
        return complete(inspection, self._generator, model, edit=self.edit, maps=maps, layout=layout, against=against)


class _Looked:
    """A sentence, its translation and what is to be changed."""

    def __init__(self, translator: "InspectableTranslator", text: str, asked: Asked, search: console.SearchWithin) -> None:
        from vitrail.decode.textual.text_constraints import TextConstraints
        from vitrail.inspection.causes.change import parse_edit

        self._translator, self._text, self._asked = translator, text, asked
        self._search: SearchConfig = search.adapt(translator.search)
        self._constraints: TextConstraints = TextConstraints(search.prefix, search.forbid or (), search.force or ())
        self.edit: Edit | None = parse_edit(translator, asked.edit) if asked.edit else None

    def change(self) -> "Change":
        """What the edit changes."""
        assert self.edit is not None
        asked = self._asked
        return self._translator.edit(
            self._text, self.edit, translation=asked.translation, part=asked.part, search=self._search, constraints=self._constraints
        )

    def inspect(self) -> "Inspection":
        """All that is computed on the way to the translation, edited where there is an edit."""
        asked = self._asked
        return self._translator.inspect(
            self._text, asked.translation, part=asked.part, search=self._search, constraints=self._constraints, edit=self.edit
        )

    def explain(self, inspection: "Inspection", model: Path) -> "Inspection":
        """With the alignment, where there is one."""
        from vitrail.inspection.alignment.word_alignment import align, heads_for

        if not inspection.attentions("cross"):
            return inspection
        return align(inspection, heads=heads_for(self._translator, model))

    def complete(self, inspection: "Inspection", model: Path, *, mapping: "Mapped | None") -> "Inspection":
        """See `Look.complete`."""
        from vitrail.inspection.complete import MAPPED, complete

        layout, against = mapping or Mapped("pca", None)
        maps = 0 if mapping is None else MAPPED
        return complete(inspection, self._translator, model, edit=self.edit, maps=maps, layout=layout, against=against)
