"""The training of word vectors: text, passes over it, state on disk, and the vectors' folder at the end."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save

from vitrail.errors import DataError, UsageError
from vitrail.files import FolderLock, is_published, publish_folder, remove_folder, verify_folder
from vitrail.native.compiled import compiling, require_numba
from vitrail.runtime.cores import usable_cores
from vitrail.runtime.stopping import StopRequest
from vitrail.vectors.formats.folder import is_vectors_folder, save_folder
from vitrail.vectors.training.config import VectorsConfig
from vitrail.vectors.training.corpus import (
    TOKENS,
    WordCounts,
    choose_words,
    prepared_texts,
    read_texts,
    require_readable,
    splitter,
    stamps_of,
    without_spaces,
    write_tokens,
)
from vitrail.vectors.training.pieces import Learning, PieceResult, run_pieces
from vitrail.vectors.word_vectors import WordVectors

WORK = ".training"
"""Ends the name of the folder, beside the output, of a training that is not finished."""
_SAVE_SECONDS = 300.0


class Progress(NamedTuple):
    """How far a training is."""

    epoch: int
    epochs: int
    share: float
    """Of the whole training that is done."""
    words_per_second: float
    """Words of the text, or pairs, since this process began."""
    unit: str
    """What is counted: words or pairs."""
    loss: float
    """The mean of the steps that were watched, over the last pieces."""
    rate: float
    seconds_left: float


Report = Callable[[Progress], None]
Say = Callable[[str], None]


def train_vectors(
    config: VectorsConfig, folder: Path, *, report: Report = lambda progress: None, say: Say = lambda line: None
) -> WordVectors:
    """Train word vectors and write them to a folder; called again after a stop, it goes on.

    Raises: UsageError where the folder exists, and without Numba; DataError; Stopped or Interrupted after a signal, when all is saved.
    """
    require_numba("word vectors")
    if os.path.lexists(folder):
        what = "finished vectors" if is_vectors_folder(folder) else "something else"
        raise UsageError(f"{folder}: there is {what}", expected="a new folder", remedy="-o another folder, or delete this one")
    require_readable(config.text)
    work = folder.with_name(folder.name + WORK)
    with StopRequest() as stop, FolderLock(work):
        with stop.at_once(f"{folder}: stopped before the training began"):
            vocabulary = _prepared(config, work, say=say)
        learning = _begin(config, vocabulary, work, stop=stop, say=say)
        with compiling(f"for vectors of {config.dimension} numbers (some seconds)", say, program="vectors", after=0.7):
            learning.compile()
        _Run(config, work, learning, stop, report=report).run()
        vectors = learning.vectors()
        facts = {"training": config.model_dump(mode="json", exclude={"text", "threads"}), "words of text": int(vocabulary.counts.sum())}
        vectors = replace(vectors, facts=facts)
        save_folder(vectors, folder)
    remove_folder(work)
    return vectors


def _prepared(config: VectorsConfig, work: Path, *, say: Say) -> WordCounts:
    """The vocabulary, with the text as numbers beside it; from an earlier start if text and settings are the same."""
    text = work / "text"
    told = json.loads(config.model_dump_json(include={"text", "tokens"})) | {"stamps": stamps_of(config.text)}
    if is_published(text):
        verify_folder(text)
        kept = json.loads((text / "text.json").read_bytes())
        if kept["settings"] != told:
            raise UsageError(
                f"{work}: begun with other text or other settings of tokens",
                expected="the same as before",
                remedy="-o another folder, or delete this one",
            )
        return WordCounts(tuple(kept["words"]), np.asarray(kept["counts"], np.int64))
    say("counting words")
    texts, counts, forgotten = prepared_texts(partial(read_texts, config.text, splitter(config.tokens)), config.tokens, say=say)
    if forgotten >= config.tokens.min_count:
        held = 10 * config.tokens.most_words
        say(f"more than {held:,} different words: those that occur {forgotten} times or less were forgotten while counting")
    vocabulary = choose_words(counts, least=max(config.tokens.min_count, forgotten + 1 if forgotten else 1), most=config.tokens.most_words)
    say(f"{len(vocabulary.words):,} of {len(counts):,} different words; {int(vocabulary.counts.sum()):,} of {counts.total():,} in the text")
    if config.tokens.kind == "words" and without_spaces(vocabulary):
        say("most words are single characters, as in scripts without spaces: --tokens subwords --subwords-from RUN has longer pieces")
    with publish_folder(text) as writer:
        write_tokens(texts(), vocabulary.words, writer)
        kept = {"settings": told, "words": vocabulary.words, "counts": vocabulary.counts.tolist()}
        writer.write("text.json", json.dumps(kept, ensure_ascii=False).encode())
    return vocabulary


def _begin(config: VectorsConfig, vocabulary: WordCounts, work: Path, *, stop: StopRequest, say: Say) -> Learning:
    tokens = work / "text" / TOKENS
    if config.method != "glove":
        from vitrail.vectors.training.word2vec import Word2Vec

        return Word2Vec(config, vocabulary, tokens)
    from vitrail.vectors.training.glove import Glove, counted_pairs

    say("counting pairs of words")
    with stop.at_once(f"{work}: stopped while pairs were counted"):
        pairs = counted_pairs(config, vocabulary, tokens)
    say(f"{pairs.total:,} pairs")
    return Glove(config, vocabulary, pairs)


class _Run:
    """The pieces of all epochs in their order, by one thread or several; the state is saved between pieces."""

    def __init__(self, config: VectorsConfig, work: Path, learning: Learning, stop: StopRequest, *, report: Report) -> None:
        self._config, self._work, self._learning, self._stop, self._report = config, work, learning, stop, report
        self._threads = config.threads or usable_cores()
        self._total = config.epochs * learning.pieces
        self._done, self._saved_at = 0, 0.0
        self._recent: list[PieceResult] = []
        self._settings = json.loads(config.model_dump_json(exclude={"threads", "text", "keep_outputs"}))

    def run(self) -> None:
        """Do what is left. Raises Stopped or Interrupted after a signal, when all is saved."""
        self._restore()
        began, words, first = time.monotonic(), 0, self._done
        while self._done < self._total:
            self._saved_at = time.monotonic()
            for result in run_pieces(self._learning, range(self._done, self._total), threads=self._threads, go_on=self._goes_on):
                self._done, words = self._done + 1, words + result.words
                self._recent = [*self._recent[-7:], result]
                self._tell(time.monotonic() - began, words, self._done - first)
            self._require_finite()
            if self._done < self._total:
                self._save()
                if self._stop.signal is not None:
                    raise self._stop.error(f"stopped after {self._done:,} of {self._total:,} pieces of text, which are saved")

    def _goes_on(self) -> bool:
        return self._stop.signal is None and time.monotonic() - self._saved_at < _SAVE_SECONDS

    def _tell(self, seconds: float, words: int, done: int) -> None:
        watched = sum(one.watched for one in self._recent)
        loss = sum(one.loss for one in self._recent) / watched if watched else float("nan")
        left = seconds / done * (self._total - self._done)
        epoch = min((self._done - 1) // self._learning.pieces + 1, self._config.epochs)
        rate = self._recent[-1].rate
        self._report(
            Progress(
                epoch, self._config.epochs, self._done / self._total, words / max(seconds, 1e-9), self._learning.unit, loss, rate, left
            )
        )

    def _require_finite(self) -> None:
        if not all(np.isfinite(array).all() for array in self._learning.arrays().values()):
            raise DataError(
                "the vectors grew beyond all numbers", expected="a lower learning rate", remedy=f"--rate {self._config.first_rate / 10:g}"
            )

    def _save(self) -> None:
        with publish_folder(self._work / "state") as writer:
            arrays: dict[str, npt.NDArray[Any]] = dict(self._learning.arrays())
            writer.write("arrays.safetensors", save(arrays))
            writer.write("state.json", json.dumps({"settings": self._settings, "pieces": self._done}).encode())

    def _restore(self) -> None:
        state = self._work / "state"
        if not is_published(state):
            return
        verify_folder(state)
        kept = json.loads((state / "state.json").read_bytes())
        if kept["settings"] != self._settings:
            before, now = kept["settings"], self._settings
            name = next(name for name in now if before.get(name) != now[name])
            raise UsageError(
                f"{name}: {now[name]}, but this training was begun with {before.get(name)}",
                expected="the same settings as before",
                remedy="-o another folder, or delete this one",
            )
        for name, array in load_file(state / "arrays.safetensors").items():
            self._learning.arrays()[name][:] = array
        self._done = int(kept["pieces"])
