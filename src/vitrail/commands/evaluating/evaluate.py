"""vitrail evaluate: scores of a file of translations, or of a model."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from vitrail.commands.shared import console
from vitrail.errors import UsageError


def evaluate(
    hypothesis: Annotated[Path, typer.Argument(metavar="FILE|MODEL", help="Translations, one a line; or a run, which then translates.")],
    reference: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Right translations; several files for several references.", show_default=False),
    ] = None,
    source: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The source sentences: scores by their length as well.", show_default=False)
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another system's translations, to test the difference.", show_default=False)
    ] = None,
    tokenised: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Lowercased, tokenised references, for a figure like published ones.", show_default=False),
    ] = None,
    language: Annotated[
        str, typer.Option(metavar="CODE", help="Of the translations, such as fr.", show_default="the run's, or by the text")
    ] = "",
    metrics: Annotated[
        str, typer.Option(help="Some of bleu, chrf, chrf++, ter.", show_default="bleu,chrf,ter; ter for sentences, not for long lines")
    ] = "",
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the 95 % intervals; 0: none.")] = 1000,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where a model's translations are kept.", show_default=False)
    ] = None,
    beams: Annotated[int | None, typer.Option(min=1, help="Of a model's search.", show_default="the model's own")] = None,
    threads: console.Threads = 0,
    device: console.Device = "cpu",
    json: console.Json = False,
) -> None:
    """Score translations: BLEU, chrF and TER with 95 % intervals and signatures.

    vitrail evaluate output.fr --reference right.fr, or vitrail evaluate runs/en-fr --source test.en --reference test.fr.
    A run without files is scored on its own test set. Of a language model: perplexity, on its own test text or on --source FILE.
    """
    from vitrail.evaluation.report import evaluate_files
    from vitrail.evaluation.scores import USUAL_METRICS, Recipe
    from vitrail.languages import parse_language

    if language:
        parse_language(language)
    if hypothesis.is_dir() and _is_language_model(hypothesis):
        if reference or baseline is not None or tokenised is not None or output is not None or beams is not None:
            raise UsageError(f"{hypothesis}: a language model", expected="--source FILE alone: its perplexity on that text")
        _measure(hypothesis, source, threads=threads, device=device, json=json)
        return
    recipe = Recipe(tuple(name.strip() for name in metrics.split(",")) if metrics else USUAL_METRICS, bootstrap=bootstrap)
    references = reference or []
    with tempfile.TemporaryDirectory() as scratch:
        if hypothesis.is_dir():
            if source is None and not references:
                source, references = own_test(hypothesis)
            if source is None:
                raise UsageError(f"{hypothesis}: a model, but no --source to translate", remedy="add --source FILE")
            if output is not None:
                _require_own(output, read=[source, *references, *(path for path in (baseline, tokenised) if path is not None)])
            translated = output or Path(scratch) / "translations"
            found = _translate(hypothesis, source, translated, beams=beams, threads=threads, device=device)
            hypothesis, language = translated, language or found
        elif output is not None or beams is not None:
            raise UsageError(f"{hypothesis} is no model", expected="a run's folder with --output and --beams")
        if not references:
            raise UsageError("no reference", expected="--reference FILE")
        found = evaluate_files(
            hypothesis, references, source=source, baseline=baseline, tokenised=tokenised, language=language or None, recipe=recipe
        )
    console.show(found.to_json() if json else found.to_text())


def _require_own(output: Path, *, read: list[Path]) -> None:
    """Refuse to write translations over a file that holds anything but as many lines as there are sentences, or that is read."""
    from vitrail.evaluation.report import read_sentences
    from vitrail.files import require_own

    count = len(read_sentences(read[0]))
    require_own({output: lambda path: path.is_file() and path.read_bytes().count(b"\n") == count}, what="the translations", inputs=read)


def _is_language_model(folder: Path) -> bool:
    from vitrail.models.model_folder import task_of_folder

    return task_of_folder(folder) == "language"


def _measure(folder: Path, source: Path | None, *, threads: int, device: console.DeviceName, json: bool) -> None:
    """The perplexity of a language model on a text, or on its own test text."""
    from dataclasses import asdict

    from vitrail.data.reading.lines import lines
    from vitrail.decode.generate import Generator

    own = folder / "data" / "test.text"
    if source is None and not own.exists():
        raise UsageError(f"{folder}: a language model without a test text of its own", expected="--source FILE")
    found = Generator.load(folder, threads=threads, device=device).measure(list(lines(source or own)))
    if json:
        console.show_json(asdict(found) | found.figures())
    else:
        console.show(found.to_text())


def own_test(folder: Path) -> tuple[Path, list[Path]]:
    """The test set that a run holds. Raises UsageError where it has none."""
    source, target = folder / "data" / "test.source", folder / "data" / "test.target"
    if not (source.exists() and target.exists()):
        raise UsageError(f"{folder}: has no test set of its own", expected="--source FILE --reference FILE")
    return source, [target]


def _translate(model: Path, source: Path, output: Path, *, beams: int | None, threads: int, device: console.DeviceName) -> str:
    """Write the translations of a file; returns the language that they are in, as the model knows it."""
    from vitrail.commands.translating.translate import adapt_search, load
    from vitrail.evaluation.report import read_sentences
    from vitrail.files import write_file

    texts = read_sentences(source)
    translator = load([model], threads=threads, device=device)
    search = adapt_search(translator.search, beams=beams, n_best=1, length_penalty=None, sampling=None)
    console.say(f"translating {len(texts):,} sentences")
    found = translator.translate(texts, search=search)
    write_file(output, "".join(f"{one.text}\n" for one in found).encode())
    return translator.languages[1]
