"""vitrail bench: speed, against other toolkits and against fixed limits; and classifiers against a baseline."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vitrail.commands.inspecting.experiment import EXPERIMENTS
from vitrail.commands.shared import console

if TYPE_CHECKING:
    from vitrail.bench.translating.beside_work import BusyTranslation
    from vitrail.bench.translating.tuning import Wanted

bench = typer.Typer(name="bench", help="Measure speed, against others and against promises.", no_args_is_help=True)


def _renamed(name: str, study: Callable[..., None]) -> Callable[..., None]:
    """An experiment under its name of earlier releases."""

    @wraps(study)
    def warned(*arguments: Any, **options: Any) -> None:
        console.say(f"warning: vitrail bench {name} is now vitrail experiment {name}; the old name goes away with the next release")
        study(*arguments, **options)

    return warned


for _name, _study in EXPERIMENTS.items():
    bench.command(_name, hidden=True)(_renamed(_name, _study))


@dataclass(frozen=True)
class Workload:
    """What is trained at full speed."""

    preset: Annotated[
        str, typer.Option(metavar="NAME", help="Model: tiny, small, base, big; rnn, gru, lstm, lstm-attention, gru-attention.")
    ] = "tiny"
    batch_tokens: Annotated[int, typer.Option(min=1, help="Target positions in a batch.")] = 4096
    threads: Annotated[int, typer.Option(min=1, help="Processor threads of the training.")] = 2


@dataclass(frozen=True)
class Rounds:
    """What is measured, and how often."""

    steps: Annotated[int, typer.Option(min=1, help="Steps in each measurement.")] = 20
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; each measures every system once.")] = 3
    precision: Annotated[Literal["auto", "bf16", "fp32"], typer.Option(help="Of Vitrail; peers are measured in both.")] = "auto"


@bench.command("train")
@console.with_groups
def bench_train(
    *,
    source: console.Source = None,
    target: console.Target = None,
    workload: Workload,
    rounds: Rounds,
    settings: console.Set = None,
    json: console.Json = False,
) -> None:
    """Training throughput on the same batches: Vitrail and models of the same kind from other toolkits.

    A Transformer is compared with torch.nn.Transformer and Hugging Face MarianMT, a recurrent model with a loop of torch's own
    layers and JoeyNMT. Takes a quarter of an hour on two cores. Without files, on the built-in phrasebook.
    """
    from vitrail.bench.training_speed import measure_training_speed
    from vitrail.config import parse_override

    report = measure_training_speed(
        source=source,
        target=target,
        preset=workload.preset,
        batch_tokens=workload.batch_tokens,
        threads=workload.threads,
        steps=rounds.steps,
        repeats=rounds.repeats,
        precision=rounds.precision,
        overrides=[parse_override(text) for text in settings or ()],
        say=console.say,
    )
    console.show(report.to_json() if json else report.to_text())


@dataclass(frozen=True)
class Beside:
    """How a model translates, and beside what."""

    beams: Annotated[str, typer.Option(metavar="N[,N]", help="Beams; 1 is greedy.")] = "1,5"
    threads: Annotated[int, typer.Option(min=0, help="Processor threads; 0: one a core.")] = 0
    peers: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Environments of other toolkits: benchmarks/environments.sh.", show_default=False),
    ] = None
    only: Annotated[
        str, typer.Option(metavar="NAME[,NAME]", help="These systems alone, and our torch, such as native,huggingface.", show_default=False)
    ] = ""

    tokens: Annotated[
        int,
        typer.Option(min=0, help="Every translation has so many tokens; 0: as the model ends them.", show_default="16 for a preset"),
    ] = 0

    @contextmanager
    def measured(self, model: Path, texts: Sequence[str], *, alone: bool = False) -> "Generator[Wanted]":
        """What is to be measured of a folder, or of a model with random weights if it is a preset's name. Raises UsageError."""
        if model.exists():
            yield self.wanted(model, alone=alone)
            return
        from vitrail.bench.translating.untrained import TOKENS, untrained_model

        with untrained_model(str(model), texts) as folder:
            wanted = self.wanted(folder, alone=alone)
            yield wanted._replace(tokens=wanted.tokens or TOKENS)

    def wanted(self, model: Path, *, alone: bool = False) -> "Wanted":
        """See `tuning.Wanted`. Raises UsageError."""
        from vitrail.bench.translating.tuning import Wanted
        from vitrail.errors import UsageError
        from vitrail.runtime.cores import usable_cores

        if not all(part.strip().isdecimal() and int(part) for part in self.beams.split(",")):
            raise UsageError(f"--beams {self.beams}", expected="whole numbers with commas between them, such as 1,5")
        only = [part.strip() for part in self.only.split(",") if part.strip()]
        beams = [int(part) for part in self.beams.split(",")]
        return Wanted(model, beams, self.threads or usable_cores(), self.peers, only, alone, self.tokens)


