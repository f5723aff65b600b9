"""The request of one row to search, and its results, in token ids."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.data.vocabularies.subwords import PAD, SOS
from vitrail.data.vocabularies.vocabulary import SPECIAL
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
        shortlist: the tokens that the result may have, besides those of its prefix and of forced words. Other tokens have the logit -inf,
            so that probabilities are shares among these. None: all tokens.
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
    shortlist: "AllowedTokens | None" = field(default=None, compare=False)
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


class AllowedTokens(NamedTuple):
    """The ids of the tokens that a result may have: rising int64, in two lists that have none in common."""

    shared: npt.NDArray[np.int64]
    """Those of every sentence, the special tokens among them."""
    own: npt.NDArray[np.int64]
    """The others."""

    def also(self, wish: Constraints) -> "AllowedTokens":
        """With the tokens of a prefix and forced words."""
        if not (wish.prefix or wish.forced):
            return self
        wanted = [*wish.prefix, *(token for word in wish.forced for spelling in word for token in spelling)]
        return AllowedTokens(self.shared, np.union1d(self.own, np.setdiff1d(np.asarray(wanted, np.int64), self.shared)))


def allowed_tokens(queries: Sequence[Query]) -> list[AllowedTokens]:
    """The shortlist of each query with the tokens of its prefix and forced words; () where all tokens are allowed.

    Raises UsageError where some queries have one and others have none, or share other tokens.
    """
    lists = [query.shortlist.also(query.constraints) for query in queries if query.shortlist is not None]
    if not lists:
        return []
    shared = lists[0].shared
    if shared[: len(SPECIAL)].tolist() != list(range(len(SPECIAL))):
        raise UsageError("a shortlist without the special tokens", expected="them among the tokens that all sentences share")
    if len(lists) < len(queries) or not all(one.shared is shared or np.array_equal(one.shared, shared) for one in lists):
        raise UsageError("sentences with shortlists that have nothing to do with each other", expected="those of one shortlist, or none")
    return lists


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
