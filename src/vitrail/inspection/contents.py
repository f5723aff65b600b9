"""The record of one text: every value that a model computed for it, by name, and how it was searched; `record` saves, loads and exports it.

A translation has two sides, a source and a target. A language model's text is a target without a source: what is of a source is absent.
The text of a masked language model or a classifier is a source without a target.

NAMES of arrays (shape letters of vitrail.nn; no batch axis; float32 unless said otherwise). L counts from 0.

Transformer
    source_embedded  X (S D)    source_positions  P (S D)    source_input  X+P (S D)    and target_... (T D) of <sos> and the translation
    encoder.L.self_attention.*, decoder.L.self_attention.*, decoder.L.cross_attention.*, where * is
        q (H T E)   k, v (H S E)   raw_scores  QKᵀ (H T S)   scores  QKᵀ/√E (H T S)   keep  the mask, True may be read (T S, bool)
        weights  softmax over keys (H T S)   context  Z (H T E)   concatenation (T HE)   projection  concatenation·W_O (T D)
    encoder.L.residual_N.*, decoder.L.residual_N.*:  input (T D)   sum  R_N (T D)   normed  what its norm gave (T D)
    encoder.L.feed_forward.*, decoder.L.feed_forward.*:  activation (T F)   output (T D)
Transformer without an encoder (a language model): as above, of the target alone; no cross_attention
Recurrent
    encoder.L.forward_cell.*, encoder.L.backward_cell.* (S D/2 or S D, in the order of the source), decoder.L.* (T D):
        hidden  h   and, by cell, reset_gate update_gate candidate | input_gate forget_gate output_gate candidate cell
    decoder.L.first_hidden, decoder.L.first_cell (1 D): where the decoder starts from
    embedded (T D), cells.L.* (T D): of a language model, in place of decoder.L
    encoder.L.output (S D)   attention.{scores keep weights context} (1 T S, T S, 1 T S, T D)   attentional  h~ (T D)
A masked language model or a classifier: the encoder of these, and
    logits  (S V) of every token at every position, the mask the last; or (1 labels), as `classify` has them
    probabilities  (S V) of the tokens that can be guessed; or (1 labels)
    sentence_vector  (D)   pooling  the share of each token in it, (S)   gradients.PLACE  of -log p of the guesses or labels
Both
    memory  the encoder's output, the latent representation (S D)   decoder_output (T D)   logits (T V)   probabilities (T V)
    log_normaliser  log of the sum over the vocabulary of exp(logit) (T)
    gradients.PLACE  ||d(-log p(translation))/dh_t|| of what each layer hands on (S or T)
    parameters.PLACE  the first 8 output columns (of every head or gate) of the matrices that the equations multiply by, and what norms
        multiply by and add (batch norm: its running statistics too); read_out.weight  the output vectors of the translation's tokens (T D)
Analyses add theirs under attribution. , word_attribution. , logit_lens. , alignment. , each described in the module that adds it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from vitrail.config import Config
from vitrail.data.vocabularies.subwords import EOS, Subwords
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.collect import Arrays
from vitrail.inspection.decoding import Decoding, piece_of
from vitrail.inspection.words import group
from vitrail.models.architectures import read_config
from vitrail.models.places import ATTENTION_SIDES, Attention, AttentionType, Place, attentions
from vitrail.models.places import Side as SideName

_SHOWN = 60
"""Characters of each side in a record's repr."""

FORMAT = 2
"""Newest version of a saved record. It increases by one when a field changes its meaning or is removed."""
BOTH_SIDES, ONE_SIDE = 1, 2
"""The version of a record with source and target, which every release reads; and of one where a side is absent."""


class Side(Config):
    """One side of a translation, or a text, as the model and as people read it."""

    text: str
    """The text as it was read, unknown words included; for a translation of the model, the text of its tokens."""
    ids: tuple[int, ...]
    """Token ids, without SOS and EOS."""
    pieces: tuple[str, ...]
    """The tokens as people read them."""
    spans: tuple[tuple[int, int], ...]
    """The span of each token in `text`: first character, and the one after the last; leading spaces belong to the token."""
    words: tuple[tuple[int, ...], ...]
    """The positions of the tokens of each word; a token in two words counts for the first."""

    def word(self, number: int) -> str:
        """The text of a word."""
        tokens = self.words[number]
        return self.text[self.spans[tokens[0]][0] : self.spans[tokens[-1]][1]].strip()


