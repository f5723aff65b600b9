"""Text as a model can read it: no lone surrogates, and no line breaks."""

import re

_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile("[\0-\x1f\x7f\x85\u2028\u2029]")


def encodable(text: str) -> str:
    """Replace lone surrogates (bytes that were not UTF-8) by U+FFFD, as any reader of UTF-8 does."""
    return _SURROGATES.sub("\ufffd", text)


def plain(text: str) -> str:
    """Turn control characters and line breaks of every kind into spaces: sentences have none."""
    return _CONTROLS.sub(" ", text)
