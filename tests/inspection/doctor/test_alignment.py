"""Misaligned lines, found by lengths alone in arrays, and by a model's loss in a store."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from vitrail.data.preparing.prepared import open_prepared
from vitrail.data.preparing.store import Store, write_store
from vitrail.doctor.checks.misalignment import WINDOW, by_lengths, by_loss, lead_over_neighbours, misalignment, probe_loss
from vitrail.doctor.run_under_test import read_run_folder
from vitrail.models.model_folder import load_model

Lengths = npt.NDArray[np.int64]


def lengths(pairs: int, *, seed: int = 0) -> tuple[Lengths, Lengths]:
    """Sides whose lengths go together as those of real translations do: a correlation of 0.85 or so."""
    draw = np.random.default_rng(seed)
    source = draw.integers(4, 40, pairs)
    return source, np.maximum(1, np.round(source * 1.1 * np.exp(draw.normal(0, 0.25, pairs)))).astype(np.int64)


def shifted(target: Lengths, first: int, by: int) -> Lengths:
    """Lines too many before `first` (by > 0), or too few."""
    if by > 0:
        return np.concatenate([target[:first], np.full(by, 9), target[first:-by]])
    return np.concatenate([target[:first], target[first - by :], np.full(-by, 9)])


@pytest.mark.parametrize("by", [1, -1, 2, -2])
@pytest.mark.parametrize("first", [0, 1234, 5001])
def test_a_shift_is_found_by_lengths_with_its_size_and_first_line(first: int, by: int) -> None:
    source, target = lengths(8000)
    (found,) = by_lengths(source, shifted(target, first, by))
    assert found.by == by and found.last >= 8000 - WINDOW
    assert abs(found.first - first) <= 8


def test_a_shift_that_ends_is_found_with_its_end() -> None:
    source, target = lengths(8000)
    target[2000:4000] = np.roll(target[2000:4000], 1)
    (found,) = by_lengths(source, target)
    assert found.by == 1 and abs(found.first - 2000) <= 8 and abs(found.last - 3999) <= WINDOW


@pytest.mark.parametrize("seed", range(20))
def test_aligned_text_is_never_called_misaligned(seed: int) -> None:
    assert by_lengths(*lengths(4000, seed=seed)) == []


def test_sorted_text_repeated_text_and_text_of_one_length_are_not_called_misaligned() -> None:
    source, target = lengths(4000)
    order = np.argsort(source, kind="stable")
    assert by_lengths(source[order], target[order]) == []
    assert by_lengths(np.repeat(source, 3), np.repeat(target, 3)) == []
    assert by_lengths(np.full(4000, 7), np.full(4000, 8)) == []
    assert by_lengths(source[:30], target[:30]) == []


def test_a_stretch_of_lines_that_belong_nowhere_is_told_without_a_shift() -> None:
    source, target = lengths(8000)
    target[3000:4000] = np.random.default_rng(1).permutation(target[3000:4000])
    found = by_lengths(source, target)
    assert found and all(shift.by == 0 for shift in found)
    assert 2800 <= found[0].first <= 3200 and 3800 <= found[-1].last + 1 <= 4200


def test_windows_whose_neighbours_are_likelier_are_shifted() -> None:
    leads = np.array([[4.0, 5.0], [-3.0, 4.0], [4.0, -2.0], [-0.1, 0.2]])
    assert by_loss(leads) == {1: 1, 2: -1}


def store_of(healthy: Path, folder: Path, *, first: int | None) -> Store:
    """The healthy run's training text, with a target too many before pair `first`."""
    data = open_prepared(healthy / "data")
    store = data.stores[0]
    target = [store.target(place) for place in range(len(store))]
    if first is not None:
        target = [*target[:first], target[0], *target[first:-1]]
    with write_store(folder, data.vocabularies) as out:
        out.append([store.source(place) for place in range(len(store))], target)
    return Store.open(folder)


@pytest.mark.parametrize("first", [pytest.param(700, marks=pytest.mark.slow), 2345])
def test_a_shift_is_found_by_the_models_loss_alone(healthy: Path, tmp_path: Path, first: int) -> None:
    store = store_of(healthy, tmp_path / "store", first=first)
    (found,) = probe_loss(load_model(healthy).model, store) or []
    assert found.by == 1 and abs(found.first - first) <= 30


def test_the_model_agrees_with_text_that_is_aligned(healthy: Path, tmp_path: Path) -> None:
    store = store_of(healthy, tmp_path / "store", first=None)
    assert probe_loss(load_model(healthy).model, store) == []
    assert float(np.median(lead_over_neighbours(load_model(healthy).model, store, range(1, 40)))) > 0.5


def test_a_model_that_knows_nothing_is_not_asked(healthy: Path, tmp_path: Path) -> None:
    """Nor one whose losses are huge and have nothing to do with the source, as after a divergence."""
    store = store_of(healthy, tmp_path / "store", first=700)
    model = load_model(healthy).model
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith("decoder.0.cross_attention.output"):
                weight.zero_()
            elif name == "output_weight":
                weight.mul_(200)
    assert probe_loss(model, store) is None


@pytest.mark.parametrize("seed", range(4))
def test_sound_text_is_not_called_misaligned_by_a_model_that_diverged(healthy: Path, seed: int) -> None:
    patient = read_run_folder(healthy)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in patient.model.parameters():
            weight.normal_(std=3)
    assert {finding.severity for finding in misalignment(patient)} <= {"ok", "unchecked"}
