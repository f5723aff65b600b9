"""vitrail shortlist: the words that a model's words may become, learned from parallel text."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.commands.shared import console


def shortlist(
    model: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a translator's run; or a model folder, with text.")],
    *,
    source: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sentences to learn from, one a line.", show_default="the run's training text")
    ] = None,
    target: Annotated[Path | None, typer.Option(metavar="FILE", help="Their translations, line by line.", show_default=False)] = None,
    candidates: Annotated[int, typer.Option(min=0, max=100_000, help="Tokens that each token may become, at most.")] = 50,
    frequent: Annotated[int, typer.Option(min=0, max=1_000_000, help="Most frequent tokens, which every translation may have.")] = 1500,
) -> None:
    """Learn for each token the tokens that it may become, and put them into the model folder, for translate --shortlist.

    vitrail shortlist runs/en-fr

    vitrail shortlist models/en-fr --source train.en --target train.fr
    """
    from vitrail.data.vocabularies.taking import MOST_SPELLED
    from vitrail.decode.shortlists.making import SPELLED, ShortlistRecipe, make_shortlist
    from vitrail.decode.shortlists.table import save_shortlist
    from vitrail.models.stored import SHORTLIST, model_folder

    made = make_shortlist(model, ShortlistRecipe(candidates, frequent), source=source, target=target)
    for side, path in (("source", source), ("target", target)):
        share = float(made.facts[SPELLED + side])
        if path is not None and share >= MOST_SPELLED:
            console.say(
                f"WARNING: {path}: the vocabulary of {model} hardly knows it: {share:.0%} of its tokens are unknown, or spelled in single"
                f" bytes; is it in the language of the model's {side}?"
            )
    save_shortlist(model, made)
    pairs, tokens, always = int(made.facts["pairs"]), len(made.tokens), len(made.always)
    console.say(f"{model_folder(model) / SHORTLIST}: {tokens:,} candidates from {pairs:,} pairs, and {always:,} tokens for every sentence")
