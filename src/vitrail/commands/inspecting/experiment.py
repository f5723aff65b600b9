"""vitrail experiment: classic problems of translation models, shown on small models or on your own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vitrail.commands.shared import console
from vitrail.data.data_config import OLD_PART
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.files import Recognise

experiment = typer.Typer(
    name="experiment",
    help="Show the problems that attention and gates solve: memory, gradients, one vector, length, norms, reconstruction, finetune.",
    no_args_is_help=True,
)


def _require_own(places: "Callable[[Path], dict[Path, Recognise]]", output: Path | None) -> None:
    """Check that the report can be written before minutes of training, not after."""
    from vitrail.files import require_own

    if output is not None:
        require_own(places(output), what="the report")


def lag(
    lengths: Annotated[
        str, typer.Option(metavar="N[,N]", help="Lags in time steps, each the subject of trainings of its own.")
    ] = "5,10,20,40,80,160,320",
    task: Annotated[Literal["recall", "adding"], typer.Option(help="Name the first symbol, or add two marked numbers.")] = "recall",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each architecture at each lag, numbered from 1.")] = 3,
    exact: Annotated[bool, typer.Option("--exact", help="Train only at the given lag, without shorter ones: harder.")] = False,
    steps: Annotated[int, typer.Option(min=1, help="Updates that each training may take.")] = 1500,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Write lag.html and lag.json there.", show_default=False)
    ] = None,
    json: console.Json = False,
) -> None:
    """How far back can it remember? RNN, LSTM, GRU and attention learn to answer from what came `lag` steps ago.

    Takes three minutes on two cores.
    """
    from vitrail.experiments.lag import lag_report_files

    _require_own(lag_report_files, output)
    from vitrail.experiments.lag import LagConditions, parse_lags, run_lag_experiment, write_lag_report

    conditions = LagConditions(task=task, exact=exact, steps=steps)
    report = run_lag_experiment(lengths=parse_lags(lengths), seeds=range(1, seeds + 1), conditions=conditions, say=console.say)
    if output is not None:
        for path in write_lag_report(report, output):
            console.say(f"wrote {path}")
    console.show(report.to_json() if json else report.to_text())


@dataclass(frozen=True)
class Trainings:
    """What is trained to watch its gradients."""

    presets: Annotated[
        list[str] | None,
        typer.Option("--preset", metavar="NAME", help="A model to train. May be given several times.", show_default="one of each kind"),
    ] = None
    length: Annotated[int, typer.Option(min=2, help="Subwords that each source has at least; sentences are joined for that.")] = 50
    steps: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 200
    recurrent_scale: Annotated[float, typer.Option(help="Train rnn also from recurrent weights so many times as large; 1: do not.")] = 3.0
    optimizer: Annotated[Literal["sgd", "adamw"], typer.Option(help="With adamw, what clipping does is hard to see.")] = "sgd"
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 2


@console.with_groups
def gradients(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="Measure this run's model on its dev set, in place of trainings.", show_default=False),
    ] = None,
    *,
    source: console.Source = None,
    target: console.Target = None,
    trainings: Trainings,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Write gradients.html and gradients.json there.", show_default=False),
    ] = None,
    json: console.Json = False,
) -> None:
    """Do gradients vanish or explode? The norm of dL/dh at every time step, during training of each kind of model.

    Takes three minutes on two cores, with clipping by norm, by value and without. Of a run: seconds.
    """
    from vitrail.experiments.gradients import gradient_report_files

    unread = ["--source"] * (source is not None) + ["--target"] * (target is not None) + console.given_options(trainings)
    if folder is not None and unread:
        raise UsageError(f"{folder} with {', '.join(unread)}", expected="a run to measure, or how to train others")
    _require_own(gradient_report_files, output)
    from vitrail.experiments import gradients

    if folder is not None:
        report = gradients.measure_run(folder)
    else:
        conditions = gradients.GradientConditions(
            length=trainings.length,
            steps=trainings.steps,
            recurrent_scale=trainings.recurrent_scale,
            optimizer=trainings.optimizer,
            threads=trainings.threads,
        )
        presets = trainings.presets or gradients.PRESETS
        report = gradients.run_gradient_experiment(presets=presets, source=source, target=target, conditions=conditions, say=console.say)
    if output is not None:
        for path in gradients.write_gradient_report(report, output):
            console.say(f"wrote {path}")
    console.show(report.to_json() if json else report.to_text())


def bottleneck(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs, each of which is probed.", show_default=False)],
    json: console.Json = False,
) -> None:
    """What does one vector contain? Linear probes predict length, first and last word from the encoder's last state.

    Fitted on training sentences of the run, tested on its dev and test sets, with the majority baseline.
    """
    from vitrail.experiments.bottleneck import probe_run

    found = [probe_run(folder) for folder in folders]
    if json:
        console.show_json([one.to_record() for one in found])
    else:
        console.show("\n".join(one.to_text() for one in found))


@dataclass(frozen=True)
class Timing:
    """How it is measured what length costs."""

    batch_tokens: Annotated[int, typer.Option(min=1, help="Target positions in a training batch, whatever the length.")] = 2048
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 2
    repeats: Annotated[int, typer.Option(min=1, help="Training steps and translations that are timed.")] = 3
    precision: Annotated[Literal["auto", "bf16", "fp32"], typer.Option(help="Of training; translation is in float32.")] = "auto"


@console.with_groups
def length(
    *,
    lengths: Annotated[str, typer.Option(metavar="N[,N]", help="Positions of source and target.")] = "8,16,32,64,128,256,512",
    architectures: Annotated[
        list[str] | None,
        typer.Option("--preset", metavar="NAME", help="An architecture. May be given several times.", show_default="one of each kind"),
    ] = None,
    timing: Timing,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Write length.html and length.json there.", show_default=False)
    ] = None,
    json: console.Json = False,
) -> None:
    """The cost of length: time to train, time to translate and memory, for recurrent models and the Transformer.

    Takes some minutes on two cores.
    """
    from vitrail.experiments.length import length_report_files

    _require_own(length_report_files, output)
    from vitrail.experiments.length import ARCHITECTURES, LengthConditions, parse_lengths, run_length_experiment

    conditions = LengthConditions(
        batch_tokens=timing.batch_tokens, threads=timing.threads, repeats=timing.repeats, precision=timing.precision
    )
    report = run_length_experiment(
        architectures=architectures or list(ARCHITECTURES), lengths=parse_lengths(lengths), conditions=conditions, say=console.say
    )
    if output is not None:
        for path in report.write(output):
            console.say(f"wrote {path}")
    console.show(report.to_json() if json else report.to_text())


def norms(
    steps: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 300,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each kind, numbered from 1.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 2,
    json: console.Json = False,
) -> None:
    """Batch norm against layer norm, where lengths differ from those in training or from batch to batch.

    Small models learn the built-in phrasebook. Takes some minutes on two cores.
    """
    from vitrail.experiments.norms import run_norm_experiment

    report = run_norm_experiment(steps=steps, seeds=range(1, seeds + 1), threads=threads, say=console.say)
    console.show(report.to_json() if json else report.to_text())


def reconstruction(
    text: Annotated[Path, typer.Option(metavar="FILE", help="Sentences to learn from, one a line.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Of the study: its runs, reconstruction.html and reconstruction.json.")
    ],
    test: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sentences to give back.", show_default="held out from the text")
    ] = None,
    widths: Annotated[str, typer.Option(metavar="N[,N]", help="Numbers in the bottleneck.")] = "8,16,32,64,128,256,512",
    presets: Annotated[
        list[str] | None,
        typer.Option("--preset", metavar="NAME", help="A kind of autoencoder. May be given several times.", show_default="both kinds"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings for each width, numbered from 1.")] = 2,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help='A setting of every training, such as train.duration="2000 steps".', show_default=False
        ),
    ] = None,
    json: console.Json = False,
) -> None:
    """How narrow may one vector be? Autoencoders give test lines back, by the width of their bottleneck.

    Recurrent and Transformer; 28 trainings by default. Called again, it goes on where it was stopped.
    """
    from vitrail.experiments.length import parse_lengths
    from vitrail.experiments.reconstruction import KINDS, ReconstructionPlan, reconstruction_report_files, run_reconstruction_experiment

    _require_own(reconstruction_report_files, output)
    from vitrail.config import parse_override

    plan = ReconstructionPlan(
        text, test, parse_lengths(widths), tuple(presets or KINDS), seeds, tuple(parse_override(one) for one in settings or ())
    )
    report = run_reconstruction_experiment(plan, output, say=console.say)
    for path in report.write(output):
        console.say(f"wrote {path}")
    console.show(report.to_json() if json else report.to_text())


_WAYS: tuple[str, ...] = ("scratch", "plain", "plain-averaged", "mixed", "mixed-averaged", "l2", "lora")


@dataclass(frozen=True)
class Tuning:
    """What the ways to fine-tune are held against each other by."""

    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each way, numbered from 1.")] = 2
    old_part: Annotated[float, typer.Option(help="How much of the mixture is old text.")] = OLD_PART
    ways: Annotated[
        list[str] | None,
        typer.Option("--way", metavar="NAME", help="One way, and so on; else all: " + " ".join(_WAYS), show_default=False),
    ] = None

    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help='A setting of every training, such as train.patience=3; train.duration="300 steps" is that of fine-tunings alone.',
            show_default=False,
        ),
    ] = None

    def chosen(self) -> tuple[str, ...]:
        """The ways by their names in the report. Raises UsageError for one that is not known."""
        from vitrail.experiments.finetuning.study import SHORT_NAMES

        if unknown := [name for name in self.ways or () if name not in SHORT_NAMES]:
            raise UsageError(f"--way {unknown[0]}", expected=" ".join(SHORT_NAMES))
        return tuple(SHORT_NAMES[name] for name in self.ways or SHORT_NAMES)


@console.with_groups
def finetune(
    *,
    start: Annotated[Path, typer.Option("--from", metavar="RUN", help="The old model.")],
    corpus: Annotated[str, typer.Option("--corpus", metavar="FILE,FILE", help="The new text, in the form of `vitrail train`.")],
    dev: Annotated[str, typer.Option("--dev", metavar="FILE,FILE", help="Its dev set.")],
    test: Annotated[str, typer.Option("--test", metavar="FILE,FILE", help="Its test set.")],
    old: Annotated[
        str, typer.Option("--old", metavar="FILE,FILE", help="Text of the old model, to mix in.", show_default="that of its run")
    ] = "",
    old_test: Annotated[
        str, typer.Option("--old-test", metavar="FILE,FILE", help="The old test set.", show_default="that of the old model's run")
    ] = "",
    tuning: Tuning,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Of the study: its runs, and finetune.json.")],
    json: console.Json = False,
) -> None:
    """What does fine-tuning give and take? From scratch, plain, with old text mixed in, averaged, L2 to the old weights, LoRA.

    BLEU on the test sets of the new and the old text, with paired intervals. Called again, it goes on where it was stopped.
    """
    from vitrail.commands.shared.data_options import parse_corpus
    from vitrail.config import parse_override
    from vitrail.files import is_json_with, require_own, write_file

    places = {output / "finetune.json": is_json_with("pairs", "facts", "points")}
    require_own(places, what="the report")
    from vitrail.experiments.finetuning.study import TuningPlan, own_test_of, own_text_of, run_tuning_experiment

    named = {"--corpus": corpus, "--dev": dev, "--test": test}
    new, held, scored = (parse_corpus(text, option=option) for option, text in named.items())
    general = parse_corpus(old, option="--old") if old else own_text_of(start)
    old_scored = parse_corpus(old_test, option="--old-test") if old_test else own_test_of(start)
    plan = TuningPlan(
        start,
        new,
        held,
        scored,
        general,
        old_scored,
        ways=tuning.chosen(),
        seeds=tuning.seeds,
        old_part=tuning.old_part,
        settings=tuple(parse_override(one) for one in tuning.settings or ()),
    )
    report = run_tuning_experiment(plan, output, say=console.say)
    for path in places:
        write_file(path, report.to_json().encode())
        console.say(f"wrote {path}")
    console.show(report.to_json() if json else report.to_text())


EXPERIMENTS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (lag, gradients, bottleneck, length, norms, reconstruction, finetune)
}
for _name, _study in EXPERIMENTS.items():
    experiment.command(_name)(_study)
