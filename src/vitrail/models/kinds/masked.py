"""The encoder half of the Transformer as a masked language model (BERT): it guesses hidden tokens from both sides."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.data.examples.masking import MaskedBatch
from vitrail.data.vocabularies.subwords import PAD
from vitrail.errors import UsageError
from vitrail.models.configs.masked import MaskedConfig
from vitrail.models.kinds.blocks import initialise_matrices
from vitrail.models.kinds.encoders import TransformerEncoder
from vitrail.models.places import Place
from vitrail.nn.layers import make_norm, pool
from vitrail.nn.losses import LossSum, token_cross_entropy
from vitrail.nn.probe import Probe


class MaskedLanguageModel(TransformerEncoder):
    """p(x_i | the other tokens) = softmax(E·norm(gelu(W·h_i + b)) + c) at each hidden position i.

    Source: Devlin et al. 2019, with the head of their program. Differs from them: no second task (next sentence) and no segment
    embeddings; <s> and </s> stand for [CLS] and [SEP]; the blocks are those of our translators, with their initialisation.
    """

    marks_start = True
    config: MaskedConfig

    def __init__(self, config: MaskedConfig, *, vocabulary: int) -> None:
        super().__init__()
        if config.positions == "learned" and config.max_positions < config.context:
            raise UsageError(
                f"model.context = {config.context} with {config.max_positions} learned positions",
                remedy=f"--set model.max_positions={config.context}, or rotary positions",
            )
        self.config = config
        self.mask_id = vocabulary
        """The id of the mask: the last row of the embeddings. No vocabulary has it, so no text holds it."""
        rows = vocabulary + 1
        self.make_encoder(config, rows)
        self.output_weight = self.source_embedding.weight if config.tie else nn.Parameter(torch.empty(rows, config.width))
        self.output_bias = nn.Parameter(torch.zeros(rows))
        self.readout = nn.Linear(config.width, config.width)
        self.readout_norm = make_norm(config.norm, config.width)
        self.logits = Probe()
        initialise_matrices(self)
        for weight in dict.fromkeys((self.source_embedding.weight, self.output_weight)):
            nn.init.normal_(weight, std=config.width**-0.5)

    @property
    def longest(self) -> int | None:
        """See `Embeds.longest`."""
        return self.config.context

    def places(self) -> tuple[Place, ...]:
        """See `Model.places`."""
        return self.config.places()

    def _before_output(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        values = F.gelu(self.readout(hidden)).view(1, -1, hidden.shape[-1])
        return self.readout_norm(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)).view(hidden.shape)

    def read_out(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Logits of the token at each position, from the vectors of `encode`; the mask is the last of them."""
        return self.logits(self._before_output(hidden) @ self.output_weight.t() + self.output_bias)

    def finish(self, values: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """The input of `read_out` from a layer's output at real positions: applies the last norm, where there is one."""
        if self.encoder_norm is None:
            return values
        return self.encoder_norm(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))

    def loss(self, batch: MaskedBatch, *, label_smoothing: float = 0.0) -> LossSum:
        """Sum of -log p of the tokens to guess."""
        chosen = (batch.following != PAD).flatten().nonzero().squeeze(1)
        hidden = self.encode(batch.source).memory.flatten(0, 1).index_select(0, chosen)
        guessed = batch.following.flatten().index_select(0, chosen)
        rows = self._before_output(hidden)
        return token_cross_entropy(rows, guessed, weight=self.output_weight, bias=self.output_bias, label_smoothing=label_smoothing)

    def embed(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B D"]:
        """See `Embeds.embed`."""
        encoded = self.encode(source)
        return pool(encoded.memory, encoded.keep, self.config.pooling)
