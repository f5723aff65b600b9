"""Recurrent language models, and truncated back-propagation through time over a long text."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from vitrail.data.batches import Batch, collate
from vitrail.data.blocks import Blocks
from vitrail.data.vocabularies.subwords import EOS, SOS
from vitrail.decode.search.beams import beam_search
from vitrail.decode.search.query import Query
from vitrail.decode.search_config import SearchConfig
from vitrail.models.configs.language import LanguageConfig
from vitrail.models.kinds.language import RecurrentLanguageModel
from vitrail.nn.layers import Dropout
from vitrail.runtime.ranks import Ranks
from vitrail.train.resume.carry import Carried

V = 12


def model(**changes: object) -> RecurrentLanguageModel:
    torch.manual_seed(1)
    table = {"embedding_width": 8, "width": 10, "dropout": 0.0, "layers": 2} | changes
    return RecurrentLanguageModel(LanguageConfig.model_validate(table), vocabulary=V).double()


def text(length: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(4, V, length).astype(np.int32)


def gradients(ours: RecurrentLanguageModel) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in ours.parameters() if parameter.grad is not None]


def test_texts_are_kept_with_all_their_beams() -> None:
    state = model().start(3).repeat(2)
    numbered = replace(state, carries=tuple(tuple(part + torch.arange(6)[:, None] for part in carry) for carry in state.carries))
    kept = numbered.keep(torch.tensor([0, 2])).reorder(torch.tensor([3, 0, 1, 2]))
    assert kept.carries[0][0][:, 0].tolist() == [5, 0, 1, 4]
    assert kept.keep(torch.tensor([1])).carries[1][0][:, 0].tolist() == [1, 4]


def test_variational_dropout_drops_the_same_in_every_chunk_of_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, ...]] = []
    draw = Dropout.draw

    def count(self: Dropout, shape: tuple[int, ...], like: Tensor) -> Tensor | None:
        drawn.append(shape)
        return draw(self, shape, like)

    ours = model(dropout=0.5, variational=True, truncate=2).train()
    monkeypatch.setattr(Dropout, "draw", count)
    ours.loss(collate([[4]] * 2, [[4, 5, 6, 7, 8]] * 2))
    assert [shape for shape in drawn if shape[1:] != (2, 1)] == [(2, 1, 8), (2, 1, 10), (2, 1, 10)]


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_chunks_add_up_to_the_whole_and_a_covering_chunk_is_full_backpropagation(cell: str) -> None:
    ids = torch.from_numpy(text(25)).long()[None]
    tokens, following = ids[:, :-1], ids[:, 1:]
    found: dict[int, tuple[float, list[Tensor]]] = {}
    for chunk in (24, 30, 8):
        ours = model(cell=cell)
        state, nats = ours.start(1), 0.0
        for part, next_part in zip(tokens.split(chunk, 1), following.split(chunk, 1), strict=True):
            loss, state = ours.loss_from(part, next_part, state.detached())
            loss.nats.backward()
            nats += float(loss.nats.detach())
        found[chunk] = nats, gradients(ours)
    assert found[8][0] == pytest.approx(found[24][0], rel=1e-6)  # losses are reduced in float32
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found[30][1], found[24][1], strict=True))
    assert not all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found[8][1], found[24][1], strict=True))


def test_without_detaching_chunks_the_gradient_is_the_whole_one() -> None:
    """The state carries everything: only the cut makes the difference."""
    ids = torch.from_numpy(text(25)).long()[None]
    results: list[list[Tensor]] = []
    for chunk in (24, 5):
        ours = model()
        state, total = ours.start(1), torch.zeros((), dtype=torch.float64)
        for part, next_part in zip(ids[:, :-1].split(chunk, 1), ids[:, 1:].split(chunk, 1), strict=True):
            loss, state = ours.loss_from(part, next_part, state)
            total = total + loss.nats
        total.backward()
        results.append(gradients(ours))
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-6, rtol=1e-5)


def test_sentences_by_themselves_and_truncated() -> None:
    rows = [text(length, seed=length).tolist() for length in (7, 3, 5)]
    batch = collate(rows, rows)
    whole = model().loss(batch)
    assert int(whole.tokens) == 7 + 3 + 5 + 3
    alone = [model().loss(Batch(*collate([row], [row]))).nats for row in rows]
    torch.testing.assert_close(whole.nats, torch.stack(alone).sum())
    torch.testing.assert_close(model(truncate=2).loss(batch).nats, whole.nats)


@torch.no_grad()
def test_steps_are_the_whole_and_search_takes_them() -> None:
    ours = model().eval()
    rows = [text(6).tolist()]
    batch = collate(rows, rows)
    state, nats = ours.start(1), 0.0
    for token, expected in zip(batch.target_in[0], batch.target_out[0], strict=True):
        logits, state = ours.step(token[None], state)
        nats -= float(logits.log_softmax(1)[0, expected])
    assert nats == pytest.approx(float(ours.loss(batch).nats), rel=1e-6)
    found = beam_search(ours.step, ours.start(2), [Query(longest=8)] * 2, config=SearchConfig(beams=3))
    assert found[0][0].tokens == found[1][0].tokens and found[0][0].log_probability <= 0


class Ring:
    """Blocks of ids that were never on disk."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = np.array(ids, dtype="<u2")

    def ids(self, role: str) -> np.ndarray:
        assert role == "text"
        return self._ids

    def lengths(self, role: str) -> np.ndarray:
        assert role == "text"
        return np.array([len(self._ids)])


