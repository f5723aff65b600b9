"""The baseline of text classification: TF-IDF of words and pairs of words, and logistic regression, by scikit-learn."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.sentences.label_scores import Flags, Predictions, flags
from vitrail.errors import UsageError
from vitrail.languages import writing_of

_STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
_LOOKED_AT = 1_000


class Texts(NamedTuple):
    """Texts and their labels."""

    texts: Sequence[str]
    labels: Flags


def to_flags(rows: Sequence[str], labels: LabelVocabulary) -> Flags:
    """The labels of some texts."""
    return flags([[id - EOS - 1 for id in row] for row in labels.encode_batch(rows)], len(labels.labels))


def predict_by_tfidf(train: Texts, dev: Texts, test: Texts, *, several: bool) -> tuple[Predictions, str]:
    """Learn from train, choose the strength of regularisation by macro F1 on dev, predict test; and what was chosen.

    Words are what spaces divide; in scripts without spaces, signs and up to two more take the place of words.
    Raises: UsageError where scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier
    except ImportError:
        raise UsageError("scikit-learn is not installed", remedy="pip install 'vitrail[maps]', or --no-tfidf") from None
    unspaced = writing_of(train.texts[:_LOOKED_AT]).unspaced
    how = {"analyzer": "char", "ngram_range": (1, 3)} if unspaced else {"token_pattern": r"(?u)\S+", "ngram_range": (1, 2)}
    features: Any = TfidfVectorizer(sublinear_tf=True, **how)  # pyright: ignore[reportArgumentType]
    read, seen, asked = features.fit_transform(train.texts), features.transform(dev.texts), features.transform(test.texts)
    wanted: Any = train.labels.astype(int) if several else train.labels.argmax(1)

    def fitted(strength: float) -> Any:
        simple = LogisticRegression(C=strength, max_iter=1_000)
        return (OneVsRestClassifier(simple) if several else simple).fit(read, wanted)

    def predict(model: Any, rows: Any, right: Flags) -> Predictions:
        found = np.asarray(model.predict(rows))
        return Predictions(right, found.astype(np.bool_) if several else flags(found[:, None].tolist(), right.shape[1]), several)

    models = {strength: fitted(strength) for strength in (_STRENGTHS if len(dev.texts) else (1.0,))}
    best = max(models, key=lambda strength: float(predict(models[strength], seen, dev.labels).rates().f1[0])) if len(dev.texts) else 1.0
    units = "signs in runs of 1 to 3" if unspaced else "words and pairs of words"
    return predict(models[best], asked, test.labels), f"{units}, C = {best:g} by macro F1 on dev"
