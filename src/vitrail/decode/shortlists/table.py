"""The table of a shortlist: the target tokens that each source token may become; and the list of a sentence.

A model folder has it as `shortlist.safetensors`, which any program can read: int32 `starts` [S + 1], `tokens`, `always` and `copies` [S],
float32 `probabilities`. Source token s may become tokens[starts[s] : starts[s + 1]], the most probable first, with the probabilities
p(target | s) of IBM Model 1 at the same places; copies[s] is the same piece among the target's, or -1; `always` is in every list.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.data.vocabularies.vocabulary import SPECIAL
from vitrail.decode.search.query import AllowedTokens
from vitrail.errors import ModelError
from vitrail.files import FolderLock, read_manifest, read_whole, verify_file
from vitrail.models.stored import ANOTHER_COPY, SHORTLIST, model_folder, with_file

FORMAT = 1
_TENSORS = {"starts": "int32", "tokens": "int32", "always": "int32", "copies": "int32", "probabilities": "float32"}
Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Shortlist:
    """The target tokens that source tokens may become."""

    starts: Ids
    """[S + 1]"""
    tokens: Ids
    probabilities: npt.NDArray[np.float32]
    always: Ids
    """Target tokens in every list: special ones, digits, the most frequent ones."""
    copies: Ids
    """[S] the same piece among the target's; -1 for none."""
    target_size: int
    vocabularies: str
    """Digest of the vocabularies that the ids belong to."""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    """How it was made."""

    def __post_init__(self) -> None:
        sources = len(self.copies)
        ordered = len(self.starts) == sources + 1 and self.starts[0] == 0 and bool((np.diff(self.starts) >= 0).all())
        if not ordered or self.starts[-1] != len(self.tokens) or len(self.probabilities) != len(self.tokens):
            raise ModelError("the lists of a shortlist do not fit each other", remedy=ANOTHER_COPY)
        for ids, least in ((self.tokens, 0), (self.always, 0), (self.copies, -1)):
            if len(ids) and not least <= ids.min() <= ids.max() < self.target_size:
                raise ModelError(
                    f"a shortlist with the target tokens {ids.min()} to {ids.max()}",
                    expected=f"{least} to {self.target_size - 1}",
                    remedy=ANOTHER_COPY,
                )

    @cached_property
    def shared(self) -> npt.NDArray[np.int64]:
        """The tokens in every list: rising, the special ones first."""
        return np.union1d(np.arange(len(SPECIAL)), self.always).astype(np.int64)

    @cached_property
    def _own(self) -> dict[int, frozenset[int]]:
        """By source token, those that have been asked for: what it may become besides."""
        return {}

    def _besides(self, token: int) -> frozenset[int]:
        found = self._own.get(token)
        if found is None:
            copy = self.copies[token : token + 1]
            wanted = np.concatenate([self.tokens[self.starts[token] : self.starts[token + 1]], copy[copy >= 0]])
            found = self._own[token] = frozenset(np.setdiff1d(wanted, self.shared).tolist())
        return found

    def tokens_for(self, source: Sequence[int]) -> AllowedTokens:
        """The list of a sentence; it depends on nothing but the sentence's tokens."""
        own = frozenset[int]().union(*map(self._besides, source))
        return AllowedTokens(self.shared, np.array(sorted(own), np.int64))

    def to_bytes(self) -> bytes:
        """The file."""
        facts = {**self.facts, "format": str(FORMAT), "target_size": str(self.target_size), "vocabularies": self.vocabularies}
        return save({name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS}, metadata=facts)

    @classmethod
    def from_bytes(cls, data: bytes, *, origin: str) -> "Shortlist":
        """The inverse of `to_bytes`. Raises ModelError where it is none, damaged, or of a newer format."""
        try:
            facts, tensors = _metadata(data), load(data)
            size, vocabularies, number = int(facts.pop("target_size")), facts.pop("vocabularies"), int(facts.pop("format"))
        except (SafetensorError, KeyError, ValueError) as error:
            raise ModelError(f"{origin}: is no shortlist: {error}", remedy=ANOTHER_COPY) from None
        if number > FORMAT:
            raise ModelError(f"{origin}: format {number}", expected=f"format {FORMAT} or older", remedy="update vitrail")
        if {name: str(one.dtype) for name, one in tensors.items() if one.ndim == 1} != _TENSORS:
            raise ModelError(f"{origin}: does not have the lists of a shortlist", expected=", ".join(_TENSORS), remedy=ANOTHER_COPY)
        return cls(**tensors, target_size=size, vocabularies=vocabularies, facts=facts)


def _metadata(data: bytes) -> dict[str, str]:
    """The strings beside the tensors of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    return dict(json.loads(data[8 : 8 + length])["__metadata__"])


def save_shortlist(folder: Path, shortlist: Shortlist) -> None:
    """Put a shortlist into a model folder, or the one of a run, in place of an earlier one. The folder is replaced as a whole.

    Raises TrainingError where a training is at work in the run.
    """
    place = model_folder(folder)
    with nullcontext() if place == folder else FolderLock(folder):
        with_file(place, SHORTLIST, shortlist.to_bytes())


def has_shortlist(folder: Path) -> bool:
    """Whether the model in a model folder or a run's folder has a shortlist. Raises ModelError where there is no model."""
    return SHORTLIST in read_manifest(model_folder(folder))


def read_shortlist(folder: Path, vocabularies: Vocabularies) -> Shortlist:
    """The shortlist of a model folder, or of the one in a run's folder, after verifying it against the manifest.

    Raises ModelError where there is none, where it is damaged, and where it belongs to other vocabularies.
    """
    place, remedy = model_folder(folder), f"vitrail shortlist {folder}"

    def read() -> bytes:
        entries = read_manifest(place)
        if SHORTLIST not in entries:
            raise ModelError(f"{folder}: has no shortlist", remedy=remedy)
        verify_file(place / SHORTLIST, entries[SHORTLIST])
        return (place / SHORTLIST).read_bytes()

    found = Shortlist.from_bytes(read_whole(place, read), origin=str(place / SHORTLIST))
    sizes = len(found.copies), found.target_size
    if found.vocabularies != vocabularies.digest or sizes != (vocabularies.source.size, vocabularies.target.size):
        raise ModelError(f"{place / SHORTLIST}: was made for other vocabularies", expected="those of this model", remedy=remedy)
    return found
