"""Greedy search, beam search and sampling, with constraints, independent of models and text."""

from vitrail import renamed

__getattr__ = renamed.names(
    __name__,
    {
        **dict.fromkeys(("SamplingConfig", "SearchConfig"), "vitrail.decode.search_config"),
        "beam_search": "vitrail.decode.search.beams",
    },
)
