"""Beam search over one batch in compiled code, by the rules of `vitrail.decode.search.beams`; one beam is greedy search.

Every sentence has K beams, best first. A step scores the next tokens of all beams and chooses the 2K best columns of each sentence; a
column is a beam and a token. It keeps what ended, and makes the first K columns that did not end the next beams.

The search knows no model. A program composes a step of it and of its model, until `begin` finds no row:

    rows = begin(search, position)                            the live hypotheses: their places and last tokens
    (the model reads one token of each row)
    for groups of at most GROUP rows:
        (the model writes their logits)
        rate(search, width, first, some, position)            the best next tokens of each row
    choose(search, rows)                                      the columns of each sentence
    settle(search, position)                                  what ended is kept; the next beams; the copies to make
    (the model copies what it remembers: `search.copies`)

Where equal texts count once, Python says after each step which columns have equal texts, between `choose` and `settle`.
"""

import numpy as np

from vitrail.native.compiled import compiled_inside
from vitrail.native.search.selection import best_tokens, block_repeats, log_sum
from vitrail.native.search.state import EOS, FINE, NO_POSITION, NOT_A_NUMBER, PAD, SOS, UNK, Rules, Search

# pyright: reportArgumentType=false, reportReturnType=false
# (an element of an array has no known type)


@compiled_inside
def score(rules: Rules, log_probability: float, length: int) -> float:
    """log p / ((5 + length) / 6)^alpha."""
    return log_probability / ((5 + length) / 6) ** rules.length_penalty


@compiled_inside
def _gather(search: Search, position: int) -> int:
    """List the live beams; returns how many there are."""
    rows, beams, count = search.rows, search.rules.beams, 0
    for b in range(len(search.limits.caps)):
        if search.finished.done[b] == 0:
            for j in range(beams):
                if search.beams.totals[b * beams + j] > -np.inf:
                    place = search.beams.places[b * beams + j]
                    rows.sentences[count], rows.beams[count], rows.places[count] = b, j, place
                    rows.last[count] = search.beams.tokens[place * search.steps + position]
                    count += 1
    return count


@compiled_inside
def begin(search: Search, position: int) -> int:
    """The rows of a step: how many there are; 0 where all sentences are done, or the search cannot go on."""
    rows = _gather(search, position)
    if rows == 0 or search.status[0] != FINE:
        return 0
    if position >= search.positions:
        search.status[0] = NO_POSITION
        return 0
    return rows


@compiled_inside
def _choose(search: Search, first: int, last: int) -> int:
    """The 2K best columns of the sentence whose rows begin at `first`, the earlier beam first; returns the first row of the next one."""
    rows, columns, beams = search.rows, search.columns, search.rules.beams
    b, count, end = rows.sentences[first], len(rows.best.values), first
    while end < last and rows.sentences[end] == b:
        search.children[end - first] = 0
        end += 1
    found = 0
    while found < 2 * beams:
        chosen, best = -1, np.float32(-np.inf)
        for row in range(first, end):
            taken = search.children[row - first]
            if taken < count:
                total = search.beams.totals[b * beams + rows.beams[row]] + rows.values[row * count + taken]
                if total > best:
                    chosen, best = row, total
        if chosen < 0:
            break
        at, column = chosen * count + search.children[chosen - first], 2 * b * beams + found
        search.children[chosen - first] += 1
        columns.parents[column], columns.tokens[column] = rows.beams[chosen], rows.tokens[at]
        columns.log_probs[column], columns.totals[column] = rows.values[at], best
        found += 1
    columns.counts[b] = found
    return end


@compiled_inside
def _rate(search: Search, vocabulary: int, row: int, place: int, position: int) -> None:
    """The best allowed tokens of a row whose logits are at a place of the group. What is not allowed counts in the sum all the same."""
    rules, rows = search.rules, search.rows
    logits, begin, b = rows.logits, place * vocabulary, rows.sentences[row]
    log_total = log_sum(logits, begin, vocabulary)
    if not np.abs(log_total) < 1e30:
        search.status[0] = NOT_A_NUMBER
    logits[begin + PAD] = logits[begin + SOS] = -np.inf
    if rules.allow_unknown == 0:
        logits[begin + UNK] = -np.inf
    if position < search.limits.floors[b]:
        logits[begin + EOS] = -np.inf
    if rules.repeat_ngram > 0 and search.limits.guards[b] == 1:
        first = rows.places[row] * search.steps
        block_repeats(logits, begin, search.beams.tokens, (first, first + position + 1), rules.repeat_ngram, rules.max_repeats)
    best_tokens(logits, begin, vocabulary, rows.best)
    count = len(rows.best.values)
    for i in range(count):
        rows.values[row * count + i] = rows.best.values[i] - np.float32(log_total)
        rows.tokens[row * count + i] = rows.best.tokens[i]


