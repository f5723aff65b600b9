"""Pairs that a run was trained on, read back from its prepared text: without what was dropped there, or held out for dev and test."""

from collections.abc import Iterator
from pathlib import Path

from vitrail.data.preparing.store import INDEX, PAIRS, Store, store_name
from vitrail.data.vocabularies.subwords import VOCABULARY_FILES, Vocabularies
from vitrail.errors import DataError, ModelError
from vitrail.files import unseal

__all__ = ["INDEX", "count_prepared_pairs", "read_prepared_pairs"]

_CHUNK = 10_000


def read_prepared_pairs(index: Path) -> Iterator[tuple[str, str]]:
    """The text of every training pair, one store after the other. A word that the vocabulary lacked is U+FFFD.

    Args:   index: the file of prepared text that lists its stores.
    Raises: DataError where there are none, or where they are damaged or no pairs.
    """
    stores, vocabularies = _open(index)
    for store in stores:
        for first in range(0, len(store), _CHUNK):
            places = range(first, min(first + _CHUNK, len(store)))
            sources, targets = ([vocabularies.of(side).written(store.row(side, place).tolist()) for place in places] for side in PAIRS)
            yield from zip(sources, targets, strict=True)


def count_prepared_pairs(index: Path) -> int:
    """How many pairs there are. Raises DataError as `read_prepared_pairs`."""
    return sum(map(len, _open(index)[0]))


def _open(index: Path) -> tuple[list[Store], Vocabularies]:
    expected, remedy = "the prepared text of a translator's run", "train again, or name the text itself"
    try:
        names = [store_name(place) for place in range(len(unseal(index.read_bytes())["stores"]))]
        vocabularies = Vocabularies.load(index.parent, listed=[name for name in VOCABULARY_FILES if (index.parent / name).exists()])
        stores = [Store.open(index.parent / name) for name in names]
        for store in stores:
            store.require(vocabularies)
    except OSError as error:
        raise DataError(f"{index}: cannot be read ({error.strerror})", expected=expected) from None
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{index}: is damaged ({error})", expected=expected, remedy=remedy) from None
    except ModelError as error:
        raise DataError(error.found, expected=expected, remedy=remedy) from None
    if any(store.roles != PAIRS for store in stores):
        raise DataError(f"{index}: holds no pairs", expected=expected, remedy="the folder of a translator's run")
    return stores, vocabularies
