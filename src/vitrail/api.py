"""Train from Python, and the one way in which the command line trains too."""

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vitrail.config import Override, parse_override
from vitrail.errors import UsageError
from vitrail.train.request import Request, keep_choices, plan_run, to_run_config

if TYPE_CHECKING:
    from vitrail.decode.sentences.classify import Classifier
    from vitrail.inspection.generator import InspectableGenerator
    from vitrail.inspection.translator import InspectableTranslator
    from vitrail.train.log.metrics import Observe
    from vitrail.train.run import Outcome
    from vitrail.train.tasks.validate import Watch


class Trained(NamedTuple):
    """What a training ended with."""

    outcome: "Outcome"
    test: dict[str, Any] | None
    """The score on the test set, as `scores.json` holds it; None where there is no test set."""
    gains: dict[str, Any] | None = None
    """Of a fine-tuning: what was gained and lost on each dev and test set, as `gains.json` holds it."""


def train_translator(
    source: str | Path,
    target: str | Path,
    folder: str | Path,
    *,
    recipe: str = "",
    settings: Sequence[str] = (),
    film: bool = True,
    watch: "Watch | None" = None,
    say: Callable[[str], None] = lambda _: None,
) -> "InspectableTranslator":
    """Train a translator from two files of sentences, line n of one translating line n of the other.

    What is not set is chosen from the text. The test set is scored at the end (`scores.json`). Called again, it goes on with a training
    that was stopped, and loads a finished one: what `vitrail train` does, and returns what `vitrail.load(folder)` does.

    Args:    folder: where the run lives. recipe: a shipped recipe or a TOML file. settings: such as "train.duration=30 minutes".
             film: keep what probe sentences became at each validation. watch: called after each validation, in place of the film.
             say: called with each line meant for the user.
    Raises:  the exceptions of `vitrail.errors`.
    """
    from vitrail.inspection.translator import InspectableTranslator

    corpus = Override(("data", "corpora"), [{"source": str(source), "target": str(target)}])
    request = Request(recipe=recipe, overrides=(corpus, *map(parse_override, settings)))
    run_training(request, Path(folder), watch=watch or _recorder(film), say=say)
    return InspectableTranslator.load(folder)


def train_language_model(
    text: str | Path,
    folder: str | Path,
    *,
    settings: Sequence[str] = (),
    film: bool = True,
    watch: "Watch | None" = None,
    say: Callable[[str], None] = lambda _: None,
) -> "InspectableGenerator":
    """Train a language model from a file of plain text, one sentence or paragraph a line.

    What is not set is chosen from the text. The test text is scored at the end (`scores.json`). Called again, it goes on with a training
    that was stopped, and loads a finished one; returns what `vitrail.load(folder)` does.

    Args:    folder: where the run lives. settings: such as "preset=gru-lm" or "train.duration=30 minutes".
             film, watch: as for `train_translator`. say: called with each line meant for the user.
    Raises:  the exceptions of `vitrail.errors`.
    """
    from vitrail.inspection.generator import InspectableGenerator

    source = Override(("data", "text"), [{"source": str(text)}])
    request = Request(overrides=(source, *map(parse_override, settings)))
    run_training(request, Path(folder), watch=watch or _recorder(film), say=say)
    return InspectableGenerator.load(folder)


def train_classifier(
    text: str | Path,
    labels: str | Path,
    folder: str | Path,
    *,
    settings: Sequence[str] = (),
    film: bool = True,
    watch: "Watch | None" = None,
    say: Callable[[str], None] = lambda _: None,
) -> "Classifier":
    """Train a classifier from two files, line n of one the label of line n of the other.

    What is not set is chosen from the text. The test set is scored at the end (`scores.json`). Called again, it goes on with a training
    that was stopped, and loads a finished one.

    Args:    folder: where the run lives. settings: such as "preset=classifier-lstm" or "data.several=true".
             film, watch: as for `train_translator`. say: called with each line meant for the user.
    Raises:  the exceptions of `vitrail.errors`.
    """
    from vitrail.decode.sentences.classify import Classifier

    examples = Override(("data", "examples"), [{"source": str(text), "target": str(labels)}])
    request = Request(overrides=(examples, *map(parse_override, settings)))
    run_training(request, Path(folder), watch=watch or _recorder(film), say=say)
    return Classifier.load(folder)


def _recorder(film: bool) -> "Watch | None":
    from vitrail.inspection.film.filming import Recorder

    return Recorder() if film else None


def run_training(
    request: Request,
    folder: Path,
    *,
    allow: Collection[str] = (),
    observers: Sequence["Observe"] = (),
    watch: "Watch | None" = None,
    say: Callable[[str], None],
    begin: Callable[[], None] = lambda: None,
) -> Trained:
    """Train as asked, or go on with the run in the folder; then score its test set, where there is one.

    Args:   as those of `vitrail.train.run.train`.
    Raises: what that raises, and UsageError where the folder or a file of settings holds what would be written over.
    """
    import torch

    from vitrail.data.preparing.fingerprints import stamps
    from vitrail.evaluation.run_score import score_run
    from vitrail.evaluation.tuning.gains import is_tuned, keep_start, measure_gains
    from vitrail.runtime.stopping import stopping_at_once
    from vitrail.train.run import train
    from vitrail.train.run_folder import kept_fingerprint, require_own_run

    planned = plan_run(request, folder, gpu=torch.cuda.is_available())
    config = to_run_config(planned.table)
    if config.train.probes and watch is None and speaks():
        raise UsageError(
            "train.probes without the film of the training",
            expected="a film: its sentences are for nothing else",
            remedy="leave out --no-film, or train.probes",
        )
    if not speaks():
        return Trained(train(config, folder, allow=allow), None)
    require_own_run(folder, inputs=stamps(config.data, gone=kept_fingerprint(folder, config.data) is not None), settings=request.files())

    def begun() -> None:
        begin()
        if planned.choices:
            keep_choices(folder, planned.choices)
        if is_tuned(config):
            with stopping_at_once("stopped while the model that it starts from translated; nothing is trained yet"):
                keep_start(folder, config, say=say)

    for choice in planned.choices:
        say(f"chosen: {choice.to_text()}")
    outcome = train(config, folder, allow=allow, observers=observers, watch=watch, say=say, begin=begun)
    with stopping_at_once("stopped while the test set was scored; the training is complete"):
        test = score_run(folder, config, step=outcome.progress.step, say=say)
        return Trained(outcome, test, measure_gains(folder, config, say=say) if is_tuned(config) else None)


def speaks() -> bool:
    """Whether this process speaks and writes for all: of several under torchrun, the first."""
    return int(os.environ.get("RANK", "0")) == 0
