"""Which engine reads texts, and what the verbs say of it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vitrail.cli import run
from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import Vocabularies, WordVocabulary
from vitrail.decode.encoding.torch import TorchEncoder
from vitrail.decode.engines import native_engine
from vitrail.decode.sentences.classify import Classifier
from vitrail.decode.sentences.embedding import Embedder
from vitrail.decode.sentences.masked import MaskFiller
from vitrail.errors import UsageError
from vitrail.models.architectures import read_config
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.model_folder import save_model

WORDS = WordVocabulary.train(["a b c d e f g h"], size=20)
BLOCK = {"encoder_layers": 1, "width": 16, "heads": 2, "feed_forward": 16}
TEXTS = ["a b c", "h", "", "c d unknown e a a a b"]


def saved(folder: Path, table: dict[str, object], *, labels: tuple[str, ...] = ()) -> Path:
    torch.manual_seed(2)
    config = read_config(table)
    both = Vocabularies(WORDS, LabelVocabulary(labels) if labels else WORDS, joint=not labels)
    save_model(folder, tensors=unique_tensors(build_model(config, both)), config=config, vocabularies=both, facts={})
    return folder


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    return saved(tmp_path / "masked", {**BLOCK, "kind": "masked-language", "context": 30})


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    return saved(tmp_path / "classifier", {**BLOCK, "kind": "transformer-classifier"}, labels=("no", "yes"))


@pytest.fixture
def recurrent(tmp_path: Path) -> Path:
    table = {"kind": "recurrent-classifier", "embedding_width": 8, "width": 8, "cell": "gru"}
    return saved(tmp_path / "recurrent", table, labels=("no", "maybe", "yes"))


def test_without_numba_torch_computes_and_says_why(masked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_engine, "has_numba", lambda: False)
    one = Embedder.load(masked)
    assert type(one.encoder) is TorchEncoder
    assert one.encoder.describe() == "torch (not native: numba is not installed: pip install 'vitrail[fast]')"
    with pytest.raises(UsageError, match="engine native: numba is not installed"):
        Embedder.load(masked, engine="native")


def test_with_a_numba_that_cannot_be_imported_torch_computes_and_says_why(masked: Path, broken_numba: str) -> None:
    one = Embedder.load(masked)
    assert one.encoder.describe() == f"torch (not native: {broken_numba})"
    with pytest.raises(UsageError, match=f"engine native: {broken_numba}"):
        Embedder.load(masked, engine="native")


def test_other_models_are_computed_by_torch(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    folder = saved(tmp_path / "bag", {"kind": "bag-classifier", "width": 8}, labels=("no", "yes"))
    for one in (Embedder.load(folder), Classifier.load(folder)):
        assert one.encoder.describe() == "torch (not native: a model of kind bag-classifier is computed by torch)"
    with pytest.raises(UsageError, match="engine native: a model of kind"):
        Classifier.load(folder, engine="native")


def test_labels_guesses_and_vectors_are_those_of_torch(masked: Path, classifier: Path, recurrent: Path) -> None:
    pytest.importorskip("numba")
    for folder in (classifier, recurrent):
        ours, theirs = (Classifier.load(folder, engine=name) for name in ("native", "torch"))
        for one, other in zip(ours.classify(TEXTS), theirs.classify(TEXTS), strict=True):
            assert one.label == other.label and dict(one.probabilities) == pytest.approx(dict(other.probabilities), abs=1e-6)
        np.testing.assert_allclose(ours.logits(TEXTS), theirs.logits(TEXTS), atol=1e-5)
        np.testing.assert_allclose(ours.embed(TEXTS), theirs.embed(TEXTS), atol=1e-5)
    ours, theirs = (MaskFiller.load(masked, engine=name) for name in ("native", "torch"))
    for one, other in zip(ours.fill("a [MASK] c [MASK]", top=4), theirs.fill("a [MASK] c [MASK]", top=4), strict=True):
        assert [(guess.token, guess.text) for guess in one] == [(guess.token, guess.text) for guess in other]
        assert [guess.probability for guess in one] == pytest.approx([guess.probability for guess in other], abs=1e-6)


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_the_verbs_say_what_computes(
    engine: str, masked: Path, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("numba")
    (tmp_path / "text").write_text("a b\nc\n")
    verbs = (
        ["embed", str(masked), "--text", str(tmp_path / "text")],
        ["classify", str(classifier), "a b"],
        ["fill", str(masked), "a [MASK]"],
    )
    for verb in verbs:
        assert run([*verb, "--engine", engine]) == 0
        told = capsys.readouterr()
        assert told.err.splitlines()[-1] == f"engine: {engine}{' (fp32)' if engine == 'native' else ''}" and told.out
    assert run([*verbs[0], "--precision", "int8"]) == 0 and "engine: native (int8)" in capsys.readouterr().err
