"""Forced words: the beams of a sentence are shared among hypotheses with many and with few of their tokens.

The rules are those of `vitrail.decode.search.constraints.share_beams` (dynamic beam allocation, Post & Vilar 2018). A forced word that is
joined to its neighbours is another word; whether two tokens are joined is asked once for each pair, and kept.
"""

import numpy as np

from vitrail.native.arrays import Integers
from vitrail.native.compiled import compiled_inside
from vitrail.native.search.constraints import same
from vitrail.native.search.shortlists import place_of
from vitrail.native.search.state import EOS, FORCED, LENGTH, OWN, QUESTIONS, ROWS, Constraints, Search

# pyright: reportArgumentType=false, reportReturnType=false
# (an element of an array has no known type)

_UNKNOWN = -1


@compiled_inside
def is_forced(constraints: Constraints, b: int) -> bool:
    """Whether a sentence has forced words."""
    return constraints.of[b * OWN + FORCED + 1] > constraints.of[b * OWN + FORCED]


@compiled_inside
def _size(constraints: Constraints, s: int) -> int:
    return constraints.spellings[s + 1] - constraints.spellings[s]


@compiled_inside
def _word_size(constraints: Constraints, w: int) -> int:
    """Tokens of the shortest spelling of a forced word."""
    shortest = _size(constraints, constraints.words[w])
    for s in range(constraints.words[w] + 1, constraints.words[w + 1]):
        shortest = min(shortest, _size(constraints, s))
    return shortest


@compiled_inside
def all_forced(constraints: Constraints, b: int) -> int:
    """Tokens of all forced words of a sentence; the number of its last bank."""
    number = 0
    for w in range(constraints.of[b * OWN + FORCED], constraints.of[b * OWN + FORCED + 1]):
        number += _word_size(constraints, w)
    return number


@compiled_inside
def _joined(constraints: Constraints, place: int) -> int:
    """1: joined; 0: not; _UNKNOWN: it is asked for."""
    answer = constraints.joins[place]
    if answer == _UNKNOWN:
        number = constraints.questions[0]
        if number < QUESTIONS:
            constraints.questions[1 + number] = place
            constraints.questions[0] = number + 1
    return answer


@compiled_inside
def _occurs(constraints: Constraints, s: int, tokens: Integers, span: tuple[int, int]) -> int:
    """1: a spelling occurs as a word by itself; 0: it does not; _UNKNOWN."""
    first, last = span
    begin, size, answer = constraints.spellings[s], _size(constraints, s), 0
    for start in range(first, last - size + 1):
        if same(constraints.tokens, begin, tokens, start, size):
            left = right = 0
            if start > first:
                left = _joined(constraints, 2 * s * constraints.vocabulary + tokens[start - 1])
            if start + size < last and left != 1:
                right = _joined(constraints, (2 * s + 1) * constraints.vocabulary + tokens[start + size])
            if left == 0 and right == 0:
                return 1
            if left != 1 and right != 1:
                answer = _UNKNOWN
    return answer


@compiled_inside
def _has_word(constraints: Constraints, w: int, tokens: Integers, span: tuple[int, int]) -> int:
    """The same of a forced word, in any of its spellings."""
    answer = 0
    for s in range(constraints.words[w], constraints.words[w + 1]):
        one = _occurs(constraints, s, tokens, span)
        if one == 1:
            return 1
        answer = min(answer, one)
    return answer


@compiled_inside
def _ends_with(constraints: Constraints, s: int, count: int, tokens: Integers, span: tuple[int, int]) -> bool:
    """Whether the last tokens are the first `count` of a spelling."""
    return span[1] - count >= span[0] and same(constraints.tokens, constraints.spellings[s], tokens, span[1] - count, count)


