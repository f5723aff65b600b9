"""Recurrent translators: their equations in float64, truncated back-propagation through time, the bottleneck, dropout, refusals."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from vitrail.config import build
from vitrail.data.batches import Batch, collate
from vitrail.data.vocabularies.subwords import EOS, SOS
from vitrail.errors import UsageError
from vitrail.models.architectures import read_config
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.kinds.recurrent import Recurrent
from vitrail.nn.probe import trace
from vitrail.train.run_config import RunConfig

V, E, D = 20, 6, 8


def model(seed: int = 1, **changes: object) -> Recurrent:
    torch.manual_seed(seed)
    config = RecurrentConfig.model_validate({"embedding_width": E, "width": D, "dropout": 0.0, "tie": "none"} | changes)
    built = Recurrent(config, source_vocabulary=V, target_vocabulary=V).double()
    with torch.no_grad():
        for parameter in built.parameters():  # biases start at 0, which would prove nothing
            parameter.add_(0.1 * torch.randn_like(parameter))
    return built


def batch(*, source: tuple[int, ...] = (5, 3), target: tuple[int, ...] = (6, 4), seed: int = 2) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    sides = [[torch.randint(EOS + 1, V, (length,), generator=draw).tolist() for length in lengths] for lengths in (source, target)]
    return collate(*sides)


def gru(cell, x: Tensor, h: Tensor) -> Tensor:
    """Cho et al.'s unit for one sentence, in float64."""
    a, b = cell.input_weight @ x + cell.input_bias, cell.hidden_weight @ h + cell.hidden_bias
    r, z = torch.sigmoid(a[:D] + b[:D]), torch.sigmoid(a[D : 2 * D] + b[D : 2 * D])
    return (1 - z) * torch.tanh(a[2 * D :] + r * b[2 * D :]) + z * h


@pytest.mark.parametrize("attention", ["bahdanau", "luong-general", "luong-dot", "luong-concat"])
@pytest.mark.parametrize("fed", [False, True])
@torch.no_grad()
def test_the_decoder_is_the_equations_of_its_paper(attention: str, fed: bool) -> None:
    """Written out for one sentence, one step and one source position at a time."""
    if attention == "bahdanau" and fed:
        pytest.skip("Bahdanau's decoder reads its context in any case")
    ours = model(cell="gru", attention=attention, input_feeding=fed, bidirectional=False)
    pairs = batch(source=(4,), target=(5,))
    encoded = ours.encode(pairs.source)
    memory, cell, scorer = encoded.memory[0], ours.decoder[0], ours.attention
    assert encoded.summary is not None

    def look(query: Tensor) -> Tensor:
        if attention in ("bahdanau", "luong-concat"):
            scores = [scorer.vector @ torch.tanh(scorer.query.weight @ query + scorer.query.bias + scorer.key.weight @ m) for m in memory]
        elif attention == "luong-general":
            scores = [query @ scorer.key.weight @ m for m in memory]
        else:
            scores = [query @ m for m in memory]
        weights = torch.stack(scores).exp()
        return sum((w / weights.sum() * m for w, m in zip(weights, memory, strict=True)), torch.zeros(D, dtype=torch.float64))

    bridge = ours.bridge[0].parts[0]
    state, attentional = torch.tanh(bridge.weight @ encoded.summary[0] + bridge.bias), torch.zeros(E, dtype=torch.float64)
    found: list[Tensor] = []
    for token in pairs.target_in[0].tolist():
        y = ours.target_embedding.weight[token] * E**0.5
        if attention == "bahdanau":
            context = look(state)
            state = gru(cell, torch.cat([y, context]), state)
            seen = torch.cat([state, context, y])
        else:
            state = gru(cell, torch.cat([y, attentional]) if fed else y, state)
            seen = torch.cat([state, look(state)])
        attentional = torch.tanh(ours.readout.weight @ seen + ours.readout.bias)
        found.append(attentional)
    torch.testing.assert_close(ours.decode(pairs.target_in, encoded)[0], torch.stack(found), atol=1e-12, rtol=1e-12)


@torch.no_grad()
def test_without_attention_the_summary_is_all_that_is_heard() -> None:
    """Another memory changes nothing; another summary does."""
    ours, pairs = model(cell="lstm"), batch()
    encoded = ours.encode(pairs.source)
    expected = ours.decode(pairs.target_in, encoded)
    assert torch.equal(ours.decode(pairs.target_in, encoded._replace(memory=torch.randn_like(encoded.memory))), expected)
    assert encoded.summary is not None and encoded.summary.shape == (2, 2 * D)
    other = ours.decode(pairs.target_in, encoded._replace(summary=encoded.summary + 0.1))
    assert (other - expected).abs().max() > 1e-3


