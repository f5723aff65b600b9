"""The fasttext program on the same examples: its own training and prediction, told apart by the same scores."""

import time
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from vitrail.bench.classifying.tfidf import Texts
from vitrail.data.vocabularies.subwords import WordVocabulary
from vitrail.decode.sentences.label_scores import Predictions

_EPOCHS = (5, 10, 25)
_SETTINGS: dict[str, Any] = {"lr": 0.5, "dim": 100, "wordNgrams": 2, "thread": 1, "verbose": 0}
_MARK = "__label__"
_EVEN = 0.5


class ProgramResult(NamedTuple):
    """What the program predicted with each seed, what was chosen, and its processor time."""

    predictions: list[Predictions]
    detail: str
    seconds: list[float]
    """Of each training with the epochs that were chosen, reading its file included."""


def is_installed() -> bool:
    """Whether the program's Python package is there."""
    return find_spec("fasttext") is not None


def predict_by_program(train: Texts, dev: Texts, test: Texts, *, several: bool, seeds: Sequence[int]) -> ProgramResult:
    """Learn from train with learning rate 0.5, dimension 100 and pairs of words; choose the epochs by macro F1 on dev; predict test.

    Tokens are those of a vocabulary of words, with spaces between them. Precondition: `is_installed`.
    """
    program: Any = import_module("fasttext")
    loss = "ova" if several else "softmax"
    found: list[Predictions] = []
    seconds, chosen = list[float](), list[int]()
    with TemporaryDirectory() as place:
        path = Path(place) / "train.txt"
        path.write_text("".join(map(_line, train.texts, train.labels)), encoding="utf-8")
        for seed in seeds:
            models: dict[int, tuple[Any, float]] = {}
            for epochs in _EPOCHS if len(dev.texts) else _EPOCHS[1:2]:
                before = time.process_time()
                model = program.train_supervised(str(path), epoch=epochs, loss=loss, seed=seed, **_SETTINGS)
                models[epochs] = model, time.process_time() - before
            best = max(models, key=lambda epochs: _f1(models[epochs][0], dev, several)) if len(models) > 1 else next(iter(models))
            chosen.append(best)
            seconds.append(models[best][1])
            found.append(_predictions(models[best][0], test, several))
    epochs = "and ".join(f"{one} " for one in dict.fromkeys(chosen))
    return ProgramResult(found, f"lr 0.5, dimension 100, pairs of words, {epochs}epochs by macro F1 on dev", seconds)


def _line(text: str, labels: Any) -> str:
    marks = [f"{_MARK}{number}" for number in np.flatnonzero(labels)]
    return " ".join([*marks, *_tokens(text)]) + "\n"


def _tokens(text: str) -> list[str]:
    """Words, none of which the program could take for a label or for white space."""
    return [word for token in WordVocabulary.split(text) if (word := token.strip()) and not word.startswith(_MARK)]


def _f1(model: Any, texts: Texts, several: bool) -> float:
    return float(_predictions(model, texts, several).rates().f1[0])


def _predictions(model: Any, texts: Texts, several: bool) -> Predictions:
    predicted = np.zeros_like(texts.labels)
    for row, text in enumerate(texts.texts):
        # Not model.predict: it fails with numpy 2.
        for _, label in model.f.predict(" ".join(_tokens(text)) + "\n", -1 if several else 1, _EVEN if several else 0.0, "strict"):
            predicted[row, int(label.removeprefix(_MARK))] = True
    return Predictions(texts.labels, predicted, several)
