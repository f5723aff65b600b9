"""Every kind of model that the laws of this folder hold for; a new kind joins by an entry in KINDS."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vitrail.data.batches import Batch, collate
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, CharacterVocabulary, Vocabularies
from vitrail.models.architectures import ModelConfig
from vitrail.models.base import State, TranslationModel
from vitrail.models.build import build_model
from vitrail.models.configs.autoencoder import RecurrentAutoencoderConfig, TransformerAutoencoderConfig
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig

LETTERS = "abcdefghijklmnop"


def vocabularies(*, joint: bool) -> Vocabularies:
    if joint:
        both = CharacterVocabulary(list(LETTERS))
        return Vocabularies(both, both, joint=True)
    return Vocabularies(CharacterVocabulary(list(LETTERS)), CharacterVocabulary(list(LETTERS[::-1] + "qrs")), joint=False)


@dataclass(frozen=True)
class Kind:
    """A configuration and the laws' needs: `joint` vocabularies or not, and whether training uses statistics of
    the whole batch, or draws noise for it."""

    config: ModelConfig
    joint: bool = True
    batch_statistics: bool = False

    @property
    def vocabularies(self) -> Vocabularies:
        return vocabularies(joint=self.joint)

    def build(self, *, seed: int = 0) -> TranslationModel:
        torch.manual_seed(seed)
        return build_model(self.config, self.vocabularies)


def _tiny(**changes: object) -> TransformerConfig:
    plain = {"encoder_layers": 2, "decoder_layers": 2, "width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.0}
    return TransformerConfig.model_validate(plain | changes)


def _recurrent(**changes: object) -> RecurrentConfig:
    return RecurrentConfig.model_validate({"embedding_width": 16, "width": 32, "dropout": 0.0} | changes)


def _auto(**changes: object) -> TransformerAutoencoderConfig:
    return TransformerAutoencoderConfig.model_validate(_tiny().model_dump(exclude={"kind"}) | {"bottleneck": 6, "slots": 4} | changes)


def _recurrent_auto(**changes: object) -> RecurrentAutoencoderConfig:
    return RecurrentAutoencoderConfig.model_validate(_recurrent().model_dump(exclude={"kind"}) | {"bottleneck": 6} | changes)


KINDS: dict[str, Kind] = {
    "pre-layer-sinusoidal": Kind(_tiny()),
    "post-layer-untied": Kind(_tiny(norm_position="post", tie="none"), joint=False),
    "pre-rms-rotary-swiglu": Kind(_tiny(norm="rms", positions="rotary", activation="swiglu")),
    "post-rms-learned-gelu": Kind(_tiny(norm="rms", norm_position="post", positions="learned", max_positions=80, activation="gelu")),
    "post-silu-biased": Kind(_tiny(norm_position="post", activation="silu", output_bias=True, feed_forward=32)),
    "post-tensor2tensor-from-zeros": Kind(_tiny(norm_position="post", positions="tensor2tensor", decoder_start="zeros")),
    "post-ssru": Kind(_tiny(norm_position="post", decoder="ssru", decoder_start="zeros", width=32)),
    "pre-ssru-untied": Kind(_tiny(decoder="ssru", tie="none", positions="learned", max_positions=80, width=32), joint=False),
    "pre-batch": Kind(_tiny(norm="batch"), batch_statistics=True),
    "post-batch-rotary": Kind(_tiny(norm="batch", norm_position="post", positions="rotary"), batch_statistics=True),
    "no-positions-target-tied": Kind(_tiny(positions="none", tie="target"), joint=False),
    "unequal-depths-wide-heads": Kind(_tiny(encoder_layers=3, decoder_layers=1, heads=3, head_width=4)),
    "rnn": Kind(_recurrent(cell="rnn")),
    "gru-one-way-reversed": Kind(_recurrent(cell="gru", bidirectional=False, reverse_source=True)),
    "lstm": Kind(_recurrent(cell="lstm")),
    "lstm-deep-residual-untied": Kind(
        _recurrent(cell="lstm", encoder_layers=3, decoder_layers=2, embedding_width=12, residual=True, tie="none"), joint=False
    ),
    "lstm-luong-general": Kind(_recurrent(cell="lstm", attention="luong-general")),
    "lstm-luong-dot-fed": Kind(_recurrent(cell="lstm", attention="luong-dot", input_feeding=True, decoder_layers=2)),
    "gru-luong-concat-fed": Kind(_recurrent(cell="gru", attention="luong-concat", input_feeding=True, tie="target"), joint=False),
    "gru-bahdanau": Kind(_recurrent(cell="gru", attention="bahdanau", encoder_layers=2)),
    "lstm-bahdanau-layer-norm": Kind(_recurrent(cell="lstm", attention="bahdanau", norm="layer")),
    "gru-layer-norm": Kind(_recurrent(cell="gru", norm="layer", decoder_layers=2)),
    "gru-bahdanau-batch-norm": Kind(_recurrent(cell="gru", attention="bahdanau", norm="batch"), batch_statistics=True),
    "autoencoder": Kind(_auto()),
    "autoencoder-slots-first-learned": Kind(_auto(slots=3, pooling="first", positions="learned", max_positions=80, context=79)),
    "autoencoder-variational": Kind(_auto(latent="variational", kl_weight=0.01, free_nats=0.0), batch_statistics=True),
    "lstm-autoencoder-deep": Kind(_recurrent_auto(encoder_layers=2, decoder_layers=2)),
    "gru-autoencoder-variational": Kind(
        _recurrent_auto(cell="gru", latent="variational", kl_weight=0.01, free_nats=0.0), batch_statistics=True
    ),
    "lstm-luong-batch-norm": Kind(_recurrent(cell="lstm", attention="luong-general", norm="batch"), batch_statistics=True),
}
TRANSLATING = {name: kind for name, kind in KINDS.items() if "autoencoder" not in name}
"""Those whose decoder reads the vectors of the source's tokens. An autoencoder's reads one vector made of them: its tests are its own."""


def random_batch(kind: Kind, *, sentences: int = 4, longest: int = 9, seed: int = 1) -> Batch:
    """Pairs of different lengths, the first the longest."""
    draw = torch.Generator().manual_seed(seed)

    def rows(size: int) -> list[list[int]]:
        lengths = [longest, *torch.randint(1, longest, (sentences - 1,), generator=draw).tolist()]
        return [torch.randint(EOS + 1, size, (length,), generator=draw).tolist() for length in lengths]

    return collate(rows(kind.vocabularies.source.size), rows(kind.vocabularies.target.size))


def settled(kind: Kind) -> TranslationModel:
    """A model in evaluation mode; running statistics have seen a few batches."""
    model = kind.build()
    model.train()
    with torch.no_grad():
        for seed in range(3 if kind.batch_statistics else 0):
            model.loss(random_batch(kind, seed=seed))
    return model.eval()


def run_steps(model: TranslationModel, state: State, target: Tensor) -> tuple[Tensor, State]:
    """Logits of each step over given tokens, side by side, and the last state."""
    logits: list[Tensor] = []
    for column in target.unbind(1):
        scores, state = model.step(column, state)
        logits.append(scores)
    return torch.stack(logits, dim=1), state


def logits_by_steps(model: TranslationModel, batch: Batch) -> Tensor:
    return run_steps(model, model.start(model.encode(batch.source)), batch.target_in)[0]


def widen(ids: Tensor, columns: int) -> Tensor:
    """More padding on the right."""
    return torch.cat([ids, torch.full((len(ids), columns), PAD)], dim=1)


def nats_by_row(model: TranslationModel, batch: Batch) -> Tensor:
    """The loss of each sentence by itself, all in one batch: the other rows' targets are hidden from the loss alone."""
    found: list[Tensor] = []
    for row in range(len(batch.source)):
        shown = torch.full_like(batch.target_out, PAD)
        shown[row] = batch.target_out[row]
        found.append(model.loss(batch._replace(target_out=shown)).nats)
    return torch.stack(found)


def greedy(model: TranslationModel, source: Tensor, *, steps: int) -> list[list[int]]:
    """Take the best token again and again, without a search: the reference for beam 1. UNK, SOS and PAD are never taken."""
    state = model.start(model.encode(source))
    last = torch.full((len(source),), SOS)
    rows: list[list[int]] = [[] for _ in source]
    for _ in range(steps):
        logits, state = model.step(last, state)
        last = logits.index_fill(1, torch.tensor([0, 1, 2]), -torch.inf).argmax(1)
        for row, token in zip(rows, last.tolist(), strict=True):
            row.append(token)
    return [row[: row.index(EOS)] if EOS in row else row for row in rows]
