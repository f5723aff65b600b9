"""Settings for translation from a model's folder."""

from collections.abc import Mapping, Sequence
from typing import Any

from vitrail.config import build, merge
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import ModelError, UsageError
from vitrail.models.stored import StoredModel

_MOST_STORED_BEAMS = 1000


def longest_source(loaded: Sequence[StoredModel]) -> int | None:
    known = [one.facts["longest_source"] for one in loaded if "longest_source" in one.facts]
    if any(type(length) is not int or length < 1 for length in known):
        raise ModelError(f"the model's fact longest_source is {known}", expected="a number of tokens")
    return min(known, default=None)


def search_of(
    facts: dict[str, Any], own: SearchConfig | None, wanted: SearchConfig | Mapping[str, Any] | None, *, origin: str
) -> SearchConfig:
    """The search settings: given ones, else those of the configuration, else the model's. The beams of a model's settings are limited."""
    if isinstance(wanted, SearchConfig):
        return wanted
    table = own.model_dump(mode="json") if own is not None else facts.get("search", {})
    if not isinstance(table, dict):
        raise ModelError(f"{origin}: the model's fact search is no table", remedy="copy the folder again")
    try:
        found = build(SearchConfig, merge(table, dict(wanted or {})), origin=f"{origin}: search")
    except UsageError as error:
        raise (UsageError if wanted or own is not None else ModelError)(error.found, remedy="give the search settings yourself") from None
    if own is None and max(found.beams, found.n_best) > _MOST_STORED_BEAMS:
        raise ModelError(
            f"{origin}: asks for {found.beams:,} beams", expected=f"at most {_MOST_STORED_BEAMS:,}", remedy="set the number of beams"
        )
    return found


def several_sentences(loaded: Sequence[StoredModel]) -> float | None:
    """The smallest value of an ensemble; None where a model has none."""
    found: list[Any] = [one.facts.get("several_sentences_share") for one in loaded]
    if any(type(share) not in (int, float, type(None)) for share in found):
        raise ModelError(f"the model's fact several_sentences_share is {found}", expected="a number from 0 to 1")
    return None if None in found else min(found)


def tags_of(facts: Mapping[str, Any]) -> list[str]:
    """The words that a model knows at the start of a source."""
    found: Any = facts.get("tags", [])
    if not isinstance(found, list) or not all(isinstance(tag, str) for tag in found):  # pyright: ignore[reportUnknownVariableType]
        raise ModelError(f"the model's fact tags is {found}", expected="a list of words")
    return found  # pyright: ignore[reportUnknownVariableType]
