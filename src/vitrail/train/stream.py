"""Truncated back-propagation through time over one long text, which is read in several places at once."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor, nn

from vitrail.errors import DataError, UsageError
from vitrail.models.language import LanguageState, RecurrentLanguageModel


class Stretch(NamedTuple):
    """The next tokens of every lane of a stream, and those that follow each of them."""

    tokens: Int[Tensor, "B T"]
    following: Int[Tensor, "B T"]


def stretches(ids: npt.NDArray[np.int32], *, lanes: int, chunk: int) -> Iterator[Stretch]:
    """Read one long text in `lanes` places at once, `chunk` tokens at a time, so that the state of each lane carries over.

    Lane k begins at token k · (len // lanes); what does not fill all lanes is left out. Nothing is padded.
    Raises DataError for a text that is too short, UsageError for lanes or chunks of nothing.
    """
    if lanes < 1 or chunk < 1:
        raise UsageError(f"{lanes} lanes, chunks of {chunk} tokens", expected="at least 1 of each")
    length = (len(ids) - 1) // lanes
    if length < 1:
        raise DataError(f"{len(ids)} tokens for {lanes} lanes", expected=f"at least {lanes + 1} tokens", remedy="fewer lanes")
    whole = torch.from_numpy(ids[: lanes * length + 1].astype(np.int64))
    tokens, following = whole[:-1].view(lanes, length), whole[1:].view(lanes, length)
    for part, next_part in zip(tokens.split(chunk, dim=1), following.split(chunk, dim=1), strict=True):
        yield Stretch(part, next_part)


def train_epoch(
    model: RecurrentLanguageModel,
    stream: Iterable[Stretch],
    optimizer: torch.optim.Optimizer,
    *,
    clip: float = 1.0,
) -> tuple[float, int]:
    """One pass of truncated back-propagation through time: an update after every stretch, the state carried, its gradient cut.

    Source: Williams and Peng 1990, with k1 = k2 = the stretch. Returns: summed nats, and tokens.
    """
    model.train()
    state: LanguageState | None = None
    nats, count = 0.0, 0
    for tokens, following in stream:
        before = model.start(len(tokens)) if state is None else state.detached()
        loss, state = model.loss_from(tokens, following, before)
        optimizer.zero_grad()
        (loss.nats / loss.tokens).backward()  # pyright: ignore[reportUnknownMemberType]
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        nats += float(loss.plain_nats)
        count += int(loss.tokens)
    return nats, count
