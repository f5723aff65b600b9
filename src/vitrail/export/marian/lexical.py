"""A model's shortlist as the engine of browsers uses one.

Marian writes, of a target vocabulary, the tokens of the lists of a sentence's tokens, </s> among them; where both sides share a vocabulary,
those tokens themselves; and from the first token on as many of the others as make a whole number of eights. So the tokens that are in
every list of ours go into the list of </s>, with which every source ends there.
"""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.search.query import AllowedTokens
from vitrail.decode.shortlists.table import Shortlist

_TOKENS = 8


class EightsShortlist(Shortlist):
    """A shortlist whose lists are filled up to whole eights, as that engine does."""

    @classmethod
    def of(cls, shortlist: Shortlist) -> "EightsShortlist":
        """The same lists."""
        return cls(**{one.name: getattr(shortlist, one.name) for one in fields(shortlist)})

    def tokens_for(self, source: Sequence[int]) -> AllowedTokens:
        """See `Shortlist.tokens_for`. What is filled up stays within the vocabulary of our model: its own eights are never written."""
        found = super().tokens_for(source)
        count = len(found.shared) + len(found.own)
        # That many and a few more tokens hold enough that are not in the list.
        others = np.setdiff1d(np.arange(min(count + _TOKENS, self.target_size)), np.concatenate(found))
        return found._replace(own=np.union1d(found.own, others[: -count % _TOKENS]))


def lists_by_token(shortlist: Shortlist, *, sources: int) -> list[list[int]]:
    """The target tokens of each source token.

    Args: sources: size of the source vocabulary there. None of its lists is empty: a program that checks a file wants the last one to have
    a token.
    """
    found: list[list[int]] = []
    for token, copy in enumerate(shortlist.copies.tolist()):
        own = shortlist.tokens[shortlist.starts[token] : shortlist.starts[token + 1]].tolist()
        found.append([*own, copy] if copy >= 0 else own)
    found[EOS] += shortlist.shared.tolist()
    found += [[] for _ in range(sources - len(found))]
    return [row or [EOS] for row in found]
