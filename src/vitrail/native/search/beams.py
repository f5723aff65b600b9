"""Beam search and sampling over one batch in compiled code, by the rules of `vitrail.decode.search.beams`; one beam is greedy search.

Every sentence has K beams, best first. A step scores the next tokens of all beams and chooses the 2K best columns of each sentence; a
column is a beam and a token. It keeps what ended, and makes the first K columns that did not end the next beams. When sampling, each of K
samples draws a column of its own.

The search knows no model. A program composes it with one, as long as `conclude` answers ONWARD:

    copy what the model remembers, from `copies.sources` to `copies.targets`
    rows = begin(search, position)                    the live hypotheses: their places and last tokens; none: it is done
    read one token of each row, at this position
    for groups of at most GROUP rows: write their logits, and rate(search, width, first, some)
    conclude(search)                                  what ended is kept; the next beams

Where it answers JOINS, TEXTS or WATCH, Python tells what is asked, and `conclude` goes on.
"""

import numpy as np

from vitrail.native.compiled import compiled_inside
from vitrail.native.search.constraints import allow, prefix_length
from vitrail.native.search.forcing import all_forced, force_words, is_forced, met, note_wanted
from vitrail.native.search.sampling import draw
from vitrail.native.search.selection import best_tokens, log_sum
from vitrail.native.search.state import (
    AT_STOP,
    CHOOSE,
    CUT,
    ENDED,
    EOS,
    FINE,
    FORCE,
    JOINS,
    LENGTH,
    LOOK,
    NO_POSITION,
    NOT_A_NUMBER,
    ONWARD,
    PHASE,
    ROWS,
    SETTLE,
    STATUS,
    STOPPED,
    TEXTS,
    WATCH,
    Rules,
    Search,
)

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
    """The rows of a step: how many there are; 0 where all sentences are done, or the search cannot go on.

    Args: position: of their last tokens, from 0 for the first of the prompt.
    """
    rows = _gather(search, position)
    if search.progress[STATUS] != FINE:
        rows = 0
    elif search.stop[0] != 0:
        search.progress[STATUS] = STOPPED
        rows = 0
    elif rows > 0 and position >= search.positions:
        search.progress[STATUS] = NO_POSITION
        rows = 0
    search.progress[ROWS] = rows
    return rows


@compiled_inside
def _choose_best(search: Search, first: int, last: int) -> int:
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
def _rate(search: Search, width: int, row: int, begin: int) -> None:
    """The best allowed tokens of a row whose logits begin at a place. What is not allowed counts in the sum all the same."""
    rows, constraints = search.rows, search.constraints
    log_total = log_sum(rows.logits, begin, width)
    if not np.abs(log_total) < 1e30:
        search.progress[STATUS] = NOT_A_NUMBER
    allow(search, row, begin, width)
    if search.drawing.samples == 1:
        draw(search, row, begin, width, log_total)
        return
    if constraints.extra > 0 and is_forced(constraints, rows.sentences[row]):
        note_wanted(search, row, begin, log_total)
    best_tokens(rows.logits, begin, width, rows.best)
    count = len(rows.best.values)
    for i in range(count):
        rows.values[row * count + i] = rows.best.values[i] - np.float32(log_total)
        rows.tokens[row * count + i] = rows.best.tokens[i]


@compiled_inside
def rate(search: Search, width: int, first: int, count: int) -> None:
    """The best next tokens of the rows that begin at `first`, whose logits [count, width] are in `search.rows.logits`."""
    for r in range(count):
        _rate(search, width, first + r, r * width)


@compiled_inside
def _empty_columns(search: Search) -> None:
    """No columns yet, when sampling: those of samples that have ended stay so."""
    columns, samples = search.columns, search.rules.beams
    for b in range(len(search.limits.caps)):
        columns.counts[b] = samples
        for column in range(2 * b * samples, 2 * b * samples + samples):
            columns.tokens[column], columns.parents[column] = EOS, 0
            columns.log_probs[column] = columns.totals[column] = -np.inf


@compiled_inside
def _choose(search: Search) -> None:
    """The columns of each sentence."""
    row = 0
    while row < search.progress[ROWS]:
        row = _choose_best(search, row, search.progress[ROWS])


@compiled_inside
def _write(search: Search, at: int, place: int, column: int) -> None:
    """Copy what a hypothesis has written, and the token of its last column."""
    length = search.progress[LENGTH]
    finished, steps = search.finished, search.steps
    to, source = at * steps, place * steps + search.rules.prompt
    for i in range(length):
        finished.tokens[to + i] = search.beams.tokens[source + i]
        finished.token_log_probs[to + i] = search.beams.log_probs[source + i]
    if column >= 0:
        finished.tokens[to + length] = search.columns.tokens[column]
        finished.token_log_probs[to + length] = search.columns.log_probs[column]


