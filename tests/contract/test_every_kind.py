"""The laws that hold for every kind of model in `MODEL_KINDS`: a new kind cannot be added without an example here."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from vitrail.data.batches import collate, pad_rows
from vitrail.data.examples.labelled import Labelling
from vitrail.data.examples.masking import Masking
from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import EOS, CharacterVocabulary, Vocabularies
from vitrail.models.architectures import MODEL_KINDS, read_config
from vitrail.models.base import LanguageModel, Model, unique_tensors
from vitrail.models.build import build_model, count_parameters
from vitrail.models.kinds.classifier import BagClassifier
from vitrail.models.model_folder import load_folder, save_model
from vitrail.models.transfer import take_vectors
from vitrail.nn.probe import Probe
from vitrail.vectors import WordVectors

pytestmark = pytest.mark.sampled(6)

LETTERS = CharacterVocabulary(list("abcdefghijklmnop"))
JOINT = Vocabularies(LETTERS, LETTERS, joint=True)
LABELS = Vocabularies(LETTERS, LabelVocabulary(["yes", "no", "perhaps"], separator=""), joint=False)
SIZE = LETTERS.size
BLOCKS = {"width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.0}
CELLS = {"embedding_width": 16, "width": 32, "dropout": 0.0}
Rows = Sequence[list[int]]


class Example(NamedTuple):
    """A small model of a kind, its vocabularies, and how its batch is made of rows of text."""

    config: dict[str, Any]
    make: Callable[[Rows], tuple[Tensor, ...]]
    vocabularies: Vocabularies = JOINT


def masked(rows: Rows) -> tuple[Tensor, ...]:
    """Which tokens are hidden depends on the row alone, so that rows may be joined."""
    parts = [Masking(SIZE, share=0.3)([row], seed=sum(row)) for row in rows]
    widest = max(part.source.shape[1] for part in parts)

    def joined(tensors: list[Tensor]) -> Tensor:
        return torch.cat([torch.nn.functional.pad(one, (0, widest - one.shape[1])) for one in tensors])

    return type(parts[0])(joined([part.source for part in parts]), joined([part.following for part in parts]))


def labelled(*, start: bool) -> Callable[[Rows], tuple[Tensor, ...]]:
    return lambda rows: Labelling(3, start)(rows, [[EOS + 1 + sum(row) % 3] for row in rows])


def reconstructed(rows: Rows) -> tuple[Tensor, ...]:
    return collate(rows, rows)


def translated(rows: Rows) -> tuple[Tensor, ...]:
    return collate(rows, [row[::-1] for row in rows])


EXAMPLES = {
    "transformer": Example({**BLOCKS, "encoder_layers": 2, "decoder_layers": 2}, translated),
    "recurrent": Example({**CELLS, "attention": "luong-general"}, translated),
    "recurrent-language": Example({**CELLS, "layers": 2}, reconstructed),
    "causal-language": Example({**BLOCKS, "layers": 2, "context": 16, "positions": "rotary"}, reconstructed),
    "masked-language": Example({**BLOCKS, "encoder_layers": 2, "context": 16, "positions": "rotary", "activation": "gelu"}, masked),
    "transformer-classifier": Example({**BLOCKS, "encoder_layers": 2, "head_dropout": 0.0}, labelled(start=True), LABELS),
    "recurrent-classifier": Example({**CELLS, "head_dropout": 0.0}, labelled(start=False), LABELS),
    "bag-classifier": Example({"width": 16, "word_ngrams": 3, "buckets": 500}, labelled(start=False), LABELS),
    "transformer-autoencoder": Example({**BLOCKS, "encoder_layers": 2, "decoder_layers": 2, "bottleneck": 24, "slots": 3}, reconstructed),
    "recurrent-autoencoder": Example({**CELLS, "bottleneck": 24}, reconstructed),
}
assert EXAMPLES.keys() == MODEL_KINDS.keys()
every_kind = pytest.mark.parametrize("kind", EXAMPLES)


def build(kind: str, *, seed: int = 0) -> Model:
    example = EXAMPLES[kind]
    torch.manual_seed(seed)
    return build_model(read_config({"kind": kind, **example.config}), example.vocabularies)


def rows(count: int, *, seed: int = 0, longest: int = 9) -> list[list[int]]:
    draw = torch.Generator().manual_seed(seed)
    lengths = [longest, *torch.randint(2, longest, (count - 1,), generator=draw).tolist()]
    return [torch.randint(EOS + 1, SIZE, (length,), generator=draw).tolist() for length in lengths]


def gradients(model: Model) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@every_kind
def test_the_loss_of_a_batch_is_the_sum_of_its_rows(kind: str) -> None:
    """Padding changes nothing, rows do not see each other, and gradients accumulate to those of the whole."""
    whole, parts, text = build(kind).double(), build(kind).double(), rows(6)
    found = whole.loss(EXAMPLES[kind].make(text))
    found.nats.backward()
    losses = [parts.loss(EXAMPLES[kind].make([row])) for row in text]
    for loss in losses:
        loss.nats.backward()
    torch.testing.assert_close(found.nats.double(), torch.stack([loss.nats.double() for loss in losses]).sum(), atol=1e-4, rtol=1e-6)
    assert int(found.tokens) == sum(int(loss.tokens) for loss in losses) > 0
    expected, accumulated = gradients(whole), gradients(parts)
    assert expected.keys() == accumulated.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(accumulated[name], gradient, atol=1e-4, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@every_kind
def test_every_parameter_gets_gradient(kind: str) -> None:
    model = build(kind).train()
    model.loss(EXAMPLES[kind].make(rows(12)), label_smoothing=0.1).nats.backward()
    given = {name for name, gradient in gradients(model).items() if gradient.ne(0).any()}
    # A constant added to all keys changes no softmax.
    assert {name for name, _ in model.named_parameters()} - given <= {
        name for name, _ in model.named_parameters() if name.endswith("key.bias")
    }


@every_kind
def test_eight_examples_are_memorised(kind: str) -> None:
    model, batch = build(kind).train(), EXAMPLES[kind].make(rows(8, longest=6))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(300):
        loss = model.loss(batch)
        share = loss.nats / loss.tokens
        if kind in ("recurrent-language", "causal-language"):
            share = share - _entropy(8) / int(loss.tokens)  # which of the eight texts comes cannot be known
        if float(share.detach()) < 0.1:
            return
        optimizer.zero_grad()
        share.backward()
        optimizer.step()
    pytest.fail(f"after 300 steps the loss is still {float(share.detach()):.2f} nats")


def _entropy(texts: int) -> float:
    """The nats of a batch that no model can save: which of so many different texts it is."""
    return texts * float(torch.tensor(float(texts)).log())


@every_kind
def test_saved_and_loaded_it_is_the_same_to_the_bit(kind: str, tmp_path: Path) -> None:
    model, example = build(kind, seed=5).eval(), EXAMPLES[kind]
    config = read_config({"kind": kind, **example.config})
    save_model(tmp_path / "model", tensors=unique_tensors(model), config=config, vocabularies=example.vocabularies, facts={"step": 1})
    loaded = load_folder(tmp_path / "model")
    assert loaded.config == config and loaded.vocabularies.digest == example.vocabularies.digest
    batch = example.make(rows(5))
    with torch.no_grad():
        assert torch.equal(loaded.model.loss(batch).nats, model.loss(batch).nats)


@every_kind
def test_initial_weights_are_a_function_of_the_seed(kind: str) -> None:
    first, again, other = (unique_tensors(build(kind, seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())
    assert any(not torch.equal(other[name], tensor) for name, tensor in first.items())
    assert count_parameters(build(kind))["total"] == sum(parameter.numel() for parameter in build(kind).parameters())


@every_kind
def test_every_probe_has_a_place_and_every_place_a_probe(kind: str) -> None:
    model = build(kind)
    probes = {name for name, module in model.named_modules() if isinstance(module, Probe)}
    places = [place.name for place in model.places()]
    assert sorted(places) == sorted(set(places)) and set(places) == probes


@every_kind
def test_what_is_read_before_or_from_both_sides(kind: str) -> None:
    """A language model sees nothing of what comes later; an encoder sees all of it."""
    model: Any = build(kind).double().eval()
    first = rows(1, longest=8)[0]
    other = [*first[:5], *(EOS + 1 + (token - EOS) % (SIZE - EOS - 1) for token in first[5:])]
    assert first[:5] == other[:5] and first[5] != other[5]
    with torch.no_grad():
        if isinstance(model, LanguageModel):
            seen, changed = (model.read(torch.tensor([row]), model.start(1))[0][0, :5] for row in (first, other))
            assert torch.equal(seen, changed)
        elif hasattr(model, "encode") and not kind.endswith("autoencoder"):
            seen, changed = (model.encode(pad_rows([row])).memory[0, :5] for row in (first, other))
            assert all(not torch.allclose(one, two) for one, two in zip(seen, changed, strict=True))
        elif isinstance(model, BagClassifier):
            seen, changed = (model.embed(pad_rows([row])) for row in (first, other))
            assert not torch.allclose(seen, changed)
        else:
            seen, changed = (model.latent(pad_rows([row])) for row in (first, other))
            assert not torch.allclose(seen, changed)


@every_kind
def test_embeddings_come_from_word_vectors(kind: str) -> None:
    """Known tokens take vectors, of the size that embeddings are drawn with; everything else keeps its bits."""
    draw = np.random.default_rng(3)
    vectors = WordVectors(list("bcdXYk"), draw.normal(7.0, 3.0, size=(6, 16)).astype(np.float32))
    model = build(kind)
    before = {name: tensor.clone() for name, tensor in model.shared_weights().items()}
    found = take_vectors("embeddings", model, EXAMPLES[kind].vocabularies, vectors, named="vectors")
    own = model.shared_weights()
    assert all(torch.equal(own[name], tensor) for name, tensor in before.items()), "nothing is changed"
    tables = [name for name in found.values if name.endswith("embedding.weight")]
    assert tables
    tied = {name for name, tensor in own.items() if tensor.data_ptr() in {own[table].data_ptr() for table in tables}}
    assert set(found.values) == tied
    ids = LETTERS.encode("bcdk")
    for name, value in found.values.items():
        assert value.shape == own[name].shape
        taken = torch.from_numpy(vectors.matrix[[0, 1, 2, 5]].copy())
        scale = value[ids] / taken
        assert torch.allclose(scale, scale[0, 0].expand_as(scale), rtol=1e-5)
        assert value[ids].square().mean().sqrt() == pytest.approx(float(own[name][:SIZE].square().mean().sqrt()), rel=1e-5)
        others = [row for row in range(len(value)) if row not in ids]
        assert torch.equal(value[others], before[name][others])
    assert {(rows.exact, rows.composed, rows.fresh) for rows in found.rows.values()} == {(4, 0, SIZE - 4)}
