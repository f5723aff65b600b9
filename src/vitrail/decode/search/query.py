"""What search is asked for one row, and what it answers; no text and no source is known here."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace

from vitrail.data.vocabularies.subwords import PAD, SOS
from vitrail.decode.search.constraints import UNCONSTRAINED, Constraints, TokenIds
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import UsageError


@dataclass(frozen=True)
class Query:
    """What is asked for one row of a batch.

    Args:
        prompt: token ids that the decoder reads before the search, its first token included: `(SOS,)` for a translation, SOS and the
            beginning of a text for a language model. It is neither scored nor part of the result; `Constraints.prefix` is both.
        longest: tokens of the result at most, its end included; a prefix does not use them up. See `SearchConfig.lengths`.
        shortest: tokens that must come before the end.
        constraints: what the result must and may not contain.
        seed: for sampling.
        spell: the text that tokens write. With it, an n-best list holds each text once, and is filled up with others.

    Raises UsageError for a prompt without tokens or with padding, and for a limit of less than one token.
    """

    prompt: TokenIds = (SOS,)
    _: KW_ONLY
    longest: int
    shortest: int = 0
    constraints: Constraints = UNCONSTRAINED
    seed: int = 0
    spell: Callable[[Sequence[int]], str] | None = None

    def __post_init__(self) -> None:
        if not self.prompt or PAD in self.prompt:
            raise UsageError(f"a prompt of the tokens {self.prompt}", expected="at least one token, such as <sos>, and no padding")
        if self.longest < 1:
            raise UsageError(f"a result of at most {self.longest} tokens", expected="at least 1, the end")

    @property
    def cap(self) -> int:
        """Tokens of the result at most, prefix and end included."""
        return len(self.constraints.prefix) + self.longest

    @property
    def floor(self) -> int:
        """Tokens that must come before the end: fewer than `shortest` where the limit leaves no room."""
        return min(self.shortest, self.cap - 1)

    def relaxations(self) -> tuple["Query", "Query", "Query"]:
        """The same without constraints, with all but the forced words, and as it is."""
        free, unforced = (replace(self.constraints, forced=(), **dropped) for dropped in ({"prefix": (), "forbidden": ()}, {}))
        return replace(self, constraints=free), replace(self, constraints=unforced), self

    def fewest_beams(self, config: SearchConfig) -> int:
        """Beams to search with: every number of forced tokens that can stand is a bank, and each bank needs a beam."""
        forced = self.constraints.forced
        return max(config.beams, 1 + sum(min(map(len, word)) for word in forced)) if forced else config.beams


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
    """One for each token and, unless truncated, one for the EOS; the model's own, whatever constraints and temperature were used."""
    truncated: bool
    """True when the limit of length came before the EOS."""
