"""Vectors and scores by compiled code against torch: random small models of every kind, in every company, with guards around all memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import EOS, Vocabularies, WordVocabulary
from vitrail.decode.encoding.engine import How, Purpose
from vitrail.decode.encoding.native import NativeEncoder
from vitrail.decode.encoding.native_readers import TransformerReader
from vitrail.decode.encoding.torch import TorchEncoder
from vitrail.errors import ModelError, UsageError
from vitrail.models.architectures import AnyConfig, read_config
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.stored import StoredModel
from vitrail.native.matrices.packing import Precision

WORDS = " ".join(f"w{number}" for number in range(60))
PURPOSES: dict[str, Purpose] = {
    "transformer": "vectors",
    "masked-language": "guesses",
    "transformer-classifier": "labels",
    "recurrent": "vectors",
    "recurrent-classifier": "labels",
}
Rows = list[tuple[int, ...]]


def random_table(draw: np.random.Generator, kind: str) -> dict[str, Any]:
    """Any model of a kind that can be configured, small."""
    if kind.startswith("recurrent"):
        return random_recurrent_table(draw, kind)
    heads, head = int(draw.integers(1, 5)), 2 * int(draw.integers(1, 13))
    table = {
        "kind": kind,
        "width": max(8, heads * head) if draw.random() < 0.6 else 2 * int(draw.integers(4, 40)),
        "heads": heads,
        "head_width": head,
        "feed_forward": int(draw.integers(1, 90)),
        "encoder_layers": int(draw.integers(1, 4)),
        "activation": draw.choice(["relu", "gelu", "swiglu"]),
        "norm": draw.choice(["layer", "rms", "batch"]),
        "norm_position": draw.choice(["pre", "post"]),
        "positions": draw.choice(["sinusoidal", "learned", "rotary", "none"]),
        "max_positions": 80,
        "embedding_norm": bool(draw.random() < 0.3),
    }
    if kind == "transformer":
        return table | {"decoder_layers": 1, "tie": draw.choice(["all", "target", "none"])}
    table |= {"context": 60, "pooling": draw.choice(["mean", "first"])}
    return table | ({"tie": bool(draw.random() < 0.5)} if kind == "masked-language" else {"several": bool(draw.random() < 0.3)})


def random_recurrent_table(draw: np.random.Generator, kind: str) -> dict[str, Any]:
    """The same of a recurrent kind."""
    bidirectional = bool(draw.random() < 0.6)
    table = {
        "kind": kind,
        "cell": draw.choice(["rnn", "gru", "lstm"]),
        "embedding_width": int(draw.integers(4, 70)),
        "width": 2 * int(draw.integers(4, 40)) if bidirectional else int(draw.integers(6, 80)),
        "encoder_layers": int(draw.integers(1, 4)),
        "bidirectional": bidirectional,
        "reverse_source": bool(draw.random() < 0.4),
        "residual": bool(draw.random() < 0.5),
        "norm": draw.choice(["none", "layer", "batch"]),
    }
    if kind == "recurrent":
        return table | {"attention": draw.choice(["none", "bahdanau", "luong-dot"]), "tie": draw.choice(["all", "target", "none"])}
    return table | {"pooling": draw.choice(["mean", "last"]), "several": bool(draw.random() < 0.3), "context": 60}


def random_model(table: dict[str, Any], *, seed: int, labels: int = 3) -> StoredModel:
    """One whose norms and biases are not those of a beginning."""
    torch.manual_seed(seed)
    config: AnyConfig = read_config(table)
    words = WordVocabulary.train([WORDS], size=200)
    target = LabelVocabulary([f"l{one}" for one in range(labels)], separator="," if table.get("several") else "")
    both = Vocabularies(words, target if "classifier" in table["kind"] else words, joint="classifier" not in table["kind"])
    model = build_model(config, both).eval()
    with torch.no_grad():
        for name, tensor in unique_tensors(model).items():
            if "variance" in name:
                tensor.uniform_(0.5, 2)
            elif tensor.ndim == 1:
                tensor += 0.2 * torch.randn_like(tensor)
            else:
                tensor *= 0.5 if table.get("norm") == "batch" and "recurrent" not in table["kind"] else 1.3
    return StoredModel(Path(), config, both, {}, {name: tensor.numpy() for name, tensor in unique_tensors(model).items()})


def random_rows(draw: np.random.Generator, count: int, longest: int = 40) -> Rows:
    return [tuple(draw.integers(4, 64, draw.integers(0, longest + 1)).tolist()) for _ in range(count)]


def near(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of a row, relative to the length of the expected one."""
    return float((np.linalg.norm(found - expected, axis=1) / (np.linalg.norm(expected, axis=1) + 1e-6)).max())


def how(purpose: Purpose, precision: Precision = "fp32", threads: int = 1) -> How:
    return How(purpose, "cpu", threads, precision)


