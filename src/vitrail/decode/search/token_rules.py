"""Which next tokens are allowed in a step: prefix, forbidden words, repetition guard, repetition penalty."""

from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, UNK
from vitrail.decode.search.constraints import Constraints, TokenIds
from vitrail.decode.search.query import Row

NOTHING = -1
"""Before the first token of a hypothesis that is shorter than others."""


class TokenRules:
    """The rules for the next tokens of all sentences of a search.

    In its methods, `tokens` has what the rows have read and written, see `Beams`, and `rows` their sentences and lengths.
    """

    def __init__(
        self,
        constraints: Sequence[Constraints],
        *,
        min_lengths: Sequence[int],
        allow_unknown: bool,
        repeat_ngram: int,
        max_repeats: int,
        device: torch.device,
    ) -> None:
        self._constraints, self._min_lengths = constraints, min_lengths
        self._shortest = max(min_lengths, default=0)
        self._never = torch.tensor([PAD, SOS] if allow_unknown else [PAD, SOS, UNK], device=device)
        self._repeat_ngram, self._max_repeats = repeat_ngram, max_repeats
        self._special = {sentence for sentence, wish in enumerate(constraints) if wish.prefix or wish.forbidden}

    def block(self, log_probs: Float[Tensor, "B K V"], tokens: Int[Tensor, "B K P"], rows: Sequence[Row]) -> None:
        """Set forbidden next tokens to -inf, in place; the others keep the model's log-probability (no renormalisation)."""
        special = [(place, row.length, self._constraints[row.sentence]) for place, row in enumerate(rows) if row.sentence in self._special]
        prefixed = [(place, wish.prefix[length]) for place, length, wish in special if length < len(wish.prefix)]
        prefix_log_probs = [log_probs[place, :, token].clone() for place, token in prefixed]
        log_probs.index_fill_(2, self._never, -torch.inf)
        if any(row.length < self._shortest for row in rows):
            too_short = [place for place, (sentence, length) in enumerate(rows) if sentence >= 0 and length < self._min_lengths[sentence]]
            log_probs[too_short, :, EOS] = -torch.inf
        if self._repeat_ngram and tokens.shape[2] >= self._repeat_ngram + self._max_repeats - 1:
            self._block_repeats(log_probs, tokens, rows)
        for place, length, wish in special:
            written = tokens[place, :, tokens.shape[2] - length :]
            for spelling in wish.forbidden:
                _block_sequence(log_probs[place], written, spelling)
        for (place, token), kept in zip(prefixed, prefix_log_probs, strict=True):
            log_probs[place] = -torch.inf
            log_probs[place, :, token] = kept

    def penalise(self, logits: Float[Tensor, "B K V"], tokens: Int[Tensor, "B K P"], *, penalty: float) -> Float[Tensor, "B K V"]:
        """Make tokens that a row has read or written less likely: a logit above 0 is divided by `penalty`, one below is multiplied.

        Source: Keskar et al. 2019 (CTRL), section 4.1. Differs from it: the logit of a special token never changes, so that a text whose
        prompt has several lines ends as easily as any other; and logits below 0, which a division would raise, are multiplied, as is usual.
        """
        seen = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
        seen.scatter_(2, tokens.clamp(min=PAD), True)
        seen[:, :, : EOS + 1] = False
        return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)

    def _block_repeats(self, log_probs: Float[Tensor, "B K V"], tokens: Int[Tensor, "B K P"], rows: Sequence[Row]) -> None:
        """Forbid a token that would repeat a sequence once too often; the end is never forbidden."""
        windows = tokens.unfold(2, self._repeat_ngram, 1)
        recent = tokens[:, :, tokens.shape[2] - self._repeat_ngram + 1 :]
        same_start = (windows[..., :-1] == recent[:, :, None]).all(-1)
        # A row rarely gets here, so counting in Python usually costs nothing.
        for place, beam in (same_start.sum(-1) >= self._max_repeats).nonzero().tolist():
            sentence = rows[place].sentence
            if sentence >= 0 and self._constraints[sentence].guard_repeats:
                followers = Counter(windows[place, beam, same_start[place, beam], -1].tolist())
                log_probs[
                    place, beam, [one for one, count in followers.items() if count >= self._max_repeats and one not in (NOTHING, EOS)]
                ] = -torch.inf


def _block_sequence(log_probs: Float[Tensor, "K V"], tokens: Int[Tensor, "K T"], spelling: TokenIds) -> None:
    before = len(spelling) - 1
    if tokens.shape[1] >= before:
        beginning = torch.tensor(spelling[:-1], dtype=tokens.dtype, device=tokens.device)
        log_probs[(tokens[:, tokens.shape[1] - before :] == beginning).all(-1), spelling[-1]] = -torch.inf