@compiled_inside
def rate(search: Search, width: int, first: int, count: int, position: int) -> None:
    """The best next tokens of the rows that begin at `first`, whose logits [count, width] are in `search.rows.logits`."""
    for r in range(count):
        _rate(search, width, first + r, r, position)


@compiled_inside
def choose(search: Search, rows: int) -> None:
    """The columns of each sentence."""
    row = 0
    while row < rows:
        row = _choose(search, row, rows)


@compiled_inside
def _write(search: Search, at: int, place: int, column: int, position: int) -> None:
    """Copy the tokens of a hypothesis, and that of its last column, without the start."""
    finished, steps = search.finished, search.steps
    to, source = at * steps, place * steps + 1
    for i in range(position):
        finished.tokens[to + i] = search.beams.tokens[source + i]
        finished.token_log_probs[to + i] = search.beams.log_probs[source + i]
    if column >= 0:
        finished.tokens[to + position] = search.columns.tokens[column]
        finished.token_log_probs[to + position] = search.columns.log_probs[column]


@compiled_inside
def _before(search: Search, b: int, slot: int, truncated: int, points: float) -> bool:
    """Whether the hypothesis in a slot ranks no lower than one with these: complete ones first, then by score."""
    at = b * (search.rules.beams + 1) + slot
    if search.finished.truncated[at] != truncated:
        return search.finished.truncated[at] < truncated
    return search.finished.scores[at] >= points


@compiled_inside
def _remove(search: Search, b: int, rank: int) -> None:
    """Take a hypothesis out of the list; its slot is free."""
    finished, first = search.finished, b * (search.rules.beams + 1)
    slot, last = finished.order[first + rank], finished.counts[b] - 1
    for i in range(rank, last):
        finished.order[first + i] = finished.order[first + i + 1]
    finished.order[first + last] = slot
    finished.counts[b] = last


@compiled_inside
def _keep(search: Search, b: int, where: tuple[int, int, int], position: int, log_probability: float, ended: bool) -> None:
    """Put a hypothesis into the list of its sentence.

    Args: where: the memory of its parent, its place among those of the step, and its column (-1: the parent itself).
    """
    finished, beams, (place, number, column) = search.finished, search.rules.beams, where
    length = position + (0 if ended or column < 0 else 1)
    points = score(search.rules, log_probability, length + (1 if ended else 0))
    first, count, truncated = b * (beams + 1), finished.counts[b], 0 if ended else 1
    if ended and finished.ends[b] >= beams and count > 0 and points > finished.scores[first + finished.order[first]]:
        return  # It would only fill up the list: the best one is found without filling up.
    text = search.columns.texts[column] if column >= 0 else -1
    if text >= 0:
        twin = 0
        while twin < count and finished.texts[first + finished.order[first + twin]] != text:
            twin += 1
        if twin < count:
            if _before(search, b, finished.order[first + twin], truncated, points):
                return
            _remove(search, b, twin)
            count -= 1
    slot, rank = finished.order[first + count], count
    while rank > 0 and not _before(search, b, finished.order[first + rank - 1], truncated, points):
        finished.order[first + rank] = finished.order[first + rank - 1]
        rank -= 1
    finished.order[first + rank] = slot
    finished.counts[b] = min(count + 1, beams)
    at = first + slot
    finished.scores[at], finished.log_probs[at], finished.truncated[at] = points, log_probability, truncated
    finished.lengths[at], finished.columns[at], finished.texts[at] = length, number, text
    _write(search, at, place, column, position)


@compiled_inside
def _enough(search: Search, b: int) -> bool:
    """Whether K hypotheses have ended, and n of them differ."""
    rules, finished = search.rules, search.finished
    return finished.ends[b] >= rules.beams and finished.counts[b] >= min(rules.n_best, rules.beams)


@compiled_inside
def _keep_ended(search: Search, b: int, position: int) -> None:
    """Keep the hypotheses that ended, the best K at most."""
    columns, finished, beams = search.columns, search.finished, search.rules.beams
    for c in range(min(beams, columns.counts[b])):
        column = 2 * b * beams + c
        if columns.tokens[column] == EOS and not _enough(search, b):
            place = search.beams.places[b * beams + columns.parents[column]]
            before = search.beams.totals[b * beams + columns.parents[column]]
            _keep(search, b, (place, c, column), position, np.float64(before) + np.float64(columns.log_probs[column]), True)
            finished.ends[b] += 1


