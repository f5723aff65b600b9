"""Autoencoders: nothing but z reaches the decoder, what is drawn in training, and which settings make no sense."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from vitrail.data.batches import collate
from vitrail.data.vocabularies.subwords import EOS, PAD, CharacterVocabulary, Vocabularies
from vitrail.errors import UsageError
from vitrail.models.architectures import PRESETS
from vitrail.models.base import Embeds
from vitrail.models.build import build_model
from vitrail.models.configs.autoencoder import RecurrentAutoencoderConfig, TransformerAutoencoderConfig
from vitrail.models.kinds.autoencoder import AutoencoderModel, Posterior

LETTERS = CharacterVocabulary(list("abcdefghijklmnop"))
BOTH = Vocabularies(LETTERS, LETTERS, joint=True)
SHAPE = {"encoder_layers": 2, "decoder_layers": 2, "width": 16, "dropout": 0.0, "bottleneck": 5}
TRANSFORMER = {**SHAPE, "heads": 2, "feed_forward": 24, "slots": 4}
CONFIGS = {
    "transformer": TransformerAutoencoderConfig.model_validate(TRANSFORMER),
    "transformer-first-one-slot": TransformerAutoencoderConfig.model_validate({**TRANSFORMER, "pooling": "first", "slots": 1}),
    "transformer-variational": TransformerAutoencoderConfig.model_validate({**TRANSFORMER, "latent": "variational"}),
    "lstm": RecurrentAutoencoderConfig.model_validate({**SHAPE, "embedding_width": 12}),
    "gru-reversed-variational": RecurrentAutoencoderConfig.model_validate(
        {**SHAPE, "embedding_width": 12, "cell": "gru", "reverse_source": True, "bidirectional": False, "latent": "variational"}
    ),
}
EVERY = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
ROWS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]


def make(config: TransformerAutoencoderConfig | RecurrentAutoencoderConfig) -> AutoencoderModel:
    torch.manual_seed(0)
    model = build_model(config, BOTH).eval()
    assert isinstance(model, AutoencoderModel) and isinstance(model, Embeds)
    return model


def logits(model: AutoencoderModel, target: Tensor, latent: Tensor) -> Tensor:
    return model.read_out(model.decode(target, model.expand(latent)))


@EVERY
def test_the_decoder_gets_a_function_of_z_alone(config: TransformerAutoencoderConfig) -> None:
    """Sentences with the same z are decoded alike to the bit, whatever they are; and what the decoder gets is as large for all."""
    model = make(config)
    batch = collate(ROWS, ROWS)
    with torch.no_grad():
        encoded = model.encode(batch.source)
        latent = model.latent(batch.source)
        again = model.expand(latent)
        assert torch.equal(encoded.memory, again.memory) and torch.equal(encoded.keep, again.keep)
        assert encoded.memory.shape[1] in (1, 4) and encoded.keep.all()
        # The memory of a recurrent model is empty, and its first states come from z.
        assert (encoded.summary is None) == isinstance(config, TransformerAutoencoderConfig)
        same = latent[:1].expand(8, -1)
        found = logits(model, batch.target_in[:1].expand(8, -1), same)
        assert all(torch.equal(found[0], one) for one in found)
        assert not torch.allclose(found[0], logits(model, batch.target_in[:1], latent[1:2])[0])


@EVERY
def test_all_gradient_to_the_source_goes_through_z(config: TransformerAutoencoderConfig) -> None:
    """dL/d(source) = dL/dz · dz/d(source): with z held, no gradient is left."""
    model = make(config)
    source, other = collate(ROWS, ROWS), collate([[4, 4, 4], [5], [6, 7]], ROWS)
    held = model.latent(source.source).detach().requires_grad_()
    loss = model.loss_given(model.expand(held), source).nats
    loss.backward()
    assert held.grad is not None and bool((held.grad.abs().sum(1) > 0).all())
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.encoder.parameters())
    # Another source with this z in its place has this loss exactly: nothing else of a source is read.
    with torch.no_grad():
        model.encode(other.source)
        assert float(model.loss_given(model.expand(held), source).nats) == pytest.approx(float(loss.detach()), rel=1e-6)


@EVERY
def test_the_vector_is_of_the_width_that_was_asked_and_padding_does_not_change_it(config: TransformerAutoencoderConfig) -> None:
    model = make(config)
    batch = collate(ROWS, ROWS)
    wider = torch.cat([batch.source, torch.full((3, 4), PAD)], dim=1)
    with torch.no_grad():
        found = model.embed(batch.source)
        assert found.shape == (3, config.bottleneck)
        torch.testing.assert_close(model.embed(wider), found, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(found[0], found[1])


@EVERY
def test_without_training_nothing_is_drawn(config: TransformerAutoencoderConfig) -> None:
    model, batch = make(config), collate(ROWS, ROWS)
    with torch.no_grad():
        quiet = [model.loss(batch) for _ in range(2)]
        assert quiet[0].nats == quiet[1].nats == quiet[0].plain_nats
        model.train()
        drawn = [float(model.loss(batch).plain_nats) for _ in range(2)]
    assert (drawn[0] != drawn[1]) == (config.latent == "variational")


def test_the_divergence_is_torchs_and_samples_follow_their_distribution() -> None:
    torch.manual_seed(3)
    mean, log_variance = torch.randn(4, 6), torch.randn(4, 6)
    posterior = Posterior(mean, log_variance)
    spread = (log_variance / 2).exp()
    expected = kl_divergence(Normal(mean, spread), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(posterior.divergence(), expected)
    drawn = torch.stack([posterior.draw() for _ in range(20_000)])
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.06, rtol=0)
    torch.testing.assert_close(drawn.std(0), spread, atol=0.06, rtol=0.03)
    assert not Posterior(mean, None).divergence().any()


@pytest.mark.parametrize(("weight", "free"), [(1.0, 0.0), (0.5, 0.0), (1.0, 50.0)])
def test_the_loss_of_training_is_the_reconstruction_and_the_divergence_beyond_what_is_free(weight: float, free: float) -> None:
    config = CONFIGS["transformer-variational"].model_copy(update={"kl_weight": weight, "free_nats": free})
    model, batch = make(config).train(), collate(ROWS, ROWS)
    with torch.no_grad():
        model.bottleneck.mean.weight.mul_(20)  # far from the prior
        divergence = model.posterior(batch.source).divergence()
        assert divergence.min() > 1
        found = model.loss(batch)
    expected = weight * divergence.clamp(min=free).sum()
    torch.testing.assert_close(found.nats - found.plain_nats, expected, rtol=1e-4, atol=1e-3)


def test_eight_sentences_are_memorised_exactly_through_a_variational_bottleneck_with_noise() -> None:
    from vitrail.data.examples.denoising import Denoising, NoiseConfig
    from vitrail.decode.sentences.autoencoder import measure_reconstruction

    config = CONFIGS["transformer-variational"].model_copy(update={"width": 32, "bottleneck": 16, "kl_weight": 0.02, "free_nats": 0.0})
    model = make(config)
    draw = torch.Generator().manual_seed(8)
    rows = [torch.randint(EOS + 1, LETTERS.size, (4 + n % 3,), generator=draw).tolist() for n in range(8)]
    noisy = Denoising(NoiseConfig(masking=0.05, shuffling=1, decoder_input=0.2, whole_words=False))
    lines = [LETTERS.decode(row) for row in rows]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(400):
        nats, _, tokens = model.train().loss(noisy(rows, rows, seed=step))
        optimizer.zero_grad()
        (nats / tokens).backward()
        optimizer.step()
        if step % 20 == 19 and measure_reconstruction(model.eval(), LETTERS, lines).exact == 8:
            return
    pytest.fail(f"{measure_reconstruction(model.eval(), LETTERS, lines).texts} for {lines}")


def test_settings_that_make_no_sense_are_refused_with_their_remedy() -> None:
    with pytest.raises(ValidationError, match="attention = bahdanau would read past the bottleneck"):
        RecurrentAutoencoderConfig(attention="bahdanau")
    with pytest.raises(UsageError, match=r"context = 200 with 100 learned positions(.|\n)*max_positions=201"):
        TransformerAutoencoderConfig(positions="learned", max_positions=100, context=200)
    for width in (0, -1):
        with pytest.raises(ValidationError, match="bottleneck"):
            TransformerAutoencoderConfig(bottleneck=width)
    assert {"autoencoder-mini", "autoencoder-lstm"} <= PRESETS.keys()
