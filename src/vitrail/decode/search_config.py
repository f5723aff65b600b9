"""How texts are searched, batched and cut: settings only, without torch."""

from typing import NamedTuple

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


class LengthLimits(NamedTuple):
    """How long a result may be, in tokens."""

    longest: int
    """At most, the end included."""
    shortest: int
    """At least, the end not included."""


class SearchConfig(Config):
    """How a translation is looked for."""

    beams: int = Field(default=5, ge=1, le=10_000)
    """Hypotheses kept side by side; 1 is greedy search. Not used when sampling."""
    n_best: int = Field(default=1, ge=1, le=10_000)
    """Translations returned for a sentence, of different texts; when sampling, the number of samples drawn."""
    length_penalty: float = Field(default=1.0, ge=0, le=100, allow_inf_nan=False)
    """Alpha in score = log-probability / ((5 + length) / 6) ** alpha (Wu et al. 2016); length counts the end. 0 prefers short ones."""
    early_stop: bool = True
    """End a sentence as soon as nothing alive can still enter its n-best list. Saves time and never changes the result."""
    max_ratio: float = Field(default=2.0, ge=0, le=100, allow_inf_nan=False)
    """A translation has at most max_ratio * source + max_extra tokens, its end included; one cut off there is marked truncated."""
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
    """The repetition guard counts sequences of this many tokens; 0 switches it off."""
    max_repeats: int = Field(default=8, ge=1, le=1_000_000)
    """How often the same sequence of repeat_ngram tokens may occur in one translation."""
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
        """Rows a sentence takes in a batch."""
        return self.beams if self.sampling is None else self.n_best

    def score(self, log_probability: float, length: int) -> float:
        """Normalise by length: log_probability / ((5 + length) / 6) ** alpha."""
        return log_probability / ((5 + length) / 6) ** self.length_penalty

    def lengths(self, source: int = 0) -> "LengthLimits":
        """The limits of length for a source of so many tokens, its end not counted; without a source, max_extra is the limit."""
        cap = int(self.max_ratio * source) + self.max_extra
        longest = cap if self.max_length is None else min(cap, self.max_length)
        return LengthLimits(longest, max(self.min_length, round(self.min_ratio * source)))


class BatchConfig(Config):
    """Which rows are computed side by side."""

    exact: bool = True
    """Batch only sources of equal length, and never few rows: on the CPU the same tokens whatever is translated in the same call. When
    false, lengths are mixed and padded, which is faster on few or very different texts and may change a translation now and then."""
    batch_sentences: int = Field(default=64, ge=1, le=4096)
    """Sentences decoded side by side, at most; fewer with very many beams."""
    batch_tokens: int = Field(default=4096, ge=1, le=1_000_000)
    """Source tokens with padding in one batch, at most, unless a single sentence has more."""


class TranslateConfig(BatchConfig):
    """How texts are cut, batched and searched."""

    search: SearchConfig | None = None
    """How each sentence's translation is looked for; None: as the run of the (first) model was configured."""
    max_source_tokens: int = Field(default=256, ge=1, le=4096)
    """A sentence longer than this is cut between words. Texts of several sentences are cut at sentence ends: always where the lines that
    the model was trained on hardly ever had several, else where they are longer than any of those."""
    window_lines: int = Field(default=1024, ge=1)
    """`translate_stream` reads this many lines before it translates them."""
    window_characters: int = Field(default=1_000_000, ge=1)
    """`translate_stream` translates sooner when it has read this many characters."""
    seed: int = 0
    """For sampling. Each text draws from its own generator, made of this and its place in the input."""
