"""The request of one row to search, and its results, in token ids."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import NamedTuple

from vitrail.data.vocabularies.subwords import PAD, SOS
from vitrail.decode.search.constraints import UNCONSTRAINED, Constraints, TokenIds
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import UsageError


@dataclass(frozen=True)
class Query:
    """The request of one row of a batch.

    Args:
        prompt: token ids that the decoder reads before the search, including its first token: `(SOS,)` for a translation, SOS and the
            beginning of a text for a language model. It is neither scored nor part of the result; `Constraints.prefix` is both.
        longest: tokens of the result at most, its end included; a prefix is not counted. See `SearchConfig.lengths`.
        shortest: tokens that must come before the end.
        constraints: what the result must and may not contain.
        seed: for sampling.
        spell: the text of tokens. With it, an n-best list has each text once, and is filled up with others.
        stop: whether the result ends with the last of these tokens. Asked after each token; the result keeps that token.

    Raises UsageError for a prompt without tokens or with padding, and for a limit of less than one token.
    """

    prompt: TokenIds = (SOS,)
    _: KW_ONLY
    longest: int
    shortest: int = 0
    constraints: Constraints = UNCONSTRAINED
    seed: int = 0
    spell: Callable[[Sequence[int]], str] | None = None
    stop: Callable[[Sequence[int]], bool] | None = None

    def __post_init__(self) -> None:
        if not self.prompt or PAD in self.prompt:
            raise UsageError(f"a prompt of the tokens {self.prompt}", expected="at least one token, such as <sos>, and no padding")
        if self.longest < 1:
            raise UsageError(f"a result of at most {self.longest} tokens", expected="at least 1, the end")

    @property
    def cap(self) -> int:
        """Most tokens of the result, prefix and end included."""
        return len(self.constraints.prefix) + self.longest

    @property
    def floor(self) -> int:
        """Least tokens before the end: fewer than `shortest` where the limit is too low."""
        return min(self.shortest, self.cap - 1)

    def relaxations(self) -> tuple["Query", "Query", "Query"]:
        """This query without constraints, with all but the forced words, and unchanged."""
        free, unforced = (replace(self.constraints, forced=(), **dropped) for dropped in ({"prefix": (), "forbidden": ()}, {}))
        return replace(self, constraints=free), replace(self, constraints=unforced), self

    def fewest_beams(self, config: SearchConfig) -> int:
        """Beams for the search: every possible number of forced tokens is a bank, and each bank needs a beam."""
        forced = self.constraints.forced
        return max(config.beams, 1 + sum(min(map(len, word)) for word in forced)) if forced else config.beams


class Row(NamedTuple):
    """A row of a step: the K hypotheses of one sentence, which are of one length."""

    sentence: int
    """-1: a copy of another row, which only fills the batch."""
    length: int
    """Tokens of each hypothesis, without the prompt."""


@dataclass(frozen=True)
class Hypothesis:
    """One result of a search."""

    tokens: tuple[int, ...]
    """Without SOS and EOS."""
    log_probability: float
    """Natural logarithm, summed over the tokens and the EOS."""
    score: float
    """The log-probability normalised by length."""
    token_log_probabilities: tuple[float, ...]
    """One for each token and, unless truncated or stopped, one for the EOS; the model's own, without constraints and temperature."""
    truncated: bool
    """True when the limit of length was reached before the EOS."""
    stopped: bool = False
    """True when `Query.stop` ended it, before the EOS."""
    column: int = 0
    """Its place among those of the last step: of samples, the number of the sample."""