@compiled_inside
def met(constraints: Constraints, b: int, tokens: Integers, span: tuple[int, int]) -> int:
    """Tokens of forced words in tokens[span], including an incomplete word; `all_forced` where none is missing; _UNKNOWN."""
    number = begun = 0
    known = True
    for w in range(constraints.of[b * OWN + FORCED], constraints.of[b * OWN + FORCED + 1]):
        there, size = _has_word(constraints, w, tokens, span), _word_size(constraints, w)
        if there == 1:
            number += size
        elif there == _UNKNOWN:
            known = False
        else:
            for s in range(constraints.words[w], constraints.words[w + 1]):
                for count in range(1, _size(constraints, s)):
                    if _ends_with(constraints, s, count, tokens, span):
                        begun = max(begun, min(count, size - 1))
    return number + begun if known else _UNKNOWN


@compiled_inside
def note_wanted(search: Search, row: int, begin: int, log_total: float) -> None:
    """Keep the log-probabilities of the end, and of the tokens that begin or continue a missing word of a row."""
    constraints, rows, b = search.constraints, search.rows, search.rows.sentences[row]
    written = rows.places[row] * search.steps + search.rules.prompt
    span, to, end = (written, written + search.progress[LENGTH]), row * constraints.extra, (row + 1) * constraints.extra
    for i in range(to, end):
        rows.extra_values[i] = -np.inf
    rows.extra_tokens[to], number = EOS, 1
    for w in range(constraints.of[b * OWN + FORCED], constraints.of[b * OWN + FORCED + 1]):
        if _has_word(constraints, w, search.beams.tokens, span) != 1:
            for s in range(constraints.words[w], constraints.words[w + 1]):
                for count in range(_size(constraints, s)):
                    if _ends_with(constraints, s, count, search.beams.tokens, span):
                        rows.extra_tokens[to + number] = constraints.tokens[constraints.spellings[s] + count]
                        number += 1
    for i in range(to, to + number):
        rows.extra_values[i] = rows.logits[begin + place_of(search, b, rows.extra_tokens[i])] - np.float32(log_total)


@compiled_inside
def _ranks_before(search: Search, total: float, parent: int, token: int, other: int) -> bool:
    """Whether a candidate comes before another one: the larger total, then the earlier beam, then the lower token."""
    candidates = search.candidates
    if total != candidates.totals[other]:
        return total > candidates.totals[other]
    if parent != candidates.parents[other]:
        return parent < candidates.parents[other]
    return token < candidates.tokens[other]


@compiled_inside
def _add(search: Search, count: int, parent: int, token: int, log_prob: float, b: int) -> int:
    """Put a candidate into its place, unless it is there already; returns how many there are."""
    candidates = search.candidates
    value = np.float32(log_prob)
    total = search.beams.totals[b * search.rules.beams + parent] + value
    if not total > -np.inf:
        return count
    for i in range(count):
        if candidates.parents[i] == parent and candidates.tokens[i] == token:
            return count
    i = count
    while i > 0 and _ranks_before(search, total, parent, token, i - 1):
        candidates.parents[i], candidates.tokens[i] = candidates.parents[i - 1], candidates.tokens[i - 1]
        candidates.log_probs[i], candidates.totals[i] = candidates.log_probs[i - 1], candidates.totals[i - 1]
        i -= 1
    candidates.parents[i], candidates.tokens[i], candidates.log_probs[i], candidates.totals[i] = parent, token, value, total
    return count + 1


@compiled_inside
def _gather(search: Search, b: int, first: int, last: int) -> int:
    """List the candidates of a sentence with these rows: its columns; of each beam the two best, the end, and what forced words want."""
    columns, rows, count, extra = search.columns, search.rows, 0, search.constraints.extra
    for c in range(2 * b * search.rules.beams, 2 * b * search.rules.beams + columns.counts[b]):
        count = _add(search, count, columns.parents[c], columns.tokens[c], columns.log_probs[c], b)
    best = len(rows.best.values)
    for row in range(first, last):
        for i in range(row * best, row * best + min(2, best)):
            count = _add(search, count, rows.beams[row], rows.tokens[i], rows.values[i], b)
        for i in range(row * extra, (row + 1) * extra):
            count = _add(search, count, rows.beams[row], rows.extra_tokens[i], rows.extra_values[i], b)
    return count


