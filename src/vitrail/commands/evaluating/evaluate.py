"""vitrail evaluate: scores of a file of translations, or of a model of any kind."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from vitrail.commands.shared import console
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.evaluation.report import Evaluation
    from vitrail.evaluation.scores import Recipe


TEST, DEV = "test", "dev"


@dataclass(frozen=True)
class Files:
    """What translations are held against."""

    reference: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Right translations; several files for several references.", show_default=False),
    ] = None
    source: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The source sentences: scores by their length as well.", show_default=False)
    ] = None
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another system's translations, to test the difference.", show_default=False)
    ] = None
    tokenised: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Lowercased, tokenised references, for a figure like published ones.", show_default=False),
    ] = None
    on: Annotated[
        str,
        typer.Option(metavar="NAME", help="The set of a run to score it on: dev, or the name of another dev set.", show_default="test"),
    ] = ""
    examples: Annotated[
        str, typer.Option(metavar="FILE[,FILE]", help="Of a classifier: texts with their labels, as for train.", show_default=False)
    ] = ""


@dataclass(frozen=True)
class Scores:
    """What is computed."""

    language: Annotated[
        str, typer.Option(metavar="CODE", help="Of the translations, such as fr.", show_default="the run's, or by the text")
    ] = ""
    metrics: Annotated[
        str, typer.Option(help="Some of bleu, chrf, chrf++, ter.", show_default="bleu,chrf,ter; ter for sentences, not for long lines")
    ] = ""
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the 95 % intervals; 0: none.")] = 1000

    def recipe(self) -> "Recipe":
        """The same, checked. Raises UsageError for a metric that is not known."""
        from vitrail.evaluation.scores import USUAL_METRICS, Recipe

        metrics = tuple(name.strip() for name in self.metrics.split(",")) if self.metrics else USUAL_METRICS
        return Recipe(metrics, bootstrap=self.bootstrap)


@console.with_groups
def evaluate(
    hypothesis: Annotated[Path, typer.Argument(metavar="FILE|MODEL", help="Translations, one a line; or a run, which then translates.")],
    *,
    files: Files,
    scores: Scores,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where a model's translations are kept.", show_default=False)
    ] = None,
    search: console.Search,
    machine: console.Machine,
    json: console.Json = False,
) -> None:
    """Score translations: BLEU, chrF and TER with 95 % intervals and signatures.

    vitrail evaluate output.fr --reference right.fr, or vitrail evaluate runs/en-fr --source test.en --reference test.fr.
    A run without files is scored on its own test set, or with --on NAME on one of its dev sets. Of a language model:
    perplexity, on its own test text or on --source FILE; of an autoencoder: how many lines it gives back exactly.
    Of a classifier: accuracy, F1 and Matthews' correlation with 95 % intervals, and confusions, also on --examples FILE.
    """
    from vitrail.languages import parse_language

    if scores.language:
        parse_language(scores.language)
    searching = console.given_options(search)
    if hypothesis.is_dir() and _is_classifier(hypothesis):
        read = {"--examples"} & set(console.given_options(files)) | {"--bootstrap"} & set(console.given_options(scores))
        if output is not None or searching or {*console.given_options(files), *console.given_options(scores)} - read:
            raise UsageError(f"{hypothesis}: a classifier", expected="--examples FILE alone, or no file: its own test set")
        _measure_labels(hypothesis, files.examples, scores.bootstrap, machine, json=json)
        return
    if files.on and not hypothesis.is_dir():
        raise UsageError(f"--on {files.on} with {hypothesis}", expected="the folder of a run")
    if files.examples:
        raise UsageError(f"--examples {files.examples} with {hypothesis}", expected="the folder of a classifier")
    if not hypothesis.is_dir():
        if unread := [*searching, *(["--output"] if output is not None else [])]:
            raise UsageError(f"{hypothesis} is no model", expected=f"a run's folder with {' and '.join(unread)}")
        found = _score(hypothesis, files, scores.recipe(), language=scores.language)
    elif (kind := _trained_on_text(hypothesis)) is not None:
        read = {"--source"} & set(console.given_options(files))
        if output is not None or [*searching, *console.given_options(scores), *(set(console.given_options(files)) - read)]:
            raise UsageError(f"{hypothesis}: {kind}", expected="--source FILE alone: its score on that text")
        _measure(hypothesis, files.source, machine, json=json)
        return
    else:
        found = _score_model(hypothesis, files, scores, output=output, translating=Translating(search, machine))
    console.show(found.to_json() if json else found.to_text())


class Translating(NamedTuple):
    """How a model translates."""

    search: console.Search
    machine: console.Machine


def _score_model(model: Path, files: Files, scores: Scores, *, output: Path | None, translating: Translating) -> "Evaluation":
    if files.source is None and not files.reference:
        source, references = own_set(model, files.on or TEST)
        files = replace(files, source=source, reference=references)
    elif files.on:
        raise UsageError(f"--on {files.on} with files", expected="a set of the run, or files")
    if files.source is None:
        raise UsageError(f"{model}: a model, but no --source to translate", remedy="add --source FILE")
    recipe = scores.recipe()
    given = [path for path in (files.source, *_references(files), files.baseline, files.tokenised) if path is not None]
    if output is not None:
        _require_own(output, read=given)
    with tempfile.TemporaryDirectory() as scratch:
        translated = output or Path(scratch) / "translations"
        language = _translate(model, files.source, translated, translating)
        return _score(translated, files, recipe, language=scores.language or language)


def _score(hypothesis: Path, files: Files, recipe: "Recipe", *, language: str) -> "Evaluation":
    from vitrail.evaluation.report import evaluate_files

    given = {"source": files.source, "baseline": files.baseline, "tokenised": files.tokenised}
    return evaluate_files(hypothesis, _references(files), **given, language=language or None, recipe=recipe)


def _references(files: Files) -> list[Path]:
    if not files.reference:
        raise UsageError("no reference", expected="--reference FILE")
    return files.reference


def _require_own(output: Path, *, read: list[Path]) -> None:
    """Refuse to write translations over a file that holds anything but as many lines as there are sentences, or that is read."""
    from vitrail.evaluation.report import read_sentences
    from vitrail.files import require_own

    count = len(read_sentences(read[0]))
    require_own({output: lambda path: path.is_file() and path.read_bytes().count(b"\n") == count}, what="the translations", inputs=read)


def _trained_on_text(folder: Path) -> str | None:
    """What a model that is trained on plain text is called; None for another one, and where there is none."""
    from vitrail.models.architectures import TASK_MODELS
    from vitrail.models.stored import task_of_folder

    task = task_of_folder(folder)
    return TASK_MODELS[task] if task in ("language", "masked", "autoencoding") else None


def _measure(folder: Path, source: Path | None, machine: console.Machine, *, json: bool) -> None:
    """The score of a model on a text, or on its own test text."""
    from dataclasses import asdict, is_dataclass

    from vitrail.data.reading.lines import lines
    from vitrail.evaluation.kinds.text_score import measure_folder

    own = folder / "data" / "test.text"
    if source is None and not own.exists():
        raise UsageError(f"{folder}: has no test text of its own", expected="--source FILE")
    found = measure_folder(folder, list(lines(source or own)), threads=machine.threads, device=machine.device)
    if json:
        console.show_json((asdict(found) if is_dataclass(found) else {}) | found.figures())
    else:
        console.show(found.to_text())


def _is_classifier(folder: Path) -> bool:
    from vitrail.models.stored import task_of_folder

    return task_of_folder(folder) == "classification"


def _measure_labels(folder: Path, examples: str, bootstrap: int, machine: console.Machine, *, json: bool) -> None:
    """The scores of a classifier on given examples, or on its own test set."""
    from vitrail.commands.shared.data_options import parse_corpus
    from vitrail.config import build
    from vitrail.data.labels_config import Examples
    from vitrail.decode.sentences.classify import Classifier
    from vitrail.evaluation.kinds.label_report import evaluate_examples, read_examples, read_test

    if examples:
        held = read_examples(build(Examples, parse_corpus(examples, option="--examples"), origin="--examples"))
    else:
        held = read_test(folder)
    if held is None:
        raise UsageError(f"{folder}: has no test set of its own", expected="--examples FILE")
    classifier = Classifier.load(folder, engine="torch", threads=machine.threads, device=machine.device)
    found = evaluate_examples(classifier, *held, bootstrap=bootstrap)
    console.show(found.to_json() if json else found.to_text())


def own_set(folder: Path, name: str) -> tuple[Path, list[Path]]:
    """A set that a run holds: test, dev, or another dev set by its name. Raises UsageError where it has none of that name."""
    from vitrail.data.preparing.prepared import INDEX, more_dev_name, open_prepared

    data, file = folder / "data", name
    if name not in (TEST, DEV):
        known = list(open_prepared(data).more_dev) if (data / INDEX).exists() else []
        if name not in known:
            own = [one for one in (TEST, DEV) if (data / f"{one}.source").exists()]
            raise UsageError(f"{folder}: has no set {name!r}", expected=" or ".join([*own, *known]) or "a run with a test or dev set")
        file = more_dev_name(known.index(name))
    source, target = data / f"{file}.source", data / f"{file}.target"
    if not (source.exists() and target.exists()):
        raise UsageError(f"{folder}: has no {name} set of its own", expected="--source FILE --reference FILE")
    return source, [target]


def _translate(model: Path, source: Path, output: Path, how: Translating) -> str:
    """Write the translations of a file; returns the language that they are in, as the model knows it."""
    from vitrail.commands.translating.translate import load
    from vitrail.evaluation.report import read_sentences
    from vitrail.files import write_file

    texts = read_sentences(source)
    translator = load([model], how.machine)
    console.say(f"translating {len(texts):,} sentences")
    found = translator.translate(texts, search=how.search.adapt(translator.search))
    write_file(output, "".join(f"{one.text}\n" for one in found).encode())
    return translator.languages[1]