@compiled_inside
def _before(search: Search, b: int, slot: int, grade: int, points: float) -> bool:
    """Whether the hypothesis in a slot ranks no lower than one with these."""
    at = b * (search.rules.beams + 1) + slot
    if search.finished.grades[at] != grade:
        return search.finished.grades[at] < grade
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
def _grade(search: Search, b: int, place: int, column: int) -> int:
    """Of a truncated hypothesis: 1 where it satisfies its constraints, else 2. Forbidden words do not occur."""
    constraints = search.constraints
    written = place * search.steps + search.rules.prompt
    end = written + search.progress[LENGTH]
    if column >= 0:
        search.beams.tokens[end] = search.columns.tokens[column]
        end += 1
    fits = end - written >= prefix_length(constraints, b)
    if fits and is_forced(constraints, b):
        fits = met(constraints, b, search.beams.tokens, (written, end)) == all_forced(constraints, b)
    return 1 if fits else 2


@compiled_inside
def _full(search: Search, b: int) -> bool:
    """Whether as many hypotheses have ended as end a search without forced words."""
    return search.finished.ends[b] >= search.rules.beams and not is_forced(search.constraints, b)


@compiled_inside
def _keep(search: Search, b: int, where: tuple[int, int, int], log_probability: float, how: int) -> None:
    """Put a hypothesis into the list of its sentence: complete ones first, then those that satisfy their constraints, then by score.

    Args: where: the memory of its parent, its place among those of the step, and its column (-1: the parent itself). how: it was finished.
    """
    finished, beams, (place, number, column) = search.finished, search.rules.beams, where
    length = search.progress[LENGTH] + (0 if how == ENDED or column < 0 else 1)
    points = score(search.rules, log_probability, length + (1 if how == ENDED else 0))
    first, count, grade = b * (beams + 1), finished.counts[b], _grade(search, b, place, column) if how == CUT else 0
    if how != CUT and count > 0 and points > finished.scores[first + finished.order[first]] and _full(search, b):
        return  # It would only fill up the list: the best one is found without filling up.
    text = search.columns.texts[column if column >= 0 else 2 * b * beams + number]
    if text >= 0:
        twin = 0
        while twin < count and finished.texts[first + finished.order[first + twin]] != text:
            twin += 1
        if twin < count:
            if _before(search, b, finished.order[first + twin], grade, points):
                return
            _remove(search, b, twin)
            count -= 1
    slot, rank = finished.order[first + count], count
    while rank > 0 and not _before(search, b, finished.order[first + rank - 1], grade, points):
        finished.order[first + rank] = finished.order[first + rank - 1]
        rank -= 1
    finished.order[first + rank] = slot
    finished.counts[b] = min(count + 1, beams)
    at = first + slot
    finished.scores[at], finished.log_probs[at], finished.grades[at] = points, log_probability, grade
    finished.lengths[at], finished.columns[at], finished.texts[at] = length, number, text
    finished.stopped[at] = 1 if how == AT_STOP else 0
    _write(search, at, place, column)


@compiled_inside
def _enough(search: Search, b: int) -> bool:
    """Whether K hypotheses have ended, and n of them differ."""
    return _full(search, b) and search.finished.counts[b] >= min(search.rules.n_best, search.rules.beams)


@compiled_inside
def _may_be_kept(search: Search, b: int, c: int) -> bool:
    """Whether a column ended and is among the best K: with forced words, those that end are after the first K."""
    column = 2 * b * search.rules.beams + c
    ended = search.columns.tokens[column] == EOS and search.columns.totals[column] > -np.inf
    return ended and (c < search.rules.beams or is_forced(search.constraints, b))


@compiled_inside
def _keep_ended(search: Search, b: int) -> None:
    """Keep the hypotheses that ended, the best K at most."""
    columns, finished, beams = search.columns, search.finished, search.rules.beams
    for c in range(columns.counts[b]):
        if _may_be_kept(search, b, c) and not _enough(search, b):
            column = 2 * b * beams + c
            place = search.beams.places[b * beams + columns.parents[column]]
            before = search.beams.totals[b * beams + columns.parents[column]]
            _keep(search, b, (place, c, column), np.float64(before) + np.float64(columns.log_probs[column]), ENDED)
            finished.ends[b] += 1


