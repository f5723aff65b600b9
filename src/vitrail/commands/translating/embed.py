"""vitrail embed: vectors of sentences, and their neighbours."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.commands.shared import console
from vitrail.errors import UsageError


@console.with_groups
def embed(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run, or a model folder: a translator, masked model, autoencoder, ...")],
    *,
    text: Annotated[Path, typer.Option(metavar="FILE", help="Sentences, one a line.", show_default="stdin")] = Path("-"),
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write them: .npy, .tsv or .jsonl.", show_default="stdout, as .tsv"),
    ] = None,
    nearest: Annotated[
        str, typer.Option(metavar="SENTENCE", help="Show the sentences of the text that are nearest to this one.", show_default=False)
    ] = "",
    top: Annotated[int, typer.Option(min=1, max=100_000, help="How many neighbours.", show_default="5")] = 5,
    computing: console.Computing,
    json: console.Json = False,
) -> None:
    """Turn sentences into vectors: vitrail embed runs/auto --text a.txt -o vectors.npy

    The vector is an autoencoder's bottleneck, else the mean (or the first) of the encoder's vectors of tokens.
    Neighbours are by cosine: vitrail embed runs/auto --text a.txt --nearest "A dog runs."
    """
    from vitrail.decode.sentences.embedding import Embedder
    from vitrail.decode.sentences.vector_files import check_place, to_bytes, write_vectors
    from vitrail.evaluation.report import read_sentences

    if nearest and output is not None:
        raise UsageError("--nearest and --output", expected="one of them")
    if output is not None:
        check_place(output, inputs=[text])
    embedder = Embedder.load(
        model, engine=computing.engine, precision=computing.precision, threads=computing.threads, device=computing.device
    )
    embedder.encoder.announce(console.say)
    texts = read_sentences(text)
    if nearest:
        found = embedder.nearest(nearest, texts, top=top)
        if json:
            console.show_json([{"line": one.place + 1, "text": one.text, "cosine": one.cosine} for one in found])
        else:
            console.write_lines([f"{one.cosine:.4f}\t{one.place + 1}\t{one.text}" for one in found])
        return
    vectors = embedder.embed(texts)
    if output is not None:
        write_vectors(output, texts, vectors)
        console.say(f"wrote {output}: {vectors.shape[0]:,} vectors of {vectors.shape[1]:,} numbers")
    else:
        console.write_lines(to_bytes(texts, vectors, kind=".jsonl" if json else ".tsv").decode().split("\n")[:-1])