class Facts(Config):
    """All of a record except its arrays; the JSON file in it."""

    format: int = BOTH_SIDES
    source: Side | None
    """None for a model that has none."""
    target: Side | None
    """The translation, or the text of a language model; None for a model that writes nothing."""
    first: str = "<sos>"
    """The token that is read before the target: a language model reads the end of the text before. Without a target, the one before the
    source, which stands for BERT's [CLS]; empty: none."""
    given: bool
    """Whether the target was given, not found by search."""
    asked: str
    """The text as it was given."""
    part: int = 1
    """The number of the inspected part: a text of several sentences, or one that is too long, is translated in parts."""
    parts: int = 1
    """In how many it is translated."""
    source_start: int = 0
    """Where this part begins in the text as it was given, in characters."""
    source_end: int | None = None
    """Where it ends; None: at the end of the text."""
    cut: bool = False
    """Whether it begins or ends inside a sentence, which was too long."""
    truncated: bool = False
    """Whether its translation reached the limit of length: then there is no <eos>."""
    translation: str | None = None
    """Of the whole text, as `translate` returns it; None where a translation was given, or the model was edited for this part alone."""
    target_start: int = 0
    """Where the translation of this part begins in that of the whole text."""
    model: dict[str, Any]
    """The configuration of the model; `kind` is the architecture."""
    languages: tuple[str, str] = ("", "")
    """Of source and target, where the model knows."""
    decoding: Decoding
    extras: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Results of analyses that are not arrays; each entry is described in the module that adds it."""


@dataclass(frozen=True, eq=False)
class InspectionContents:
    """One sentence and its translation, or one text, and all that a model computed for it."""

    facts: Facts
    arrays: Arrays
    """By the names above."""

    @property
    def sides(self) -> tuple[SideName, ...]:
        """The sides that there are: both of a translation; only the target of a language model's text."""
        both: tuple[tuple[SideName, Side | None], ...] = (("source", self.facts.source), ("target", self.facts.target))
        return tuple(name for name, side in both if side is not None)

    @property
    def source(self) -> Side:
        """The sentence. Raises UsageError where the model has no source."""
        return _existing(self.facts.source, "source", "a record of a translation")

    @property
    def target(self) -> Side:
        """The translation, or the text of a language model. Raises UsageError for a model that writes nothing."""
        return _existing(self.facts.target, "target", "a record of a translation or of a language model's text")

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each side that there is."""
        return tuple(side.text for side in (self.facts.source, self.facts.target) if side is not None)

    @property
    def source_tokens(self) -> tuple[str, ...]:
        """What the encoder reads, S tokens: the pieces and <eos>; without a target, `Facts.first` before them, if there is one."""
        before = (self.facts.first,) if self.facts.target is None and self.facts.first else ()
        return (*before, *self.source.pieces, "<eos>")

    @property
    def target_tokens(self) -> tuple[str, ...]:
        """What the decoder reads, T tokens: `Facts.first` and the pieces; without the last one where the target does not end."""
        return (self.facts.first, *self.target.pieces)[: len(self.predicted_tokens)]

    @property
    def predicted_tokens(self) -> tuple[str, ...]:
        """What the decoder predicts at each position, T tokens: the pieces and, where the translation ends, <eos>."""
        return self.target.pieces if self.facts.truncated else (*self.target.pieces, "<eos>")

    @property
    def predicted_ids(self) -> tuple[int, ...]:
        """The same as token ids."""
        return self.target.ids if self.facts.truncated else (*self.target.ids, EOS)

    def tokens_of(self, kind: AttentionType) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The tokens of an attention's rows and columns; in cross-attention a row is the token about to be predicted."""
        match kind:
            case "encoder":
                return self.source_tokens, self.source_tokens
            case "decoder":
                return self.target_tokens, self.target_tokens
            case "cross":
                return self.predicted_tokens, self.source_tokens

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on what is missing from the text or the translation: other parts, a sentence or a translation that was cut."""
        facts = self.facts
        return (
            *([f"part {facts.part} of {facts.parts}"] if facts.parts > 1 else []),
            *(["cut inside a sentence that was too long"] if facts.cut else []),
            *(
                [f"the {'text' if facts.source is None else 'translation'} reached the limit of length and has no end"]
                if facts.truncated
                else []
            ),
        )

    def __repr__(self) -> str:
        shown = " -> ".join(repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…") for text in self.texts)
        return f"<Inspection of {self.facts.model.get('kind')}: {shown}, {len(self.arrays)} arrays>"

    def __getitem__(self, name: str) -> npt.NDArray[np.generic]:
        """An array by its name. Raises UsageError that lists near names."""
        if name not in self.arrays:
            near = [known for known in self.arrays if known.split(".")[-1] == name.split(".")[-1]]
            shown = near or [known for known in self.arrays if "." not in known]
            raise UsageError(f"no array {name!r} in this record", expected=", ".join(shown[:12]) + (", ..." if len(shown) > 12 else ""))
        return self.arrays[name]

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The places of the model that it is of. Raises ModelError for a model that this release does not know."""
        try:
            return read_config(self.facts.model).places()
        except ValidationError:
            kind, remedy = self.facts.model.get("kind"), "open it with the vitrail that made it"
            raise ModelError(f"a record of an unknown model kind {kind!r}", remedy=remedy) from None

    def attentions(self, kind: AttentionType) -> dict[int, str]:
        """The attentions of a kind: layer -> the name that its arrays begin with. A recurrent model has one, of kind cross, layer 0.

        Raises UsageError for an unknown kind.
        """
        return {layer: attention.path for layer, attention in self._attentions(kind).items()}

    @property
    def main_attention(self) -> AttentionType | None:
        """The attention to show where none is named: to the source where there is one, else of the text to itself; None: no attention."""
        kinds: tuple[AttentionType, ...] = ("cross", "decoder", "encoder")
        return next((kind for kind in kinds if self._attentions(kind)), None)

    def _attentions(self, kind: AttentionType) -> dict[int, Attention]:
        if kind not in ATTENTION_SIDES:
            raise UsageError(f"attention of kind {kind!r}", expected=f"one of {', '.join(ATTENTION_SIDES)}")
        return {one.layer: one for one in attentions(self.places, kind) if one.weights in self.arrays}

    def weights(self, kind: AttentionType, *, layer: int | None = None, head: int | None = None) -> npt.NDArray[np.float32]:
        """Attention weights of a kind: (L H T S), or of one layer (H T S), or of one head (L T S), or of one head in a layer (T S).

        Raises UsageError where the model has no such attention, layer or head.
        """
        places = self._attentions(kind)
        if not places:
            kinds = [other for other in ATTENTION_SIDES if self._attentions(other)]
            raise UsageError(f"{kind} attention: this model has none", expected=" or ".join(kinds) or "a model with attention")
        if layer is not None and layer not in places:
            raise UsageError(f"{kind} layer {layer}", expected=f"one of {', '.join(map(str, places))}")
        chosen = places.values() if layer is None else [places[layer]]
        found = np.stack([np.asarray(self.arrays[attention.weights], dtype=np.float32) for attention in chosen])
        if head is not None:
            if not 0 <= head < found.shape[1]:
                where = kind if layer is None else f"{kind} layer {layer}"
                raise UsageError(f"{where} head {head}", expected=f"0 to {found.shape[1] - 1}")
            found = found[:, head]
        return found if layer is None else found[0]

    def with_arrays(self, arrays: Arrays, **extras: Any) -> Self:
        """The same record with the results of an analysis."""
        facts = self.facts.model_copy(update={"extras": {**self.facts.extras, **extras}})
        return replace(self, facts=facts, arrays={**self.arrays, **arrays})


def _existing(side: Side | None, name: SideName, expected: str) -> Side:
    if side is None:
        raise UsageError(f"this record has no {name}: its model has none", expected=expected)
    return side


def make_side(ids: Sequence[int], vocabulary: Subwords, *, text: str | None = None) -> Side:
    """A text token by token and word by word. Args: text: the encoded text; None: the text of the tokens."""
    text, spans, words = group(ids, vocabulary, text=text)
    pieces = tuple(piece_of(token, vocabulary) for token in ids)
    return Side(text=text, ids=tuple(ids), pieces=pieces, spans=tuple(spans), words=tuple(map(tuple, words)))


def schema_text() -> str:
    """The JSON schema of `facts.json`, as in docs/inspection.schema.json."""
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **Facts.model_json_schema()}, indent=1) + "\n"
