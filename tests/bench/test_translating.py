"""The comparison of systems that translate: on a small model, with others where they are installed."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("numba")

from vitrail.bench.translating import compare, latency, untrained
from vitrail.bench.translating.carried import carry, obstacle
from vitrail.bench.translating.systems import System, Timed, list_systems, running
from vitrail.bench.translating.tuning import Wanted, at_their_best, choose_settings
from vitrail.bench.translating.workers import ctranslate2_peer, huggingface_peer
from vitrail.bench.translating.workers.serve import Carried, read_carried
from vitrail.data.vocabularies.subwords import EOS, SOS, Vocabularies, WordVocabulary, train_sentencepiece
from vitrail.decode.search_config import SearchConfig
from vitrail.decode.translate import Translator
from vitrail.errors import UsageError, VitrailError
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import LoadedModel, load_model, save_model
from vitrail.models.stored import SHORTLIST, with_file
from vitrail.version import __version__

TEXTS = ["a dog runs", "two men walk home", "the old cat sleeps", "she reads"]
SMALL = {"encoder_layers": 2, "decoder_layers": 2, "width": 32, "feed_forward": 32}


def _save(folder: Path, config: Any, vocabulary: Any = None) -> Path:
    torch.manual_seed(3)
    vocabulary = train_sentencepiece(TEXTS, size=300) if vocabulary is None else vocabulary
    both = Vocabularies(vocabulary, vocabulary, joint=True)
    save_model(folder, tensors=unique_tensors(build_model(config, both)), config=config, vocabularies=both, facts={})
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _save(tmp_path / "model", TransformerConfig.model_validate(SMALL))


@pytest.mark.slow
def test_every_system_translates_the_same_texts(folder: Path) -> None:
    said: list[str] = []
    report = compare.compare_engines(Wanted(folder, [1, 2], 1), TEXTS, references=TEXTS, repeats=2, say=said.append)
    names = [row.system for row in report.rows if row.beams == 2]
    assert names[:4] == ["torch fp32", "native int8", "native bf16", "native fp32"] and "native shortlist" not in names
    assert ("ctranslate2 int8" in names) == (find_spec("ctranslate2") is not None) == (not report.missing)
    rows = {(row.system, row.beams): row for row in report.rows}
    assert rows["native fp32", 1].equal_share == rows["native fp32", 2].equal_share == 1
    for row in report.rows:
        assert len(row.seconds) == len(row.cpu_seconds) == 2 and row.bleu is not None
        assert row.per_core(report.words) > row.per_core(report.sentences)
        assert ("batch_type" in row.settings) == row.system.startswith("ctranslate2")
    table = json.loads(report.to_json())
    assert len(table["rows"]) == len(report.rows) and table["rows"][0]["times"]["torch fp32"] == 1
    assert report.to_text().count("native int8") == 3


def test_latency_is_of_each_sentence(folder: Path) -> None:
    wanted = Wanted(folder, [1], 1, only=["torch"], alone=True)
    report = latency.measure_latency(wanted, TEXTS, say=lambda _: None)
    (row,) = report.rows
    assert len(row.clock_ms) == len(row.cpu_ms) == 4 and min(row.cpu_ms) > 0 and row.settings == "threads 1"
    (told,) = json.loads(report.to_json())["rows"]
    assert told["clock_median_and_90th"][0] <= told["clock_median_and_90th"][1] <= max(row.clock_ms)
    assert report.share(row, "torch fp32") == 1 and "torch fp32" in report.to_text()


def _carried(tmp_path: Path, norm_position: str, **changes: Any) -> tuple[LoadedModel, Carried, list[float], tuple[list[int], list[int]]]:
    """A model, the same carried over, and the log-probabilities of a translation."""
    config = TransformerConfig.model_validate({**SMALL, "norm_position": norm_position, **changes})
    loaded = load_model(_save(tmp_path / "model", config))
    place = tmp_path / "carried"
    place.mkdir()
    carry(loaded, place)
    carried = read_carried(place)
    assert carried is not None and read_carried(tmp_path) is None
    source, target = (loaded.vocabularies.source.encode(text) for text in TEXTS[:2])
    with torch.inference_mode():
        hidden = loaded.model.decode(torch.tensor([[SOS, *target]]), loaded.model.encode(torch.tensor([[*source, EOS]])))
        found = loaded.model.read_out(hidden)[0].log_softmax(1).gather(1, torch.tensor([[*target, EOS]]).t()).flatten()
    return loaded, carried, found.tolist(), (source, target)


def test_a_model_that_nobody_trained_gives_translations_of_one_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(untrained.PRESETS, "small", TransformerConfig.model_validate(SMALL))
    with pytest.raises(UsageError, match="model none: no such folder, and no preset"), untrained.untrained_model("none", TEXTS):
        pass
    with untrained.untrained_model("small", TEXTS, vocabulary=500) as folder:
        translator = Translator.load(folder, engine="torch")
        assert translator.vocabularies.target.size == 500
        expected = translator.translate(TEXTS, search=SearchConfig(beams=1, min_length=7, max_length=7, repeat_ngram=0))
        assert {len(one.token_log_probabilities) for one in expected} == {7}
        with at_their_best(Wanted(folder, [1], 1, only=["torch"], tokens=7), TEXTS, say=lambda _: None) as best:
            assert best.systems["torch fp32"].translate(TEXTS, 1).translations == [one.text for one in expected]
    assert not folder.exists()


@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_the_weights_go_where_they_belong_in_ctranslate2(tmp_path: Path, norm_position: str) -> None:
    pytest.importorskip("ctranslate2")
    _, carried, expected, (source, target) = _carried(tmp_path, norm_position)
    peer = ctranslate2_peer.make(tmp_path, carried)
    (found,) = peer.score([source], [target], {"compute": "float32", "inter": 1, "intra": 1})
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("norm_position", "tie"), [("pre", "all"), ("post", "all"), ("pre", "none")])
def test_the_weights_go_where_they_belong_in_hugging_face(tmp_path: Path, norm_position: str, tie: str) -> None:
    """A given translation has the same log-probabilities there as here, and the same is found greedily."""
    pytest.importorskip("transformers")
    _, carried, expected, (source, target) = _carried(tmp_path, norm_position, tie=tie, activation="gelu")
    peer = huggingface_peer.make(tmp_path, carried)
    assert peer.score(source, target) == pytest.approx(expected, abs=1e-5)
    assert peer.versions["class"] == ("Pegasus" if norm_position == "pre" else "Marian")


def test_what_cannot_be_compared_is_said(folder: Path, tmp_path: Path) -> None:
    loaded = load_model(folder)
    assert not obstacle(loaded) and obstacle(loaded._replace(config=RecurrentConfig()))
    assert obstacle(loaded._replace(config=TransformerConfig(activation="swiglu")))
    words = WordVocabulary.train(TEXTS, size=20)
    assert "SentencePiece" in obstacle(load_model(_save(tmp_path / "words", TransformerConfig.model_validate(SMALL), words)))
    with pytest.raises(UsageError, match="4 sentences and 1 references"):
        compare.compare_engines(Wanted(folder, [1], 1), TEXTS, references=["x"], repeats=1, say=lambda _: None)
    with pytest.raises(UsageError, match="system 'fairseq'"):
        list_systems(folder, loaded, tmp_path, peers=None, only=["fairseq"], threads=1)


def test_a_model_with_a_shortlist_has_a_row_for_it(folder: Path, tmp_path: Path) -> None:
    with_file(folder, SHORTLIST, b"what nobody reads here")
    found, _ = list_systems(folder, load_model(folder), tmp_path, peers=None, only=["native"], threads=1)
    assert [one.name for one in found if one.settings["shortlist"]] == ["native shortlist"]


def test_peers_come_from_their_environments(folder: Path, tmp_path: Path) -> None:
    peers = tmp_path / "peers"
    for name in ("ctranslate2", "opennmt"):
        (peers / name / "bin").mkdir(parents=True)
    (peers / "ctranslate2" / "bin" / "python").write_text("")
    only = ["ctranslate2 int8", "opennmt", "joeynmt"]
    (peers / "opennmt" / "missing.txt").write_text("ERROR: no matching\n distribution")
    found, missing = list_systems(folder, load_model(folder), tmp_path, peers=peers, only=only, threads=2)
    assert [one.name for one in found] == ["torch fp32", "ctranslate2 int8"]
    assert found[1].python == str(peers / "ctranslate2" / "bin" / "python")
    assert missing == ["opennmt: ERROR: no matching distribution", f"joeynmt: not in {peers}: benchmarks/environments.sh builds it"]


def test_a_peer_that_fails_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it ends, or answers with an error; ours may not."""
    ends = System("ends", "vitrail_peer", "false", folder, {})
    refuses = System("refuses", "no_such_peer", sys.executable, folder, {})
    ours = System("torch fp32", "vitrail_peer", sys.executable, folder, {"engine": "torch", "precision": "fp32", "threads": 1})

    def listed(*_: object, **__: object) -> tuple[list[System], list[str]]:
        return [ours, ends, refuses], []

    monkeypatch.setattr("vitrail.bench.translating.tuning.list_systems", listed)
    with at_their_best(Wanted(folder, [1], 1), TEXTS, say=lambda _: None) as best:
        assert list(best.systems) == ["torch fp32"] and best.versions["torch fp32"] == {"vitrail": __version__}
        assert "its process has ended" in best.missing[0] and "no_such_peer" in best.missing[1]
    with pytest.raises(VitrailError, match="measuring torch fp32"), running(ours, {}) as process:
        process.translate(TEXTS, beams=0, settings={})


def test_the_fastest_settings_are_taken(folder: Path) -> None:
    slow, fast = {"pause": 1}, {"pause": 0}
    calls: list[tuple[object, int]] = []

    class Process:
        def translate(self, texts: list[str], *, beams: int, settings: dict[str, int], alone: bool) -> Timed:
            calls.append((settings.get("pause"), len(texts)))
            return Timed([], [len(texts) * (0.02 + settings.get("pause", 0) + abs(3 - settings.get("batch", 0)))], [0.0])

    axes = ([slow, fast], [{"batch": size} for size in (1, 3, 9)])
    assert choose_settings(Process(), axes, TEXTS * 40, 1, alone=False) == {"pause": 0, "batch": 3}  # type: ignore[arg-type]
    assert {count for pause, count in calls if pause == 1} == {16} and max(count for _, count in calls) > 30