@compiled_inside
def _keep_stopped(search: Search, b: int) -> None:
    """Keep the hypotheses that stop, of the first K that did not end."""
    columns, finished, beams, going = search.columns, search.finished, search.rules.beams, 0
    for c in range(columns.counts[b]):
        column = 2 * b * beams + c
        if columns.tokens[column] != EOS and columns.totals[column] > -np.inf and going < beams:
            if columns.stops[column] == 1 and not _enough(search, b):
                place = search.beams.places[b * beams + columns.parents[column]]
                number = c if search.drawing.samples == 1 else going
                _keep(search, b, (place, number, column), np.float64(columns.totals[column]), AT_STOP)
                finished.ends[b] += 1
            going += 1


@compiled_inside
def _live_columns(search: Search, b: int) -> int:
    """List the first K columns that did not end, without those that stop; returns how many there are."""
    columns, beams, live, going = search.columns, search.rules.beams, 0, 0
    for c in range(columns.counts[b]):
        column = 2 * b * beams + c
        if columns.tokens[column] != EOS and columns.totals[column] > -np.inf and going < beams:
            if columns.stops[column] == 0:
                search.children[live], search.children[3 * beams + live] = c, going
                live += 1
            going += 1
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
def _close(search: Search, b: int, live: int) -> None:
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
                _keep(search, b, (search.beams.places[b * beams + j], j, -1), np.float64(total), CUT)
    elif search.progress[LENGTH] + 1 >= cap:
        finished.done[b] = 1
        for i in range(live):
            column = 2 * b * beams + search.children[i]
            place = search.beams.places[b * beams + columns.parents[column]]
            number = search.children[i if search.drawing.samples == 1 else 3 * beams + i]
            _keep(search, b, (place, number, column), np.float64(columns.totals[column]), CUT)


@compiled_inside
def _copy(search: Search, source: int, target: int) -> None:
    """Copy the tokens of a hypothesis to another place, and list the copy for the model."""
    copies, beams, steps = search.copies, search.beams, search.steps
    for i in range(search.rules.prompt + search.progress[LENGTH]):
        beams.tokens[target * steps + i] = beams.tokens[source * steps + i]
        beams.log_probs[target * steps + i] = beams.log_probs[source * steps + i]
    count = copies.number[0]
    copies.sources[count], copies.targets[count] = source, target
    copies.number[0] = count + 1


@compiled_inside
def _follow(search: Search, b: int, live: int) -> None:
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
            _copy(search, search.beams.places[first + parent], first + free)
    for i in range(beams):
        search.beams.totals[first + i] = -np.inf
    end = search.rules.prompt + search.progress[LENGTH]
    for i in range(live):
        column, place = 2 * first + search.children[i], search.children[places + i]
        beam = first + (search.children[i] if search.drawing.samples == 1 else i)
        search.beams.totals[beam], search.beams.places[beam] = columns.totals[column], place
        search.beams.tokens[place * search.steps + end] = columns.tokens[column]
        search.beams.log_probs[place * search.steps + end] = columns.log_probs[column]


@compiled_inside
def _settle(search: Search) -> None:
    """Keep what ended, make the next beams, list the copies that they need, and decide which sentences are done."""
    search.copies.number[0] = 0
    for b in range(len(search.limits.caps)):
        if search.finished.done[b] == 0:
            _keep_ended(search, b)
            if search.rules.watched == 1:
                _keep_stopped(search, b)
            live = _live_columns(search, b)
            _close(search, b, live)
            if search.finished.done[b] == 0:
                _follow(search, b, live)


@compiled_inside
def _needs_texts(search: Search) -> bool:
    """Whether a hypothesis may be kept at this step, where equal texts count once."""
    if search.rules.spelled == 0:
        return False
    for b in range(len(search.limits.caps)):
        if search.finished.done[b] == 0:
            dead = True
            for c in range(search.columns.counts[b]):
                if _may_be_kept(search, b, c) or search.columns.stops[2 * b * search.rules.beams + c] == 1:
                    return True
                dead = dead and not search.columns.totals[2 * b * search.rules.beams + c] > -np.inf
            if dead or search.progress[LENGTH] + 1 >= search.limits.caps[b]:
                return True
    return False


@compiled_inside
def conclude(search: Search) -> int:
    """What follows the scores of a step, from where it was left: ONWARD; or JOINS, WATCH or TEXTS, where Python is to tell something."""
    progress = search.progress
    if progress[PHASE] == CHOOSE:
        if search.drawing.samples == 0:
            _choose(search)
        progress[PHASE] = FORCE
    if progress[PHASE] == FORCE:
        if not force_words(search):
            return JOINS
        progress[PHASE] = LOOK
        if search.rules.watched == 1:
            return WATCH
    if progress[PHASE] == LOOK:
        progress[PHASE] = SETTLE
        if _needs_texts(search):
            return TEXTS
    _settle(search)
    if search.drawing.samples == 1:
        _empty_columns(search)
    progress[PHASE] = CHOOSE
    progress[LENGTH] += 1
    return ONWARD
