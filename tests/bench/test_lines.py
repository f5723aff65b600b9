"""Very many lines, and translation beside other work, at the smallest size."""

import json
from pathlib import Path

import pytest
import torch

from vitrail.bench.translating import beside_work, many_lines
from vitrail.bench.translating.beside_work import BusyRow, BusyTranslation
from vitrail.bench.translating.many_lines import Finished, LinesBench
from vitrail.bench.translating.tuning import Wanted
from vitrail.data.vocabularies.subwords import Vocabularies, train_sentencepiece
from vitrail.decode.search_config import TranslateConfig
from vitrail.decode.textual.text_constraints import TextConstraints
from vitrail.decode.translate import Translator
from vitrail.errors import UsageError, VitrailError
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import save_model
from vitrail.runtime.machine import Machine

TEXTS = ["a dog runs", "", "two men walk home. the old cat sleeps.", "she reads " * 40]
TWO_CORES = Machine("a processor", 2, "Linux", "3.11", {}, 0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    vocabulary = train_sentencepiece(TEXTS, size=300)
    both = Vocabularies(vocabulary, vocabulary, joint=True)
    config = TransformerConfig(encoder_layers=1, decoder_layers=1, width=32, feed_forward=32)
    save_model(tmp_path / "model", tensors=unique_tensors(build_model(config, both)), config=config, vocabularies=both, facts={})
    return tmp_path / "model"


@pytest.mark.slow
def test_the_command_and_its_engine_are_measured(folder: Path) -> None:
    said: list[str] = []
    report = many_lines.measure_lines(folder, TEXTS, lines=400, search={"beams": 2, "max_length": 4}, threads=1, say=said.append)
    assert report.lines == 400 and report.engine_lines == 80 and report.beams == 2
    assert report.whole.peak_bytes >= report.one.peak_bytes > 50 << 20
    assert "memory at most" in report.to_text() and json.loads(report.to_json())["goals"]["share"] == 0.9
    with pytest.raises(VitrailError, match="vitrail translate ended with"):
        many_lines._run_command(["translate", str(folder / "none")])  # pyright: ignore[reportPrivateUsage]


def test_lines_that_are_searched_beside_others_are_translated_alike(folder: Path) -> None:
    """Short, long and empty ones, in portions; a constraint that cannot be satisfied is told by the first."""
    pytest.importorskip("numba")
    config = TranslateConfig(window_lines=7)
    translator = Translator.load(folder, engine="native", threads=2, config=config, search={"beams": 2, "max_length": 6})
    assert translator.engine.works_beside
    texts = [*TEXTS, " ", "12:30", "a"] * 5
    assert list(translator.translate_stream(texts)) == translator.translate(texts)
    some = translator.translate_stream(iter(texts * 100))
    assert [next(some).source for _ in range(9)] == texts[:9]
    some.close()
    with pytest.raises(UsageError):
        next(translator.translate_stream(texts, constraints=TextConstraints(forced=("",))))


def test_rates_are_without_the_start() -> None:
    whole, one = Finished(12.0, 22.0, 300 << 20), Finished(2.0, 2.0, 200 << 20)
    report = LinesBench(TWO_CORES, "m", "native (int8)", 1001, 5, 2, whole, one, (1.8, 2.2, 2.0), (3.6, 3.6, 3.6), 200)
    assert report.lines_per_second == 100 and report.share == 1 and report.cpu_share == pytest.approx(0.9)
    assert "300 MiB" in report.to_text() and "200 for one line" in report.to_text()


def test_no_text_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="0 texts"):
        many_lines.measure_lines(folder, [], lines=10, search={}, threads=1, say=print)
    with pytest.raises(UsageError, match="0 texts"):
        beside_work.measure_busy_translation(Wanted(folder, [1], 1), [], busy_threads=1, seconds=1, repeats=1, say=print)


@pytest.mark.slow
def test_both_states_are_measured(folder: Path) -> None:
    wanted = Wanted(folder, [1], 1, only=["torch"])
    report = beside_work.measure_busy_translation(wanted, TEXTS, busy_threads=1, seconds=0.01, repeats=2, say=lambda _: None)
    (row,) = report.rows
    assert len(row.quiet) == len(row.busy) == 2 and min(row.quiet + row.busy) > 0


def test_shares_are_those_of_rounds_to_what_is_fair() -> None:
    row = BusyRow("native int8", (100, 200, 300), (50, 120, 180))
    report = BusyTranslation(TWO_CORES, "m", 5, 2, 1, ("eole: no",), (row,))
    assert row.kept == 0.6 and report.fair_share == pytest.approx(2 / 3)
    (told,) = json.loads(report.to_json())["rows"]
    assert told["of_fair_share"] == pytest.approx(0.9)
    assert "not measured: eole: no" in report.to_text() and "0.90" in report.to_text()
