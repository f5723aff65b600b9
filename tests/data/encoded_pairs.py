"""Pairs encoded into a store, for tests."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from vitrail.data.preparing.store import Store, write_store
from vitrail.data.reading.parallel_text import SentencePair
from vitrail.data.vocabularies.subwords import Vocabularies


def encode_to_store(pairs: Iterable[SentencePair], vocabularies: Vocabularies, folder: Path, *, workers: int, chunk: int = 50_000) -> Store:
    remaining = iter(pairs)
    with write_store(folder, vocabularies) as writer:
        while taken := list(islice(remaining, chunk)):
            sources = vocabularies.source.encode_arrays([pair.source for pair in taken], threads=workers)
            targets = vocabularies.target.encode_arrays([pair.target for pair in taken], threads=workers)
            writer.append(sources, targets)
    return Store.open(folder)
