"""Positions against their formulas."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitrail.errors import UsageError
from vitrail.nn.positions import LearnedPositions, NoPositions, Rotary, SinusoidalPositions, sinusoids


def test_the_table_is_the_papers_with_its_columns_sorted() -> None:
    table = sinusoids(300, 10)
    for t in (0, 1, 17, 299):
        for i in range(5):
            angle = t / 10000 ** (2 * i / 10)
            assert table[t, i].item() == pytest.approx(math.sin(angle), abs=3e-5)
            assert table[t, 5 + i].item() == pytest.approx(math.cos(angle), abs=3e-5)


def test_the_table_of_tensor2tensor_ends_at_a_ten_thousandth() -> None:
    table = sinusoids(300, 10, steps=4)
    for t in (0, 1, 17, 299):
        for i in range(5):
            angle = t / 10000 ** (i / 4)
            assert table[t, i].item() == pytest.approx(math.sin(angle), abs=3e-5)
            assert table[t, 5 + i].item() == pytest.approx(math.cos(angle), abs=3e-5)
    positions = SinusoidalPositions(10, steps=4)
    torch.testing.assert_close(positions(torch.zeros(1, 3, 10), 600)[0], sinusoids(603, 10, steps=4)[600:])
    with pytest.raises(UsageError, match="at least 4"):
        SinusoidalPositions(2, steps=0)


def test_the_table_grows_and_keeps_what_it_had() -> None:
    positions = SinusoidalPositions(8)
    early = positions(torch.zeros(1, 4, 8))
    late = positions(torch.zeros(1, 3, 8), 600)
    torch.testing.assert_close(late[0], sinusoids(603, 8)[600:])
    assert torch.equal(positions(torch.zeros(1, 4, 8)), early)
    assert torch.equal(positions(torch.zeros(1, 2, 8), 2)[0], early[0, 2:])
    assert not dict(positions.named_parameters()) and not positions.state_dict()


def test_positions_are_added_in_the_embeddings_type() -> None:
    assert SinusoidalPositions(8)(torch.zeros(1, 4, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
    embedded = torch.randn(2, 4, 8)
    assert torch.equal(NoPositions()(embedded, 3), embedded)


def test_learned_positions_end() -> None:
    positions = LearnedPositions(8, 5)
    assert torch.equal(positions(torch.zeros(1, 2, 8), 3)[0], positions.weight[3:])
    with pytest.raises(UsageError, match="position 6 with 5 learned positions"):
        positions(torch.zeros(1, 1, 8), 5)


@pytest.mark.parametrize("make", [SinusoidalPositions, Rotary])
def test_odd_widths_are_refused(make: type[SinusoidalPositions | Rotary]) -> None:
    with pytest.raises(UsageError, match="7"):
        make(7)


@given(query_at=st.integers(0, 400), key_at=st.integers(0, 400), shift=st.integers(0, 100))
def test_rotated_products_depend_on_the_distance_alone(query_at: int, key_at: int, shift: int) -> None:
    rotary = Rotary(8)
    draw = torch.Generator().manual_seed(1)
    query, key = torch.randn(1, 1, 1, 8, generator=draw), torch.randn(1, 1, 1, 8, generator=draw)
    here = (rotary(query, query_at) * rotary(key, key_at)).sum()
    there = (rotary(query, query_at + shift) * rotary(key, key_at + shift)).sum()
    torch.testing.assert_close(here, there, atol=2e-4, rtol=0)


def test_rotation_is_multiplication_by_a_complex_number() -> None:
    rotary, heads = Rotary(6), torch.randn(2, 3, 5, 6)
    rotated = rotary(heads, 7)
    plane = torch.complex(heads[..., :3].double(), heads[..., 3:].double())
    angles = torch.arange(7, 12, dtype=torch.float64)[:, None] / 10000 ** (torch.arange(3, dtype=torch.float64) / 3)
    turned = plane * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(rotated.double(), torch.cat([turned.real, turned.imag], dim=3), atol=1e-5, rtol=0)
    torch.testing.assert_close(rotated.norm(dim=3), heads.norm(dim=3))
    torch.testing.assert_close(rotary(heads)[:, :, 0], heads[:, :, 0])
