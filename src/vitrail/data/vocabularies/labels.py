"""The labels of a classifier as a vocabulary: each label has an id, in the order of their names."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from vitrail.data.cleaning.normalise import normalise
from vitrail.data.reading.lines import UNITS
from vitrail.data.vocabularies.vocabulary import EOS, SPECIAL, UNK, Subwords
from vitrail.errors import ModelError

_FORMAT = "vitrail labels 1"


def split_labels(text: str, separator: str) -> list[str]:
    """The labels of one example, each once, without empty ones. Args: separator: empty: the whole text is one label."""
    parts = text.replace(separator, UNITS).split(UNITS) if separator else [text]
    return [label for label in dict.fromkeys(map(normalise, parts)) if label]


def _by_number(label: str) -> tuple[int, str]:
    return int(label), label


class LabelVocabulary(Subwords):
    """All labels of a classifier. A text is the label, or the labels, of one example.

    Args: separator: the sign between the labels of one example; empty: each example has one label.
    """

    suffix = ".labels.json"

    def __init__(self, labels: Sequence[str], *, separator: str = "") -> None:
        self.labels, self.separator = tuple(labels), separator
        self._ids = {label: id for id, label in enumerate(self.labels, start=len(SPECIAL))}

    @classmethod
    def train(cls, texts: Iterable[str], *, separator: str = "") -> "LabelVocabulary":
        """Every label of some examples, in the order of numbers, if all are, else of code points."""
        found = {label for text in texts for label in split_labels(text, separator)}
        numeric = all(label.isascii() and label.removeprefix("-").isdecimal() for label in found)
        return cls(sorted(found, key=_by_number) if numeric else sorted(found), separator=separator)

    @property
    def several(self) -> bool:
        """Whether an example may have several labels, or none."""
        return bool(self.separator)

    @property
    def size(self) -> int:
        return len(SPECIAL) + len(self.labels)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [[self._ids.get(label, UNK) for label in split_labels(text, self.separator)] for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        return self.separator.join(self.labels[id - len(SPECIAL)] for id in ids if id > EOS)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        return [SPECIAL[id] if id <= EOS else self.labels[id - len(SPECIAL)] for id in ids]

    def to_bytes(self) -> bytes:
        content = {"format": _FORMAT, "separator": self.separator, "labels": self.labels}
        return (json.dumps(content, ensure_ascii=False, indent=0) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, *, origin: str) -> "LabelVocabulary":
        refusal = ModelError(f"{origin}: no list of labels, or damaged", remedy="prepare the data again, or copy the model again")
        try:
            content: Any = json.loads(data)
        except (ValueError, RecursionError):
            raise refusal from None
        match content:
            case {"format": "vitrail labels 1", "separator": str(separator), "labels": [*labels]} if len(content) == 3:
                if not all(isinstance(label, str) and label for label in labels) or len(set(labels)) < len(labels):
                    raise refusal
                return cls(labels, separator=separator)
            case _:
                raise refusal
