"""Laws of every translation model: what it may see, what a step is, and that a state belongs to one decoding."""

from pathlib import Path

import pytest
import torch
from builders import KINDS, Kind, greedy, logits_by_steps, nats_by_row, random_batch, run_steps, settled, widen

from vitrail.data.batches import Batch, collate
from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.search.beams import beam_search
from vitrail.decode.search.query import Query
from vitrail.decode.search_config import SearchConfig, TranslateConfig
from vitrail.decode.translate import Translator
from vitrail.models.base import unique_tensors
from vitrail.models.model_folder import load_model, save_model

pytestmark = [pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys()), pytest.mark.sampled(10)]


def test_a_later_target_token_changes_no_earlier_loss(kind: Kind) -> None:
    model, batch = settled(kind), random_batch(kind)
    at = 5
    changed = batch.target_in.clone()
    changed[0, at] = EOS + 1 + (changed[0, at] - EOS) % 8
    for position in (at - 1, at):
        shown = torch.zeros_like(batch.target_out)
        shown[0, position] = batch.target_out[0, position]
        before, after = (model.loss(Batch(batch.source, target, shown)).nats for target in (batch.target_in, changed))
        if position < at:
            torch.testing.assert_close(before, after, atol=1e-6, rtol=0)
        else:
            assert abs(before - after) > 1e-4, "the token that was changed is not read at all"


def test_added_padding_changes_nothing(kind: Kind) -> None:
    model, batch = settled(kind), random_batch(kind)
    before = nats_by_row(model, batch)
    padded = Batch(widen(batch.source, 3), widen(batch.target_in, 4), widen(batch.target_out, 4))
    torch.testing.assert_close(nats_by_row(model, padded), before, atol=1e-5, rtol=1e-5)
    alone = [Batch(*(part[row : row + 1, : int((part[row] != 0).sum())] for part in batch)) for row in range(len(batch.source))]
    torch.testing.assert_close(torch.stack([model.loss(one).nats for one in alone]), before, atol=1e-5, rtol=1e-5)