@compiled_inside
def _live_columns(search: Search, b: int) -> int:
    """List the first K columns that did not end; returns how many there are."""
    columns, beams, live = search.columns, search.rules.beams, 0
    for c in range(columns.counts[b]):
        if columns.tokens[2 * b * beams + c] != EOS and live < beams:
            search.children[live] = c
            live += 1
    return live


@compiled_inside
def _hopeless(search: Search, b: int, live: int, top: float) -> bool:
    """Whether no live hypothesis can enter the n-best list."""
    rules, finished = search.rules, search.finished
    if live == 0:
        return True
    if rules.early_stop == 0 or finished.counts[b] < rules.n_best:
        return False
    worst = finished.order[b * (rules.beams + 1) + rules.n_best - 1]
    return score(rules, np.float64(top), search.limits.caps[b]) <= finished.scores[b * (rules.beams + 1) + worst]


@compiled_inside
def _close(search: Search, b: int, live: int, position: int) -> None:
    """Decide whether a sentence is done; at its limit of length, keep what is live."""
    columns, finished, beams, cap = search.columns, search.finished, search.rules.beams, search.limits.caps[b]
    top = np.float32(-np.inf)
    for i in range(live):
        top = max(top, columns.totals[2 * b * beams + search.children[i]])
    if _enough(search, b) or (finished.counts[b] > 0 and _hopeless(search, b, live, top)):
        finished.done[b] = 1
    elif live == 0:
        # No token is allowed: keep the hypotheses from before this step.
        finished.done[b] = 1
        for j in range(beams):
            total = search.beams.totals[b * beams + j]
            if total > -np.inf:
                _keep(search, b, (search.beams.places[b * beams + j], j, -1), position, np.float64(total), False)
    elif position + 1 >= cap:
        finished.done[b] = 1
        for i in range(live):
            column = 2 * b * beams + search.children[i]
            place = search.beams.places[b * beams + columns.parents[column]]
            _keep(search, b, (place, i, column), position, np.float64(columns.totals[column]), False)


@compiled_inside
def _copy(search: Search, source: int, target: int, position: int) -> None:
    """Copy the tokens of a hypothesis to another place, and list the copy for the model."""
    copies, beams, steps = search.copies, search.beams, search.steps
    for i in range(position + 1):
        beams.tokens[target * steps + i] = beams.tokens[source * steps + i]
        beams.log_probs[target * steps + i] = beams.log_probs[source * steps + i]
    count = copies.number[0]
    copies.sources[count], copies.targets[count] = source, target
    copies.number[0] = count + 1


@compiled_inside
def _follow(search: Search, b: int, live: int, position: int) -> None:
    """Make the live columns the next beams. The first child of a beam stays in its memory; the others get copies in free memory."""
    columns, beams, first = search.columns, search.rules.beams, b * search.rules.beams
    taken, places = beams, 2 * beams
    for j in range(beams):
        search.children[taken + j] = 0
    for i in range(live):
        parent = columns.parents[2 * first + search.children[i]]
        place = search.beams.places[first + parent]
        if search.children[taken + place - first] == 0:
            search.children[taken + place - first] = 1
            search.children[places + i] = place
        else:
            search.children[places + i] = -1
    free = 0
    for i in range(live):
        if search.children[places + i] < 0:
            while search.children[taken + free] == 1:
                free += 1
            search.children[taken + free] = 1
            search.children[places + i] = first + free
            parent = columns.parents[2 * first + search.children[i]]
            _copy(search, search.beams.places[first + parent], first + free, position)
    for i in range(beams):
        search.beams.totals[first + i] = -np.inf
    for i in range(live):
        column, place = 2 * first + search.children[i], search.children[places + i]
        search.beams.totals[first + i], search.beams.places[first + i] = columns.totals[column], place
        search.beams.tokens[place * search.steps + position + 1] = columns.tokens[column]
        search.beams.log_probs[place * search.steps + position + 1] = columns.log_probs[column]


@compiled_inside
def settle(search: Search, position: int) -> None:
    """Keep what ended, make the next beams, list the copies that they need, and decide which sentences are done."""
    search.copies.number[0] = 0
    for b in range(len(search.limits.caps)):
        if search.finished.done[b] == 0:
            _keep_ended(search, b, position)
            live = _live_columns(search, b)
            _close(search, b, live, position)
            if search.finished.done[b] == 0:
                _follow(search, b, live, position)
