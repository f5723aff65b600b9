"""vitrail inspect STUDY: what a whole model has learned, and what its parts are for."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import typer

from vitrail.commands.shared import console
from vitrail.errors import ModelError, UsageError

if TYPE_CHECKING:
    from vitrail.inspection.generator import InspectableGenerator
    from vitrail.inspection.reading.reader import Reader
    from vitrail.inspection.translator import InspectableTranslator
    from vitrail.models.architectures import TaskName

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A run or a model folder.")]
Part = Annotated[int | None, typer.Option(min=1, help="Which part of a text that is translated in several.", show_default="the first")]


class Result(Protocol):
    """What a study found: for people, and for programs."""

    def to_text(self) -> str: ...
    def to_record(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Sentences:
    """The text that a study is made on."""

    source: Annotated[Path | None, typer.Option(metavar="FILE", help="Sentences, one a line.", show_default="the run's dev set")] = None
    reference: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Their translations, line by line.", show_default="the run's dev set")
    ] = None
    sentences: Annotated[int, typer.Option(min=1, help="So many of them, at most.")] = 200

    def pairs(self, model: Path) -> tuple[list[str], list[str]]:
        """Sentences and their translations: the files', or those of the run's dev set. Raises UsageError, ModelError."""
        from vitrail.evaluation.report import read_sentences
        from vitrail.inspection.maps.model_map import dev_pairs

        if (self.source is None) != (self.reference is None):
            raise UsageError("one side of the text", expected="--source FILE and --reference FILE")
        if self.source is None or self.reference is None:
            try:
                return dev_pairs(model, count=self.sentences)
            except ModelError as error:
                raise ModelError(error.found, expected=error.expected, remedy="give text: --source FILE --reference FILE") from None
        sources = read_sentences(self.source)
        references = read_sentences(self.reference, like=sources, beside=self.source)
        return list(sources[: self.sentences]), list(references[: self.sentences])

    def lines(self, model: Path) -> list[str]:
        """Lines of a text: the file's, or those of the run's dev text. Raises UsageError, ModelError."""
        from vitrail.evaluation.report import read_sentences
        from vitrail.inspection.maps.model_map import dev_lines

        if self.reference is not None:
            raise UsageError("--reference, with a model of plain text", expected="a text by itself", remedy="--source FILE alone")
        if self.source is not None:
            return list(read_sentences(self.source)[: self.sentences])
        try:
            return dev_lines(model, count=self.sentences)
        except ModelError as error:
            raise ModelError(error.found, expected=error.expected, remedy="give text: --source FILE") from None

    def labelled(self, model: Path) -> tuple[list[str], list[str]]:
        """Texts and their labels: the files', or those of the run's dev set. Raises UsageError, ModelError."""
        from vitrail.data.preparing.prepared import PreparedLabels, open_data

        if self.source is not None or self.reference is not None:
            return self.pairs(model)
        data = open_data(model / "data") if (model / "data").is_dir() else None
        if not isinstance(data, PreparedLabels) or not data.dev.source:
            raise ModelError(
                f"{model}: has no dev set",
                expected="the folder of a classifier's run, with its data/",
                remedy="give texts and labels: --source FILE --reference FILE",
            )
        return list(data.dev.source[: self.sentences]), list(data.dev.label[: self.sentences])


@dataclass(frozen=True)
class Mapping:
    """How points are laid out, and what layers are held against."""

    layout: Annotated[
        Literal["pca", "tsne", "umap"] | None,
        typer.Option(help="How maps lay out points; tsne needs the extra maps, umap the extra umap.", show_default="pca"),
    ] = None
    against: Annotated[Path | None, typer.Option(metavar="MODEL", help="Hold the layers against this model's.", show_default=False)] = None

    def other(self, machine: console.Machine) -> "tuple[str, InspectableTranslator] | None":
        """The other model by name."""
        return None if self.against is None else (str(self.against), load(self.against, machine, study="--against"))


_FITTING: "dict[TaskName, tuple[str, ...]]" = {
    "language": ("heads", "maps", "film", "projector"),
    "masked": ("heads", "maps", "film", "projector"),
    "classification": ("heads", "maps", "film", "projector"),
    "autoencoding": ("heads", "maps", "film", "projector", "bottleneck"),
}
"""The studies of each kind of model but translators, which have all."""


def require_fitting(study: str, model: Path, *, needs: str = "a model that translates") -> "TaskName | None":
    """The task of a model; None where no model can be read. Raises UsageError for a study that is not for it."""
    from vitrail.models.architectures import TASK_MODELS
    from vitrail.models.stored import task_of_folder

    task = task_of_folder(model)
    if task is None or task == "translation" or study in _FITTING.get(task, ()):
        return task
    ways = [f'vitrail inspect {model} "A text."'] if task != "autoencoding" else []
    ways += [f"vitrail inspect {one} {model}" + (' "A text."' if one == "bottleneck" else "") for one in _FITTING.get(task, ())]
    raise UsageError(f"{model}: holds {TASK_MODELS[task]}", expected=f"for {study}: {needs}", remedy=" or ".join(ways))


def load_inspectable(model: Path, machine: console.Machine) -> "InspectableTranslator | InspectableGenerator | Reader":
    """The model to look into, of any kind that can be inspected."""
    import vitrail

    return vitrail.load(model, device=machine.device, threads=machine.threads)


def load(model: Path, machine: console.Machine, *, study: str) -> "InspectableTranslator":
    """The translator to look into. Raises UsageError for another kind of model."""
    require_fitting(study, model)
    import vitrail

    return vitrail.load(model, device=machine.device, threads=machine.threads)


def show(found: Result, *, json: bool) -> None:
    """What a study found, on stdout."""
    if json:
        console.show_json(found.to_record())
    else:
        console.show(found.to_text())


@console.with_groups
def heads(
    model: Model,
    *,
    score: Annotated[
        Literal["bleu", "pronouns"], typer.Option(help="bleu: of the sentences; pronouns: right ones on the built-in phrasebook.")
    ] = "bleu",
    text: Sentences,
    machine: console.Machine,
    json: console.Json = False,
) -> None:
    """Switch off one head after the other, and score what the model then says.

    The translations; of a language model what it expects next, of a masked one what it guesses, of a classifier its labels,
    of an autoencoder what it gives back.
    """
    from vitrail.inspection.causes.ablation import (
        ablate_guesses,
        ablate_heads,
        ablate_labels,
        ablate_next_token,
        ablate_pronouns,
        ablate_reconstruction,
    )
    from vitrail.inspection.generator import InspectableGenerator
    from vitrail.inspection.reading.reader import InspectableClassifier, InspectableFiller
    from vitrail.inspection.translator import InspectableTranslator

    if require_fitting("heads", model) in _FITTING:
        if score == "pronouns":
            raise UsageError("--score pronouns, with another model", expected="a model that translates", remedy="leave --score out")
        match load_inspectable(model, machine):
            case InspectableGenerator() as generator:
                found = ablate_next_token(generator, text.lines(model), say=console.say)
            case InspectableFiller() as filler:
                found = ablate_guesses(filler, text.lines(model), say=console.say)
            case InspectableClassifier() as classifier:
                found = ablate_labels(classifier, *text.labelled(model), say=console.say)
            case InspectableTranslator() as autoencoder:
                found = ablate_reconstruction(autoencoder, text.lines(model), say=console.say)
        show(found, json=json)
        return
    if score == "pronouns":
        if text.source is not None or text.reference is not None:
            raise UsageError("--source or --reference with --score pronouns", expected="the phrasebook's own sentences, or --score bleu")
        show(ablate_pronouns(load(model, machine, study="heads"), sentences=text.sentences, say=console.say), json=json)
        return
    translator = load(model, machine, study="heads")
    show(ablate_heads(translator, *text.pairs(model), say=console.say), json=json)


@console.with_groups
def antecedents(model: Model, *, machine: console.Machine, json: console.Json = False) -> None:
    """Which heads look from a pronoun to what it stands for?

    On sentences of the built-in phrasebook.
    """
    from vitrail.inspection.studies.antecedent import find_antecedents

    show(find_antecedents(load(model, machine, study="antecedents"), say=console.say), json=json)


@console.with_groups
def align(
    model: Model,
    *,
    fresh: Annotated[
        int | None, typer.Option(metavar="SEED", help="Not the test set, but new sentences of this seed.", show_default=False)
    ] = None,
    machine: console.Machine,
    json: console.Json = False,
) -> None:
    """Alignment error rate of cross-attention.

    On the built-in phrasebook, whose links are known. Of text of your own: vitrail align MODEL --source FILE --target FILE --gold FILE.
    """
    from vitrail.inspection.alignment.alignment_error import phrasebook_aer

    show(phrasebook_aer(load(model, machine, study="align"), fresh=fresh), json=json)


MAPPED = Sentences(sentences=1000)
"""The text of maps where nothing else is asked for."""


@console.with_groups
def maps(model: Model, *, text: Sentences = MAPPED, mapping: Mapping, machine: console.Machine, json: console.Json = False) -> None:
    """Likeness of layers, retrieval of translations, neighbours."""
    from vitrail.inspection.maps.model_map import map_model, map_text
    from vitrail.models.architectures import TASK_MODELS

    task = require_fitting("maps", model)
    if task in _FITTING:
        if mapping.against is not None:
            raise UsageError(f"--against, with {TASK_MODELS[task]}", expected="a model that translates", remedy="leave --against out")
        lines = text.lines(model)
        show(map_text(load_inspectable(model, machine), lines, method=mapping.layout or "pca"), json=json)
        return
    translator = load(model, machine, study="maps")
    name, other = mapping.other(machine) or ("", None)
    sources, targets = text.pairs(model)
    method = mapping.layout or "pca"
    show(map_model(translator, sources, translations=targets, method=method, other=other, other_name=name), json=json)


def film(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run that was filmed as it was trained.")],
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE.html", help="Write a page.", show_default=False)] = None,
    json: console.Json = False,
) -> None:
    """What became of the probe sentences as the run was trained, for every kind of model.

    What it said of them, what it attended to, and how probable it held what is right.
    """
    from vitrail.files import require_own, write_file
    from vitrail.inspection.film.frames import read_film
    from vitrail.inspection.film.record import film_alone
    from vitrail.inspection.page import is_page, to_html
    from vitrail.models.model_folder import load_folder

    loaded = load_folder(run)  # it says what is wrong with another folder
    found = read_film(run)
    if not found.frames:
        raise ModelError(
            f"{run}: holds no film",
            expected="a run that was filmed as it was trained, which has a dev set",
            remedy="train it in a new folder, without --no-film",
        )
    if output is not None:
        require_own({output: is_page}, what="the page")
        page = to_html(film_alone(found, loaded.config, name=run.resolve().name))
        write_file(output, page.encode("utf-8", "replace"), ours=is_page)
        console.say(f"wrote {output}")
    if output is None or json:
        show(found, json=json)


@console.with_groups
def projector(
    model: Model,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write them.")],
    machine: console.Machine,
) -> None:
    """Write the embeddings of all tokens for TensorBoard's projector."""
    from vitrail.inspection.maps.projector import export_embeddings, export_text_embeddings
    from vitrail.inspection.translator import InspectableTranslator

    require_fitting("projector", model)
    inspector = load_inspectable(model, machine)
    if isinstance(inspector, InspectableTranslator):
        export_embeddings(inspector, output)
    else:
        export_text_embeddings(inspector, output)
    console.say(f"wrote {output}: tensorboard --logdir {output}")


