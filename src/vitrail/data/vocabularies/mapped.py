"""A SentencePiece model whose pieces have the ids of another program: the vocabularies of OPUS-MT and Pegasus."""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sentencepiece

from vitrail.data.vocabularies.protobuf import fields
from vitrail.data.vocabularies.vocabulary import EOS, SPECIAL, UNK, NewTokens, Subwords, require_text
from vitrail.errors import ModelError, UsageError

_FORMAT = "vitrail pieces 1"
_LONGEST_REWRITTEN = 256
"""Most bytes that one character becomes by a model's own table of normalisation; NFKC has 33."""
_LONGEST_PIECE = 4096


class MappedPieces(Subwords):
    """Pieces by a SentencePiece model, ids by a list of tokens: token n has the id n + 4. A piece that is not in the list is unknown.

    A text may begin with the language to translate into, as `>>fra<<`, which is one token. Source and target may have models of their own
    and one list, so that both share their embeddings. Text is normalised by the model's own table, if it has one.

    Args: silent: tokens that are no text, such as those of pre-training.
    """

    suffix = ".pieces.json"

    def __init__(
        self, processor: sentencepiece.SentencePieceProcessor, data: bytes, tokens: Sequence[str], *, silent: Iterable[str] = ()
    ) -> None:
        self._processor, self._data = processor, data
        self._silent = frozenset(silent).intersection(tokens)
        self.tokens = tuple(tokens)
        """Those after the special ids."""
        self._ids = {token: id for id, token in enumerate(self.tokens, start=len(SPECIAL))}

    @classmethod
    def of(cls, data: bytes, tokens: Sequence[str], *, origin: str, silent: Iterable[str] = ()) -> "MappedPieces":
        """A vocabulary. Args: data: the SentencePiece model's file. Raises ModelError naming `origin` where it is none."""
        processor = sentencepiece.SentencePieceProcessor()
        refusal = ModelError(f"{origin}: not a SentencePiece model, or damaged", remedy="copy the model again")
        try:
            if not data:
                raise refusal
            processor.LoadFromSerializedProto(data)
            longest = max(map(len, _tables(data)), default=0)
        except (RuntimeError, ValueError, LookupError):
            raise refusal from None
        if longest > _LONGEST_REWRITTEN:
            raise ModelError(
                f"{origin}: its table of normalisation makes {longest:,} bytes of one character", expected=f"at most {_LONGEST_REWRITTEN}"
            )
        if not all(token and len(token) <= _LONGEST_PIECE for token in tokens) or len(set(tokens)) < len(tokens):
            raise ModelError(f"{origin}: has tokens that are empty, twice there, or too long", remedy="copy the model again")
        return cls(processor, data, tokens, silent=silent)

    @property
    def size(self) -> int:
        return len(SPECIAL) + len(self.tokens)

    @property
    def sentencepiece_model(self) -> bytes:
        """The SentencePiece model's file."""
        return self._data

    @property
    def silent(self) -> list[str]:
        """Tokens that are no text."""
        return sorted(self._silent)

    def to_bytes(self) -> bytes:
        model = base64.b64encode(self._data).decode()
        content = {"format": _FORMAT, "sentencepiece": model, "silent": self.silent, "tokens": self.tokens}
        return (json.dumps(content, ensure_ascii=False, indent=0) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, *, origin: str) -> "MappedPieces":
        try:
            content: Any = json.loads(data)
            match content:
                case {"format": str(format), "sentencepiece": str(model), "silent": [*silent], "tokens": [*tokens]} if format == _FORMAT:
                    if all(isinstance(token, str) for token in [*silent, *tokens]):
                        return cls.of(base64.b64decode(model, validate=True), tokens, origin=origin, silent=silent)
                case _:
                    pass
        except (ValueError, RecursionError, binascii.Error):
            pass
        raise ModelError(f"{origin}: not a vocabulary of pieces, or damaged", remedy="copy the model again")

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        require_text(texts)
        return [self._encoded(text) for text in texts]

    def _encoded(self, text: str) -> list[int]:
        language, rest = _language(text)
        pieces: list[str] = self._processor.encode(rest, out_type=str)
        return [self._ids.get(piece, UNK) for piece in [*language, *pieces]]

    def sample(self, texts: Sequence[str], *, seed: int, dropout: float) -> list[list[int]]:
        if dropout > 0:
            raise UsageError("segmentations cannot be sampled from another program's pieces", remedy="--set train.subword_dropout=0")
        return self.encode_batch(texts)

    def extended(self, texts: Iterable[str], *, most: NewTokens, least_count: int = 1) -> Subwords:
        raise UsageError(f"data.subwords.new_tokens = {most} with another program's pieces", remedy="leave new_tokens out")

    def decode(self, ids: Iterable[int]) -> str:
        return self._text([self.tokens[id - len(SPECIAL)] for id in ids if id > EOS])

    def written(self, ids: Iterable[int]) -> str:
        return self._text(["▁\ufffd" if id == UNK else self.tokens[id - len(SPECIAL)] for id in ids if id > EOS or id == UNK])

    def _text(self, pieces: list[str]) -> str:
        text: str = self._processor.decode_pieces([piece for piece in pieces if piece not in self._silent])
        return text.replace("▁", " ").strip()

    def is_whole(self, text: str) -> bool:
        return not text.endswith("\ufffd")

    def pieces(self, ids: Iterable[int]) -> list[str]:
        return [SPECIAL[id] if id <= EOS else self.tokens[id - len(SPECIAL)] for id in ids]


def _language(text: str) -> tuple[list[str], str]:
    """The token of the language to translate into, where a text begins with one, and the rest."""
    end = text.find("<<") if text.startswith(">>") else -1
    return ([], text) if end < 0 else ([text[: end + 2]], text[end + 2 :])


def _tables(data: bytes) -> Iterator[bytes]:
    """What characters become by the tables of normalisation of a SentencePiece model: fields 2 of fields 3 and 5 of a ModelProto, each
    the size of a trie, the trie, and texts that end in a zero byte."""
    for number, spec in fields(data):
        for inner, table in fields(spec) if number in (3, 5) else ():
            if inner == 2 and len(table) > 4:
                yield from table[4 + int.from_bytes(table[:4], "little") :].split(b"\0")