def read_first(path: Path, limit: int) -> list[str]:
    """The first lines of a file."""
    from itertools import islice

    with path.open(encoding="utf-8") as text:
        return [line.rstrip("\n") for line in islice(text, limit)]


@bench.command("busy")
@console.with_groups
def bench_busy(
    *,
    workload: Workload,
    busy: Annotated[int | None, typer.Option(min=1, help="Busy threads of the process beside it.", show_default="as many as train")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each measurement.")] = 5.0,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; each measures every setting quiet and busy.")] = 5,
    spin_counts: Annotated[
        str, typer.Option("--spin-counts", metavar="N[,N]", help="Other settings of GOMP_SPINCOUNT to measure too.", show_default=False)
    ] = "",
    translate: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Translate with this model instead of training.", show_default=False)
    ] = None,
    source: Annotated[Path | None, typer.Option(metavar="FILE", help="Sentences for --translate.", show_default=False)] = None,
    only: Annotated[str, typer.Option(metavar="NAME[,NAME]", help="Systems for --translate, and our torch.")] = "native int8",
    json: console.Json = False,
) -> None:
    """Training speed on a quiet machine and beside another busy process, with OpenMP's default wait policy and with Vitrail's.

    The busy process is started and ended here. Takes two minutes; nothing else should run meanwhile. With --translate: the share of its
    speed that a translation keeps.
    """
    if translate is not None:
        report = _busy_translation(translate, source, only=only, threads=workload.threads, busy=busy, seconds=seconds, repeats=repeats)
        console.show(report.to_json() if json else report.to_text())
        return
    from vitrail.bench.busy import measure_busy_training, read_counts

    report = measure_busy_training(
        preset=workload.preset,
        batch_tokens=workload.batch_tokens,
        threads=workload.threads,
        busy_threads=busy,
        seconds=seconds,
        repeats=repeats,
        spin_counts=read_counts(spin_counts),
        say=console.say,
    )
    console.show(report.to_json() if json else report.to_text())


def _busy_translation(
    model: Path, source: Path | None, *, only: str, threads: int, busy: int | None, seconds: float, repeats: int
) -> "BusyTranslation":
    from vitrail.bench.translating.beside_work import measure_busy_translation
    from vitrail.errors import UsageError

    if source is None:
        raise UsageError("--translate without --source", expected="--source FILE")
    wanted = Beside(beams="5", threads=threads, only=only).wanted(model)
    texts = read_first(source, 1000)
    return measure_busy_translation(wanted, texts, busy_threads=busy or threads, seconds=seconds, repeats=repeats, say=console.say)


@bench.command("language")
def bench_language(
    rows: Annotated[int, typer.Option(min=1, help="Sequences in a batch.")] = 12,
    context: Annotated[int, typer.Option(min=2, help="Tokens of a sequence.")] = 64,
    steps: Annotated[int, typer.Option(min=1, help="Steps in each measurement.")] = 100,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; each measures every system once.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads of the training.")] = 2,
    json: console.Json = False,
) -> None:
    """Training speed of a causal language model (gpt-mini) against a plain loop of torch's layers."""
    from vitrail.bench.language_speed import measure_language_speed

    report = measure_language_speed(rows=rows, context=context, steps=steps, repeats=repeats, threads=threads, say=console.say)
    console.show(report.to_json() if json else report.to_text())


@dataclass(frozen=True)
class Labelled:
    """The examples."""

    examples: Annotated[str, typer.Option(metavar="FILE[,FILE]", help="Texts with labels, as for train.", show_default=False)] = ""
    dev: Annotated[str, typer.Option(metavar="FILE[,FILE]", help="The same to choose the best step by.", show_default="held out")] = ""
    test: Annotated[str, typer.Option(metavar="FILE[,FILE]", help="The same to score.", show_default="held out")] = ""


