"""vitrail prepare: clean, hold out, learn subwords and encode, before a training or by itself."""

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrail.commands.shared import console
from vitrail.commands.shared.data_options import AnyTextOptions, make_request
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.train.request import Request


SHOWN = 20
"""Pairs of each corpus that are explained, unless asked otherwise."""


@console.with_groups
def prepare(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Folder of the run; its data/ is made.", show_default=False)
    ] = None,
    *,
    texts: AnyTextOptions,
    settings: console.Settings,
    explain: Annotated[bool, typer.Option("--explain", help="Show pairs before and after; needs no folder.")] = False,
    shown: Annotated[int | None, typer.Option(min=1, help="With --explain: pairs shown of each corpus.", show_default=str(SHOWN))] = None,
    threads: console.Threads = 0,
    json: console.Json = False,
) -> None:
    """Prepare parallel text, plain text for a language model, or texts with labels, and report the fate of every pair or line.

    `vitrail train` with the same options does this itself, and reuses prepared data.
    """
    if output is None and not explain:
        raise UsageError("no folder to prepare in", expected="--output FOLDER, or --explain to look only")
    if shown is not None and not explain:
        raise UsageError(f"--shown {shown} without --explain", remedy="add --explain")
    request = make_request(texts, settings)
    with tempfile.TemporaryDirectory() if output is None else nullcontext(output) as folder:
        _prepare(request, Path(folder), shown=(shown or SHOWN) if explain else 0, threads=threads, json=json)


def _prepare(request: "Request", folder: Path, *, shown: int, threads: int, json: bool) -> None:
    from vitrail.config import build
    from vitrail.data.any_config import data_class
    from vitrail.data.cleaning.explain import Explained, explain
    from vitrail.data.data_config import DataConfig
    from vitrail.data.preparing.prepare import prepare as prepare_data
    from vitrail.data.preparing.prepared import Prepared
    from vitrail.train.request import plan_run
    from vitrail.train.run_folder import require_own_run

    require_own_run(folder, settings=request.files())
    planned = plan_run(request, folder, gpu=False)
    for choice in planned.choices:
        if choice.name.startswith("data."):
            console.say(f"chosen: {choice.to_text()}")
    data = build(data_class(planned.table["data"]), planned.table["data"], origin="data")
    if shown and not isinstance(data, DataConfig):
        raise UsageError("--explain with --text", expected="pairs; of other text, report.txt says what was left out")
    prepared = prepare_data(data, folder / "data", workers=threads, say=console.say)
    explained: list[Explained] = []
    if shown and isinstance(data, DataConfig) and isinstance(prepared, Prepared):
        explained = list(explain(data, prepared, pairs=shown))
    if json:
        result: dict[str, Any] = {"facts": prepared.facts, **prepared.report.details}
        console.show_json(result | ({"explained": [one._asdict() for one in explained]} if explained else {}))
        return
    console.show(prepared.report.to_text())
    for one in explained:
        console.show(one.to_text())
