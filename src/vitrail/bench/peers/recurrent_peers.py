"""The same recurrent translator from two other toolkits, with the same sizes and tying.

Only `JoeyNMT` needs the package JoeyNMT; it pins many old versions, so it is installed by hand (see `_JOEY`).
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from vitrail.bench.peers.systems import LABEL_SMOOTHING, Peer, PeerModel, PeerVariant
from vitrail.data.batches import Batch
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, UNK
from vitrail.models.configs.recurrent import RecurrentConfig

_LAYERS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}

_JOEY = "pip install --no-deps --target FOLDER joeynmt==2.3.0 'importlib_metadata<8.6' zipp subword-nmt mock, then PYTHONPATH=FOLDER"


class TorchRecurrent(PeerModel):
    """`torch.nn.LSTM` (GRU, RNN) as encoder and decoder, and attention between them, as tutorials write it: the equations of ours.

    The decoder runs in a loop only where each step needs the context of the one before; otherwise the whole target
    goes through one call. With `packed`, the encoder stops at the end of each sentence; without, it also reads padding, which costs less
    and makes a translation depend on the padding.
    """

    def __init__(self, config: RecurrentConfig, vocabulary: int, *, packed: bool) -> None:
        super().__init__()
        self.config, self.packed = config, packed
        embedding, width = config.embedding_width, config.width
        layer = _LAYERS[config.cell]
        tied = config.tie != "none"
        self.target_embedding = nn.Embedding(vocabulary, embedding)
        self.source_embedding = self.target_embedding if config.tie == "all" else nn.Embedding(vocabulary, embedding)
        self.output = nn.Linear(embedding, vocabulary)
        nn.init.normal_(self.source_embedding.weight, std=embedding**-0.5)
        nn.init.normal_(self.target_embedding.weight, std=embedding**-0.5)
        if tied:
            self.output.weight = self.target_embedding.weight
        self.dropout = nn.Dropout(config.dropout)
        between = config.dropout if config.encoder_layers > 1 else 0.0
        one_way = width // 2 if config.bidirectional else width
        self.encoder = layer(
            embedding, one_way, config.encoder_layers, batch_first=True, bidirectional=config.bidirectional, dropout=between
        )
        extra = 0 if not config.feeds else width if config.attention == "bahdanau" else embedding
        between = config.dropout if config.decoder_layers > 1 else 0.0
        self.decoder = layer(embedding + extra, width, config.decoder_layers, batch_first=True, dropout=between)
        self.parts = 2 if config.cell == "lstm" else 1
        self.bridge = nn.ModuleList(nn.Linear(width, width) for _ in range(config.decoder_layers * self.parts))
        additive = config.attention in ("bahdanau", "luong-concat")
        self.key = nn.Linear(width, width, bias=False) if additive or config.attention == "luong-general" else None
        self.query = nn.Linear(width, width) if additive else None
        self.vector = nn.Linear(width, 1, bias=False) if additive else None
        seen = width + (0 if config.attention == "none" else width) + (embedding if config.attention == "bahdanau" else 0)
        self.readout = nn.Linear(seen, embedding)

    def forward(self, batch: Batch) -> Float[Tensor, "B T V"]:
        """Scores of every next target token."""
        keep = batch.source != PAD
        memory, hidden = self._encode(batch.source, keep)
        keys = memory if self.key is None else self.key(memory)
        embedded = self._embed(self.target_embedding, batch.target_in)
        if not self.config.feeds:
            states = self.dropout(self.decoder(embedded, hidden)[0])
            if self.config.attention != "none":
                states = torch.cat([states, self._attend(states, keys, memory, keep)], dim=2)
            return self.output(self.readout(states).tanh())
        found: list[Tensor] = []
        fed = embedded.new_zeros(len(embedded), 1, self.config.embedding_width)
        for one in embedded.split(1, dim=1):
            if self.config.attention == "bahdanau":
                last = (hidden[0] if self.parts == 2 else hidden)[-1][:, None]
                context = self._attend(last, keys, memory, keep)
                state, hidden = self.decoder(torch.cat([one, context], dim=2), hidden)
                seen = [self.dropout(state), context, one]
            else:
                state, hidden = self.decoder(torch.cat([one, fed], dim=2), hidden)
                state = self.dropout(state)
                seen = [state, self._attend(state, keys, memory, keep)]
            fed = self.readout(torch.cat(seen, dim=2)).tanh()
            found.append(fed)
        return self.output(torch.cat(found, dim=1))

    def _embed(self, embedding: nn.Embedding, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T E"]:
        return self.dropout(embedding(ids) * self.config.embedding_width**0.5)

    def _encode(self, source: Int[Tensor, "B S"], keep: Bool[Tensor, "B S"]) -> tuple[Float[Tensor, "B S D"], Any]:
        """Hidden states at every position, and the decoder's initial state."""
        values = self._embed(self.source_embedding, source)
        if self.packed:
            packed = pack_padded_sequence(values, keep.sum(1), batch_first=True, enforce_sorted=False)
            outputs, last = self.encoder(packed)
            memory, _ = pad_packed_sequence(outputs, batch_first=True, total_length=source.shape[1])
        else:
            memory, last = self.encoder(values)
        parts = list(last) if self.parts == 2 else [last]
        begun: list[Tensor] = []
        for number, part in enumerate(parts):
            # From (layers * directions, B, D / directions) to (layers, B, D); a deeper decoder takes the topmost layer's again.
            joined = part.unflatten(0, (self.config.encoder_layers, -1)).transpose(1, 2).flatten(2)
            layers = [joined[min(layer, len(joined) - 1)] for layer in range(self.config.decoder_layers)]
            bridged = [self.bridge[layer * self.parts + number](values) for layer, values in enumerate(layers)]
            begun.append(torch.stack([values.tanh() if number == 0 else values for values in bridged]))
        return memory, tuple(begun) if self.parts == 2 else begun[0]

    def _attend(self, query: Tensor, keys: Tensor, memory: Tensor, keep: Tensor) -> Float[Tensor, "B T D"]:
        """The context vector of each query."""
        if self.query is not None and self.vector is not None:
            scores = self.vector(torch.tanh(self.query(query)[:, :, None] + keys[:, None])).squeeze(3)
        else:
            scores = query @ keys.transpose(1, 2)
        scores = scores.masked_fill(~keep[:, None], float("-inf"))
        return scores.softmax(dim=2) @ memory


