"""What is recorded is what the equations say, by numpy in float64 or by torch's own layers, and it stands where it belongs."""

import re
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import numpy.typing as npt
import pytest
import torch
from builders import TRANSLATING
from recorded import ATTENTIVE, RECURRENT, SOURCE, TARGET, TRANSFORMERS, S, T, arrays, batch, exact, model
from torch import nn

from vitrail.errors import ModelError
from vitrail.inspection.collect import COLUMNS, collect
from vitrail.nn.probe import Probe

pytestmark = pytest.mark.sampled(8)

Numbers = npt.NDArray[np.float64]
every_kind = pytest.mark.parametrize("name", TRANSLATING)
every_transformer = pytest.mark.parametrize("name", TRANSFORMERS)
every_recurrent = pytest.mark.parametrize("name", RECURRENT)
every_attention = pytest.mark.parametrize("name", ATTENTIVE)


def close(found: npt.ArrayLike, expected: npt.ArrayLike, *, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=atol, rtol=1e-4)


def places(name: str, ending: str) -> list[str]:
    return [one.removesuffix(ending) for one in arrays(name) if one.endswith(ending) and not one.startswith(("parameters.", "gradients."))]


def softmax(values: Numbers) -> Numbers:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


# Both kinds of models.


@every_kind
def test_the_explicit_path_equals_the_fast_path(name: str) -> None:
    seen, pairs = arrays(name), batch()
    with torch.inference_mode():
        encoded = model(name).encode(pairs.source)
        hidden = model(name).decode(pairs.target_in, encoded)
        logits = model(name).read_out(hidden)
    for what, values in (("memory", encoded.memory), ("decoder_output", hidden), ("logits", logits)):
        close(seen[what], values[0])
    close(seen["probabilities"], logits[0].double().softmax(1))
    close(seen["probabilities"].sum(axis=1), np.ones(T))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model(name).modules()), "a hook stayed behind"


@every_kind
def test_all_is_float32_or_a_mask_without_a_batch_axis(name: str) -> None:
    for what, values in arrays(name).items():
        assert values.dtype == (np.bool_ if what.endswith(".keep") else np.float32), what
        assert np.isfinite(values).all(), what
        if not what.startswith("parameters.") and not what.endswith((".first_hidden", ".first_cell")):
            rows = values.shape[1 if values.ndim == 3 else 0]
            assert rows in (S, T), what


@every_kind
def test_the_output_is_read_from_the_decoders_vectors(name: str) -> None:
    weight = model(name).get_parameter("output_weight").detach().double().numpy()
    own = dict(model(name).named_parameters()).get("output_bias")
    bias = 0.0 if own is None else own.detach().double().numpy()
    close(arrays(name)["logits"], exact(arrays(name)["decoder_output"]) @ weight.T + bias)


@every_kind
def test_embeddings_are_those_of_the_tokens_that_each_side_reads(name: str) -> None:
    pairs = batch()
    for side, tokens in (("source", pairs.source), ("target", pairs.target_in)):
        table = model(name).get_submodule(f"{side}_embedding").get_parameter("weight").detach().double().numpy()
        rows = table[tokens[0]]
        if side == "target" and name in TRANSFORMERS and TRANSFORMERS[name].decoder_start == "zeros":
            rows[0] = 0
        close(arrays(name)[f"{side}_embedded"], rows * table.shape[1] ** 0.5)


@every_attention
def test_weights_are_the_softmax_of_scores_over_what_may_be_read(name: str) -> None:
    seen = arrays(name)
    for place in places(name, ".weights"):
        keep, weights, scores = seen[f"{place}.keep"], seen[f"{place}.weights"], exact(seen[f"{place}.scores"])
        close(weights.sum(axis=2), np.ones(weights.shape[:2]))
        assert (weights[:, ~keep] == 0).all(), "a masked cell is exactly 0"
        close(weights, softmax(np.where(keep, scores, -np.inf)))
        causal = place.startswith("decoder") and place.endswith("self_attention")
        assert (keep == (np.tri(T, dtype=bool) if causal else np.ones(keep.shape, bool))).all()


def is_measured(probe: str, part: nn.Module) -> bool:
    """What each layer hands on: the last residual sum of a Transformer's block, the state of a recurrent layer's forward cell."""
    return isinstance(part, Probe) and bool(
        re.fullmatch(r"encoder\.\d+\.(?:forward_cell\.hidden|residual_2\.sum)|decoder\.\d+\.(?:hidden|residual_3\.sum)", probe)
    )