@bench.command("classify")
@console.with_groups
def bench_classify(
    *,
    labelled: Labelled,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the runs are kept.")],
    seeds: Annotated[str, typer.Option(metavar="N[,N]", help="Seeds of each training.")] = "1,2",
    variants: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            metavar="NAME:KEY=VALUE[;...]",
            help="One more classifier, with settings of its own, such as another start or preset. Given several times.",
            show_default=False,
        ),
    ] = None,
    init: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=FOLDER",
            help="One more: from scratch but for what other models give, as for train. Given several times: it takes all of it.",
            show_default=False,
        ),
    ] = None,
    tfidf: Annotated[bool, typer.Option(help="Train TF-IDF with logistic regression, too.")] = True,
    fasttext: Annotated[bool, typer.Option(help="Train --preset fasttext, too, and the fasttext program where it is installed.")] = True,
    settings: console.Set = None,
    json: console.Json = False,
) -> None:
    """Classifiers on the same examples: from scratch, variants of it, fastText, and TF-IDF with logistic regression; with intervals.

    vitrail bench classify --examples train.tsv --test test.tsv -o runs/bench --variant "lstm:preset=classifier-lstm".
    """
    from vitrail.bench.classifying.compare import Variant, compare_classifiers
    from vitrail.bench.classifying.program import is_installed
    from vitrail.commands.shared.data_options import AnyTextOptions
    from vitrail.commands.training.train import read_part
    from vitrail.config import Override, parse_override
    from vitrail.errors import UsageError

    if not labelled.examples:
        raise UsageError("no examples", expected="--examples FILE")
    if not all(part.strip().isdecimal() for part in seeds.split(",")):
        raise UsageError(f"--seeds {seeds}", expected="whole numbers with commas between them, such as 1,2")
    common = tuple(map(parse_override, settings or ()))
    systems = [Variant("from scratch", common)]
    for text in variants or ():
        name, colon, own = text.partition(":")
        if not colon or not name.strip():
            raise UsageError(f"--variant {text}", expected='a name, a colon and settings, such as "lstm:preset=classifier-lstm"')
        systems.append(Variant(name.strip(), (*common, *(parse_override(one.strip()) for one in own.split(";") if one.strip()))))
    if init:
        systems.append(Variant(f"from {' and '.join(init)}", (*common, Override(("init",), [read_part(part) for part in init]))))
    if fasttext:
        # Settings of another model do not fit it.
        fitting = [one for one in common if one.path[0] not in ("preset", "model", "optimizer", "schedule", "init", "lora")]
        systems.append(Variant("fasttext", (*fitting, Override(("preset",), "fasttext"))))
        if not is_installed():
            console.say("without the fasttext program, which is not installed: pip install fasttext-wheel")
    options = AnyTextOptions(examples=[labelled.examples], devs=[labelled.dev] if labelled.dev else None, test=labelled.test)
    numbers = [int(part) for part in seeds.split(",")]
    program = fasttext and is_installed()
    report = compare_classifiers(
        options.overrides(), output, variants=systems, seeds=numbers, tfidf=tfidf, program=program, say=console.say
    )
    console.show(report.to_json() if json else report.to_text())


@bench.command("start")
def bench_start(
    repeats: Annotated[int, typer.Option(min=1, help="New processes of each command.")] = 5,
    json: console.Json = False,
) -> None:
    """Time to start: `import vitrail`, `vitrail --help`, a translated line, word vectors with their compilation, each with its limit."""
    from vitrail.bench.start import measure_start_time

    report = measure_start_time(repeats=repeats)
    console.show(report.to_json() if json else report.to_text())


@bench.command("prepare")
def bench_prepare(
    pairs: Annotated[
        str, typer.Option(metavar="N[,N]", help="Sentence pairs, made up for it; each size is prepared by itself.")
    ] = "1000000,10000000",
    json: console.Json = False,
) -> None:
    """Cost of preparing large text: time and memory by number of pairs.

    A million pairs take about a minute and 0.3 GB of disk.
    """
    from vitrail.bench.preparing_speed import measure_preparation, read_sizes

    report = measure_preparation(sizes=read_sizes(pairs), say=console.say)
    console.show(report.to_json() if json else report.to_text())


@bench.command("vectors")
def bench_vectors(
    *,
    text: Annotated[Path, typer.Option(metavar="FILE", help="Text whose words stand between spaces.")],
    objectives: Annotated[
        str, typer.Option(metavar="NAME[,NAME]", help="Also skip-gram-hs, cbow-hs (hierarchical softmax), fasttext-cbow.")
    ] = "skip-gram,cbow,fasttext,glove",
    dimensions: Annotated[str, typer.Option(metavar="N[,N]", help="Numbers of a vector.")] = "100,300",
    threads: Annotated[str, typer.Option(metavar="N[,N]", help="Workers.")] = "1,2",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the text in each training.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; each trains with every program once, with a seed of its own.")] = 3,
    similarity: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Pairs of words with people's scores: how good the vectors are. Given several times."),
    ] = None,
    json: console.Json = False,
) -> None:
    """Training speed of word vectors beside gensim and the fasttext program, where these are installed; and their quality.

    Words a second and core are of the processor time of all workers, words a second by the clock. Reading the text and compiling are not
    counted.
    """
    from vitrail.bench.vectors.compare import compare_vectors

    report = compare_vectors(
        text,
        objectives=objectives.split(","),  # pyright: ignore[reportArgumentType]
        dimensions=[int(part) for part in dimensions.split(",")],
        threads=[int(part) for part in threads.split(",")],
        epochs=epochs,
        repeats=repeats,
        similarity=similarity or [],
        say=console.say,
    )
    console.show(report.to_json() if json else report.to_text())