def compare_with_torch(seed: int) -> None:
    """A random model of a kind, and random texts: equal vectors, scores and guesses."""
    draw = np.random.default_rng(seed)
    kind = list(PURPOSES)[seed % len(PURPOSES)]
    table = random_table(draw, kind)
    stored = random_model(table, seed=seed, labels=int(draw.integers(2, 40)))
    rows, what = random_rows(draw, 6), f"seed {seed}: {table}"
    expected = TorchEncoder.of(stored, how("vectors"))
    assert near(NativeEncoder.of(stored, how("vectors")).vectors(rows), expected.vectors(rows)) < 1e-5, what
    one = NativeEncoder.of(stored, how(PURPOSES[kind]))
    if "classifier" in kind:
        found, wanted = one.scores(rows), expected.scores(rows)
        assert near(found, wanted) < 2e-5, what
        assert one.probabilities(found) == pytest.approx(expected.probabilities(wanted), abs=1e-5), what
    elif kind == "masked-language":
        row = (*rows[0], *rows[1], 64, 7)
        places = sorted({0, len(row) - 2, len(row) // 2})
        assert one.guesses(row[:58], places[:2]) == pytest.approx(expected.guesses(row[:58], places[:2]), abs=1e-5), what


@pytest.mark.parametrize("seed", range(10))
def test_a_random_model_reads_as_torch_does(seed: int) -> None:
    compare_with_torch(seed)


@pytest.mark.slow
def test_many_random_models_read_as_torch_does() -> None:
    for seed in range(10, 400):
        compare_with_torch(seed)


PLAIN = {"width": 40, "heads": 4, "feed_forward": 72, "encoder_layers": 2, "activation": "swiglu"}
RECURRENT = {"width": 40, "embedding_width": 24, "encoder_layers": 2, "cell": "lstm"}
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "mean": {**PLAIN, "kind": "transformer-classifier", "pooling": "mean"},
    "first": {**PLAIN, "kind": "transformer-classifier", "pooling": "first"},
    "last": {**RECURRENT, "kind": "recurrent-classifier", "pooling": "last"},
}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("pooling", CLASSIFIERS)
def test_a_result_depends_on_nothing_but_its_text(pooling: str, precision: Precision) -> None:
    """To the last bit: alone, in any order, in large and small groups, with any number of threads."""
    stored = random_model({**CLASSIFIERS[pooling], "norm": "layer"}, seed=1)
    rows = random_rows(np.random.default_rng(2), 150, longest=30)
    one = NativeEncoder.of(stored, how("labels", precision))
    vectors, scores, shares = one.vectors(rows), one.scores(rows), one.probabilities(one.scores(rows))
    assert (NativeEncoder.of(stored, how("labels", precision, threads=3)).scores(rows) == scores).all()
    assert (one.scores(rows[::-1])[::-1] == scores).all() and (one.vectors(rows[:9]) == vectors[:9]).all()
    for at in range(0, 150, 40):
        alone = one.scores([rows[at]])
        assert (one.vectors([rows[at]])[0] == vectors[at]).all() and (alone[0] == scores[at]).all()
        assert (one.probabilities(alone)[0] == shares[at]).all()


@pytest.mark.parametrize("kind", PURPOSES)
def test_texts_of_no_one_and_512_tokens(kind: str) -> None:
    context = {} if kind in ("transformer", "recurrent") else {"context": 700}
    blocks = RECURRENT if kind.startswith("recurrent") else {**PLAIN, "norm": "rms", "norm_position": "post", "positions": "rotary"}
    stored = random_model({**blocks, **context, "kind": kind}, seed=3)
    rows: Rows = [(), (5,), tuple(np.random.default_rng(3).integers(4, 64, 640).tolist()), (4,) * 16, (4,) * 15]
    found = NativeEncoder.of(stored, how("vectors")).vectors(rows)
    assert near(found, TorchEncoder.of(stored, how("vectors")).vectors(rows)) < 1e-5
    assert len(NativeEncoder.of(stored, how("vectors")).vectors([])) == 0


def test_8_bits_are_near_32() -> None:
    stored = random_model({**PLAIN, "kind": "masked-language", "norm": "layer"}, seed=5)
    rows = random_rows(np.random.default_rng(5), 60)
    exact, rough = (NativeEncoder.of(stored, how("vectors", precision)).vectors(rows) for precision in ("fp32", "int8"))
    cosines = (exact * rough).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
    assert 0.99 < cosines.min() < 1


GUARD = 64


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_written_beside_its_memory(seed: int, precision: Precision) -> None:
    """Every array stands between guards, which are as they were after the call."""
    draw = np.random.default_rng(40 + seed)
    kind = list(PURPOSES)[seed]
    stored = random_model(random_table(draw, kind), seed=seed)
    one = NativeEncoder.of(stored, how(PURPOSES[kind], precision))
    wholes: list[np.ndarray] = []

    def make(count: int, kind: Any) -> Any:
        whole = np.full(count + 2 * GUARD, 77, kind)
        wholes.append(whole)
        return whole[GUARD : GUARD + count]

    texts = [(*row, EOS) for row in random_rows(draw, 7, longest=35)]
    one.reader.read(texts, scored="classifier" in kind, make=make)
    for text in texts if kind == "masked-language" else ():
        assert isinstance(one.reader, TransformerReader)
        one.reader.guess(text, range(len(text)), make=make)
    assert len(wholes) > 20
    for whole in wholes:
        assert (whole[:GUARD] == 77).all() and (whole[-GUARD:] == 77).all()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_what_is_no_number_is_an_error(precision: Precision) -> None:
    stored = random_model({**PLAIN, "kind": "masked-language", "norm": "rms"}, seed=2)
    stored.tensors["encoder.0.residual_1.norm.norm.weight"][:] = 3e38
    with pytest.raises(ModelError, match="not a number"):
        NativeEncoder.of(stored, how("vectors", precision)).vectors([(5, 6, 7)])


def test_ids_and_positions_that_do_not_exist_are_refused() -> None:
    table = {**PLAIN, "kind": "masked-language", "positions": "learned", "max_positions": 12, "context": 12}
    one = NativeEncoder.of(random_model(table, seed=4), how("vectors"))
    one.vectors([(5,) * 10])
    with pytest.raises(UsageError, match="12 learned positions"):
        one.vectors([(5,) * 11])
    for ids in ((65,), (4, -1)):
        with pytest.raises(UsageError, match="0 to 64"):
            one.vectors([ids])
