"""The Transformer against torch's own, with copied weights."""

import pytest
import torch
from builders import KINDS, Kind, random_batch
from torch import nn

from vitrail.data.vocabularies.subwords import PAD
from vitrail.models.kinds.transformer import Transformer
from vitrail.nn.attention import MultiHeadAttention


def copy_attention(theirs: nn.MultiheadAttention, ours: MultiHeadAttention) -> None:
    theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
    theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())


def copy_block(theirs: nn.Module, ours: nn.Module) -> None:
    names = {"self_attn": "self_attention", "multihead_attn": "cross_attention"}
    for name, part in theirs.named_children():
        if name in names:
            copy_attention(part, ours.get_submodule(names[name]))  # pyright: ignore[reportArgumentType]
        elif name.startswith("linear"):
            part.load_state_dict(
                ours.get_submodule({"linear1": "feed_forward.expand", "linear2": "feed_forward.contract"}[name]).state_dict()
            )
        elif name.startswith("norm"):
            part.load_state_dict(ours.get_submodule(f"residual_{name[-1]}.norm.norm").state_dict())


@torch.no_grad()
def torchs(ours: Transformer) -> tuple[nn.TransformerEncoder, nn.TransformerDecoder]:
    config = ours.config
    shape = {"d_model": config.width, "nhead": config.heads, "dim_feedforward": config.feed_forward, "dropout": 0.0}
    how = {"activation": config.activation, "batch_first": True, "norm_first": config.norm_position == "pre"}
    ends = [nn.LayerNorm(config.width) if config.norm_position == "pre" else None for _ in range(2)]
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(**shape, **how), config.encoder_layers, norm=ends[0], enable_nested_tensor=False
    )
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**shape, **how), config.decoder_layers, norm=ends[1])
    for theirs, mine in ((encoder.layers, ours.encoder), (decoder.layers, ours.decoder)):
        for their_block, our_block in zip(theirs, mine, strict=True):
            copy_block(their_block, our_block)
    for end, norm in zip(ends, (ours.encoder_norm, ours.decoder_norm), strict=True):
        if end is not None and norm is not None:
            end.load_state_dict(norm.get_submodule("norm").state_dict())
    return encoder.eval(), decoder.eval()


@pytest.mark.parametrize("kind", [KINDS["pre-layer-sinusoidal"], KINDS["post-layer-untied"]], ids=["pre", "post"])
@torch.no_grad()
def test_logits_are_those_of_torchs_transformer(kind: Kind) -> None:
    ours = kind.build().eval()
    assert isinstance(ours, Transformer)
    for name, parameter in ours.named_parameters():  # biases and norms start as 0 and 1, which would prove nothing
        if "norm" in name or "bias" in name:
            parameter.add_(0.3 * torch.randn_like(parameter))
    encoder, decoder = torchs(ours)
    batch = random_batch(kind)
    blocked = torch.ones(batch.target_in.shape[1], batch.target_in.shape[1], dtype=torch.bool).triu(1)
    padding = batch.source == PAD
    memory = encoder(ours._embed_source(batch.source), src_key_padding_mask=padding)
    hidden = decoder(
        ours._embed_target(batch.target_in),
        memory,
        tgt_mask=blocked,
        tgt_key_padding_mask=batch.target_in == PAD,
        memory_key_padding_mask=padding,
    )
    encoded = ours.encode(batch.source)
    torch.testing.assert_close(encoded.memory[~padding], memory[~padding], atol=1e-5, rtol=0)
    real = batch.target_in != PAD
    found, expected = (values[real] @ ours.output_weight.T for values in (ours.decode(batch.target_in, encoded), hidden))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