class _Words:
    """The parts of a vocabulary that JoeyNMT's models need: its size and the special ids, in our numbering."""

    pad_index, unk_index, bos_index, eos_index = PAD, UNK, SOS, EOS
    sep_index = None
    specials: tuple[str, ...] = ("<unk>", "<pad>", "<s>", "</s>")
    lang_tags = ()

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def lookup(self, token: str) -> int:
        """The id of a special token."""
        return (UNK, PAD, SOS, EOS)[self.specials.index(token)]


class JoeyNMT(PeerModel):
    """JoeyNMT's recurrent model, built and trained by its own code, with its own loss, smoothing and accuracy.

    It cannot tie its output layer unless embeddings are as wide as the hidden state, and reads it from a vector of that width: set
    `embedding_width` to `width` for a fair comparison. With bahdanau it computes attention after the step, and feeds the attentional vector
    rather than the context: as much work.
    """

    def __init__(self, config: RecurrentConfig, vocabulary: int) -> None:
        super().__init__()
        from joeynmt.model import build_model  # pyright: ignore

        tied = config.tie != "none" and config.embedding_width == config.width
        side = {"type": "recurrent", "rnn_type": config.cell, "dropout": config.dropout, "embeddings": self._embeddings(config)}
        encoder = {**side, "hidden_size": config.width // 2, "num_layers": config.encoder_layers, "bidirectional": True}
        decoder = {
            **side,
            "hidden_size": config.width,
            "num_layers": config.decoder_layers,
            "attention": "bahdanau" if config.attention == "bahdanau" else "luong",
            "hidden_dropout": config.dropout,
            "init_hidden": "bridge",
            "input_feeding": config.feeds,
        }
        words = _Words(vocabulary)
        settings = {"encoder": encoder, "decoder": decoder, "tied_embeddings": config.tie == "all", "tied_softmax": tied}
        self.model: Any = build_model(settings, words, words)
        self.model.loss_function = ("crossentropy", LABEL_SMOOTHING)

    @staticmethod
    def _embeddings(config: RecurrentConfig) -> dict[str, float]:
        return {"embedding_dim": config.embedding_width, "dropout": config.dropout}

    @staticmethod
    def _inputs(batch: Batch) -> dict[str, Tensor]:
        """The inputs in JoeyNMT's order: longest source first."""
        lengths = (batch.source != PAD).sum(1)
        order = lengths.argsort(descending=True, stable=True)
        source, target = batch.source[order], batch.target_out[order]
        return {
            "src": source,
            "src_length": lengths[order],
            "src_mask": (source != PAD)[:, None],
            "trg_input": batch.target_in[order],
            "trg": target,
            "trg_mask": (target != PAD)[:, None],
        }

    def forward(self, batch: Batch) -> Float[Tensor, "B T V"]:
        """Scores of every next target token, in the order of the batch."""
        order = (batch.source != PAD).sum(1).argsort(descending=True, stable=True)
        return self.model._encode_decode(**self._inputs(batch))[0][order.argsort()]

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Its own loss a token: the divergence from the smoothed targets, 0 for a perfect model."""
        nats = self.model(return_type="loss", **self._inputs(batch))[0]
        return nats / (batch.target_out != PAD).sum()


def recurrent_peers(config: RecurrentConfig) -> tuple[Peer, ...]:
    """The peers of a recurrent translator."""

    def torchs(vocabulary: int, way: PeerVariant) -> PeerModel:
        return TorchRecurrent(config, vocabulary, packed=way == "packed sequences")

    def joey(vocabulary: int, way: PeerVariant) -> PeerModel:
        return JoeyNMT(config, vocabulary)

    layer = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"}[config.cell]
    needed = ("joeynmt", "importlib_metadata", "subword_nmt")
    return (
        Peer("torch", f"torch.nn.{layer} loop", ("packed sequences", "padded sequences"), torchs, lacks=_peers_lack(config)),
        Peer("joeynmt", "JoeyNMT", ("as it comes",), joey, needed, _JOEY, _joey_lacks(config)),
    )


def _peers_lack(model: RecurrentConfig) -> str:
    """Settings that neither peer has."""
    extras = {
        "model.norm": model.norm != "none",
        "model.residual": model.residual,
        "model.reverse_source": model.reverse_source,
        "model.variational": model.variational,
        "model.word_dropout": model.word_dropout > 0,
        "model.truncate": model.truncate is not None,
    }
    found = [name for name, used in extras.items() if used]
    return f"has no {', '.join(found)}" if found else ""


def _joey_lacks(model: RecurrentConfig) -> str:
    """Why JoeyNMT 2.3.0 has no such recurrent model; empty if it has one."""
    if lacks := _peers_lack(model):
        return lacks
    if model.attention not in ("bahdanau", "luong-general"):
        return "has bahdanau and luong-general attention, and no recurrent model with another attention or without"
    if model.cell == "rnn":
        return "has only the cells gru and lstm"
    return "" if model.bidirectional else "has only bidirectional encoders"