@torch.no_grad()
def test_the_summary_holds_the_last_state_of_each_direction() -> None:
    ours, pairs = model(cell="rnn"), batch(source=(5, 2))
    encoded = ours.encode(pairs.source)
    assert encoded.summary is not None
    for row, length in enumerate((6, 3)):  # <eos> counted
        torch.testing.assert_close(encoded.summary[row, : D // 2], encoded.memory[row, length - 1, : D // 2])
        torch.testing.assert_close(encoded.summary[row, D // 2 :], encoded.memory[row, 0, D // 2 :])


@torch.no_grad()
def test_a_reversed_source_is_read_from_its_end_and_remembered_in_its_order() -> None:
    plain, turned = (model(cell="gru", bidirectional=False, attention="luong-dot", reverse_source=reverse) for reverse in (False, True))
    turned.load_state_dict(plain.state_dict())
    pairs = batch(source=(4, 2))
    backwards = pairs.source.clone()
    backwards[0, :4], backwards[1, :2] = pairs.source[0, :4].flip(0), pairs.source[1, :2].flip(0)
    expected, found = plain.encode(backwards), turned.encode(pairs.source)
    torch.testing.assert_close(found.summary, expected.summary)
    torch.testing.assert_close(found.memory[0, :4], expected.memory[0, :4].flip(0))
    torch.testing.assert_close(found.memory[1, :2], expected.memory[1, :2].flip(0))
    torch.testing.assert_close(found.memory[:, 4:], expected.memory[:, 4:])


def gradients(ours: Recurrent, pairs: Batch) -> dict[str, Tensor]:
    ours.zero_grad()
    ours.loss(pairs).nats.backward()
    return {name: parameter.grad.clone() for name, parameter in ours.named_parameters() if parameter.grad is not None}


KINDS = [{"cell": "lstm"}, {"cell": "gru", "attention": "bahdanau"}, {"cell": "rnn", "attention": "luong-dot", "input_feeding": True}]


@pytest.mark.parametrize("kind", KINDS, ids=["lstm", "gru-bahdanau", "rnn-luong-fed"])
def test_truncation_changes_no_loss_and_a_chunk_that_covers_the_target_no_gradient(kind: dict[str, object]) -> None:
    pairs = batch(target=(8, 5))
    whole = model(**kind)
    loss, full = whole.loss(pairs).nats, gradients(whole, pairs)
    for chunk in (1, 3, 9, 50):
        ours = model(**kind, truncate=chunk)
        torch.testing.assert_close(ours.loss(pairs).nats, loss, atol=1e-5, rtol=1e-6)  # losses are reduced in float32
        found = gradients(ours, pairs)
        same = all(torch.allclose(found[name], full[name], atol=1e-6, rtol=1e-5) for name in full)
        assert same == (chunk >= 9), chunk


@pytest.mark.parametrize("kind", KINDS, ids=["lstm", "gru-bahdanau", "rnn-luong-fed"])
def test_a_truncated_gradient_is_that_of_the_chunks_by_themselves(kind: dict[str, object]) -> None:
    """Each chunk started from the numbers that the one before ended with, gradients of the decoder's own weights summed."""
    pairs, chunk = batch(target=(7, 7)), 3
    ours = model(**kind, truncate=chunk)
    found = gradients(ours, pairs)
    whole = model(**kind)
    whole.zero_grad()
    with torch.no_grad():
        states = [whole.start(whole.encode(pairs.source))]
        for token in pairs.target_in.unbind(1):
            state = whole.step(token, states[-1]).state
            states.append(state)  # pyright: ignore[reportArgumentType]
    for start in range(0, pairs.target_in.shape[1], chunk):
        encoded = whole.encode(pairs.source)
        fresh = whole.start(encoded)
        begun = fresh if start == 0 else replace(fresh, carries=states[start].carries, fed=states[start].fed)
        hidden, _ = whole._advance(  # pyright: ignore[reportPrivateUsage]
            whole.target_embedding(pairs.target_in[:, start : start + chunk]) * E**0.5,
            torch.ones_like(pairs.target_in[:, start : start + chunk], dtype=torch.bool),
            begun,
        )
        logits = hidden @ whole.output_weight.T + whole.output_bias
        torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), pairs.target_out[:, start : start + chunk].flatten(), reduction="sum"
        ).backward()
    for name, parameter in whole.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, atol=2e-6, rtol=1e-5, msg=name)


def test_variational_dropout_drops_the_same_values_at_every_step() -> None:
    ours = model(cell="rnn", attention="bahdanau", dropout=0.5, variational=True, bidirectional=False).train()
    pairs = batch(source=(6, 6), target=(9, 9))
    state = ours.start(ours.encode(pairs.source))
    assert state.masks == ()
    masked: list[Tensor] = []
    original = ours._drop  # pyright: ignore[reportPrivateUsage]

    def listen(values: Tensor, mask: Tensor | None) -> Tensor:
        masked.append(original(torch.ones_like(values), mask))
        return original(values, mask)

    ours._drop = listen  # pyright: ignore[reportPrivateUsage]
    ours.loss(pairs)
    widest = [mask for mask in masked if mask.shape[1] > 1]
    assert widest and all(torch.equal(mask, mask[:, :1].expand_as(mask)) for mask in widest)
    steps = [mask for mask in masked if mask.shape[1] == 1 and mask.shape[2] == D]
    assert len(steps) == 10 and all(torch.equal(step, steps[0]) for step in steps)
    assert 0 < float((steps[0] == 0).double().mean()) < 1


def test_word_dropout_drops_whole_words() -> None:
    ours = model(word_dropout=0.5).train()
    tokens = torch.randint(EOS + 1, V, (40, 10), generator=torch.Generator().manual_seed(3))
    dropped = ours._embed(ours.source_embedding, tokens, ours.source_embedded).eq(0).double().mean(2)  # pyright: ignore[reportPrivateUsage]
    assert set(dropped.flatten().tolist()) == {0.0, 1.0} and 0.4 < float(dropped.mean()) < 0.6


@torch.no_grad()
def test_attention_weights_are_shown_as_a_transformers_are() -> None:
    """One head; rows sum to 1, padding weighs 0; one record a step where steps are taken one by one."""
    pairs = batch()
    for attention, records in (("luong-general", 1), ("bahdanau", 7)):
        ours = model(attention=attention)
        with trace(ours) as seen:
            ours.loss(pairs)
        weights = torch.cat(seen["attention.weights"], dim=2)
        assert len(seen["attention.weights"]) == records and weights.shape == (2, 1, 7, 6)
        torch.testing.assert_close(weights.sum(3), torch.ones(2, 1, 7, dtype=torch.float64))
        assert (weights[1, :, :, 4:] == 0).all()
        assert {"encoder.0.forward_cell.forget_gate", "encoder.0.backward_cell.cell", "decoder.0.hidden"} <= seen.keys()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"truncate": 0}, ["truncate", "greater than or equal to 1", "not 0"]),
        ({"attention": "bahdanow"}, ["attention", "bahdanau", "luong-general", "not 'bahdanow'"]),
        ({"cell": "lstm2"}, ["cell", "'gru'"]),
        ({"width": 7}, ["width 7", "even"]),
        ({"input_feeding": True}, ["input_feeding", "luong-dot"]),
        ({"heads": 4}, ["model.heads", "kind recurrent has no such key, but", "causal-language and", " transformer and", " have"]),
    ],
)
def test_what_cannot_be_is_refused_by_name(table: dict[str, object], words: list[str]) -> None:
    run = {"data": {"corpora": [{"source": "a", "target": "b"}]}, "model": {"kind": "recurrent"} | table}
    with pytest.raises(UsageError) as caught:
        build(RunConfig, run, origin="settings")
    assert all(word in str(caught.value) for word in words), caught.value
    with pytest.raises(ValidationError):
        read_config({"kind": "recurrent"} | table)


def test_the_kind_of_a_model_is_told_by_its_table() -> None:
    assert read_config({"heads": 2}).kind == "transformer"
    assert read_config({"kind": "recurrent"}) == RecurrentConfig()
    with pytest.raises(ValidationError, match="mamba"):
        read_config({"kind": "mamba"})


@torch.no_grad()
def test_one_step_is_asked_with_the_start_token_first() -> None:
    ours, pairs = model(attention="bahdanau"), batch()
    assert (pairs.target_in[:, 0] == SOS).all()
    step = ours.step(pairs.target_in[:, 0], ours.start(ours.encode(pairs.source)))
    hidden = ours.decode(pairs.target_in, ours.encode(pairs.source))[:, 0]
    torch.testing.assert_close(step.logits, hidden @ ours.output_weight.T + ours.output_bias)