@compiled_inside
def _find_banks(search: Search, b: int, count: int) -> bool:
    """The bank of each candidate; False where something is not known yet."""
    candidates, tokens, known = search.candidates, search.beams.tokens, True
    for i in range(count):
        written = search.beams.places[b * search.rules.beams + candidates.parents[i]] * search.steps + search.rules.prompt
        end = written + search.progress[LENGTH]
        if candidates.tokens[i] != EOS:
            tokens[end] = candidates.tokens[i]
            end += 1
        candidates.banks[i] = met(search.constraints, b, tokens, (written, end))
        known = known and candidates.banks[i] != _UNKNOWN
    return known


@compiled_inside
def _share_beams(search: Search, b: int, count: int) -> None:
    """Mark the candidates that go on, at most K, and those that end, at most K and only among the best of the last bank."""
    candidates, beams, last = search.candidates, search.rules.beams, all_forced(search.constraints, b)
    share, ends, going = beams // (last + 1), 0, 0
    for bank in range(last + 1):
        candidates.sizes[bank] = 0
    for i in range(count):
        bank = candidates.banks[i]
        candidates.chosen[i] = 0
        if candidates.tokens[i] == EOS:
            if bank == last and ends + candidates.sizes[last] < beams:
                candidates.chosen[i] = 2
                ends += 1
        else:
            if candidates.sizes[bank] < share + (beams % (last + 1) if bank == last else 0):
                candidates.chosen[i] = 1
                going += 1
            candidates.sizes[bank] += 1
    for bank in range(last, -1, -1):
        for i in range(count):
            if going < beams and candidates.tokens[i] != EOS and candidates.banks[i] == bank and candidates.chosen[i] == 0:
                candidates.chosen[i] = 1
                going += 1


@compiled_inside
def _write_columns(search: Search, b: int, count: int) -> None:
    """Make the candidates that were chosen the columns of a sentence: those that go on, then, from column K, those that end."""
    candidates, columns, beams = search.candidates, search.columns, search.rules.beams
    first = 2 * b * beams
    for column in range(first, first + 2 * beams):
        columns.parents[column], columns.tokens[column] = 0, EOS
        columns.log_probs[column] = columns.totals[column] = -np.inf
    going, ending = first, first + beams
    for i in range(count):
        if candidates.chosen[i] > 0:
            column = going if candidates.chosen[i] == 1 else ending
            columns.parents[column], columns.tokens[column] = candidates.parents[i], candidates.tokens[i]
            columns.log_probs[column], columns.totals[column] = candidates.log_probs[i], candidates.totals[i]
            going += 1 if candidates.chosen[i] == 1 else 0
            ending += 1 if candidates.chosen[i] == 2 else 0
    columns.counts[b] = 2 * beams


@compiled_inside
def _force(search: Search, b: int, span: tuple[int, int], sure: bool) -> bool:
    count = _gather(search, b, span[0], span[1])
    known = _find_banks(search, b, count)
    if sure:
        _share_beams(search, b, count)
        _write_columns(search, b, count)
    return known


@compiled_inside
def _force_all(search: Search, sure: bool) -> bool:
    """Choose the columns of all sentences with forced words, once all is known; returns whether it is."""
    rows, row, known = search.rows, 0, True
    while row < search.progress[ROWS]:
        b, first = rows.sentences[row], row
        while row < search.progress[ROWS] and rows.sentences[row] == b:
            row += 1
        if is_forced(search.constraints, b):
            known = _force(search, b, (first, row), sure) and known
    return known


@compiled_inside
def force_words(search: Search) -> bool:
    """Replace the columns of sentences with forced words. False, and nothing is replaced, where joins are to be told first."""
    search.constraints.questions[0] = 0
    if search.constraints.extra == 0:
        return True
    if not _force_all(search, False):
        return False
    return _force_all(search, True)
