"""vitrail prepare: clean, hold out, learn subwords and encode, before a training or by itself."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vitrail.commands import console
from vitrail.commands.request import Texts, make_request


def prepare(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder of the run; its data/ is made.")],
    source: console.Source = None,
    target: console.Target = None,
    dev_source: console.DevSource = None,
    dev_target: console.DevTarget = None,
    test_source: console.TestSource = None,
    test_target: console.TestTarget = None,
    corpus: console.Corpus = None,
    languages: console.Languages = "",
    recipe: console.Recipe = "",
    config: console.ConfigFile = None,
    settings: console.Set = None,
    explain: Annotated[int, typer.Option(metavar="PAIRS", min=0, help="Show before and after of so many pairs of each corpus.")] = 0,
    threads: console.Threads = 0,
    json: console.Json = False,
) -> None:
    """Prepare parallel text for training, and report what became of every pair.

    `vitrail train` with the same options does so by itself, and uses what is prepared.
    """
    from vitrail.config import build
    from vitrail.data.explain import explain as explain_pairs
    from vitrail.data.prepare import DataConfig
    from vitrail.data.prepare import prepare as prepare_data
    from vitrail.train.api import plan

    texts = Texts(source, target, dev_source, dev_target, test_source, test_target, corpus or [], languages)
    request = make_request(texts, recipe=recipe, file=config, settings=settings or [])
    planned = plan(request, output, gpu=False)
    for choice in planned.choices:
        if choice.name.startswith("data."):
            console.say(f"chosen: {choice.to_text()}")
    data = build(DataConfig, planned.table["data"], origin="data")
    prepared = prepare_data(data, output / "data", workers=threads, say=console.say)
    explained = list(explain_pairs(data, prepared, pairs=explain)) if explain else []
    if json:
        result: dict[str, Any] = {"folder": str(prepared.folder), "facts": prepared.facts, **prepared.report.details}
        console.show_json(result | ({"explained": [one._asdict() for one in explained]} if explained else {}))
        return
    console.show(prepared.report.to_text())
    for one in explained:
        console.show(one.to_text())
