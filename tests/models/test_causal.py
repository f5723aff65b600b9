"""The causal Transformer language model: against torch's and Hugging Face's layers, and against itself read in other ways."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitrail.data.batches import collate
from vitrail.data.vocabularies.subwords import EOS, PAD
from vitrail.data.vocabularies.vocabulary import CharacterVocabulary
from vitrail.data.windows import TextWindow
from vitrail.decode.perplexity import measure_text
from vitrail.errors import UsageError
from vitrail.models.configs.causal import CausalConfig
from vitrail.models.kinds.causal import CausalLanguageModel, CausalState

V, CONTEXT = 14, 12
NEAR = {"atol": 1e-6, "rtol": 1e-6}
"""Sinusoid tables are kept in float32, so that distances differ in the last digits of float32."""
POSITIONS = ["sinusoidal", "learned", "rotary", "none"]


def model(**changes: object) -> CausalLanguageModel:
    torch.manual_seed(3)
    table = {"layers": 2, "width": 16, "heads": 2, "feed_forward": 24, "context": CONTEXT, "dropout": 0.0, "activation": "gelu"} | changes
    return CausalLanguageModel(CausalConfig.model_validate(table), vocabulary=V).double().eval()


def ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(4, V, shape))


def logits(ours: CausalLanguageModel, hidden: Tensor) -> Tensor:
    return hidden @ ours.output_weight.t()


@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_it_is_torchs_encoder_with_a_causal_mask(norm_position: str) -> None:
    ours = model(norm_position=norm_position, positions="sinusoidal")
    layer = nn.TransformerEncoderLayer(
        16, 2, 24, dropout=0, activation="gelu", batch_first=True, norm_first=norm_position == "pre", dtype=torch.float64
    )
    theirs = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(16).double() if norm_position == "pre" else None, enable_nested_tensor=False)
    with torch.no_grad():
        for mine, its in zip(ours.decoder, theirs.layers, strict=True):
            block: Any = mine
            other: Any = its
            attention = block.self_attention
            projections = (attention.query, attention.key, attention.value)
            other.self_attn.in_proj_weight.copy_(torch.cat([one.weight for one in projections]))
            other.self_attn.in_proj_bias.copy_(torch.cat([one.bias for one in projections]))
            other.self_attn.out_proj.load_state_dict(attention.output.state_dict())
            other.linear1.load_state_dict(block.feed_forward.expand.state_dict())
            other.linear2.load_state_dict(block.feed_forward.contract.state_dict())
            other.norm1.load_state_dict(block.residual_1.norm.norm.state_dict())
            other.norm2.load_state_dict(block.residual_2.norm.norm.state_dict())
        tokens = ids(3, 9)
        embedded = ours.target_positions(ours.target_embedding(tokens) * 4.0)
        expected = theirs.eval()(embedded, mask=nn.Transformer.generate_square_subsequent_mask(9).double(), is_causal=True)
        torch.testing.assert_close(ours.hidden(tokens), expected, atol=1e-12, rtol=1e-12)


def test_its_weights_in_gpt2s_layout_give_the_same_logits() -> None:
    transformers = pytest.importorskip("transformers")
    ours = model(positions="learned", max_positions=CONTEXT)
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=2, n_inner=24, activation_function="gelu",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, tie_word_embeddings=False, bos_token_id=2, eos_token_id=2,
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config).double().eval()
    with torch.no_grad():
        core: Any = theirs.transformer
        core.wte.weight.copy_(ours.target_embedding.weight * 4.0)
        core.wpe.weight.copy_(ours.target_positions.weight)
        theirs.lm_head.weight.copy_(ours.output_weight)
        core.ln_f.load_state_dict(ours.decoder_norm.norm.state_dict())  # pyright: ignore
        for mine, its in zip(ours.decoder, core.h, strict=True):
            block: Any = mine
            projections = (block.self_attention.query, block.self_attention.key, block.self_attention.value)
            its.attn.c_attn.weight.copy_(torch.cat([one.weight for one in projections]).t())
            its.attn.c_attn.bias.copy_(torch.cat([one.bias for one in projections]))
            for conv, linear in (
                (its.attn.c_proj, block.self_attention.output),
                (its.mlp.c_fc, block.feed_forward.expand),
                (its.mlp.c_proj, block.feed_forward.contract),
            ):
                conv.weight.copy_(linear.weight.t())
                conv.bias.copy_(linear.bias)
            its.ln_1.load_state_dict(block.residual_1.norm.norm.state_dict())
            its.ln_2.load_state_dict(block.residual_2.norm.norm.state_dict())
        tokens = ids(4, CONTEXT)
        torch.testing.assert_close(logits(ours, ours.hidden(tokens)), theirs(tokens).logits, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("positions", POSITIONS)
def test_no_token_sees_a_later_one(positions: str) -> None:
    ours, tokens = model(positions=positions), ids(2, 10)
    other = tokens.clone()
    other[:, 6:] = ids(2, 4, seed=1)
    before, after = ours.hidden(tokens), ours.hidden(other)
    torch.testing.assert_close(before[:, :6], after[:, :6], atol=0, rtol=0)
    assert not torch.allclose(before[:, 6:], after[:, 6:])


@pytest.mark.parametrize("positions", POSITIONS)
def test_packed_documents_are_read_as_each_alone(positions: str) -> None:
    ours, tokens = model(positions=positions), ids(1, 11)
    documents = torch.tensor([[5, 5, 5, 5, 7, 7, 8, 8, 8, 8, 8]])
    packed = ours.hidden(tokens, documents)
    for begin, end in ((0, 4), (4, 6), (6, 11)):
        torch.testing.assert_close(packed[:, begin:end], ours.hidden(tokens[:, begin:end]), **NEAR)


@torch.inference_mode()
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("norm", ["layer", "rms", "batch"])
def test_token_by_token_with_the_cache_is_the_whole_at_once(positions: str, norm: str) -> None:
    ours, tokens = model(positions=positions, norm=norm), ids(3, CONTEXT)
    expected, state = logits(ours, ours.hidden(tokens)), ours.start(3)
    for place in range(CONTEXT):
        found, state = ours.step(tokens[:, place], state)
        torch.testing.assert_close(found, expected[:, place], atol=1e-10, rtol=1e-10)


@torch.inference_mode()
@pytest.mark.parametrize("positions", POSITIONS)
def test_prompts_of_many_lengths_are_read_in_one_pass(positions: str) -> None:
    ours, tokens = model(positions=positions), ids(4, CONTEXT)
    lengths = [7, 1, 0, 4]
    prompts = tokens[:, :7].clone()
    for row, length in enumerate(lengths):
        prompts[row, length:] = PAD
    hidden, state = ours.read(prompts, ours.start(4))
    for row, length in enumerate(lengths):
        torch.testing.assert_close(hidden[row, :length], ours.hidden(tokens[row : row + 1, :length])[0], **NEAR)
    for further in range(4):
        last = torch.stack([tokens[row, length + further] for row, length in enumerate(lengths)])
        found, state = ours.step(last, state)
        for row, length in enumerate(lengths):
            whole = logits(ours, ours.hidden(tokens[row : row + 1, : length + further + 1]))[0, -1]
            torch.testing.assert_close(found[row], whole, **NEAR)


@torch.inference_mode()
def test_a_state_follows_its_beams() -> None:
    ours, tokens = model(), ids(2, 5)
    state: Any = ours.read(tokens, ours.start(2))[1]
    state = state.repeat(2)
    assert state.size == (2, 4)
    _, state = ours.step(torch.tensor([4, 5, 6, 7]), state)
    state = state.reorder(torch.tensor([1, 1, 2, 3])).keep(torch.tensor([0]))
    assert isinstance(state, CausalState) and state.size == (1, 2)
    assert state.tokens[:, -1].tolist() == [5, 5]
    found, _ = ours.step(torch.tensor([8, 9]), state)
    whole = torch.cat([tokens[:1].repeat(2, 1), torch.tensor([[5, 8], [5, 9]])], 1)
    torch.testing.assert_close(found, logits(ours, ours.hidden(whole))[:, -1], atol=1e-10, rtol=1e-10)


@torch.inference_mode()
@pytest.mark.parametrize("positions", POSITIONS)
def test_beyond_its_context_the_second_half_of_the_window_is_read_again(positions: str) -> None:
    ours, tokens = model(positions=positions, max_positions=CONTEXT), ids(2, 40)
    state, window = ours.start(2), list[int]()
    for place in range(40):
        if len(window) == CONTEXT:
            window = window[-CONTEXT // 2 :]
        window.append(place)
        found, state = ours.step(tokens[:, place], state)
        torch.testing.assert_close(found, logits(ours, ours.hidden(tokens[:, window]))[:, -1], atol=1e-10, rtol=1e-10)


@torch.inference_mode()
def test_a_prompt_longer_than_the_context_is_read_from_its_end() -> None:
    ours, tokens = model(positions="learned", max_positions=CONTEXT), ids(1, 30)
    hidden, _ = ours.read(tokens, ours.start(1))
    torch.testing.assert_close(hidden[:, -CONTEXT:], ours.hidden(tokens[:, -CONTEXT:]), atol=1e-10, rtol=1e-10)


def test_learned_positions_that_do_not_reach_over_the_context_are_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.context = 12 with 8 learned positions"):
        model(positions="learned", max_positions=8)


def test_the_loss_of_windows_and_of_sentences_is_minus_log_p() -> None:
    ours, tokens = model(), ids(3, 8)
    window = TextWindow(tokens[:, :-1], tokens[:, 1:], torch.zeros(3, 7, dtype=torch.long))
    expected = -logits(ours, ours.hidden(tokens[:, :-1])).log_softmax(-1).gather(2, tokens[:, 1:, None]).sum()
    found = ours.loss(window)
    assert float(found.nats.detach()) == pytest.approx(float(expected.detach()), rel=1e-6) and int(found.tokens) == 21
    batch = collate([[4], [5]], [[4, 5, 6], [7]])
    log_p = logits(ours, ours.hidden(batch.target_in)).log_softmax(-1).gather(2, batch.target_out[:, :, None])[..., 0]
    assert float(ours.loss(batch).nats.detach()) == pytest.approx(-float(log_p[batch.target_out != PAD].sum().detach()), rel=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize(("stride", "lines"), [(None, 9), (1, 4), (5, 6), (CONTEXT, 7), (6, 1)])
def test_perplexity_in_windows_counts_every_token_once(stride: int | None, lines: int) -> None:
    ours = model()
    vocabulary = CharacterVocabulary([*"abcdefghij"])
    assert vocabulary.size == V
    text = ["".join("abcdefghij"[int(one)] for one in np.random.default_rng(line).integers(0, 10, 3 + line)) for line in range(lines)]
    found = measure_text(ours, vocabulary, text, stride=stride)
    whole = [EOS, *(token for row in vocabulary.encode_batch(text) for token in (*row, EOS))]
    step, nats, counted = stride or CONTEXT // 2, 0.0, 0
    for place in range(1, len(whole)):
        begin = 0 if place <= CONTEXT else -(-(place - CONTEXT) // step) * step
        last = logits(ours, ours.hidden(torch.tensor([whole[begin:place]])))[0, -1].log_softmax(-1)
        nats, counted = nats - float(last[whole[place]]), counted + 1
    assert found.tokens == counted
    assert math.isclose(found.nats, nats, rel_tol=1e-5)


def test_a_preset_is_what_the_field_calls_mini(tmp_path: Path) -> None:
    from vitrail.models.architectures import preset
    from vitrail.models.build import count_parameters, make_model

    made = make_model(preset("gpt-mini", task="language"), source=65, target=65)
    assert count_parameters(made)["total"] == 65 * 128 + 4 * (4 * (128 * 128 + 128) + 2 * 128 * 512 + 512 + 128 + 4 * 128) + 2 * 128
