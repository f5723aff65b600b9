"""The same Transformer from two other toolkits, with the same sizes and tying.

Only `Marian` needs Hugging Face transformers (`pip install 'vitrail[hf]'`).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.bench.peers.systems import Peer, PeerModel, PeerVariant
from vitrail.data.batches import Batch
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.nn.positions import sinusoids

_HUGGING_FACE = "pip install 'vitrail[hf]'"


class TorchTransformer(PeerModel):
    """`torch.nn.Transformer` with scaled, tied embeddings and sinusoidal positions: the model of torch's tutorials.

    Two settings make it do the same work as ours: dropout inside the feed-forward and on the attention weights is off, as ours is by
    default. Padding of the target is not masked in the decoder: it comes last, so no real position reads it.
    """

    def __init__(self, config: TransformerConfig, vocabulary: int) -> None:
        super().__init__()
        self.scale = config.width**0.5
        self.embedding = nn.Embedding(vocabulary, config.width)
        nn.init.normal_(self.embedding.weight, std=1 / self.scale)
        self.table: Tensor
        self.register_buffer("table", sinusoids(1024, config.width), persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        pre = config.norm_position == "pre"
        width, heads, inner, dropout = config.width, config.heads, config.feed_forward, config.dropout
        encoder = nn.TransformerEncoderLayer(width, heads, inner, dropout, batch_first=True, norm_first=pre)
        decoder = nn.TransformerDecoderLayer(width, heads, inner, dropout, batch_first=True, norm_first=pre)
        last = [nn.LayerNorm(width) if pre else None for _ in range(2)]
        self.transformer = nn.Transformer(
            width,
            heads,
            batch_first=True,
            custom_encoder=nn.TransformerEncoder(encoder, config.encoder_layers, last[0], enable_nested_tensor=False),
            custom_decoder=nn.TransformerDecoder(decoder, config.decoder_layers, last[1]),
        )
        for module in self.transformer.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = config.attention_dropout
            elif isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
                module.dropout.p = config.activation_dropout

    def _embed(self, ids: Tensor) -> Tensor:
        return self.dropout(self.embedding(ids) * self.scale + self.table[: ids.shape[1]])

    def forward(self, batch: Batch) -> Float[Tensor, "B T V"]:
        """Scores of every next target token."""
        padding = batch.source == PAD
        length = batch.target_in.shape[1]
        later = torch.ones(length, length, dtype=torch.bool).triu_(1)
        hidden = self.transformer(
            self._embed(batch.source),
            self._embed(batch.target_in),
            tgt_mask=later,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_is_causal=True,
        )
        return hidden @ self.embedding.weight.t()


class Marian(PeerModel):
    """Hugging Face's MarianMTModel, initialised from a configuration: nothing is downloaded.

    It is always post-norm, its only layout, which saves it two norms.
    """

    def __init__(self, config: TransformerConfig, vocabulary: int, *, fused_attention: bool) -> None:
        super().__init__()
        from transformers import MarianConfig, MarianMTModel  # pyright: ignore

        self.model = MarianMTModel(
            MarianConfig(
                vocab_size=vocabulary,
                d_model=config.width,
                encoder_layers=config.encoder_layers,
                decoder_layers=config.decoder_layers,
                encoder_attention_heads=config.heads,
                decoder_attention_heads=config.heads,
                encoder_ffn_dim=config.feed_forward,
                decoder_ffn_dim=config.feed_forward,
                activation_function=config.activation,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
                activation_dropout=config.activation_dropout,
                scale_embedding=True,
                pad_token_id=PAD,
                eos_token_id=EOS,
                decoder_start_token_id=SOS,
                forced_eos_token_id=None,
                attn_implementation="sdpa" if fused_attention else "eager",  # pyright: ignore[reportCallIssue]
            )
        )

    def forward(self, batch: Batch) -> Float[Tensor, "B T V"]:
        """Scores of every next target token."""
        mask = (batch.source != PAD).long()
        return self.model(input_ids=batch.source, attention_mask=mask, decoder_input_ids=batch.target_in, use_cache=False).logits


def transformer_peers(config: TransformerConfig) -> tuple[Peer, ...]:
    """The peers of a Transformer."""

    def torchs(vocabulary: int, way: PeerVariant) -> PeerModel:
        return TorchTransformer(config, vocabulary)

    def marian(vocabulary: int, way: PeerVariant) -> PeerModel:
        return Marian(config, vocabulary, fused_attention=way == "fused attention")

    attention: tuple[PeerVariant, ...] = ("fused attention", "explicit attention")
    return (
        Peer("torch", "torch.nn.Transformer", attention, torchs),
        Peer("marian", "Hugging Face MarianMT", attention, marian, ("transformers",), _HUGGING_FACE),
    )