@console.with_groups
def order(
    model: Model,
    text: Annotated[str, typer.Argument(metavar="SENTENCE", help="The sentence whose words are put in another order.")],
    *,
    part: Part = None,
    machine: console.Machine,
    json: console.Json = False,
) -> None:
    """Does the order of the words matter to the encoder?

    One sentence is held against the same words in another order.
    """
    from vitrail.inspection.causes.permutation import permute

    show(
        permute(
            load(model, machine, study="order"), require_sentence(text, example='vitrail inspect order MODEL "A sentence."'), part=part
        ),
        json=json,
    )


@console.with_groups
def bottleneck(
    model: Annotated[Path, typer.Argument(metavar="AUTOENCODER", help="A run or a model folder of an autoencoder.")],
    text: Annotated[str, typer.Argument(metavar="SENTENCE", help="The sentence to look at.")],
    *,
    beside: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="A Transformer that translates, to stand beside it.", show_default=False)
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--text", metavar="FILE", help="Sentences to compare with.", show_default="the run's dev text")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE.html", help="Write a page.", show_default=False)] = None,
    machine: console.Machine,
    json: console.Json = False,
) -> None:
    """An autoencoder's one vector beside a Transformer encoder's one vector per token.

    What each gives back; what is lost as the vector narrows; what happens when a token's vector is removed.
    """
    from vitrail.decode.sentences.autoencoder import Autoencoder
    from vitrail.evaluation.report import read_sentences
    from vitrail.files import require_own, write_file
    from vitrail.inspection.bottleneck.beside import Beside
    from vitrail.inspection.bottleneck.one_vector import look_at_vector
    from vitrail.inspection.bottleneck.token_vectors import look_at_tokens
    from vitrail.models.model_folder import load_model
    from vitrail.reports.charts import is_page
    from vitrail.runtime.device import choose_device

    require_sentence(text, example='vitrail inspect bottleneck AUTOENCODER "A sentence."')
    require_fitting("bottleneck", model, needs="an autoencoder")
    if output is not None:
        require_own({output: is_page}, what="the page")
    autoencoder = Autoencoder.load(model, threads=machine.threads, device=machine.device)
    dev = model / "data" / "dev.text"
    if source is None and not dev.exists():
        raise UsageError(f"{model}: has no dev text of its own", expected="--text FILE, sentences to compare with")
    texts = read_sentences(source or dev)[:_COMPARED]
    tokens = None
    if beside is not None:
        tokens = look_at_tokens(load_model(beside, device=choose_device(machine.device)), text, texts, name=str(beside))
    found = Beside(model.name, look_at_vector(autoencoder, text, texts), "" if beside is None else beside.name, tokens)
    if output is not None:
        write_file(output, found.to_html().encode("utf-8", "replace"))
        console.say(f"wrote {output}")
    if output is None or json:
        show(found, json=json)


_COMPARED = 1000
"""Sentences that one is compared with, at most."""


def require_sentence(text: str, *, example: str) -> str:
    """A text with something in it. Raises UsageError with the example."""
    if not text.strip():
        raise UsageError("no sentence to look at", expected=example)
    return text


STUDIES = (heads, antecedents, align, maps, film, projector, order, bottleneck)
"""In the order in which they are listed."""
