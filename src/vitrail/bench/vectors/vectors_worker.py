"""One training of word vectors, by us or another program, in a process of its own: a task as JSON in, its result as JSON out.

Counted is the training alone: no vocabulary, no compilation, no reading of the text into memory where a program keeps it there.
Words of the text stand between spaces: all programs read the same ones.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from vitrail.files import publish_folder
from vitrail.runtime.peak_memory import peak_memory
from vitrail.vectors.evaluating.questions import read_similarity
from vitrail.vectors.evaluating.similarity import evaluate_similarity
from vitrail.vectors.training.config import NgramsConfig, TokensConfig, VectorsConfig
from vitrail.vectors.training.corpus import TOKENS, choose_words, read_texts, splitter, write_tokens
from vitrail.vectors.word_vectors import WordVectors

Maker = Literal["vitrail", "gensim", "fasttext"]
Objective = Literal["skip-gram", "skip-gram-hs", "cbow", "cbow-hs", "fasttext", "fasttext-cbow", "glove"]
"""-hs: hierarchical softmax instead of negative sampling."""


@dataclass(frozen=True)
class VectorsTask:
    """What to measure."""

    maker: Maker
    objective: Objective
    text: str
    dimension: int
    epochs: int
    threads: int
    seed: int
    similarity: Sequence[str] = ()
    """Files of pairs of words with people's scores."""
    window: int = 5
    negatives: int = 5
    min_count: int = 5
    sample: float = 1e-3
    buckets: int = 200_000

    @property
    def drawn(self) -> int:
        """Random words for each true one: none with hierarchical softmax."""
        return 0 if self.objective.endswith("-hs") else self.negatives


@dataclass(frozen=True)
class VectorsResult:
    """What was measured."""

    words: int
    """Of the vocabulary, over all epochs; of GloVe pairs."""
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    similarity: dict[str, float]
    """Spearman's rank correlation, by file."""


class _Trained(NamedTuple):
    cpu: float
    wall: float
    words: int
    vectors: Callable[[], WordVectors]


def measure_vectors(task: VectorsTask) -> VectorsResult:
    """Train once. Raises ImportError where the program is not installed."""
    done = {"vitrail": _ours, "gensim": _gensim, "fasttext": _fasttext}[task.maker](task)
    vectors = done.vectors() if task.similarity else None
    scores = {} if vectors is None else {Path(path).stem: _score(vectors, Path(path)) for path in task.similarity}
    return VectorsResult(done.words, done.cpu, done.wall, peak_memory(), scores)


def _score(vectors: WordVectors, path: Path) -> float:
    """Of the pairs in the vocabulary: n-grams would add other pairs for some programs."""
    known = WordVectors(vectors.words, vectors.matrix)
    found = evaluate_similarity(known, read_similarity(path), fold_case=True, bootstrap=0).spearman
    return float("nan") if found is None else found.value


class _Clock:
    """Seconds of processor and wall since it was made."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def read(self) -> tuple[float, float]:
        return time.process_time() - self._cpu, time.perf_counter() - self._wall


def _lines(task: VectorsTask) -> list[list[str]]:
    return list(read_texts([Path(task.text)], splitter(TokensConfig(kind="spaces", lower=False))))


def _config(task: VectorsTask) -> VectorsConfig:
    if task.objective == "glove":
        return VectorsConfig(
            method="glove", text=(Path(task.text),), dimension=task.dimension, epochs=task.epochs, seed=task.seed, threads=task.threads
        )
    return VectorsConfig(
        method="fasttext" if "fasttext" in task.objective else "word2vec",
        architecture="cbow" if "cbow" in task.objective else "skip-gram",
        text=(Path(task.text),),
        dimension=task.dimension,
        window=task.window,
        negatives=task.drawn,
        sample=task.sample,
        ngrams=NgramsConfig(buckets=task.buckets),
        epochs=task.epochs,
        rate=0.025,
        seed=task.seed,
        threads=task.threads,
    )


def _ours(task: VectorsTask) -> _Trained:
    from vitrail.vectors.training.glove import Glove, counted_pairs
    from vitrail.vectors.training.pieces import Learning, run_pieces
    from vitrail.vectors.training.word2vec import Word2Vec

    lines = _lines(task)
    vocabulary = choose_words(Counter(word for line in lines for word in line), least=task.min_count, most=2_000_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "text"
        with publish_folder(folder) as writer:
            write_tokens(lines, vocabulary.words, writer)
        config = _config(task)
        learning: Learning = Word2Vec(config, vocabulary, folder / TOKENS)
        if task.objective == "glove":
            learning = Glove(config, vocabulary, counted_pairs(config, vocabulary, folder / TOKENS))
        learning.compile()
        clock = _Clock()
        words = sum(piece.words for piece in run_pieces(learning, range(task.epochs * learning.pieces), threads=task.threads))
        cpu, wall = clock.read()
    return _Trained(cpu, wall, words, learning.vectors)


def _gensim(task: VectorsTask) -> _Trained:
    models: Any = import_module("gensim.models")
    lines = _lines(task)
    settings: dict[str, Any] = {
        "vector_size": task.dimension,
        "window": task.window,
        "negative": task.drawn,
        "hs": int(not task.drawn),
        "min_count": task.min_count,
        "sample": task.sample,
        "epochs": task.epochs,
        "workers": task.threads,
        "seed": task.seed,
        "alpha": 0.025,
        "sg": int("cbow" not in task.objective),
    }
    model = models.FastText(bucket=task.buckets, **settings) if "fasttext" in task.objective else models.Word2Vec(**settings)
    model.build_vocab(lines)
    clock = _Clock()
    model.train(lines, total_examples=len(lines), epochs=task.epochs)
    cpu, wall = clock.read()
    words = list(model.wv.index_to_key)
    known = task.epochs * sum(int(model.wv.get_vecattr(word, "count")) for word in words)
    return _Trained(cpu, wall, known, lambda: WordVectors(words, np.asarray(model.wv.vectors, np.float32)))


def _fasttext(task: VectorsTask) -> _Trained:
    """The fasttext program reads its text while it trains: what it takes before is taken off, by a training that learns nothing."""
    program: Any = import_module("fasttext")
    settings: dict[str, Any] = {
        "model": "cbow" if "cbow" in task.objective else "skipgram",
        "dim": task.dimension,
        "ws": task.window,
        "neg": task.negatives,
        "minCount": task.min_count,
        "t": task.sample,
        "thread": task.threads,
        "lr": 0.025,
        "verbose": 0,
        "bucket": task.buckets,
    }
    clock = _Clock()
    program.train_unsupervised(task.text, epoch=0, **settings)
    before = clock.read()
    clock = _Clock()
    model = program.train_unsupervised(task.text, epoch=task.epochs, **settings)
    cpu, wall = (after - taken for after, taken in zip(clock.read(), before, strict=True))
    words, counts = model.get_words(include_freq=True)
    kept = [place for place, word in enumerate(words) if word != "</s>"]

    def vectors() -> WordVectors:
        return WordVectors(
            [words[place] for place in kept], np.asarray([model.get_word_vector(words[place]) for place in kept], np.float32)
        )

    return _Trained(cpu, wall, task.epochs * int(sum(counts[place] for place in kept)), vectors)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        given: dict[str, Any] = json.loads(sys.stdin.readline())
        result = measure_vectors(VectorsTask(**given))
        sys.stdout.write(json.dumps(asdict(result)) + "\n")
