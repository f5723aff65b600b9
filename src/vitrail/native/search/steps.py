"""Steps of a search, whatever the model: logits of what the model made of the rows, what follows them, and the rows of the next step."""

from vitrail.native.arrays import Floats
from vitrail.native.compiled import compiled_inside
from vitrail.native.matrices.listed import gather, some_rows
from vitrail.native.matrices.packing import Linear, ListedVocabulary, Matrices, Quantised
from vitrail.native.matrices.products import multiply
from vitrail.native.search.beams import begin, conclude, rate
from vitrail.native.search.ensemble import average, mix
from vitrail.native.search.shortlists import end_of_sentence, is_listed
from vitrail.native.search.state import CHOOSE, DONE, GROUP, LENGTH, MEMBER, MEMBERS, ONWARD, PART, PHASE, REST, ROWS, START, Search

# pyright: reportArgumentType=false
# (an element of an array has no known type)


@compiled_inside
def gather_lists(listed: ListedVocabulary, search: Search) -> None:
    """Copy the rows of the vocabulary's matrix that each sentence has of its own, where there are shortlists."""
    lists = search.shortlists
    if is_listed(search):
        gather(listed.rows, lists.own, lists.starts, lists.columns, listed.own)


@compiled_inside
def _read_out_own(
    vocabulary: Linear, listed: ListedVocabulary, asked: Floats, quantised: Quantised, search: Search, span: tuple[int, int], out: Floats
) -> None:
    """The logits of tokens that each sentence has besides those that all share, of a span of rows."""
    width, lists, first = vocabulary.inputs, search.shortlists, span[0]
    while first < span[1]:
        b, end = search.rows.sentences[first], end_of_sentence(search, first, span[1])
        own = some_rows(vocabulary, lists.columns[b], lists.columns[b + 1], lists.stride)
        place = (first - span[0]) * lists.stride + lists.base
        multiply(listed.own.matrices, own, 0, asked[first * width : end * width], end - first, quantised, out[place:])
        first = end


@compiled_inside
def _read_out(
    matrices: Matrices,
    vocabulary: Linear,
    listed: ListedVocabulary,
    asked: Floats,
    quantised: Quantised,
    search: Search,
    span: tuple[int, int],
) -> None:
    """The logits [rows, V] of a span of rows; with shortlists, those of the tokens that each may have."""
    width, rows = vocabulary.inputs, span[1] - span[0]
    out = search.rows.member_logits if search.progress[PART] == MEMBER else search.rows.logits
    own = asked[span[0] * width : span[1] * width]
    if is_listed(search):
        shared = some_rows(vocabulary, 0, search.shortlists.base, search.shortlists.stride)
        multiply(listed.shared.matrices, shared, 0, own, rows, quantised, out)
        _read_out_own(vocabulary, listed, asked, quantised, search, span, out)
    else:
        multiply(matrices, vocabulary, 0, own, rows, quantised, out)


@compiled_inside
def score_rows(
    matrices: Matrices, vocabulary: Linear, listed: ListedVocabulary, asked: Floats, quantised: Quantised, search: Search
) -> None:
    """The best next tokens of all rows; where one of several models scores them, its probabilities are added to the others'.

    Args:
        vocabulary: the matrix that makes logits; one of `matrices`.
        asked: [rows, D] what it is multiplied with.
        quantised: room for some of these rows.
    """
    is_member = search.progress[PART] == MEMBER
    for first in range(0, search.progress[ROWS], GROUP):
        span = (first, min(first + GROUP, search.progress[ROWS]))
        _read_out(matrices, vocabulary, listed, asked, quantised, search, span)
        if is_member:
            mix(search, vocabulary.outputs, span)
        else:
            rate(search, vocabulary.outputs, span)
    if is_member:
        search.progress[MEMBERS] += 1


@compiled_inside
def go_on(search: Search, width: int) -> int:
    """What follows the scores of a step, or the reading of the sources, and the rows of the next step: ONWARD where the model is to score
    them, DONE where there are none, or what Python is to tell first, as of `conclude`.

    Args: width: of a row of logits of the whole vocabulary.
    """
    progress, need = search.progress, ONWARD
    if progress[PHASE] == START:
        progress[PHASE] = CHOOSE
    else:
        if progress[PHASE] == CHOOSE and progress[PART] == REST:
            average(search, width)
            rate(search, width, (0, progress[ROWS]))
        need = conclude(search)
    if need == ONWARD:
        progress[MEMBERS] = 0
        if begin(search, search.rules.prompt - 1 + progress[LENGTH]) == 0:
            return DONE
    return need
