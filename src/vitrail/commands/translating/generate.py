"""vitrail generate: text from a language model."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.commands.shared import console
from vitrail.errors import UsageError


def generate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a run of a language model, or its model folder.")],
    prompt: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Beginning of a line. Several: each is continued.", show_default=False)
    ] = None,
    prompts: Annotated[Path | None, typer.Option(metavar="FILE", help="Beginnings, one a line; - is stdin.", show_default=False)] = None,
    samples: Annotated[int, typer.Option(min=1, max=10_000, help="Continuations of each beginning.")] = 1,
    lines: Annotated[int, typer.Option(min=1, help="Lines to write.")] = 1,
    max_tokens: Annotated[int, typer.Option(min=1, max=10_000, help="Tokens of a line, at most.")] = 200,
    temperature: Annotated[float, typer.Option(help="Below 1: more careful; above: more varied.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Sample from so many of the most probable tokens; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Sample from the tokens that together reach this probability.")] = 0.95,
    beams: Annotated[int | None, typer.Option(min=1, help="Use beam search instead of sampling.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0, help="For sampling: the same seed gives the same text.")] = 0,
    threads: console.Threads = 0,
    json: console.Json = False,
) -> None:
    """Write text with a language model: vitrail generate runs/lm --prompt "The cat".

    Each result is a line, the beginning included; with --lines, a blank line separates the results.
    """
    from vitrail.config import build
    from vitrail.data.reading.lines import lines as read_lines
    from vitrail.decode.generate import Generator
    from vitrail.decode.search_config import SearchConfig

    if prompts is not None and prompt:
        raise UsageError("--prompt together with --prompts", expected="one of the two")
    if beams is not None and samples > beams:
        raise UsageError(f"--samples {samples} with --beams {beams}", expected="at least as many beams")
    sampling = None if beams is not None else {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    table = {"beams": beams or 1, "n_best": samples, "sampling": sampling, "max_extra": max_tokens}
    search = build(SearchConfig, table, origin="generate")
    beginnings = list(read_lines(prompts)) if prompts is not None else prompt or [""]
    generator = Generator.load(model, threads=threads)
    found = generator.generate(beginnings, search=search, lines=lines, seed=seed)
    for row in found:
        for one in row:
            if json:
                console.show(
                    console.json_line(
                        {
                            "prompt": one.prompt,
                            "text": one.text,
                            "log_probability": one.log_probability,
                            "tokens": list(one.tokens),
                            "truncated": one.truncated,
                        }
                    )
                )
            else:
                console.write_lines([one.text, ""] if lines > 1 else [one.text])
