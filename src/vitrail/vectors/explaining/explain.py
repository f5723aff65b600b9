"""Fills in the objective of word vectors for two words, from the vectors alone, in double precision.

The equations are those of `steps.kernels` and `steps.glove`, computed anew without compiled code.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vitrail.errors import UsageError
from vitrail.vectors.explaining.objective import Objective, objective_of
from vitrail.vectors.explaining.walk import Gloves, InputRow, Missing, Numbers, Product, Shown, Target, Walk
from vitrail.vectors.huffman import fasttext_tree, huffman_tree
from vitrail.vectors.ngrams import LINE_END, bucket_of, ngrams_of
from vitrail.vectors.word_vectors import Outputs, WordVectors

DRAWS = 6
"""The likeliest draws that are shown."""
_BLOCK = 1 << 16


def explain_pair(vectors: WordVectors, word: str, other: str, *, around: Sequence[str] = (), x: float | None = None) -> Walk:
    """The walk for a word that is to tell another one: for GloVe, for a word and a context.

    Args:   around: of CBOW, what stands in the window beside the word. x: of GloVe, `counting.near_counts`.
    Raises: UsageError for a word without a vector, and for `around` without CBOW.
    Cost:   with negative sampling, a product with every output vector.
    """
    word, other, *beside = (vectors.form_of(one) for one in (word, other, *around))
    objective = objective_of(vectors.facts)
    if beside and (objective is None or objective.architecture != "cbow"):
        raise UsageError(f"words around: {', '.join(beside)}", expected="vectors of a CBOW training, whose input is the mean of a window")
    one, two = (vectors.vector(name).astype(np.float64) for name in (word, other))
    lengths = float(np.linalg.norm(one) * np.linalg.norm(two))
    plain = Walk(
        word=word,
        other=other,
        around=tuple(beside),
        kind=None if objective is None else objective.kind,
        method=None if objective is None else objective.method,
        architecture=None if objective is None else objective.architecture,
        cosine=float(one @ two) / lengths if lengths else 0.0,
        product=Product.of(one, two),
        missing=_missing(vectors, objective, other),
    )
    if objective is None:
        return plain
    if objective.kind == "glove":
        return _glove(plain, vectors, objective, x=x)
    return _by_window(plain, vectors, objective)


def _missing(vectors: WordVectors, objective: Objective | None, other: str) -> tuple[Missing, ...]:
    if objective is None:
        return ("method",)
    found: list[Missing] = []
    if vectors.outputs is None:
        found.append("outputs")
    elif other not in vectors:
        found.append("other")
    if vectors.counts is None and objective.kind != "glove":
        found.append("counts")
    return tuple(found)


# ---- Word2Vec and fastText ---------------------------------------------------------------------------------------------------------


class _Input(NamedTuple):
    """Rows of the input table and what they are."""

    tables: Numbers
    """[rows, dimension]"""
    names: list[tuple[str, str, bool, int]]
    """For each: name, word, whether it is an n-gram, row."""


def _by_window(walk: Walk, vectors: WordVectors, objective: Objective) -> Walk:
    """The walk of a word, or a window, that tells the other word."""
    parts = [_rows_of(vectors, name) for name in (walk.word, *walk.around)]
    table = np.concatenate([part.tables for part in parts])
    names = [name for part in parts for name in part.names]
    hidden = table.mean(axis=0)
    row, outputs = vectors.index.get(walk.other), vectors.outputs
    output = None if outputs is None or row is None else outputs.vectors[row].astype(np.float64)
    by_word = output if objective.kind == "negatives" else None
    rows = tuple(
        InputRow(
            name=name,
            of=of,
            ngram=ngram,
            row=place,
            length=float(np.linalg.norm(one)),
            share=None if by_word is None else float(one @ by_word) / len(table),
        )
        for one, (name, of, ngram, place) in zip(table, names, strict=True)
    )
    found = walk.model_copy(update={"hidden": Shown.of(hidden), "rows": rows})
    if outputs is None or row is None or output is None or vectors.counts is None:
        return found
    if objective.kind == "tree":
        return _tree(found, vectors, objective, outputs=outputs, hidden=hidden)
    return _sampled(found, vectors, objective, outputs=outputs, hidden=hidden)


def _rows_of(vectors: WordVectors, word: str) -> _Input:
    """The input rows of a word: itself where it was seen, and its n-grams."""
    index, ngrams = vectors.index.get(word), vectors.ngrams
    parts: list[Numbers] = []
    names: list[tuple[str, str, bool, int]] = []
    grams = [] if ngrams is None or (word == LINE_END and index is not None) else ngrams_of(word, ngrams.minn, ngrams.maxn)
    for gram in grams:
        assert ngrams is not None
        row = bucket_of(gram, ngrams.buckets)
        parts.append(ngrams.vectors[row].astype(np.float64))
        names.append((gram.decode("utf-8", "surrogatepass"), word, True, row))
    if index is not None:
        # The vector of a word is the mean of its own row and those of its n-grams.
        own = vectors.matrix[index].astype(np.float64) * (len(parts) + 1) - sum(parts, np.zeros(vectors.dimension))
        parts, names = [own, *parts], [(word, word, False, index), *names]
    return _Input(np.stack(parts), names)


def _target(row: int, label: int, score: float, *, name: str | None = None, count: int | None = None, drawn: float | None = None) -> Target:
    sigmoid = _sigmoid(score)
    return Target(
        name=name,
        row=row,
        count=count,
        label=label,
        drawn=drawn,
        score=score,
        sigmoid=sigmoid,
        loss=float(np.logaddexp(0.0, -score if label else score)),
        pull=_sigmoid(-score) if label else -sigmoid,
    )


def _sigmoid(score: float) -> float:
    return float(np.exp(-np.logaddexp(0.0, -score)))


def _sampled(walk: Walk, vectors: WordVectors, objective: Objective, *, outputs: Outputs, hidden: Numbers) -> Walk:
    """The true word, the likeliest draws, and what all draws cost on average. A draw of the true word counts for nothing."""
    assert vectors.counts is not None
    row, output = vectors.index[walk.other], outputs.vectors[vectors.index[walk.other]].astype(np.float64)
    weights = vectors.counts.astype(np.float64) ** objective.noise_power
    chances = weights / weights.sum()
    scores = np.concatenate(
        [outputs.vectors[start : start + _BLOCK].astype(np.float64) @ hidden for start in range(0, len(vectors), _BLOCK)]
    )
    others = np.arange(len(vectors)) != row
    expected = objective.negatives * float((chances * np.logaddexp(0.0, scores) * others).sum())
    likeliest = [int(place) for place in np.argsort(-chances, kind="stable")[: DRAWS + 1] if place != row][:DRAWS]

    def target(place: int, label: int) -> Target:
        name, count = vectors.words[place], int(vectors.counts[place]) if vectors.counts is not None else None
        return _target(place, label, float(scores[place]), name=name, count=count, drawn=float(chances[place]))

    true = target(row, 1)
    return walk.model_copy(
        update={
            "output": Shown.of(output),
            "score": Product.of(hidden, output),
            "targets": (true, *(target(place, 0) for place in likeliest)),
            "negatives": objective.negatives,
            "noise_power": objective.noise_power,
            "expected": expected,
            "loss": true.loss + expected,
        }
    )


def _tree(walk: Walk, vectors: WordVectors, objective: Objective, *, outputs: Outputs, hidden: Numbers) -> Walk:
    """Every turn on the way to the other word, and their product."""
    assert vectors.counts is not None
    tree = (fasttext_tree if objective.of_fasttext else huffman_tree)(vectors.counts)
    turns = tree.way(vectors.index[walk.other])
    scores = [float(outputs.vectors[turn.node].astype(np.float64) @ hidden) for turn in turns]
    targets = tuple(_target(turn.node, turn.label, score) for turn, score in zip(turns, scores, strict=True))
    loss = sum(target.loss for target in targets)
    return walk.model_copy(update={"targets": targets, "loss": loss, "probability": float(np.exp(-loss))})


# ---- GloVe -------------------------------------------------------------------------------------------------------------------------


def _glove(walk: Walk, vectors: WordVectors, objective: Objective, *, x: float | None) -> Walk:
    """The word's vector w, the context's u, both biases, and what X asks of them."""
    outputs = vectors.outputs
    missing = (*walk.missing, *(("text",) if x is None else ()))
    if outputs is None or outputs.biases is None:
        return walk.model_copy(update={"missing": missing})
    one, two = vectors.index[walk.word], vectors.index[walk.other]
    context = outputs.vectors[two].astype(np.float64)
    word = vectors.matrix[one].astype(np.float64) - outputs.vectors[one]  # what is kept as the word's vector is w + u
    product = Product.of(word, context)
    bias, context_bias = float(outputs.biases[one, 0]), float(outputs.biases[two, 1])
    predicted = product.value + bias + context_bias
    weight = None if x is None else min(1.0, (x / objective.x_max) ** objective.alpha)
    log_x = float(np.log(x)) if x else None
    error = None if log_x is None else predicted - log_x
    loss = None if weight is None else weight * (error or 0.0) ** 2  # of a pair that never was, nothing is learned
    found = Gloves(
        word=Shown.of(word),
        context=Shown.of(context),
        product=product,
        bias=bias,
        context_bias=context_bias,
        predicted=predicted,
        x=x,
        log_x=log_x,
        weight=weight,
        error=error,
        loss=loss,
        x_max=objective.x_max,
        alpha=objective.alpha,
        window=int(vectors.facts["training"].get("window", 0)),
    )
    return walk.model_copy(update={"glove": found, "missing": missing, "loss": found.loss})
