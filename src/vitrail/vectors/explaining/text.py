"""The walk of a pair of words as text for a terminal."""

from collections.abc import Iterable

from vitrail.vectors.explaining.walk import Gloves, Missing, Product, Shown, Walk

MISSING: dict[Missing, str] = {
    "method": "these vectors do not say how they were trained, so no objective can be filled in",
    "outputs": "the output vectors are not here: train with --set keep_outputs=true, or give fastText's .bin",
    "counts": "the counts of the words are not here, which random draws and the tree need",
    "other": "the other word was not in the training text, so it has no output vector",
    "text": "how often the two stand near each other is not kept: --text with the training text counts it",
}


def walk_text(walk: Walk) -> str:
    """All steps, one below the other."""
    lines = [_title(walk), ""]
    if walk.glove is not None:
        lines += _glove(walk.glove, walk)
    elif walk.kind in ("negatives", "tree"):
        lines += _window(walk)
    lines += [f"cosine of the two words' vectors  {_number(walk.cosine)}", f"their dot product  {_product(walk.product)}"]
    return "\n".join([*lines, *(f"missing: {MISSING[one]}" for one in walk.missing)])


def _title(walk: Walk) -> str:
    how = {"negatives": f"negative sampling, {walk.negatives or 'some'} draws", "tree": "hierarchical softmax"}
    if walk.kind is None:
        return f"{walk.word}, {walk.other}"
    if walk.kind == "glove":
        return f"GloVe: the word {walk.word}, the context {walk.other}"
    window = ", ".join((walk.word, *walk.around))
    verb = "tell" if walk.around else "tells"
    kind = how[walk.kind] if walk.kind == "tree" or walk.targets else "negative sampling"
    return f"{'fastText, ' if walk.method == 'fasttext' else ''}{walk.architecture}, {kind}: {window} {verb} {walk.other}"


def _window(walk: Walk) -> list[str]:
    lines = ["1. The input h"]
    if len(walk.rows) > 1:
        which = "the word's own row and its n-grams'" if any(row.ngram for row in walk.rows) else "the words in the window"
        lines += [f"   h is the mean of {len(walk.rows)} rows: {which}"]
        shares = any(row.share is not None for row in walk.rows)
        header = ("length", *(("part of h·o",) if shares else ()), "row")
        rows = [
            (
                _number(row.length),
                *((_number(row.share),) if row.share is not None else ()),
                row.name if row.ngram else f"{row.name} (word)",
            )
            for row in walk.rows
        ]
        lines += _table(header, rows)
    if walk.hidden is not None:
        lines.append(f"   h = {_shown(walk.hidden)}")
    if walk.kind == "negatives" and walk.targets:
        lines += _negatives(walk)
    elif walk.targets:
        lines += _turns(walk)
    return [*lines, ""]


def _negatives(walk: Walk) -> list[str]:
    true, *drawn = walk.targets
    assert walk.output is not None and walk.score is not None and walk.expected is not None and walk.loss is not None
    header = ("count", "p", "h·o", "s(h·o)", "-ln(1 - s)", "pull", "word")
    rows = [
        (
            f"{one.count or 0:,}",
            _number(one.drawn or 0.0),
            _number(one.score),
            _number(one.sigmoid),
            _number(one.loss),
            _number(one.pull),
            one.name or "",
        )
        for one in drawn
    ]
    return [
        f"2. The output vector of {walk.other}",
        f"   o = {_shown(walk.output)}",
        f"   h·o = {_product(walk.score)}",
        "3. How likely the pair is of the text, and not a random one: s(x) = 1 / (1 + e^-x)",
        f"   s({_number(true.score)}) = {_number(true.sigmoid)}",
        f"   -ln {_number(true.sigmoid)} = {_number(true.loss)}",
        f"4. Words drawn at random, p = count^{walk.noise_power:g} / sum; the likeliest:",
        *_table(header, rows),
        f"   {walk.negatives} draws cost on average {walk.negatives} · sum of p · -ln(1 - s) = {_number(walk.expected)}",
        f"5. The loss: {_number(true.loss)} + {_number(walk.expected)} = {_number(walk.loss)}",
        f"6. A step moves o by rate · (1 - s) · h = rate · {_number(true.pull)} · h, and each row of h by rate · {_number(true.pull)} · o;",
        "   drawn words are pushed away in the same way, by their pull",
    ]


def _turns(walk: Walk) -> list[str]:
    assert walk.loss is not None and walk.probability is not None
    rows = [
        (str(one.label), _number(one.score), _number(one.sigmoid if one.label else 1 - one.sigmoid), _number(one.loss), str(one.row))
        for one in walk.targets
    ]
    return [
        f"2. The way through the Huffman tree to {walk.other}: {len(rows)} turns, each with an output vector o of its own",
        "   p = s(h·o) where the way turns to 1, 1 - s(h·o) where it turns to 0; s(x) = 1 / (1 + e^-x)",
        *_table(("turn", "h·o", "p", "-ln p", "node"), rows),
        f"3. P({walk.other} | h) = the product of all p = {_number(walk.probability)}",
        f"4. The loss: -ln {_number(walk.probability)} = {_number(walk.loss)}",
    ]


def _glove(found: Gloves, walk: Walk) -> list[str]:
    biases = f"{_number(found.bias)} + {_bracket(found.context_bias)}"
    lines = [
        f"1. The vector w of the word {walk.word}, and the vector u of the context {walk.other}",
        f"   w = {_shown(found.word)}",
        f"   u = {_shown(found.context)}",
        f"   w·u = {_product(found.product)}",
        "2. With the biases b and c of both",
        f"   w·u + b + c = {_number(found.product.value)} + {biases} = {_number(found.predicted)}",
    ]
    if found.x is None:
        return [*lines, f"   which is to be ln X: the vectors take X for e^{_number(found.predicted)}", ""]
    lines += [f"3. How often they stand at most {found.window} words from each other, each time by 1 / distance", f"   X = {found.x:,.4f}"]
    if found.log_x is None or found.error is None or found.weight is None or found.loss is None:
        return [*lines, "   GloVe learns from pairs that there are, and so nothing from this one", ""]
    return [
        *lines,
        f"   f(X) = min(1, (X / {found.x_max:g})^{found.alpha:g}) = {_number(found.weight)}",
        "4. The error and the loss",
        f"   d = w·u + b + c - ln X = {_number(found.predicted)} - {_bracket(found.log_x)} = {_number(found.error)}",
        f"   f(X) d² = {_number(found.loss)}",
        "",
    ]


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Numbers, then a name: how wide a terminal draws the letters of a script then moves no column."""
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header) - 1)]
    return ["   " + "  ".join([*map(str.rjust, row[:-1], widths), row[-1]]) for row in cells]


def _shown(vector: Shown) -> str:
    more = f" ... ({vector.size} numbers, length {_number(vector.length)})" if vector.size > len(vector.first) else ""
    return " ".join(map(_number, vector.first)) + more


def _product(product: Product) -> str:
    terms = [f"{_bracket(one)}·{_bracket(other)}" for one, other in product.terms]
    terms += [f"{_bracket(product.rest)} of {product.others} more"] if product.others else []
    return f"{' + '.join(terms)} = {_number(product.value)}"


def _number(value: float) -> str:
    """Four digits behind the point; what is smaller than they can tell, by its power of ten."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.3g}"


def _bracket(value: float) -> str:
    return f"({_number(value)})" if value < 0 else _number(value)
