"""Split long text at sentence ends, or else between words; the concatenated parts are the text."""

from collections.abc import Callable

import regex

from vitrail.data.boundaries import TextPart, split_sentences

__all__ = ["TextPart", "split_sentences", "split_to_fit"]


_SIGN = regex.compile(r"\X")


def split_to_fit(text: str, *, length: Callable[[str], int], comfortable: int, limit: int) -> list[TextPart]:
    """Split text longer than `comfortable` at its sentence ends, and any sentence longer than `limit` near its middle.

    Args:
        length: the length of a text, for example in subwords.
        comfortable: the greatest length that is not split; at most `limit`. 0: every sentence is a part.
        limit: the greatest length of a part, unless it is a single character.
        Cost: `length` of all the text, once for every halving.
    """
    if comfortable and length(text) <= comfortable:
        return [TextPart(text, "")]
    return [piece for part in split_sentences(text) for piece in _halve(part, length, limit)]


def _halve(part: TextPart, length: Callable[[str], int], limit: int) -> list[TextPart]:
    text = part.text
    if len(text) <= 1 or length(text) <= limit:
        return [part]
    at, resume = _middle(text)
    halves = TextPart(text[:at], text[at:resume], cut=True), TextPart(text[resume:], part.separator, cut=True)
    return [piece for half in halves for piece in _halve(half, length, limit)]


def _middle(text: str) -> tuple[int, int]:
    """Where to cut: at the white space after a comma, else at white space, else after a mark of punctuation, else between two signs with
    their marks; nearest to the middle and within its half."""
    middle = len(text) // 2
    low, high = len(text) // 4, len(text) - len(text) // 4
    for pattern in (r"(?<=[,;:、，；：])\s+", r"\s+", r"(?<=[^\w\s])(?=\w)"):
        places = [match.span() for match in regex.finditer(pattern, text[low:high])]
        cuts = [(low + begin, low + end) for begin, end in places if low + begin > 0 and low + end < len(text)]
        if cuts:
            return min(cuts, key=lambda cut: abs(cut[0] - middle))
    signs = [match.start() for match in _SIGN.finditer(text)]
    at = min(signs[1:], key=lambda at: abs(at - middle), default=middle)
    return at, at
