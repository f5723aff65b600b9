"""Which next tokens are allowed in a step: prefix, forbidden words, repetition guard, repetition penalty."""

from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, UNK
from vitrail.decode.search.constraints import Constraints, TokenIds

_NOTHING = -1
"""Stands before a prompt that is shorter than others."""


class TokenRules:
    """The rules for the next tokens of a batch of sentences."""

    def __init__(
        self,
        constraints: Sequence[Constraints],
        *,
        prompts: Sequence[TokenIds],
        min_lengths: Sequence[int],
        allow_unknown: bool,
        repeat_ngram: int,
        max_repeats: int,
        device: torch.device,
    ) -> None:
        self._constraints, self._min_lengths = constraints, min_lengths
        self._never = torch.tensor([PAD, SOS] if allow_unknown else [PAD, SOS, UNK], device=device)
        self._repeat_ngram, self._max_repeats = repeat_ngram, max_repeats
        longest = max(map(len, prompts), default=0)
        padded = [[*[_NOTHING] * (longest - len(prompt)), *prompt] for prompt in prompts]
        self._prompts = torch.tensor(padded, device=device)
        self._special = {row for row, wish in enumerate(constraints) if wish.prefix or wish.forbidden}

    def block(self, log_probs: Float[Tensor, "B K V"], tokens: Int[Tensor, "B K T"], sentences: Sequence[int]) -> None:
        """Set forbidden next tokens to -inf, in place; the others keep the model's log-probability (no renormalisation).

        `sentences[b]` is the sentence of row b.
        """
        length = tokens.shape[2]
        special = [(row, self._constraints[sentence]) for row, sentence in enumerate(sentences) if sentence in self._special]
        prefixed = [(row, wish.prefix[length]) for row, wish in special if length < len(wish.prefix)]
        prefix_log_probs = [log_probs[row, :, token].clone() for row, token in prefixed]
        log_probs.index_fill_(2, self._never, -torch.inf)
        too_short = [row for row, sentence in enumerate(sentences) if length < self._min_lengths[sentence]]
        if too_short:
            log_probs[too_short, :, EOS] = -torch.inf
        if self._repeat_ngram and self._prompts.shape[1] + length >= self._repeat_ngram + self._max_repeats - 1:
            self._block_repeats(log_probs, self._with_prompts(tokens, sentences), sentences)
        for row, wish in special:
            for spelling in wish.forbidden:
                _block_sequence(log_probs[row], tokens[row], spelling)
        for (row, token), kept in zip(prefixed, prefix_log_probs, strict=True):
            log_probs[row] = -torch.inf
            log_probs[row, :, token] = kept

    def _with_prompts(self, tokens: Int[Tensor, "B K T"], sentences: Sequence[int]) -> Int[Tensor, "B K P"]:
        """All tokens that a row has read and written."""
        read = self._prompts[list(sentences)]
        return torch.cat([read[:, None].expand(-1, tokens.shape[1], -1), tokens], dim=2)

    def penalise(
        self, logits: Float[Tensor, "B K V"], tokens: Int[Tensor, "B K T"], sentences: Sequence[int], *, penalty: float
    ) -> Float[Tensor, "B K V"]:
        """Make tokens that a row has read or written less likely: a logit above 0 is divided by `penalty`, one below is multiplied.

        Source: Keskar et al. 2019 (CTRL), section 4.1. Differs from it: the logit of a special token never changes, so that a text whose
        prompt has several lines ends as easily as any other; and logits below 0, which a division would raise, are multiplied, as is usual.
        """
        seen = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
        seen.scatter_(2, self._with_prompts(tokens, sentences).clamp(min=0), True)
        seen[:, :, : EOS + 1] = False
        return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)

    def _block_repeats(self, log_probs: Float[Tensor, "B K V"], tokens: Int[Tensor, "B K T"], sentences: Sequence[int]) -> None:
        """Forbid a token that would repeat a sequence once too often; the end is never forbidden."""
        windows = tokens.unfold(2, self._repeat_ngram, 1)
        recent = tokens[:, :, tokens.shape[2] - self._repeat_ngram + 1 :]
        same_start = (windows[..., :-1] == recent[:, :, None]).all(-1)
        # A row rarely gets here, so counting in Python usually costs nothing.
        for row, beam in (same_start.sum(-1) >= self._max_repeats).nonzero().tolist():
            if self._constraints[sentences[row]].guard_repeats:
                followers = Counter(windows[row, beam, same_start[row, beam], -1].tolist())
                log_probs[row, beam, [one for one, count in followers.items() if count >= self._max_repeats and one != EOS]] = -torch.inf


def _block_sequence(log_probs: Float[Tensor, "K V"], tokens: Int[Tensor, "K T"], spelling: TokenIds) -> None:
    before = len(spelling) - 1
    if tokens.shape[1] >= before:
        beginning = torch.tensor(spelling[:-1], dtype=tokens.dtype, device=tokens.device)
        log_probs[(tokens[:, tokens.shape[1] - before :] == beginning).all(-1), spelling[-1]] = -torch.inf
