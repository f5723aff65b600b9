"""The benchmark of preparing: its text, and what it tells."""

import json
from pathlib import Path

import pytest

from vitrail.bench.preparing_speed import PrepareReport, measure_preparation, read_sizes
from vitrail.errors import UsageError


@pytest.fixture(scope="module")
def report() -> PrepareReport:
    return measure_preparation(sizes=[300, 3000])


@pytest.mark.slow
def test_each_size_is_prepared_and_measured(report: PrepareReport) -> None:
    small, large = report.costs
    assert (small.pairs, large.pairs) == (300, 3000)
    assert large.megabytes == pytest.approx(10 * small.megabytes, rel=0.2)
    for one in report.costs:
        assert one.seconds > 0 and one.processor_seconds > 0
        assert 20 < one.largest_megabytes <= one.together_megabytes
    table = report.to_text()
    assert "3,000" in table and f"{large.pairs_per_second:,.0f}" in table
    assert json.loads(report.to_json())["costs"][0]["pairs"] == 300


def test_the_text_is_parallel_and_varied(tmp_path: Path) -> None:
    from vitrail.bench.preparing_speed import _write

    sides = (tmp_path / "a.en", tmp_path / "a.fr")
    written = _write(sides, 500)
    source, target = (side.read_text(encoding="utf-8").splitlines() for side in sides)
    assert len(source) == len(target) == 500 and len(set(source)) > 490
    assert written <= sum(side.stat().st_size for side in sides)
    assert [len(line.split()) for line in source] == [len(line.split()) for line in target]
    # The same word has the same translation everywhere.
    pairs = {
        (one, other)
        for left, right in zip(source, target, strict=True)
        for one, other in zip(left[:-1].split(), right[:-1].split(), strict=True)
    }
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})


def test_the_number_of_pairs_is_read() -> None:
    assert read_sizes("1000,20000") == [1000, 20000]
    for wrong in ("", "many", "10", "1000,"):
        with pytest.raises(UsageError, match="--pairs"):
            read_sizes(wrong)