@every_kind
def test_gradients_are_those_of_the_sentences_own_loss(name: str) -> None:
    """By torch's own `retain_grad`, put into order by what a change of one token reaches; see `reading`."""
    kept: dict[str, list[torch.Tensor]] = {}

    def keeper(probe: str):
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            output.retain_grad()
            kept.setdefault(probe, []).append(output)

        return hook

    one = deepcopy(model(name))  # backward() leaves gradients and hooks behind, and other tests look at the model too
    for probe in [probe for probe, part in one.named_modules() if is_measured(probe, part)]:
        one.get_submodule(probe).register_forward_hook(keeper(probe))
    one.loss(batch()).nats.backward()
    assert {f"gradients.{probe}" for probe in kept} == {one for one in arrays(name) if one.startswith("gradients.")}
    for probe, calls in kept.items():
        gradients = [torch.zeros_like(call) if call.grad is None else call.grad for call in calls]
        norms = torch.cat([one[0].norm(dim=-1).reshape(-1) for one in gradients])
        order = reading(name) if probe.startswith("encoder") else list(range(T))
        close(arrays(name)[f"gradients.{probe}"], norms[np.argsort(order)] if name in RECURRENT else norms)


@pytest.mark.parametrize("name", ["pre-layer-sinusoidal", "gru-bahdanau"])
def test_a_caller_may_be_in_inference_mode(name: str) -> None:
    expected, one = arrays(name), model(name)
    with torch.inference_mode():
        found = collect(one, SOURCE, TARGET)
    assert found.keys() == expected.keys() and all(np.array_equal(found[place], expected[place]) for place in expected)


@pytest.mark.parametrize("name", ["pre-layer-sinusoidal", "gru-bahdanau"])
def test_compiled_models_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="compiled"):
        collect(torch.compile(model(name), backend="eager"), SOURCE, TARGET)  # pyright: ignore[reportArgumentType]


# Transformers.


@every_transformer
def test_positions_are_what_is_added_to_embeddings(name: str) -> None:
    seen, config = arrays(name), TRANSFORMERS[name]
    for side, length in (("source", S), ("target", T)):
        close(exact(seen[f"{side}_embedded"]) + seen[f"{side}_positions"], seen[f"{side}_input"])
        match config.positions:
            case "sinusoidal" | "tensor2tensor":
                half = config.width // 2
                angles = np.arange(length)[:, None] / 10_000 ** (np.arange(half) / (half - (config.positions == "tensor2tensor")))
                expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
            case "learned":
                expected = model(name).get_parameter(f"{side}_positions.weight").detach().numpy()[:length]
            case "rotary" | "none":
                expected = np.zeros((length, config.width))
        close(seen[f"{side}_positions"], expected, atol=1e-5)


@every_transformer
def test_attention_is_its_equation(name: str) -> None:
    seen, config = arrays(name), TRANSFORMERS[name]
    for place in places(name, ".weights"):
        query, key, value = (exact(seen[f"{place}.{which}"]) for which in "qkv")
        raw = np.einsum("hte,hse->hts", query, key)
        close(seen[f"{place}.raw_scores"], raw)
        close(seen[f"{place}.scores"], raw / np.sqrt(config.width_of_head))
        context = np.einsum("hts,hse->hte", exact(seen[f"{place}.weights"]), value)
        close(seen[f"{place}.context"], context)
        joined = np.concatenate(list(context), axis=1)
        close(seen[f"{place}.concatenation"], joined)
        weight, bias = (exact(seen[f"parameters.{place}.output.{which}"]) for which in ("weight", "bias"))
        close(np.asarray(seen[f"{place}.projection"])[:, :COLUMNS], joined @ weight.T + bias)


@every_transformer
def test_queries_keys_and_values_are_projections_of_what_the_sublayer_reads(name: str) -> None:
    seen, config = arrays(name), TRANSFORMERS[name]
    for place in places(name, ".weights"):
        block, _, which = place.rpartition(".")
        residual = f"{block}.residual_{2 if which == 'cross_attention' else 1}"
        asking = exact(seen[f"{residual}.{'normed' if config.norm_position == 'pre' else 'input'}"])
        asked = exact(seen["memory"]) if which == "cross_attention" else asking
        turned = config.positions == "rotary" and which == "self_attention"
        for array, values, own in (("q", asking, "query"), ("k", asked, "key"), ("v", asked, "value")):
            if turned and array != "v":
                continue
            weight, bias = (exact(seen[f"parameters.{place}.{own}.{part}"]) for part in ("weight", "bias"))
            expected = np.einsum("td,hed->hte", values, weight) + bias[:, None]
            close(np.asarray(seen[f"{place}.{array}"])[:, :, :COLUMNS], expected)


