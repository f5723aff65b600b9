"""vitrail train: train a translator or a language model from text, or resume a stopped run."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrail.commands.shared import console
from vitrail.commands.shared.data_options import TextOptions, make_request

if TYPE_CHECKING:
    from vitrail.train.api import Request
    from vitrail.train.log.metrics import Observe
    from vitrail.train.run import Outcome


def train(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder of the run.")],
    source: console.Source = None,
    target: console.Target = None,
    dev: console.Dev = None,
    test: console.Test = "",
    dev_source: console.DevSource = None,
    dev_target: console.DevTarget = None,
    test_source: console.TestSource = None,
    test_target: console.TestTarget = None,
    corpus: console.Corpus = None,
    text: console.Text = None,
    languages: console.Languages = "",
    recipe: console.Recipe = "",
    config: console.ConfigFile = None,
    settings: console.Set = None,
    allow_change: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Resume although this setting changed since the start; state: train again if a model has lost its checkpoints.",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Model: tiny, small, base, big; rnn, gru, lstm, lstm-attention, gru-attention; of plain text: lstm-lm, gru-lm, rnn-lm.",
            show_default=False,
        ),
    ] = "",
    duration: Annotated[str, typer.Option(metavar="TEXT", help='Such as "30 minutes", "20 epochs".', show_default=False)] = "",
    tensorboard: Annotated[bool, typer.Option(help="Write TensorBoard files as well.")] = False,
    film: Annotated[bool, typer.Option(help="Record probe sentences at each validation, for inspect.")] = True,
    json: console.Json = False,
) -> None:
    """Train a translator from parallel text, or a language model from plain text.

    Two files are enough: vitrail train --source a.en --target a.fr -o runs/a.
    One for a language model: vitrail train --text a.txt -o runs/a.
    What is not set is chosen from the text, and reported.
    Run the same command again to resume a stopped run.
    """
    from vitrail.config import Override

    texts = TextOptions(
        source, target, dev_source, dev_target, test_source, test_target, corpus or [], languages, dev or [], test, text or []
    )
    more = [Override(("preset",), preset)] if preset else []
    more += [Override(("train", "duration"), duration)] if duration else []
    request = make_request(texts, recipe=recipe, file=config, settings=settings or [], more=more)
    result = run_training(request, output, allow=allow_change or [], tensorboard=tensorboard, film=film)
    if json:
        console.show_json(result)
    elif "test" in result:
        console.write_lines(result["test"]["lines"])


def run_training(request: "Request", folder: Path, *, allow: list[str], tensorboard: bool = False, film: bool = True) -> dict[str, Any]:
    """Train, then score the test set where there is one. Returns the results as plain values."""
    import torch

    from vitrail.commands.shared.scoring import score_run
    from vitrail.data.preparing.fingerprints import stamps
    from vitrail.inspection.film.filming import Recorder
    from vitrail.train.api import keep_choices, plan_run, to_run_config
    from vitrail.train.log.display import TrainingDisplay
    from vitrail.train.log.metrics import tensorboard as write_tensorboard
    from vitrail.train.run import train as train_run
    from vitrail.train.run_folder import kept_fingerprint, require_own_run
    from vitrail.train.stopping import stopping_at_once

    planned = plan_run(request, folder, gpu=torch.cuda.is_available())
    config = to_run_config(planned.table)
    if int(os.environ.get("RANK", "0")) > 0:  # under torchrun, only the first process prints and writes
        return _facts(train_run(config, folder, allow=allow))
    observers: list[Observe] = [write_tensorboard(folder / "tensorboard")] if tensorboard else []
    require_own_run(folder, inputs=stamps(config.data, gone=kept_fingerprint(folder, config.data) is not None), settings=request.files())

    with TrainingDisplay(folder) as display:

        def begin() -> None:
            display.keep()
            if planned.choices:
                keep_choices(folder, planned.choices)

        for choice in planned.choices:
            display.say(f"chosen: {choice.to_text()}")
        observers.append(display.observe)
        watch = Recorder() if film else None
        outcome = train_run(config, folder, allow=allow, observers=observers, watch=watch, say=display.say, begin=begin)
        with stopping_at_once("stopped while the test set was scored; the training is complete"):
            scores = score_run(folder, config, step=outcome.progress.step, say=display.say)
        for line in scores["lines"] if scores else []:
            display.note(line)
    return _facts(outcome) | ({"test": scores} if scores else {})


def _facts(outcome: "Outcome") -> dict[str, Any]:
    progress = outcome.progress
    return {
        "folder": str(outcome.folder),
        "already_done": outcome.already_done,
        "step": progress.step,
        "seconds": round(progress.seconds, 3),
        "tokens": progress.tokens,
        "best_dev_score": progress.best,
        "best_step": progress.best_step,
    }
