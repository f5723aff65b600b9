"""Settings of search, batching and splitting; without torch."""

from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from vitrail.config import Config


class SamplingConfig(Config):
    """Draw the next token at random instead of searching for the best."""

    temperature: float = Field(default=1.0, gt=0, le=1e9, allow_inf_nan=False)
    """Divides the log-probabilities before drawing: below 1 is more careful, above 1 more varied."""
    top_k: int = Field(default=0, ge=0)
    """Draw among this many of the most probable tokens only; 0 draws among all."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw among the fewest most probable tokens that together reach this probability (after temperature and top_k)."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Draw among tokens at least this many times as probable as the most probable one (after temperature; Nguyen et al. 2024)."""
    repetition_penalty: float = Field(default=1.0, gt=0, le=1e9, allow_inf_nan=False)
    """Divides the logit of every token that was read or written before, or multiplies it where it is below 0 (Keskar et al. 2019).
    Above 1 makes repetitions rarer; 1 changes nothing. Special tokens are left alone."""


class LengthLimits(NamedTuple):
    """Limits for the length of a result, in tokens."""

    longest: int
    """At most, the end included."""
    shortest: int
    """At least, the end not included."""


class SearchConfig(Config):
    """How translations are searched."""

    beams: int = Field(default=5, ge=1, le=10_000)
    """Hypotheses kept at each step; 1 is greedy search. Not used when sampling."""
    n_best: int = Field(default=1, ge=1, le=10_000)
    """Translations returned for a sentence, of different texts; when sampling, the number of samples drawn."""
    length_penalty: float = Field(default=1.0, ge=0, le=100, allow_inf_nan=False)
    """Alpha in score = log-probability / ((5 + length) / 6) ** alpha (Wu et al. 2016); length counts the end. 0 prefers short ones."""
    early_stop: bool = True
    """End a sentence as soon as no live hypothesis can enter its n-best list. Saves time and never changes the result."""
    max_ratio: float = Field(default=2.0, ge=0, le=100, allow_inf_nan=False)
    """A translation has at most max_ratio * source + max_extra tokens, its end included; a longer one is cut and marked truncated."""
    max_extra: int = Field(default=50, ge=1, le=10_000)
    """See max_ratio."""
    max_length: int | None = Field(default=None, ge=1, le=100_000)
    """At most this many tokens whatever the source; None sets no such limit."""
    min_ratio: float = Field(default=0.0, ge=0, le=100, allow_inf_nan=False)
    """A translation has at least min_ratio * source tokens, its end not included."""
    min_length: int = Field(default=0, ge=0, le=100_000)
    """At least this many tokens whatever the source, its end not included."""
    allow_unknown: bool = False
    """Whether the unknown token may be produced."""
    repeat_ngram: int = Field(default=3, ge=0, le=1000)
    """The repetition guard counts sequences of this many tokens; 0 switches it off. With language models it is off unless it is set."""
    max_repeats: int = Field(default=8, ge=1, le=1_000_000)
    """How often the same sequence of repeat_ngram tokens may occur in a translation, or in a prompt and what follows it; 1: none twice."""
    sampling: SamplingConfig | None = None
    """Draw at random instead of searching."""

    @model_validator(mode="after")
    def _consistent(self) -> "SearchConfig":
        if self.sampling is None and self.n_best > self.beams:
            raise ValueError(f"n_best = {self.n_best} needs at least as many beams, not {self.beams}")
        if self.max_length is not None and self.min_length > self.max_length:
            raise ValueError(f"min_length = {self.min_length} is more than max_length = {self.max_length}")
        return self

    @property
    def width(self) -> int:
        """Rows of a sentence in a batch."""
        return self.beams if self.sampling is None else self.n_best

    def greedy(self) -> "SearchConfig":
        """Greedy search within the same limits of length, and else as it is by itself."""
        limits = {"max_ratio", "max_extra", "max_length", "min_ratio", "min_length"}
        return SearchConfig(beams=1, **self.model_dump(include=limits))

    def score(self, log_probability: float, length: int) -> float:
        """Normalise by length: log_probability / ((5 + length) / 6) ** alpha."""
        return log_probability / ((5 + length) / 6) ** self.length_penalty

    def lengths(self, source: int = 0) -> "LengthLimits":
        """The limits of length for a source of so many tokens, its end not counted; without a source, max_extra is the limit."""
        cap = int(self.max_ratio * source) + self.max_extra
        longest = cap if self.max_length is None else min(cap, self.max_length)
        return LengthLimits(longest, max(self.min_length, round(self.min_ratio * source)))


class BatchConfig(Config):
    """How rows are batched."""

    exact: bool = True
    """Batch only sources of equal length, and never few rows: on the CPU, a translation then never depends on the other texts of a call.
    When false, lengths are mixed and padded: faster on few or very different texts, but a translation may rarely change."""
    batch_sentences: int = Field(default=64, ge=1, le=4096)
    """Most sentences decoded in one batch; fewer with very many beams."""
    precision: Literal["int8", "bf16", "fp32"] = "int8"
    """Numbers of the native engine's matrices: int8 (the fastest, about as good; docs/engine.md), bf16 or fp32. Torch has what the model
    has."""
    batch_tokens: int = Field(default=4096, ge=1, le=1_000_000)
    """Most source tokens in one batch, padding included, unless a single sentence has more."""


class TranslateConfig(BatchConfig):
    """How texts are split, batched and searched."""

    search: SearchConfig | None = None
    """How translations are searched; None: as in the configuration of the (first) model."""
    max_source_tokens: int = Field(default=256, ge=1, le=4096)
    """A sentence longer than this is cut between words. Texts of several sentences are split at sentence ends: always if the training lines
    of the model rarely had several sentences, else only texts longer than all training lines."""
    window_lines: int = Field(default=1024, ge=1)
    """`translate_stream` reads this many lines, then translates them."""
    window_characters: int = Field(default=1_000_000, ge=1)
    """`translate_stream` translates sooner when it has read this many characters."""
    shortlist: bool = False
    """Write only tokens that the (first) model's shortlist (`vitrail shortlist`) has for a sentence's tokens: faster with the native
    engine; a translation may change."""
    seed: int = 0
    """For sampling. Each text has its own generator, seeded with this and its place in the input."""
