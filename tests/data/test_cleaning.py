"""Chunks are cleaned alike here and in other processes, in their order; a process that dies is told of."""

import os
import signal
import subprocess
import sys
from itertools import count, islice
from pathlib import Path

import pytest

from vitrail.data.cleaning import clean_corpus as cleaning
from vitrail.data.cleaning.clean import CleanConfig, Report, clean
from vitrail.data.cleaning.clean_corpus import Cleaned, clean_chunks
from vitrail.data.cleaning.filters import Reason
from vitrail.data.preparing.holdout import sentence_key
from vitrail.data.reading.parallel_text import CUT_MARK, SentencePair
from vitrail.errors import DataError, VitrailError

SIDES = [
    *[(f"The {number}th cat  sleeps\x07.", f"Le chat numéro {number} dort.") for number in range(60)],
    ("", "vide"),
    ("bytes \udcff\udc80", "octets"),
    ("cut" + CUT_MARK, "coupé"),
    ("tab\tand\rreturn\u2028here", "tout\vsur une\x85ligne"),
    ("<br>", "<br>"),
]
PAIRS = [SentencePair(*sides, line) for line, sides in enumerate(SIDES * 3, 1)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "CHUNK", 16)


def plain(chunks: list[Cleaned]) -> list[tuple[bytes, list[list[int]], Report]]:
    return [(chunk.rows, chunk.keys.tolist(), chunk.report) for chunk in chunks]


@pytest.mark.parametrize("processes", [1, 3])
def test_other_processes_give_the_same_chunks(processes: int) -> None:
    here = list(clean_chunks(PAIRS, config=CleanConfig(max_words=9), processes=0))
    apart = list(clean_chunks(PAIRS, config=CleanConfig(max_words=9), processes=processes))
    assert len(here) == -(-len(PAIRS) // 16)
    assert plain(apart) == plain(here)


def test_chunks_together_are_what_cleaning_keeps() -> None:
    report, summed = Report(), Report()
    kept = list(clean(PAIRS, config=CleanConfig(skip=(Reason.DUPLICATE,)), report=report))
    chunks = list(clean_chunks(PAIRS, config=CleanConfig(), processes=0))
    rows = b"".join(chunk.rows for chunk in chunks).decode().split("\n")[:-1]
    assert rows == [f"{pair.line}\t{pair.source}\t{pair.target}" for pair in kept]
    keys = [row for chunk in chunks for row in chunk.keys.tolist()]
    assert [row[1:] for row in keys] == [[sentence_key(pair.source), sentence_key(pair.target)] for pair in kept]
    assert len({row[0] for row in keys}) == len({pair[:2] for pair in kept}) < len(kept)
    for chunk in chunks:
        summed.add(chunk.report)
    assert (summed.total, summed.kept, summed.dropped, summed.normalised) == (report.total, report.kept, report.dropped, report.normalised)


def test_no_pairs_are_no_chunks() -> None:
    assert list(clean_chunks([], config=CleanConfig(), processes=2)) == []


def test_what_reading_raises_passes_and_ends_the_processes() -> None:
    def broken():
        yield from PAIRS[:40]
        raise DataError("corpus.en: changed while it was read")

    with pytest.raises(DataError, match="changed"):
        list(clean_chunks(broken(), config=CleanConfig(), processes=2))


def test_a_process_that_dies_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = cleaning._start

    def watched(config: CleanConfig) -> subprocess.Popen[bytes]:
        started.append(start(config))
        return started[-1]

    monkeypatch.setattr(cleaning, "_start", watched)
    endless = (SentencePair("a cat", "un chat", line) for line in count(1))
    chunks = clean_chunks(endless, config=CleanConfig(), processes=2)
    assert len(list(islice(chunks, 3))) == 3
    os.kill(started[1].pid, signal.SIGKILL)
    with pytest.raises(VitrailError, match="a cleaning process ended unexpectedly"):
        list(chunks)
    assert all(process.poll() is not None for process in started)


def test_modules_in_the_current_folder_are_not_taken_for_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    assert len(list(clean_chunks(PAIRS[:20], config=CleanConfig(), processes=1))) == 2


def test_a_script_needs_no_guard_for_its_main_module(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from vitrail.data.cleaning.clean import CleanConfig\nfrom vitrail.data.cleaning.clean_corpus import clean_chunks\n"
        "from vitrail.data.reading.parallel_text import SentencePair\n"
        "found = list(clean_chunks([SentencePair('a cat', 'un chat', 1)], config=CleanConfig(), processes=1))\n"
        "raise SystemExit(len(found) - 1)\n"
    )
    assert subprocess.run([sys.executable, str(script)], check=False).returncode == 0