@bench.command("dictionary")
def bench_dictionary(
    *,
    source: Annotated[Path, typer.Option(metavar="FILE", help="One side of a parallel text.")],
    target: Annotated[Path, typer.Option(metavar="FILE", help="The other side, line for line.")],
    seeds: Annotated[str, typer.Option(metavar="N[,N]", help="Pairs of words that are known.")] = "40,500",
    refine: Annotated[int, typer.Option(min=0, max=100, metavar="N", help="Fits to pairs that are found both ways.")] = 5,
    settings: console.Set = None,
    json: console.Json = False,
) -> None:
    """Induced dictionaries: the sides of a parallel text are shuffled apart, and words are looked up from one to the other.

    The text as it was tells the right answers. --set changes the training of the vectors, such as method=fasttext or epochs=10.
    """
    from vitrail.bench.vectors.induced_dictionary import measure_dictionary
    from vitrail.config import parse_override, with_overrides

    config = with_overrides({}, map(parse_override, settings or ()))
    numbers = [int(part) for part in seeds.split(",")]
    report = measure_dictionary(source, target, config=config, seeds=numbers, refine=refine, say=console.say)
    console.show(report.to_json() if json else report.to_text())


@bench.command("translate")
@console.with_groups
def bench_translate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run, a model folder, or a preset such as base for random weights.")],
    *,
    source: Annotated[Path, typer.Option(metavar="FILE", help="Sentences to translate, one a line.")],
    beside: Beside,
    reference: Annotated[Path | None, typer.Option(metavar="FILE", help="Their translations, for BLEU.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, help="Sentences at most.")] = 1000,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; each measures every system once.")] = 3,
    json: console.Json = False,
) -> None:
    """Translation speed, text to text: the native engine in each precision, torch, and other toolkits at their best settings.

    CTranslate2 is measured where it is installed beside Vitrail, others with --peers. Each system has a process of its own; settings are
    found by trying. Also how many translations equal those of torch, and BLEU.
    """
    from vitrail.bench.translating.compare import compare_engines

    texts, references = read_first(source, limit), [] if reference is None else read_first(reference, limit)
    with beside.measured(model, texts) as wanted:
        report = compare_engines(wanted, texts, references=references, repeats=repeats, say=console.say)
    console.show(report.to_json() if json else report.to_text())


@bench.command("latency")
@console.with_groups
def bench_latency(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run, a model folder, or a preset such as base for random weights.")],
    *,
    source: Annotated[Path, typer.Option(metavar="FILE", help="Sentences to translate, one a line.")],
    beside: Beside,
    limit: Annotated[int, typer.Option(min=2, help="Sentences at most.")] = 200,
    json: console.Json = False,
) -> None:
    """Time of one sentence at a time: median and 90th percentile of each system, with its best number of threads."""
    from vitrail.bench.translating.latency import measure_latency

    texts = read_first(source, limit)
    with beside.measured(model, texts, alone=True) as wanted:
        report = measure_latency(wanted, texts, say=console.say)
    console.show(report.to_json() if json else report.to_text())


@bench.command("lines")
def bench_lines(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run or a model folder.")],
    source: Annotated[Path, typer.Option(metavar="FILE", help="Text of which the lines are taken, again and again.")],
    lines: Annotated[int, typer.Option(min=2, help="Lines to translate.")] = 100_000,
    beams: Annotated[int | None, typer.Option(min=1, help="Beams; 1 is greedy.", show_default="the model's")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Processor threads; 0: one a core.")] = 0,
    json: console.Json = False,
) -> None:
    """Rate and memory of `vitrail translate` on very many lines, and its rate as a share of its engine's own."""
    from vitrail.bench.translating.many_lines import measure_lines

    search = {} if beams is None else {"beams": beams}
    report = measure_lines(model, read_first(source, lines), lines=lines, search=search, threads=threads, say=console.say)
    console.show(report.to_json() if json else report.to_text())


@bench.command("engines")
def bench_engines(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run or a model folder, of any kind.")],
    text: Annotated[Path, typer.Option(metavar="FILE", help="Texts, one a line.")],
    limit: Annotated[int, typer.Option(min=1, help="Texts at most.")] = 1000,
    threads: Annotated[int, typer.Option(min=0, help="Processor threads; 0: one a core.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; each measures every system once.")] = 3,
    json: console.Json = False,
) -> None:
    """Vectors, labels and continuations by the native engine in each precision and by torch: speed, and how well they agree.

    A continuation begins with the first words of a line.
    """
    from itertools import islice

    from vitrail.bench.translating.other_kinds import compare_kinds

    with text.open(encoding="utf-8") as lines:
        texts = [line.rstrip("\n") for line in islice(lines, limit)]
    report = compare_kinds(model, texts=texts, threads=threads, repeats=repeats, say=console.say)
    console.show(report.to_json() if json else report.to_text())