def test_what_is_carried_is_remembered() -> None:
    """A text in which every other token is decided by the one before the last: blocks of 1 show too little of it, the state the rest.

    Trained in blocks of 1, a model that carries its state comes near the entropy of 0; one that forgets at every block does not.
    """
    blocks = Blocks([Ring(([4, 5, 6, 6, 7, 5] * 120)[:-1])], tokens=4, length=1, groups=1, seed=0)  # pyright: ignore[reportArgumentType]
    losses: dict[bool, float] = {}
    for carried in (True, False):
        torch.manual_seed(3)
        ours = RecurrentLanguageModel(LanguageConfig(cell="gru", embedding_width=8, width=16, dropout=0.0), vocabulary=V)
        optimizer = torch.optim.Adam(ours.parameters(), lr=0.02)
        state = Carried(ours, groups=1, lanes=4, goes_on=blocks.goes_on if carried else lambda number: False)
        nats = 0.0
        for number in range(6 * blocks.epoch_length(0)):
            loss = state.loss(number, blocks.at(*blocks.locate(number)), label_smoothing=0.0)
            optimizer.zero_grad()
            (loss.nats / loss.tokens).backward()
            optimizer.step()
            state.keep(Ranks(0, 1))
            nats = (
                float(loss.plain_nats / loss.tokens)
                if number % blocks.epoch_length(0) == 0
                else nats + float(loss.plain_nats / loss.tokens)
            )
        losses[carried] = nats / blocks.epoch_length(0)
    assert losses[True] < 0.15 < 0.4 < losses[False] < math.log(V)


def test_a_skipped_update_carries_nothing_on_and_a_saved_state_is_the_same() -> None:
    ours = model().float().eval()
    blocks = Blocks([Ring(text(400).tolist())], tokens=12, length=4, groups=2, seed=0)  # pyright: ignore[reportArgumentType]
    carried = Carried(ours, groups=2, lanes=blocks.lanes, goes_on=blocks.goes_on)

    def loss(state: Carried, number: int) -> float:
        return float(state.loss(number, blocks.at(*blocks.locate(number)), label_smoothing=0.0).nats.detach())

    for number in (0, 1):
        loss(carried, number)
    carried.keep(Ranks(0, 1))
    kept = {name: tensor.clone() for name, tensor in carried.tensors().items()}
    first = loss(carried, 2)
    carried.forget()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in carried.tensors().items())
    assert loss(carried, 2) == first
    again = Carried(ours, groups=2, lanes=blocks.lanes, goes_on=blocks.goes_on)
    again.restore(kept)
    assert loss(again, 2) == first and loss(again, 3) != first
    fresh = Carried(ours, groups=2, lanes=blocks.lanes, goes_on=blocks.goes_on)
    assert loss(fresh, 2) != first


def test_tokens_begin_and_end_as_everywhere() -> None:
    batch = collate([[5]], [[6, 7]])
    assert batch.target_in.tolist() == [[SOS, 6, 7]] and batch.target_out.tolist() == [[6, 7, EOS]]