def norm(name: str, place: str) -> Callable[[Numbers], Numbers]:
    """A norm by numpy, from what the record has of it."""
    part = {
        what: exact(arrays(name)[f"parameters.{place}.{what}"])
        for what in ("weight", "bias", "running_mean", "running_variance")
        if f"parameters.{place}.{what}" in arrays(name)
    }

    def apply(x: Numbers) -> Numbers:
        match TRANSFORMERS[name].norm:
            case "layer":
                centred = x - x.mean(axis=1, keepdims=True)
                return centred / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5) * part["weight"] + part["bias"]
            case "rms":
                return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5) * part["weight"]
            case "batch":
                return (x - part["running_mean"]) / np.sqrt(part["running_variance"] + 1e-5) * part["weight"] + part["bias"]

    return apply


@every_transformer
def test_residual_sums_and_norms_from_the_embeddings_to_the_output(name: str) -> None:
    """Every value of the residual stream, each from the one before it."""
    seen, pre = arrays(name), TRANSFORMERS[name].norm_position == "pre"
    for side, end in (("encoder", "memory"), ("decoder", "decoder_output")):
        stream = exact(seen["source_input" if side == "encoder" else "target_input"])
        sublayers = ["self_attention.projection", "feed_forward.output"]
        if side == "decoder":
            sublayers.insert(1, "cross_attention.projection")
            sublayers[0] = "recurrence.hidden" if TRANSFORMERS[name].decoder == "ssru" else sublayers[0]
        for layer in range(getattr(TRANSFORMERS[name], f"{side}_layers")):
            for number, sublayer in enumerate(sublayers, start=1):
                place = f"{side}.{layer}.residual_{number}"
                apply = norm(name, f"{place}.norm")
                close(seen[f"{place}.input"], stream)
                total = stream + seen[f"{side}.{layer}.{sublayer}"]
                close(seen[f"{place}.sum"], total)
                close(seen[f"{place}.normed"], apply(stream if pre else total), atol=3e-5)
                stream = exact(seen[f"{place}.{'sum' if pre else 'normed'}"])
        close(seen[end], norm(name, f"{side}_norm")(stream) if pre else stream, atol=3e-5)


@every_transformer
def test_feed_forward_is_its_equation(name: str) -> None:
    seen, config = arrays(name), TRANSFORMERS[name]
    for place in places(name, ".activation"):
        block = place.removesuffix(".feed_forward")
        number = 3 if block.startswith("decoder") else 2
        read = exact(seen[f"{block}.residual_{number}.{'normed' if config.norm_position == 'pre' else 'input'}"])
        linear = {
            which: (exact(seen[f"parameters.{place}.{which}.weight"]), exact(seen[f"parameters.{place}.{which}.bias"]))
            for which in (("expand", "gate", "contract") if config.activation == "swiglu" else ("expand", "contract"))
        }
        inner = torch.from_numpy(read @ linear["expand"][0].T + linear["expand"][1])
        match config.activation:
            case "relu":
                expected = inner.clamp(min=0).numpy()
            case "gelu":
                expected = (inner * 0.5 * (1 + torch.erf(inner / 2**0.5))).numpy()
            case "silu":
                expected = (inner * inner.sigmoid()).numpy()
            case "swiglu":
                expected = (inner * inner.sigmoid()).numpy() * (read @ linear["gate"][0].T + linear["gate"][1])
        close(np.asarray(seen[f"{place}.activation"])[:, :COLUMNS], expected)
        weight, bias = linear["contract"]
        close(np.asarray(seen[f"{place}.output"])[:, :COLUMNS], exact(seen[f"{place}.activation"]) @ weight.T + bias)


# Recurrent models.


def reading(name: str) -> list[int]:
    """Source positions in the order in which a forward cell reads them; a reversed source has its words from the last, then <eos>."""
    return [*reversed(range(S - 1)), S - 1] if RECURRENT.get(name) and RECURRENT[name].reverse_source else list(range(S))


@every_recurrent
@pytest.mark.parametrize("place", range(S - 1))
def test_a_source_token_reaches_only_what_is_read_from_it_on(name: str, place: int) -> None:
    changed = list(SOURCE)
    changed[place] = 14
    other = collect(model(name), changed, TARGET)
    order = reading(name)
    at = order.index(place)
    for cell, reached in (("forward_cell", order[at:]), ("backward_cell", order[: at + 1])):
        probe = f"encoder.0.{cell}.hidden"
        if probe in arrays(name):
            differ = np.abs(exact(other[probe]) - exact(arrays(name)[probe])).max(axis=1) > 0
            assert np.flatnonzero(differ).tolist() == sorted(reached), cell
    embedded = np.abs(exact(other["source_embedded"]) - exact(arrays(name)["source_embedded"])).max(axis=1) > 0
    assert np.flatnonzero(embedded).tolist() == [place]


