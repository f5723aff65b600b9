"""Classifiers of the fastText program as model folders of ours."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import EOS, SPECIAL, Vocabularies, WordVocabulary
from vitrail.data.vocabularies.vocabulary import SPACED
from vitrail.errors import DataError
from vitrail.models.configs.classifier import BagClassifierConfig
from vitrail.models.model_folder import save_model
from vitrail.vectors.formats.fasttext import SupervisedModel, read_supervised
from vitrail.vectors.ngrams import LINE_END, Matrix


def import_fasttext(path: Path, output: Path, *, say: Callable[[str], None] = lambda line: None) -> None:
    """Write the model folder of a `.bin` of `fasttext supervised`: the same words, hashes, rows and labels, so the same probabilities.

    N-grams with a word that the model does not know are left out here; the program takes the row of their hash.
    Raises: DataError for another file, a quantised model, or one whose scores are no sum of rows; UsageError, NotWritten.
    """
    theirs = read_supervised(path)
    if LINE_END not in theirs.words:
        raise DataError(
            f"{path}: has no word {LINE_END}", expected="a model that was trained on lines", remedy="train it again with fastText"
        )
    own = [word for word in theirs.words if word != LINE_END]
    several = "," if theirs.several else ""
    words = WordVocabulary([f" {word}" for word in own], format=SPACED)
    vocabularies = Vocabularies(words, LabelVocabulary(theirs.labels, separator=several), joint=False)
    config = BagClassifierConfig(
        width=theirs.vectors.shape[1],
        word_ngrams=theirs.word_ngrams if len(theirs.ngrams) else 1,
        buckets=max(1, len(theirs.ngrams)),
        output="sigmoid" if several else "softmax",
        several=theirs.several,
    )
    tensors = {"source_embedding.weight": _scaled(_table(theirs)), "head.linear.weight": torch.from_numpy(theirs.output)}
    tensors["head.linear.bias"] = torch.zeros(len(theirs.labels))
    if config.word_ngrams > 1:
        tensors["source_ngrams.weight"] = _scaled(theirs.ngrams)
        say("n-grams with an unknown word are left out, where the program takes the row of their hash")
    save_model(output, tensors=tensors, config=config, vocabularies=vocabularies, facts={"imported": "fastText"})


def _table(theirs: SupervisedModel) -> Matrix:
    """The rows of words in our order: the special ids first, of which the end of a text has one."""
    places = [place for place, word in enumerate(theirs.words) if word != LINE_END]
    table = np.zeros((len(SPECIAL) + len(places), theirs.vectors.shape[1]), dtype=np.float32)
    table[EOS] = theirs.vectors[theirs.words.index(LINE_END)]
    table[len(SPECIAL) :] = theirs.vectors[places]
    return table


def _scaled(rows: Matrix) -> torch.Tensor:
    """Rows that a model multiplies by the square root of their width."""
    return torch.from_numpy(rows / np.float32(rows.shape[1] ** 0.5))
