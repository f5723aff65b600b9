"""When the native engine computes, when torch does, and what is said of it."""

import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread, active_count
from typing import Any

import pytest
import torch

from vitrail.data.vocabularies.subwords import Vocabularies, WordVocabulary
from vitrail.decode.engines import native_engine
from vitrail.decode.engines.engine import StopSignal
from vitrail.decode.engines.native_engine import NativeEngine
from vitrail.decode.engines.torch import TorchEngine
from vitrail.decode.search.beams import Observation
from vitrail.decode.search.query import Query
from vitrail.decode.search_config import SamplingConfig, SearchConfig, TranslateConfig
from vitrail.decode.textual.jobs import CutText, TextCutter
from vitrail.decode.textual.text_constraints import TextConstraints
from vitrail.decode.translate import PORTION, Translator
from vitrail.errors import Interrupted, ModelError, UsageError
from vitrail.models.architectures import ModelConfig
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.autoencoder import RecurrentAutoencoderConfig
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import save_model

WORDS = "a b c d e f g h"
TEXTS = ["a b c", "h g", "b. c d!", "", "x unknown y", "a a a a"]


def _save(folder: Path, config: ModelConfig, *, words: str = WORDS, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    vocabulary = WordVocabulary.train([words], size=20)
    both = Vocabularies(vocabulary, vocabulary, joint=True)
    model = build_model(config, both)
    save_model(folder, tensors=unique_tensors(model), config=config, vocabularies=both, facts={"search": {"beams": 2}})
    return folder


@pytest.fixture
def transformer(tmp_path: Path) -> Path:
    return _save(tmp_path / "transformer", TransformerConfig(encoder_layers=1, decoder_layers=1, width=16))


@pytest.fixture
def recurrent(tmp_path: Path) -> Path:
    return _save(tmp_path / "recurrent", RecurrentConfig(embedding_width=8, width=8, attention="bahdanau"))


@pytest.fixture
def autoencoder(tmp_path: Path) -> Path:
    return _save(tmp_path / "autoencoder", RecurrentAutoencoderConfig(embedding_width=8, width=8))


def test_without_numba_torch_computes_and_says_why(transformer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_engine, "has_numba", lambda: False)
    one = Translator.load(transformer)
    assert type(one.engine) is TorchEngine
    assert one.engine.describe(one.search) == "torch (not native: numba is not installed: pip install 'vitrail[fast]')"
    with pytest.raises(UsageError, match=r"engine native: numba is not installed"):
        Translator.load(transformer, engine="native")


def test_with_a_numba_that_cannot_be_imported_torch_computes_and_says_why(transformer: Path, broken_numba: str) -> None:
    one = Translator.load(transformer)
    assert one.engine.describe(one.search) == f"torch (not native: {broken_numba})"
    with pytest.raises(UsageError, match=f"engine native: {broken_numba}"):
        Translator.load(transformer, engine="native")


def test_other_models_are_computed_by_torch(transformer: Path, autoencoder: Path) -> None:
    pytest.importorskip("numba")
    one = Translator.load(autoencoder)
    assert type(one.engine) is TorchEngine
    assert one.engine.describe(one.search) == "torch (not native: a model of kind recurrent-autoencoder is computed by torch)"
    with pytest.raises(UsageError, match="engine native: "):
        Translator.load(autoencoder, engine="native")
    two = Translator.load(transformer, autoencoder)
    assert two.engine.describe(two.search) == "torch (not native: a model of kind recurrent-autoencoder is computed by torch)"


def test_models_of_different_vocabularies_are_no_ensemble(transformer: Path, tmp_path: Path) -> None:
    pytest.importorskip("numba")
    other = _save(tmp_path / "other", TransformerConfig(encoder_layers=1, decoder_layers=1, width=16), words="a b c d")
    with pytest.raises(ModelError, match="one and the same vocabulary"):
        Translator.load(transformer, other, engine="native")


REQUESTS: dict[str, dict[str, Any]] = {
    "sampling": {"search": SearchConfig(n_best=2, sampling=SamplingConfig(top_p=0.8))},
    "prefix": {"constraints": TextConstraints(prefix="b")},
    "words": {"constraints": TextConstraints(forbidden=["a"], forced=["h g", "d"])},
    "n-best words": {"constraints": TextConstraints(forced=["d"]), "search": SearchConfig(beams=3, n_best=3)},
}


@pytest.mark.parametrize("models", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("first", ["transformer", "recurrent"])
@pytest.mark.parametrize("kind", REQUESTS)
def test_requests_of_every_kind_are_served_as_by_torch(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, first: str, models: int
) -> None:
    """Also with an ensemble of both kinds of model."""
    pytest.importorskip("numba")
    folders = [
        request.getfixturevalue(first),
        _save(tmp_path / "second", TransformerConfig(encoder_layers=2, decoder_layers=1, width=24, heads=2), seed=1),
    ]
    exact = TranslateConfig(precision="fp32")
    native, by_torch = (Translator.load(*folders[:models], engine=name, config=exact) for name in ("native", "torch"))
    assert native.engine.describe(native.search, constrained=True) == "native (fp32)"
    for ours, theirs in zip(native.translate(TEXTS, **REQUESTS[kind]), by_torch.translate(TEXTS, **REQUESTS[kind]), strict=True):
        assert [one.text for one in ours.alternatives] == [one.text for one in theirs.alternatives]
        assert [one.score for one in ours.alternatives] == pytest.approx([one.score for one in theirs.alternatives], abs=1e-4)


def test_a_request_that_it_does_not_serve_goes_to_torch(transformer: Path) -> None:
    pytest.importorskip("numba")
    auto, alone, torch_only = (Translator.load(transformer, engine=name) for name in ("auto", "native", "torch"))
    assert type(auto.engine) is NativeEngine and auto.engine.describe(auto.search) == "native (int8)"
    seen: list[Observation] = []
    expected = torch_only.translate_parts(TEXTS[0]).translation
    assert auto.translate_parts(TEXTS[0], observe=seen.append).translation == expected and seen
    with pytest.raises(UsageError, match="engine native has no observation of its steps"):
        alone.translate_parts(TEXTS[0], observe=seen.append)


ENDLESS = SearchConfig(beams=2, max_ratio=0, max_extra=4_000, min_length=3_999, repeat_ngram=0)


@pytest.mark.parametrize("kind", ["transformer", "recurrent"])
def test_a_search_that_is_to_stop_ends_before_its_next_step(request: pytest.FixtureRequest, kind: str) -> None:
    pytest.importorskip("numba")
    translator = Translator.load(request.getfixturevalue(kind), engine="native", threads=1)
    before = translator.translate(TEXTS)
    signal, outcome = StopSignal(), list[BaseException]()

    def search() -> None:
        try:
            longest = 100_000 if kind == "recurrent" else 20_000
            query = Query(longest=longest, shortest=longest - 1)
            translator.engine.search([(4,)] * 8, [query] * 8, config=ENDLESS, stop=signal)
        except Interrupted as error:
            outcome.append(error)

    thread = Thread(target=search, daemon=True)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    signal.set()
    thread.join(5)
    assert len(outcome) == 1
    assert translator.translate(TEXTS) == before


def test_a_stream_that_is_closed_ends_its_search(transformer: Path) -> None:
    pytest.importorskip("numba")
    translator, before = Translator.load(transformer, engine="native", threads=2), active_count()
    stream = translator.translate_portions([["a"]] + [TEXTS * 40] * 9, search=ENDLESS)
    assert next(stream)
    stream.close()
    until = time.monotonic() + 10
    threads = 2  # sleep until there is work
    while active_count() > before + threads and time.monotonic() < until:
        time.sleep(0.01)
    assert active_count() <= before + threads
    assert translator.translate(TEXTS, search=SearchConfig(max_extra=1))  # they have nothing else to do
    assert time.monotonic() < until


def test_long_lists_and_streams_are_translated_as_each_text_by_itself(transformer: Path) -> None:
    """In portions that are searched while others are cut and joined; and by several threads, with texts longer than all before."""
    pytest.importorskip("numba")
    search = SearchConfig(beams=2, max_ratio=1, max_extra=2)
    texts = [" ".join(TEXTS[at % len(TEXTS)] for at in range(number % 7 + 1)) for number in range(2 * PORTION + 9)]
    texts[PORTION + 3] = "a b " * 400
    loaded = [Translator.load(transformer, engine="native", threads=threads, search=search) for threads in (1, 3, 3)]
    alone = [loaded[0].translate(text) for text in texts]
    assert loaded[1].translate(texts) == alone
    assert list(loaded[1].translate_portions(texts[at : at + 50] for at in range(0, len(texts), 50))) == alone
    assert loaded[1].translate(tuple(texts)) == alone
    with ThreadPoolExecutor(4) as pool:
        assert [one for many in pool.map(loaded[2].translate, [texts[at::4] for at in range(4)]) for one in many] == [
            one for at in range(4) for one in alone[at::4]
        ]


def test_a_list_whose_cutting_fails_ends_its_searches(transformer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    translator, cut = Translator.load(transformer, engine="native", threads=2), TextCutter.cut

    def fails(cutter: TextCutter, *arguments: Any, place: int) -> CutText:
        if place > PORTION:
            raise KeyboardInterrupt
        return cut(cutter, *arguments, place=place)

    began = time.monotonic()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(TextCutter, "cut", fails)
        translator.translate(TEXTS * 200, search=ENDLESS)
    assert translator.translate(TEXTS, search=SearchConfig(max_extra=1))  # its threads have nothing else to do
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("n_best", [1, 3])
@pytest.mark.parametrize("kind", ["transformer", "recurrent"])
def test_texts_are_translated_as_by_torch(request: pytest.FixtureRequest, kind: str, n_best: int) -> None:
    pytest.importorskip("numba")
    model = request.getfixturevalue(kind)
    search = SearchConfig(beams=4, n_best=n_best, max_ratio=1, max_extra=5)
    exact = Translator.load(model, engine="native", config=TranslateConfig(precision="fp32"), search=search)
    found, expected = exact.translate(TEXTS), Translator.load(model, engine="torch", search=search).translate(TEXTS)
    for ours, theirs in zip(found, expected, strict=True):
        assert [one.text for one in ours.alternatives] == [one.text for one in theirs.alternatives]
        assert [one.score for one in ours.alternatives] == pytest.approx([one.score for one in theirs.alternatives], abs=1e-4)
        assert ours.token_log_probabilities == pytest.approx(theirs.token_log_probabilities, abs=1e-4)


def test_it_is_sent_to_another_process(transformer: Path) -> None:
    pytest.importorskip("numba")
    one = Translator.load(transformer, engine="native")
    other = pickle.loads(pickle.dumps(one))  # noqa: S301  (made here)
    assert type(other.engine) is NativeEngine and other.translate(TEXTS) == one.translate(TEXTS)


@pytest.mark.slow
def test_two_processes_compile_at_once_and_one_without_a_cache(transformer: Path, tmp_path: Path) -> None:
    pytest.importorskip("numba")
    text = "\n".join(TEXTS) + "\n"
    (tmp_path / "file").write_text("no folder")
    caches = [tmp_path / "shared", tmp_path / "shared", tmp_path / "file" / "below"]
    command = [sys.executable, "-m", "vitrail", "translate", str(transformer), "--engine", "native"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    started = [subprocess.Popen(command, text=True, env=os.environ | {"VITRAIL_CACHE": str(cache)}, **pipes) for cache in caches]
    answers = [one.communicate(text, timeout=900) for one in started]
    assert all(one.returncode == 0 for one in started) and len({out for out, _ in answers}) == 1
    assert all("compiling the engine" in told and "engine: native (int8)" in told.splitlines() for _, told in answers)
    assert "not kept, as no cache can be written" in answers[2][1] and "not kept" not in answers[0][1]
    again = subprocess.run(
        command, input=text, text=True, env=os.environ | {"VITRAIL_CACHE": str(caches[0])}, capture_output=True, check=True
    )
    assert again.stdout == answers[0][0] and again.stderr.splitlines()[0] == "engine: native (int8)"
