"""Tools made for any PyTorch module find what they look for in ours: captum, nnsight, bertviz."""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from builders import TRANSLATING, settled
from recorded import SOURCE, TARGET, T, arrays, batch, model, record
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.inspection.causes.attribution import gradient_x_input, integrated_gradients, occlusion
from vitrail.models.base import TranslationModel
from vitrail.nn.probe import trace
from vitrail.runtime.device import fewest_rows

# A recurrent encoder reads at least so many rows, whatever it is given, so that a sentence's numbers do not depend on its company; tools
# that take over what a Probe hears must give it as many.
ROWS = fewest_rows(torch.get_num_threads())
SOME = ["pre-layer-sinusoidal", "post-rms-learned-gelu", "lstm-luong-general", "gru-one-way-reversed"]


def exact_model(name: str) -> TranslationModel:
    """In float64, and one token has the mean embedding, so that a tool whose baseline must be tokens can start where we do."""
    made = settled(TRANSLATING[name]).double()
    table = made.get_submodule("source_embedding").get_parameter("weight")
    with torch.no_grad():
        table[0] = table[1:].mean(dim=0)
    return made


def log_p(asked: TranslationModel, source: Tensor) -> Tensor:
    """log p(y_t | y_<t, x), the source as captum varies it."""
    target = batch().target_out.expand(len(source), -1)
    logits = asked.read_out(asked.decode(batch().target_in.expand(len(source), -1), asked.encode(source)))
    return logits.log_softmax(2).gather(2, target[:, :, None]).squeeze(2)


def agree(ours: np.ndarray, theirs: list[Tensor]) -> None:
    """To 1e-4 of the largest."""
    expected = np.stack([one.detach().numpy() for one in theirs])
    assert np.abs(ours - expected).max() < 1e-4 * np.abs(expected).max() > 0


@pytest.mark.parametrize("name", SOME)
def test_captum_agrees_with_integrated_gradients(name: str) -> None:
    """Its layer is our Probe; it starts from tokens, all of which have the mean embedding."""
    captum = pytest.importorskip("captum.attr")
    asked, source = exact_model(name), batch().source.repeat(ROWS, 1)
    tool = captum.LayerIntegratedGradients(lambda ids: log_p(asked, ids), asked.get_submodule("source_embedded"))
    # Token 0, which has the mean embedding, is padding, and would be masked: it is looked up by another number.
    table = asked.get_submodule("source_embedding")
    forward, table_rows = table.forward, table.get_parameter("weight")
    table.forward = lambda ids: nn.functional.embedding(torch.where(ids == len(table_rows), 0, ids), table_rows)
    try:
        theirs = [
            tool.attribute(source, baselines=torch.full_like(source, len(table_rows)), target=at, n_steps=48, method="gausslegendre")
            for at in range(T)
        ]
    finally:
        table.forward = forward
    agree(integrated_gradients(asked, SOURCE, TARGET, points=48), [one[0].sum(dim=1) for one in theirs])


@pytest.mark.parametrize("name", SOME)
def test_captum_agrees_with_gradient_x_input(name: str) -> None:
    captum = pytest.importorskip("captum.attr")
    asked = exact_model(name)
    tool = captum.LayerGradientXActivation(lambda ids: log_p(asked, ids), asked.get_submodule("source_embedded"))
    theirs = [tool.attribute(batch().source.repeat(ROWS, 1), target=at) for at in range(T)]
    agree(gradient_x_input(asked, SOURCE, TARGET), [one[0].sum(dim=1) for one in theirs])


