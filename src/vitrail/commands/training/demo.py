"""vitrail demo: train, evaluate and inspect a model on the built-in phrasebook, in minutes."""

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from vitrail.commands.shared import console

RESULT = "demo.json"
PAGE = "inspection.html"
RECIPE = "phrasebook"
SENTENCES = ("I am good.", "I am good", "A dog ate the food because it was hungry.")


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder of the run.")] = Path("runs/demo"),
    recipe: Annotated[str, typer.Option(metavar="NAME|FILE", help="Such as phrasebook-lstm, for a recurrent model.")] = RECIPE,
    settings: console.Set = None,
    pairs: Annotated[int, typer.Option(min=100, help="Training pairs of the phrasebook.")] = 40_000,
    json: console.Json = False,
) -> None:
    """Train on the built-in English-French phrasebook, score the result, translate a few sentences and write a page that shows the inside
    of one.

    Takes minutes on two processor cores, and no network. Run again, it resumes, or shows the results.
    """
    _require_own(output)
    asked = {"pairs": pairs, "settings": settings or [], **({"recipe": recipe} if recipe != RECIPE else {})}
    result = _kept(output / RESULT, asked)
    if result is not None:
        console.say(f"already done in {output}; use -o ANOTHER to start again")
    else:
        result = _run(output, asked, recipe=recipe)
    if json:
        console.show_json(result)
    else:
        console.write_lines(to_lines(result, output))


def _require_own(folder: Path) -> None:
    """Refuse a folder where other files have the names that are written. Nothing is changed."""
    from vitrail.files import is_json_with, require_own
    from vitrail.inspection.page import is_page
    from vitrail.train.run_folder import require_own_run

    require_own_run(folder)
    require_own({folder / RESULT: is_json_with("asked", "pronouns", "agreement"), folder / PAGE: is_page}, what="the demonstration")


def _kept(path: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    try:
        found: Any = json_module.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    same = isinstance(found, dict) and found.get("asked") == asked  # pyright: ignore[reportUnknownMemberType]
    return found if same else None  # pyright: ignore[reportUnknownVariableType]


def _run(folder: Path, asked: dict[str, Any], *, recipe: str) -> dict[str, Any]:
    from vitrail.commands.shared.console import Settings
    from vitrail.commands.shared.data_options import make_request, phrasebook_texts
    from vitrail.commands.training.train import Training, run_with_display
    from vitrail.files import write_file
    from vitrail.phrasebook import corpus
    from vitrail.train.run_folder import is_begun

    console.say("writing the phrasebook: sentences and their translations, made by a grammar")
    book = corpus.phrasebook(train_pairs=asked["pairs"])
    text = folder / "phrasebook"
    corpus.write_phrasebook(text, book, used=is_begun(folder))
    texts = phrasebook_texts(text)
    outcome = run_with_display(make_request(texts, Settings(recipe, settings=asked["settings"])), folder, Training())
    result = {
        "asked": asked,
        **outcome,
        **_measure(folder, book, (folder / "test.translated").read_text(encoding="utf-8").split("\n")[:-1]),
    }
    write_file(folder / RESULT, (json_module.dumps(result, indent=2, ensure_ascii=False) + "\n").encode())
    return result


def _measure(folder: Path, book: Any, tested: list[str]) -> dict[str, Any]:
    """Pronouns on the challenge set, agreement on the test set, and the example sentences, the last one with its page."""
    import vitrail
    from vitrail.inspection.complete import complete
    from vitrail.phrasebook.corpus import agreement_accuracy, pronoun_accuracy

    translator = vitrail.load(folder, device="auto", threads=0)
    challenged = [found.text for found in translator.translate([item.source for item in book.pronouns])]
    complete(translator.inspect(SENTENCES[-1]), translator, folder).save(folder / PAGE)
    pronouns, agreement = pronoun_accuracy(book.pronouns, challenged), agreement_accuracy(book.test, tested)
    return {
        "pronouns": {"correct": pronouns.correct, "total": pronouns.total},
        "agreement": {"correct": agreement.correct, "total": agreement.total},
        "translations": {text: translator.translate(text).text for text in SENTENCES},
    }


def to_lines(result: dict[str, Any], folder: Path) -> list[str]:
    """The results as text."""
    share = {
        name: f"{_percent(result[name])} ({result[name]['correct']:,} of {result[name]['total']:,})" for name in ("pronouns", "agreement")
    }
    return [
        *result["test"]["lines"],
        "",
        f"trained for {result['seconds'] / 60:.1f} minutes, {result['step']:,} steps",
        f"pronouns (it becomes il or elle): {share['pronouns']}",
        f"agreement (endings of gender and number): {share['agreement']}",
        "",
        *(f"{source}  ->  {text}" for source, text in result["translations"].items()),
        "",
        f"translate more: vitrail translate {folder}",
        f"look inside the last: {folder / PAGE}, in a browser",
    ]


def _percent(score: dict[str, int]) -> str:
    return f"{score['correct'] / score['total']:.1%}" if score["total"] else "none counted"
