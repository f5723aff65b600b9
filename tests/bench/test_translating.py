"""The comparison of engines: on a small model, with CTranslate2 where it is installed."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

pytest.importorskip("numba")

from vitrail.bench.translating import compare
from vitrail.bench.translating.ctranslate2_model import CTranslate2Model, obstacle
from vitrail.data.vocabularies.subwords import EOS, SOS, Vocabularies, WordVocabulary
from vitrail.errors import UsageError
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import load_model, save_model

TEXTS = ["a b c", "h g f", "e e e d", "b"]


def _save(folder: Path, config: TransformerConfig) -> Path:
    torch.manual_seed(3)
    vocabulary = WordVocabulary.train(["a b c d e f g h"], size=20)
    both = Vocabularies(vocabulary, vocabulary, joint=True)
    save_model(folder, tensors=unique_tensors(build_model(config, both)), config=config, vocabularies=both, facts={})
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _save(tmp_path / "model", TransformerConfig(encoder_layers=1, decoder_layers=1, width=32, feed_forward=32))


def test_every_system_translates_the_same_texts(folder: Path) -> None:
    report = compare.compare_engines(folder, texts=TEXTS, references=TEXTS, beams=[1, 2], threads=1, repeats=2, say=lambda _: None)
    names = [row.system for row in report.rows if row.beams == 2]
    assert names[:3] == ["torch fp32", "native int8", "native fp32"]
    assert ("ctranslate2 int8" in names) == (find_spec("ctranslate2") is not None) == (not report.missing)
    rows = {(row.system, row.beams): row for row in report.rows}
    assert rows["native fp32", 1].equal_share == rows["native fp32", 2].equal_share == 1
    for row in report.rows:
        assert len(row.seconds) == len(row.cpu_seconds) == 2 and row.latency_ms > 0 and row.bleu is not None
    table = json.loads(report.to_json())
    assert len(table["rows"]) == len(report.rows) and table["rows"][0]["times_torch"] == 1
    assert report.to_text().count("native int8") == 2


@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_the_weights_go_where_they_belong_in_ctranslate2(tmp_path: Path, norm_position: str) -> None:
    """A given translation has the same log-probabilities there as here."""
    pytest.importorskip("ctranslate2")
    config = TransformerConfig.model_validate({"encoder_layers": 2, "decoder_layers": 2, "width": 32, "norm_position": norm_position})
    loaded = load_model(_save(tmp_path / "model", config))
    source, target = [4, 5, 6], [7, 8, 9]
    with torch.inference_mode():
        hidden = loaded.model.decode(torch.tensor([[SOS, *target]]), loaded.model.encode(torch.tensor([[*source, EOS]])))
        expected = loaded.model.read_out(hidden)[0].log_softmax(1).gather(1, torch.tensor([[*target, EOS]]).t()).flatten()
    peer = CTranslate2Model(loaded, compute="float32", threads=1)
    (found,) = peer.score([source], [target])
    assert found == pytest.approx(expected.tolist(), abs=1e-4)


def test_what_cannot_be_compared_is_said(folder: Path) -> None:
    assert obstacle(RecurrentConfig()) and obstacle(TransformerConfig(activation="swiglu")) and not obstacle(TransformerConfig())
    with pytest.raises(UsageError, match="4 sentences and 1 references"):
        compare.compare_engines(folder, texts=TEXTS, references=["x"], beams=[1], threads=1, repeats=1, say=lambda _: None)
