"""Text from a language model: continuations of prompts, and the perplexity of given text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from vitrail.data.cleaning.normalise import normalise
from vitrail.data.vocabularies.subwords import EOS, Subwords
from vitrail.decode.engines.torch import TorchEngine
from vitrail.decode.perplexity import TextPerplexity, measure_text
from vitrail.decode.search.constraints import TokenIds
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import SamplingConfig, SearchConfig
from vitrail.errors import UsageError
from vitrail.models.base import LanguageModel
from vitrail.models.model_folder import load_folder, of_another_task
from vitrail.runtime.device import Device, choose_device, set_threads

MOST_TOKENS = 200
"""Default length limit of a line."""


@dataclass(frozen=True)
class Generated:
    """One line of text that a model wrote."""

    prompt: str
    """The prompt as the model read it."""
    text: str
    """The whole line, the prompt included."""
    tokens: tuple[int, ...]
    """The tokens after the prompt, without the end."""
    log_probability: float
    """Log-probability of these tokens and the end, in nats."""
    token_log_probabilities: tuple[float, ...]
    truncated: bool
    """True when the limit of length was reached before the end of the line."""


def default_search(samples: int = 1) -> SearchConfig:
    """Default search: sampling among the tokens that together reach 95 % of the probability."""
    return SearchConfig(n_best=samples, sampling=SamplingConfig(top_p=0.95), max_extra=MOST_TOKENS)


class Generator:
    """A language model that generates text.

    generator = Generator.load("runs/lm")
    print(generator.generate("The cat")[0].text)
    """

    def __init__(self, model: LanguageModel, vocabulary: Subwords, *, facts: dict[str, Any] | None = None) -> None:
        self.model, self.vocabulary, self.facts = model.eval(), vocabulary, facts or {}
        self.engine = TorchEngine(self.model, device=next(model.parameters()).device)

    @classmethod
    def load(cls, path: str | Path, *, device: Device = "cpu", threads: int | None = None) -> "Generator":
        """Load a language model from a run's folder or a model folder.

        Args:   threads: processor threads for this whole process (0: one for each core); None does not change them.
        Raises: ModelError where the folder is missing or damaged, or holds another kind of model.
        """
        if threads is not None:
            set_threads(threads)
        loaded = load_folder(Path(path), device=choose_device(device))
        if not isinstance(loaded.model, LanguageModel):
            raise of_another_task(path, loaded.config, expected="language")
        return cls(loaded.model, loaded.vocabularies.target, facts=loaded.facts)

    @overload
    def generate(self, prompts: str = "", *, search: SearchConfig | None = None, lines: int = 1, seed: int = 0) -> list[Generated]: ...
    @overload
    def generate(
        self, prompts: Sequence[str], *, search: SearchConfig | None = None, lines: int = 1, seed: int = 0
    ) -> list[list[Generated]]: ...
    def generate(
        self, prompts: str | Sequence[str] = "", *, search: SearchConfig | None = None, lines: int = 1, seed: int = 0
    ) -> list[Generated] | list[list[Generated]]:
        """Continue a line, or each of several, to its end: `search.n_best` continuations of each.

        Args:    prompts: beginnings of lines; empty: no beginning. search: see `default_search`; with `sampling=None`, a beam search.
                 lines: of each result. Each line is generated from all lines before it. seed: each prompt has its own generator, seeded
                 with this and its place.
        Returns: the continuations of one prompt, best first (in the order drawn, when sampling); a list of these for several prompts.
        Raises:  UsageError for less than one line.
        """
        if lines < 1:
            raise UsageError(f"{lines} lines", expected="at least 1")
        search = default_search() if search is None else search
        texts = [normalise(prompt) for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
        contexts = [(EOS, *self.vocabulary.encode(text)) for text in texts]
        seeds = [seed + place for place in range(len(texts))]
        results = self._search(contexts, texts, search, seeds=seeds)
        found = [[self._written(text, one) for one in row] for text, row in zip(texts, results, strict=True)]
        one_more = search.model_copy(update={"n_best": 1})
        for number in range(1, lines):
            places = [(row, place) for row, many in enumerate(found) for place, one in enumerate(many) if not one.truncated]
            before = [found[row][place] for row, place in places]
            contexts = [(EOS, *self.vocabulary.encode(one.prompt), *one.tokens, EOS) for one in before]
            seeds = [int(np.random.SeedSequence((seed, number, row, place)).generate_state(1)[0]) for row, place in places]
            further = self._search(contexts, [""] * len(places), one_more, seeds=seeds)
            for (row, place), one, (more, *_) in zip(places, before, further, strict=True):
                found[row][place] = self._with_line(one, more)
        return found[0] if isinstance(prompts, str) else found

    def _search(
        self, contexts: Sequence[TokenIds], texts: Sequence[str], search: SearchConfig, *, seeds: Sequence[int]
    ) -> list[list[Hypothesis]]:
        """Continue each context to the end of its line; `texts` are the beginnings of the lines."""
        longest, shortest = search.lengths()
        queries = [
            Query(context, longest=longest, shortest=shortest, seed=seed, spell=None if search.sampling else self._speller(text))
            for context, text, seed in zip(contexts, texts, seeds, strict=True)
        ]
        return self.engine.search([()] * len(queries), queries, config=search)

    def _speller(self, text: str) -> Callable[[Sequence[int]], str]:
        start = self.vocabulary.encode(text)

        def spell(tokens: Sequence[int]) -> str:
            return self.vocabulary.decode([*start, *tokens])

        return spell

    def _written(self, text: str, found: Hypothesis) -> Generated:
        whole = self._speller(text)(found.tokens)
        return Generated(text, whole, found.tokens, found.log_probability, found.token_log_probabilities, found.truncated)

    def _with_line(self, one: Generated, more: Hypothesis) -> Generated:
        """The text with one more line."""
        scores = (*one.token_log_probabilities, *more.token_log_probabilities)
        text, tokens = f"{one.text}\n{self.vocabulary.decode(more.tokens)}", (*one.tokens, EOS, *more.tokens)
        return Generated(one.prompt, text, tokens, one.log_probability + more.log_probability, scores, more.truncated)

    def measure(self, lines: Sequence[str]) -> TextPerplexity:
        """The perplexity of a text per token and word, and bits per byte. Raises UsageError for an empty text."""
        texts = [normalise(line) for line in lines]
        kept = [text for text in texts if text]
        if not kept:
            raise UsageError("an empty text", expected="at least one line that is not empty")
        return measure_text(self.model, self.vocabulary, kept)
