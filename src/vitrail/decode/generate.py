"""Text from a language model: what it continues a prompt with, and how well it expects a given text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch

from vitrail.data.normalise import normalise
from vitrail.data.subwords import EOS, Subwords
from vitrail.decode.config import SamplingConfig, SearchConfig
from vitrail.decode.perplexity import TextPerplexity, measure_text
from vitrail.decode.query import Hypothesis, Query
from vitrail.decode.search import beam_search, read_prompts
from vitrail.errors import ModelError, UsageError
from vitrail.models.folder import load_folder
from vitrail.models.language import RecurrentLanguageModel
from vitrail.runtime import Device, choose_device, set_threads

MOST_TOKENS = 200
"""Of a line, unless more are asked for."""
_ROWS = 64
"""Rows computed side by side."""


@dataclass(frozen=True)
class Generated:
    """One line of text that a model wrote."""

    prompt: str
    """As the model read it."""
    text: str
    """The whole line, the prompt included."""
    tokens: tuple[int, ...]
    """What was written after the prompt, without its end."""
    log_probability: float
    """Of what was written, its end included, in nats."""
    token_log_probabilities: tuple[float, ...]
    truncated: bool
    """True when the limit of length came before the end of the line."""


def default_search(samples: int = 1) -> SearchConfig:
    """How text is drawn unless told otherwise: among the tokens that together reach 95 % of the probability."""
    return SearchConfig(n_best=samples, sampling=SamplingConfig(top_p=0.95), max_extra=MOST_TOKENS)


class Generator:
    """A language model that writes.

    generator = Generator.load("runs/lm")
    print(generator.generate("The cat")[0].text)
    """

    def __init__(self, model: RecurrentLanguageModel, vocabulary: Subwords, *, facts: dict[str, Any] | None = None) -> None:
        self.model, self.vocabulary, self.facts = model.eval(), vocabulary, facts or {}
        self._device = next(model.parameters()).device

    @classmethod
    def load(cls, path: str | Path, *, device: Device = "cpu", threads: int | None = None) -> "Generator":
        """Load a language model from a run's folder or a model folder.

        Args:   threads: processor threads for this whole process (0: one for each core); None leaves them as they are.
        Raises: ModelError where the folder is missing or damaged, or holds another kind of model.
        """
        if threads is not None:
            set_threads(threads)
        loaded = load_folder(Path(path), device=choose_device(device))
        if not isinstance(loaded.model, RecurrentLanguageModel):
            raise ModelError(
                f"{path}: holds a model that translates ({loaded.config.kind})",
                expected="a language model",
                remedy=f"vitrail translate {path}",
            )
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

        Args:    prompts: beginnings of lines; empty: from nothing. search: see `default_search`; with `sampling=None`, a beam search.
                 lines: of each result. What follows is written from all that came before. seed: each prompt draws from its own generator,
                 made of this and its place.
        Returns: the continuations of one prompt, best first (in the order drawn, when sampling); a list of these for several prompts.
        Raises:  UsageError for less than one line.
        """
        if lines < 1:
            raise UsageError(f"{lines} lines", expected="at least 1")
        search = default_search() if search is None else search
        several = [prompts] if isinstance(prompts, str) else list(prompts)
        texts = [normalise(prompt) for prompt in several]
        found: list[list[Generated]] = []
        portion = max(1, _ROWS // search.width)
        for first in range(0, len(texts), portion):
            rows = [self._first(text, seed=seed + first + place) for place, text in enumerate(texts[first : first + portion])]
            found += self._search(rows, texts[first : first + portion], search)
        if lines > 1:
            found = [[self._go_on(one, search, lines=lines, seed=seed + place) for one in row] for place, row in enumerate(found)]
        return found[0] if isinstance(prompts, str) else found

    def _first(self, text: str, *, seed: int, before: Sequence[int] = ()) -> tuple[tuple[int, ...], int]:
        """The ids that come before what is written: the end of the line before, and the beginning of this one."""
        return (*before, EOS, *self.vocabulary.encode(text)), seed

    def _search(self, rows: Sequence[tuple[tuple[int, ...], int]], texts: Sequence[str], search: SearchConfig) -> list[list[Generated]]:
        longest, shortest = search.lengths()
        queries = [
            Query(prompt, longest=longest, shortest=shortest, seed=seed, spell=None if search.sampling else self._speller(text))
            for (prompt, seed), text in zip(rows, texts, strict=True)
        ]
        with torch.inference_mode():
            state = read_prompts(self.model, self.model.start(len(queries)), queries)
            results = beam_search(self.model.step, state, queries, config=search, device=self._device)
        return [[self._written(text, one) for one in row] for text, row in zip(texts, results, strict=True)]

    def _speller(self, text: str) -> Callable[[Sequence[int]], str]:
        start = self.vocabulary.encode(text)

        def spell(tokens: Sequence[int]) -> str:
            return self.vocabulary.decode([*start, *tokens])

        return spell

    def _written(self, text: str, found: Hypothesis) -> Generated:
        whole = self.vocabulary.decode([*self.vocabulary.encode(text), *found.tokens])
        return Generated(text, whole, found.tokens, found.log_probability, found.token_log_probabilities, found.truncated)

    def _go_on(self, first: Generated, search: SearchConfig, *, lines: int, seed: int) -> Generated:
        """Write further lines, each from all that came before."""
        one = search.model_copy(update={"n_best": 1})
        text, tokens, log_probs, truncated = first.text, list(first.tokens), list(first.token_log_probabilities), first.truncated
        context = [EOS, *self.vocabulary.encode(first.prompt), *first.tokens]
        for number in range(1, lines):
            if truncated:
                break
            (found,) = self._search([((*context, EOS), seed + number * 1_000_003)], [""], one)[0]
            context += [EOS, *found.tokens]
            text, truncated = f"{text}\n{found.text}", found.truncated
            tokens += [EOS, *found.tokens]
            log_probs += found.token_log_probabilities
        return Generated(first.prompt, text, tuple(tokens), sum(log_probs), tuple(log_probs), truncated)

    def measure(self, lines: Sequence[str]) -> TextPerplexity:
        """How well the model expects a text: perplexity per token and word, bits per byte. Raises UsageError for no line."""
        texts = [normalise(line) for line in lines]
        kept = [text for text in texts if text]
        if not kept:
            raise UsageError("a text without a line", expected="at least one line that holds something")
        return measure_text(self.model, self.vocabulary, kept)