def torchs(name: str, side: str) -> tuple[nn.RNNBase, list[nn.Module]]:
    """torch's own layer with the weights of the first one of a side."""
    config = RECURRENT[name]
    both = side == "encoder" and config.bidirectional
    width = config.width // 2 if both else config.width
    kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[config.cell]
    cells = [model(name).get_submodule(f"encoder.0.{one}_cell") for one in ("forward", *(["backward"] if both else []))]
    cells = cells if side == "encoder" else [model(name).get_submodule("decoder.0")]
    layer = kind(cells[0].get_parameter("input_weight").shape[1], width, batch_first=True, bidirectional=both).double()
    with torch.no_grad():
        for cell, ending in zip(cells, ("", "_reverse"), strict=False):
            for theirs, ours in (("weight_ih", "input_weight"), ("weight_hh", "hidden_weight"), ("bias_ih", "input_bias")):
                layer.get_parameter(f"{theirs}_l0{ending}").copy_(cell.get_parameter(ours))
            layer.get_parameter(f"bias_hh_l0{ending}").copy_(cell.get_parameter("hidden_bias"))
    return layer, cells


@pytest.mark.parametrize("name", [name for name, config in RECURRENT.items() if config.norm == "none"])
def test_encoder_states_are_those_of_torchs_layers_in_source_order(name: str) -> None:
    layer, cells = torchs(name, "encoder")
    read = exact(arrays(name)["source_embedded"])[reading(name)]
    with torch.no_grad():
        states = layer(torch.from_numpy(read)[None])[0][0].numpy()[np.argsort(reading(name))]
    ours = [exact(arrays(name)[f"encoder.0.{one}_cell.hidden"]) for one in ("forward", "backward")[: len(cells)]]
    close(np.concatenate(ours, axis=1), states)
    close(arrays(name)["encoder.0.output"], states)
    if RECURRENT[name].encoder_layers == 1:
        close(arrays(name)["memory"], states)


@pytest.mark.parametrize("name", [name for name, config in RECURRENT.items() if config.norm == "none" and not config.feeds])
def test_decoder_states_are_those_of_torchs_layers(name: str) -> None:
    seen = arrays(name)
    layer, _ = torchs(name, "decoder")
    start = [
        torch.from_numpy(exact(seen[f"decoder.0.first_{what}"]))[None] for what in ("hidden", "cell") if f"decoder.0.first_{what}" in seen
    ]
    with torch.no_grad():
        carry = tuple(start) if len(start) == 2 else start[0]
        states = layer(torch.from_numpy(exact(seen["target_embedded"]))[None], carry)[0][0].numpy()
    close(seen["decoder.0.hidden"], states)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_gates_make_the_states(cell: str) -> None:
    for name in (name for name, config in RECURRENT.items() if config.cell == cell and config.norm != "layer"):
        for place in places(name, ".hidden"):
            seen = {one.removeprefix(f"{place}."): exact(values) for one, values in arrays(name).items() if one.startswith(f"{place}.")}
            order = reading(name)[:: -1 if "backward" in place else 1] if place.startswith("encoder") else list(range(T))
            seen = {what: values[order] if len(values) > 1 else values for what, values in seen.items()}
            hidden = seen["hidden"]
            before = np.concatenate([seen.get("first_hidden", np.zeros_like(hidden[:1])), hidden[:-1]])
            match cell:
                case "gru":
                    gate = seen["update_gate"]
                    close(hidden, (1 - gate) * seen["candidate"] + gate * before)
                case "lstm":
                    cells = np.concatenate([seen.get("first_cell", np.zeros_like(hidden[:1])), seen["cell"][:-1]])
                    close(seen["cell"], seen["forget_gate"] * cells + seen["input_gate"] * seen["candidate"])
                    close(hidden, seen["output_gate"] * np.tanh(seen["cell"]))
                case _:
                    assert set(seen) <= {"hidden", "first_hidden"} and (np.abs(hidden) <= 1).all()


@pytest.mark.parametrize("name", [name for name in ATTENTIVE if name in RECURRENT])
def test_a_recurrent_decoder_mixes_the_memory_itself(name: str) -> None:
    seen, config = arrays(name), RECURRENT[name]
    memory = exact(seen["memory"])
    close(seen["attention.context"], exact(seen["attention.weights"])[0] @ memory)
    top = exact(seen[f"decoder.{config.decoder_layers - 1}.hidden"])
    if config.attention == "bahdanau":  # asked with the state before the step
        top = np.concatenate([exact(seen[f"decoder.{config.decoder_layers - 1}.first_hidden"]), top[:-1]])
    own = {one: values.detach().double().numpy() for one, values in model(name).get_submodule("attention").named_parameters()}
    match config.attention:
        case "luong-dot":
            expected = top @ memory.T
        case "luong-general":
            expected = top @ (memory @ own["key.weight"].T).T
        case _:
            inner = (top @ own["query.weight"].T + own["query.bias"])[:, None] + (memory @ own["key.weight"].T)[None]
            expected = np.tanh(inner) @ own["vector"]
    close(seen["attention.scores"][0], expected)
