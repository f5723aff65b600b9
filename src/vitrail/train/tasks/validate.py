"""Validation on the dev set: loss, perplexity, and BLEU and chrF of translations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from vitrail.data.batches import Batch, collate, plan_batches
from vitrail.data.boundaries import count_sentences
from vitrail.data.cleaning.normalise import CURRENT, Normalisation
from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.translate import TranslateConfig, Translator
from vitrail.models.base import Model, TranslationModel
from vitrail.train.log.metrics import perplexity

_SAMPLES = 8


class DevSet(NamedTuple):
    """Text to validate on: sources and their references."""

    source: Sequence[str]
    target: Sequence[str]

    def first(self, count: int) -> "DevSet":
        """The first sentences."""
        return DevSet(self.source[:count], self.target[:count])


class Validation(NamedTuple):
    """The result of a validation. `samples` are a few (source, reference, translation)."""

    values: dict[str, float]
    samples: list[dict[str, Any]]


class Probes(NamedTuple):
    """Sentences that the user asks to be filmed (`train.probes`), and what is right for each; None: not known."""

    source: Sequence[str] = ()
    reference: Sequence[str | None] = ()


NO_PROBES = Probes()
"""Some sentences of the dev set are filmed."""


class Validated(NamedTuple):
    """The validated model and its text, for watchers of a training."""

    step: int
    model: Model
    """A copy in evaluation mode, independent of the training."""
    vocabularies: Vocabularies
    dev: DevSet
    """See `Task.dev`."""
    probes: Probes = NO_PROBES
    search: SearchConfig = SearchConfig()
    """Of the run: its limits of length hold."""


Watch = Callable[[Validated], Mapping[str, Any]]
"""Called with a model after its validation; the result becomes a line of `film.jsonl`."""


def dev_loss(model: TranslationModel, vocabularies: Vocabularies, dev: DevSet, *, device: torch.device) -> tuple[float, int]:
    """Summed cross-entropy of the references, without smoothing, and the count of their tokens; float32 throughout."""
    source, target = vocabularies.source.encode_batch(dev.source), vocabularies.target.encode_batch(dev.target)
    lengths = [np.array([len(row) for row in rows], dtype=np.int32) for rows in (source, target)]
    nats, tokens = 0.0, 0
    for chosen in plan_batches(lengths[0], lengths[1], budget=4096, seed=0, epoch=0):
        batch = collate([source[i] for i in chosen], [target[i] for i in chosen])
        loss = model.loss(Batch(*(part.to(device) for part in batch)))
        nats += float(loss.plain_nats)
        tokens += int(loss.tokens)
    return nats, tokens


@torch.inference_mode()
def validate(
    model: TranslationModel,
    vocabularies: Vocabularies,
    dev: DevSet,
    *,
    device: torch.device,
    sentences: int,
    search: SearchConfig,
    tokenize: str = "13a",
    normalisation: Normalisation = CURRENT,
    tags: Sequence[str] = (),
) -> Validation:
    """Score a model on the dev set: loss on all of it, BLEU and chrF (sacreBLEU, detokenised, greedy) on its first sentences.

    For vocabularies with unknown words or characters, `dev_unknown_share` is their share of the tokens of both sides.
    Args: search: its limits of length hold. tokenize: how BLEU finds words,
    by `vitrail.scoring.bleu_settings_for`. tags: as of a `Translator`.
    """
    from sacrebleu.metrics import BLEU, CHRF

    model.eval()
    nats, tokens = dev_loss(model, vocabularies, dev, device=device)
    part = dev.first(sentences)
    greedy = TranslateConfig(search=search.greedy(), exact=False)
    several = sum(count_sentences(text) > 1 for text in dev.source) / len(dev.source)
    more: dict[str, Any] = {"several_sentences": several, "normalisation": normalisation, "tags": tags}
    translator = Translator(model, vocabularies=vocabularies, config=greedy, device=device, **more)
    results = translator.translate(part.source)
    texts = [result.text for result in results]
    # Exponential smoothing is sacreBLEU's default. Its BLEU is 0 where no translation has four words; with the effective order it counts
    # the shorter runs then, and is the same number otherwise.
    bleu = BLEU(tokenize=tokenize, effective_order=True, force=True)
    values = {
        "dev_loss_nats_per_token": nats / tokens,
        "dev_perplexity": perplexity(nats / tokens),
        "dev_bleu": bleu.corpus_score(texts, [list(part.target)]).score,
        "dev_chrf": CHRF().corpus_score(texts, [list(part.target)]).score,
        "dev_truncated_share": sum(result.truncated for result in results) / len(results),
    }
    if vocabularies.has_unknown:
        values["dev_unknown_share"] = vocabularies.unknown_share(dev.source, dev.target)
    shown = zip(part.source[:_SAMPLES], part.target[:_SAMPLES], texts[:_SAMPLES], strict=True)
    samples = [{"source": source, "reference": reference, "translation": text} for source, reference, text in shown]
    return Validation(values, samples)


def named_values(validated: Mapping[str, Validation]) -> dict[str, float]:
    """The figures of further dev texts, each under its name with that of the text: `dev_chrf/news`."""
    return {f"{figure}/{name}": value for name, found in validated.items() for figure, value in found.values.items()}
