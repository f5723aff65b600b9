"""Training beside other work, at the smallest size."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from vitrail.bench import busy
from vitrail.bench.busy import BUSY_GOAL, QUIET_GOAL, BusyReport, WaitPolicy
from vitrail.bench.busy_worker import BusyTask
from vitrail.bench.training_speed import make_bench_corpus
from vitrail.bench.training_worker import save_batches
from vitrail.errors import UsageError
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.runtime.cores import WAITING
from vitrail.runtime.machine import Machine

PAIRS = [(f"the {a} sees {n} {b}s", f"le {a} voit {n} {b}s") for a in ("fox", "owl", "cat") for b in ("tree", "star") for n in range(2, 30)]
TWO_CORES = Machine("a processor", 2, "Linux", "3.11", {}, 0.1)


@pytest.mark.slow
def test_both_states_are_measured() -> None:
    said: list[str] = []
    report = busy.measure_busy_training(
        pairs=PAIRS, vocabulary=600, batch_tokens=128, threads=1, seconds=0.01, repeats=1, spin_counts=(50,), settle=0, say=said.append
    )
    assert [way.setting for way in report.ways] == [{}, WAITING, {"GOMP_SPINCOUNT": "50"}]
    assert all(len(way.quiet) == len(way.busy) == 1 and min(way.quiet + way.busy) > 0 for way in report.ways)
    assert report.same_bits and len(report.ways[0].digest) == 64
    assert "the same bits" in report.to_text() and len(said) == 2


@pytest.mark.slow
def test_no_bit_depends_on_how_threads_wait(tmp_path: Path) -> None:
    corpus = make_bench_corpus(PAIRS, vocabulary=600, batch_tokens=512, count=2)
    save_batches(tmp_path / "batches", corpus.batches)
    model = TransformerConfig(encoder_layers=1, decoder_layers=1, width=64, heads=2, feed_forward=64).model_dump(mode="json")
    task = BusyTask(model, corpus.vocabulary, str(tmp_path / "batches"), 2, "fp32", 2)
    digests: set[str] = set()
    for setting in (WAITING, {"OMP_WAIT_POLICY": "passive"}, {"GOMP_SPINCOUNT": "100"}):
        said = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | setting
        command = [sys.executable, "-m", "vitrail.bench.busy_worker"]
        done = subprocess.run(command, input=json.dumps(asdict(task)) + "\n", env=said, capture_output=True, text=True, check=True)
        digests.add(json.loads(done.stdout)["digest"])
    assert len(digests) == 1


def test_ratios_are_those_of_medians_to_what_is_fair() -> None:
    ways = (WaitPolicy("old", {}, (90, 100, 110), (5, 1, 9), "a"), WaitPolicy("new", {}, (97, 0, 98), (45, 40, 0), "b"))
    report = BusyReport(TWO_CORES, "", 2, 2, ways)
    assert report.fair_share == 0.5
    assert report.ratios(ways[0]) == (1.0, 0.1) and report.ratios(ways[1]) == (0.97, 0.8)
    record = json.loads(report.to_json())
    assert record["ways"][1]["busy_ratio"] == BUSY_GOAL == 0.8 and record["goals"]["quiet_ratio"] == QUIET_GOAL
    assert "NOT the same bits" in report.to_text()
    assert BusyReport(TWO_CORES, "", 1, 1, ways).fair_share == 1.0
    assert BusyReport(TWO_CORES, "", 2, 1, ways).fair_share == pytest.approx(2 / 3)


def test_counts_are_read() -> None:
    assert busy.read_counts("") == () and busy.read_counts("3, 40") == (3, 40)
    for wrong in ("x", "3,,4", "-1", "0"):
        with pytest.raises(UsageError, match="spin-counts"):
            busy.read_counts(wrong)
