"""The page of word vectors: the map of words, and the objective of chosen pairs, in the shell of all pages."""

from typing import Any

from vitrail.inspection.maps.word_map import WordMap
from vitrail.inspection.page import page_of


def words_to_html(found: WordMap, *, language: str = "en") -> str:
    """One self-contained page; what is said of `page.to_html` holds of it.

    Cost: of 5,000 words with 10 neighbours each, about 1 MB.
    """
    meta: dict[str, Any] = {
        "source": {"text": found.name, "ids": [], "pieces": [], "spans": [], "words": []},
        "target": None,
        "first": "",
        "given": True,
        "part": 1,
        "parts": 1,
        "cut": False,
        "truncated": False,
        "translation": None,
        "model": {},
        "languages": ["", ""],
        "decoding": {"beams": 1, "length_penalty": 0.0, "sampled": False, "prefix": 0, "nodes": [], "finished": [], "steps": []},
        "extras": {"words": found.model_dump(mode="json")},
        "checks": {},
        "places": [],
        "links": {},
        "planes": [],
        "walk": [],
        "notes": [],
    }
    return page_of(lambda others: {"meta": meta, "arrays": {}, "blobs": []}, language=language)