def test_steps_are_the_full_forward(kind: Kind) -> None:
    """A sum over 70 positions: the memory of a state has grown twice by then."""
    model, batch = settled(kind), random_batch(kind, sentences=3, longest=69)
    with torch.no_grad():
        logits = logits_by_steps(model, batch).log_softmax(2)
    by_token = -logits.gather(2, batch.target_out[:, :, None]).squeeze(2) * (batch.target_out != 0)
    for position in (0, 1, 31, 32, 33, 63, 64, 69):
        shown = torch.zeros_like(batch.target_out)
        shown[:, position] = batch.target_out[:, position]
        torch.testing.assert_close(model.loss(batch._replace(target_out=shown)).nats, by_token[:, position].sum(), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(model.loss(batch).nats, by_token.sum(), atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_repeat_reorder_and_keep_follow_their_rows(kind: Kind) -> None:
    model, beams = settled(kind), 3
    source = random_batch(kind, sentences=3).source
    target = torch.randint(EOS + 1, 20, (3 * beams, 7), generator=torch.Generator().manual_seed(3))
    state = model.start(model.encode(source)).repeat(beams)
    _, state = run_steps(model, state, target[:, :3])
    rows = torch.tensor([2, 0, 0, 5, 4, 3, 6, 6, 8])
    _, state = run_steps(model, state.reorder(rows), target[:, 3:5])
    history = torch.cat([target[rows, :3], target[:, 3:5]], dim=1)
    sentences = torch.tensor([2, 0])
    kept = (sentences[:, None] * beams + torch.arange(beams)).flatten()
    found, _ = run_steps(model, state.keep(sentences), target[kept, 5:])
    history = torch.cat([history[kept], target[kept, 5:]], dim=1)
    fresh = model.start(model.encode(source[sentences].repeat_interleave(beams, 0)))
    expected, _ = run_steps(model, fresh, history)
    torch.testing.assert_close(found, expected[:, 5:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_beam_one_is_greedy(kind: Kind) -> None:
    model, source = settled(kind), random_batch(kind).source
    config = SearchConfig(beams=1, repeat_ngram=0)
    queries = [Query(longest=12)] * len(source)
    found = beam_search(model.step, model.start(model.encode(source)), queries, config=config)
    assert [list(one.tokens) for (one,) in found] == greedy(model, source, steps=12)


@torch.no_grad()
def test_interleaved_translations_do_not_mix(kind: Kind) -> None:
    model = settled(kind)
    one, two = random_batch(kind, seed=1), random_batch(kind, seed=2)
    expected = logits_by_steps(model, one), logits_by_steps(model, two)
    states = [model.start(model.encode(batch.source)) for batch in (one, two)]
    for position in range(one.target_in.shape[1]):
        for which, batch in enumerate((one, two)):
            logits, states[which] = model.step(batch.target_in[:, position], states[which])
            assert torch.equal(logits, expected[which][:, position])


@torch.no_grad()
def test_a_translation_does_not_depend_on_its_company(kind: Kind) -> None:
    """To the bit, of models whose widths are multiples of 16: a kernel for others may round the last rows of a matrix otherwise."""
    search = SearchConfig(beams=3, max_length=9)
    translator = Translator(settled(kind), vocabularies=kind.vocabularies, config=TranslateConfig(search=search))
    texts = ["abc", "fade", "bead", "a", "gap", "deaf", "igloo"]
    together = translator.translate(texts)
    alone = [translator.translate(text) for text in texts]
    assert [(one.tokens, one.score) for one in together] == [(one.tokens, one.score) for one in alone]


def test_every_parameter_gets_gradient(kind: Kind) -> None:
    model = kind.build().train()
    batch = random_batch(kind, sentences=6)
    model.loss(batch, label_smoothing=0.1).nats.backward()
    silent = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.ne(0).any()]
    # softmax(q·(k + b)) = softmax(q·k + const): a constant added to all keys changes nothing, unless rotary positions turn it.
    # What a norm's mean takes out again gets only rounding noise; it is not silent.
    assert [name for name in silent if not name.endswith("key.bias")] == []


def test_eight_pairs_are_memorised(kind: Kind) -> None:
    model = kind.build()
    draw = torch.Generator().manual_seed(8)
    size = kind.vocabularies.source.size
    sources = [torch.randint(EOS + 1, size, (3 + n % 3,), generator=draw).tolist() for n in range(8)]
    targets = [torch.randint(EOS + 1, size, (4 + n % 2,), generator=draw).tolist() for n in range(8)]
    batch = collate(sources, targets)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(200):
        nats, _, tokens = model.train().loss(batch)
        optimizer.zero_grad()
        (nats / tokens).backward()
        optimizer.step()
        if step % 10 == 9 and nats / tokens < 0.1 and greedy(model.eval(), batch.source, steps=7) == targets:
            return
    pytest.fail(f"after 200 steps the loss is still {float(nats.detach() / tokens):.2f} nats a token")


def test_saved_and_loaded_it_is_the_same_to_the_bit(kind: Kind, tmp_path: Path) -> None:
    model, batch = settled(kind), random_batch(kind)
    save_model(tmp_path / "model", tensors=unique_tensors(model), config=kind.config, vocabularies=kind.vocabularies, facts={"a": [1]})
    loaded = load_model(tmp_path / "model")
    assert loaded.config == kind.config and loaded.facts == {"a": [1]} and not loaded.model.training
    assert {name: tensor.tolist() for name, tensor in loaded.model.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in model.state_dict().items()
    }
    with torch.no_grad():
        assert torch.equal(logits_by_steps(loaded.model, batch), logits_by_steps(model, batch))
        assert torch.equal(loaded.model.loss(batch).nats, model.loss(batch).nats)


def test_initial_weights_are_a_function_of_the_seed(kind: Kind) -> None:
    """Between the builds memory is used differently, so that nothing may depend on addresses."""
    held: list[object] = []
    builds = []
    for count in range(6):
        held += [torch.nn.Parameter(torch.zeros(1)) for _ in range(count)]
        model = kind.build(seed=3)
        held.append(model)
        builds.append({name: tensor.tolist() for name, tensor in unique_tensors(model).items()})
    assert all(build == builds[0] for build in builds)
    other = unique_tensors(kind.build(seed=4))
    assert any(tensor.tolist() != builds[0][name] for name, tensor in other.items())
