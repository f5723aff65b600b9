"""vitrail train: train a translator, a language model or a classifier from text, or resume a stopped run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrail.commands.shared import console
from vitrail.commands.shared.data_options import AnyTextOptions, make_request, parse_corpus
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.config import Override
    from vitrail.train.log.metrics import Observe
    from vitrail.train.request import Request
    from vitrail.train.run import Outcome


@dataclass(frozen=True)
class Training:
    """How a run is trained, beside its settings."""

    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Model: tiny, small, base, big, student; rnn, gru, lstm, lstm-attention, gru-attention; of plain text: lstm-lm, gru-lm,"
            " rnn-lm, gpt-mini, bert-mini, autoencoder-mini, autoencoder-lstm; of labels: classifier-mini, classifier-lstm, fasttext.",
            show_default=False,
        ),
    ] = ""
    duration: Annotated[str, typer.Option(metavar="TEXT", help='Such as "30 minutes", "20 epochs".', show_default=False)] = ""
    init: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=FOLDER",
            help="Start from another model of any kind: encoder, decoder, embeddings (source_embeddings, target_embeddings), or all of it."
            " Embeddings also from word vectors, a folder or a file. Given several times: parts of several models."
            " --set init.0.freeze=true leaves the first as it is.",
            show_default=False,
        ),
    ] = None
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Fine-tune the model of a run or a model folder: its weights, architecture and vocabulary, with settings for new text.",
            show_default=False,
        ),
    ] = None
    old: Annotated[
        list[str] | None,
        typer.Option(
            "--old",
            metavar="RUN|FILE,FILE",
            help="With --from: text of the kind that the model knows already, mixed in so that less is forgotten: a run's, or files in the"
            " form of --corpus. By default that of the model's run; --set data.old=false mixes none in.",
            show_default=False,
        ),
    ] = None
    freeze: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="With --from: leave encoder, decoder or embeddings as they are.", show_default=False),
    ] = None
    allow_change: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Go on although this differs from how the run was started; state: train anew where a model has lost its checkpoints.",
            show_default=False,
        ),
    ] = None
    tensorboard: Annotated[bool, typer.Option(help="Write TensorBoard files as well.")] = False
    film: Annotated[bool, typer.Option(help="Keep what became of a few sentences at each validation, for `vitrail inspect film`.")] = True

    def overrides(self) -> "list[Override]":
        """The options that stand for a setting."""
        from vitrail.config import Override

        found = [Override(("preset",), self.preset)] if self.preset else []
        found += [Override(("init",), [read_part(text) for text in self.init])] if self.init else []
        found += [Override(("from",), str(self.start))] if self.start is not None else []
        found += [Override(("freeze",), list(self.freeze))] if self.freeze else []
        found += [Override(("data", "old"), [parse_corpus(text, option="--old") for text in self.old])] if self.old else []
        return found + ([Override(("train", "duration"), self.duration)] if self.duration else [])


def read_part(text: str) -> dict[str, str]:
    """Read `encoder=runs/bert` as an entry of `[[init]]`."""
    role, equals, folder = text.partition("=")
    if not equals or not role or not folder:
        raise UsageError(f"--init {text}", expected="ROLE=FOLDER, for example --init encoder=runs/bert")
    return {"role": role.strip(), "folder": folder}


@console.with_groups
def train(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder of the run.")],
    *,
    texts: AnyTextOptions,
    settings: console.Settings,
    training: Training,
    json: console.Json = False,
) -> None:
    """Train a translator from parallel text, a language model or an autoencoder from plain text, or a classifier from text with labels.

    Two files are enough: vitrail train --source a.en --target a.fr -o runs/a.
    One for a language model: vitrail train --text a.txt -o runs/a, or with --preset autoencoder-mini an autoencoder.
    Text and labels for a classifier: vitrail train --text a.txt --labels labels.txt -o runs/a, or --examples a.tsv.
    What is not set is chosen from the text, and reported.
    To start from other models: --init encoder=runs/bert --init decoder=runs/gpt.
    To fine-tune one: --from runs/a --source new.en --target new.fr -o runs/b.
    Run the same command again to resume a stopped run.
    """
    request = make_request(texts, settings, more=training.overrides())
    result = run_with_display(request, output, training)
    if json:
        console.show_json(result)
    else:
        console.write_lines([line for name in ("test", "gains") if name in result for line in result[name]["lines"]])


def run_with_display(request: "Request", folder: Path, training: Training) -> dict[str, Any]:
    """Train, then score the test set where there is one; what is worth telling, as plain values."""
    from vitrail.api import run_training, speaks
    from vitrail.inspection.film.filming import Recorder
    from vitrail.train.log.display import TrainingDisplay
    from vitrail.train.log.metrics import tensorboard

    allow = training.allow_change or ()
    if not speaks():
        return _facts(run_training(request, folder, allow=allow, say=lambda _: None).outcome)
    observers: list[Observe] = [tensorboard(folder / "tensorboard")] if training.tensorboard else []
    with TrainingDisplay(folder) as display:
        observers.append(display.observe)
        watch = Recorder() if training.film else None
        done = run_training(request, folder, allow=allow, observers=observers, watch=watch, say=display.say, begin=display.keep)
        found = {name: value for name, value in (("test", done.test), ("gains", done.gains)) if value}
        for line in (line for value in found.values() for line in value["lines"]):
            display.note(line)
    return _facts(done.outcome) | found


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
