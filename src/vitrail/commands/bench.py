"""vitrail bench: measurements, against others and against promises."""

from typing import Annotated, Literal

import typer

from vitrail.commands import console

bench = typer.Typer(name="bench", help="Measure speed, against others and against promises.", no_args_is_help=True)


@bench.command("train")
def bench_train(
    source: console.Source = None,
    target: console.Target = None,
    preset: Annotated[str, typer.Option(metavar="NAME", help="Model: tiny, small, base or big.")] = "tiny",
    batch_tokens: Annotated[int, typer.Option(min=1, help="Target positions in a batch.")] = 4096,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 2,
    steps: Annotated[int, typer.Option(min=1, help="Steps in each measurement.")] = 20,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; each measures every system once.")] = 3,
    precision: Annotated[Literal["auto", "bf16", "fp32"], typer.Option(help="Of Vitrail; peers are measured in both.")] = "auto",
    json: console.Json = False,
) -> None:
    """Training throughput: Vitrail, torch.nn.Transformer and Hugging Face MarianMT on the same batches.

    Takes a quarter of an hour on two cores. Without files, on the built-in phrasebook.
    """
    from vitrail.bench.train import run

    report = run(
        source=source,
        target=target,
        preset=preset,
        batch_tokens=batch_tokens,
        threads=threads,
        steps=steps,
        repeats=repeats,
        precision=precision,
        say=console.say,
    )
    console.show(report.to_json() if json else report.to_text())


@bench.command("start")
def bench_start(
    repeats: Annotated[int, typer.Option(min=1, help="New processes of each command.")] = 5,
    json: console.Json = False,
) -> None:
    """Time to start: `import vitrail` and `vitrail --help`."""
    from vitrail.bench.start import run

    report = run(repeats=repeats)
    console.show(report.to_json() if json else report.to_text())