@pytest.mark.parametrize("name", SOME)
def test_captum_agrees_with_occlusion(name: str) -> None:
    captum = pytest.importorskip("captum.attr")
    asked = exact_model(name)
    with trace(asked) as seen:
        asked.encode(batch().source)
    embedded = seen["source_embedded"][0][:1]
    absent = asked.get_submodule("source_embedding").get_parameter("weight")[0].detach() * embedded.shape[2] ** 0.5

    def forward(values: Tensor) -> Tensor:
        handle = asked.get_submodule("source_embedded").register_forward_hook(
            lambda module, inputs, output: torch.cat([values, values[-1:].expand(len(output) - len(values), -1, -1)])
        )
        try:
            return log_p(asked, batch().source.expand(len(values), -1))
        finally:
            handle.remove()

    groups = torch.arange(embedded.shape[1])[None, :, None].expand_as(embedded)
    tool = captum.FeatureAblation(forward)
    theirs = [tool.attribute(embedded, baselines=absent.expand_as(embedded), target=at, feature_mask=groups) for at in range(T)]
    agree(occlusion(asked, SOURCE, TARGET), [one[0, :, 0] for one in theirs])


class Forced(nn.Module):
    """What nnsight wants of a model: a forward, here that of a given translation."""

    def __init__(self, translating: TranslationModel) -> None:
        super().__init__()
        self.translating = translating

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.translating.read_out(self.translating.decode(target, self.translating.encode(source)))


@pytest.mark.filterwarnings("ignore:.*has a submodule named 'output'")
def test_nnsight_reads_and_writes_the_same_values() -> None:
    """Ordinary modules at once; Probes, which are passed by while nobody listens, in a trace."""
    nnsight = pytest.importorskip("nnsight")
    name = "pre-layer-sinusoidal"
    asked, seen, pairs = settled(TRANSLATING[name]), arrays(name), batch()
    asked.load_state_dict(model(name).state_dict())
    wrapped = nnsight.NNsight(Forced(asked))
    inside = wrapped.translating
    with torch.no_grad(), wrapped.trace(pairs.source, pairs.target_in):
        total = inside.encoder[0].residual_1.output.save()
        logits = wrapped.output.save()
    np.testing.assert_allclose(total[0], seen["encoder.0.residual_1.sum"], atol=1e-5)
    np.testing.assert_allclose(logits[0], seen["logits"], atol=1e-5)
    with torch.no_grad(), trace(asked), wrapped.trace(pairs.source, pairs.target_in):
        weights = inside.decoder[1].cross_attention.weights.output.save()
    np.testing.assert_array_equal(weights[0], seen["decoder.1.cross_attention.weights"])
    with torch.no_grad(), trace(asked) as heard, wrapped.trace(pairs.source, pairs.target_in):
        inside.decoder[1].cross_attention.weights.output[:] = 0
    assert (heard["decoder.1.cross_attention.context"][0] == 0).all()


@pytest.mark.parametrize("name", ["pre-layer-sinusoidal", "unequal-depths-wide-heads"])
def test_bertviz_is_called_with_a_record(name: str) -> None:
    found = record(name).to_bertviz()
    config = TRANSLATING[name].config
    source, target = len(record(name).source_tokens), len(record(name).target_tokens)
    shapes = {"encoder": (source, source), "decoder": (target, target), "cross": (target, source)}
    for kind, shape in shapes.items():
        layers = found[f"{kind}_attention"]
        assert len(layers) == (config.encoder_layers if kind == "encoder" else config.decoder_layers)  # pyright: ignore
        assert {tuple(layer.shape) for layer in layers} == {(1, config.heads, *shape)}  # pyright: ignore[reportAttributeAccessIssue]
        assert all(torch.allclose(layer.sum(3), torch.ones(1)) for layer in layers)
    assert (found["encoder_tokens"], found["decoder_tokens"]) == (list(record(name).source_tokens), list(record(name).target_tokens))
    if config.encoder_layers != config.decoder_layers:  # pyright: ignore[reportAttributeAccessIssue]
        return  # bertviz 1.4.1 looks for as many layers in all three
    bertviz = pytest.importorskip("bertviz")
    with redirect_stdout(io.StringIO()):
        for view in (bertviz.model_view, bertviz.head_view):
            page = view(**found, html_action="return").data
            assert all(token in page for token in record(name).target.pieces)


def test_bertviz_of_a_recurrent_model_is_refused() -> None:
    with pytest.raises(UsageError, match="encoder attention: this model has none"):
        record("gru-bahdanau").to_bertviz()
