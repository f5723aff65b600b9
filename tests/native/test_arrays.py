"""Memory of one batch after the other."""

import numpy as np

from vitrail.native.arrays import LINE_BYTES, Arena


def test_an_arena_hands_out_arrays_that_do_not_overlap_and_uses_its_room_again() -> None:
    arena = Arena()
    for _ in range(3):
        make, made = arena.begin(), list[np.ndarray]()
        for number, (count, kind) in enumerate([(5, np.float32), (0, np.int64), (7, np.int64), (3, np.uint8), (9, np.uint16)] * 4):
            made.append(make(count, kind))
            assert made[-1].shape == (count,) and made[-1].dtype == kind
            made[-1].fill(number)
        assert all((array == number).all() for number, array in enumerate(made))
    assert all(array.ctypes.data % LINE_BYTES == 0 and array.ctypes.data == arena.address_of(array) for array in made if len(array))
    assert arena.begin()(5, np.float32).ctypes.data == made[0].ctypes.data


def test_what_is_beyond_an_arena_gets_memory_of_its_own() -> None:
    arena = Arena(most_bytes=1024)
    for _ in range(3):
        make = arena.begin()
        small, large = make(10, np.float32), make(10_000, np.float32)
        small.fill(1)
        large.fill(2)
        assert (small == 1).all() and (large == 2).all()
        assert [arena.address_of(array) for array in (small, large)] == [small.ctypes.data, large.ctypes.data]


def test_arrays_of_one_batch_are_where_those_of_the_next_are_and_others_are_kept() -> None:
    arena = Arena()
    for _ in range(3):
        kept, passing = list[np.ndarray](), list[np.ndarray]()
        make = arena.begin()
        for batch in range(4):
            begun = arena.begin_batch()
            kept.append(make(10, np.int64))
            passing.append(begun(10, np.int64))
            kept[-1].fill(batch)
            passing[-1].fill(batch)
            assert arena.address_of(passing[-1]) == passing[-1].ctypes.data
        assert [array[0] for array in kept] == [0, 1, 2, 3]
    assert len({array.ctypes.data for array in passing}) == 1


def test_an_arena_brings_back_what_its_arrays_held() -> None:
    arena = Arena()
    for round_ in range(2):
        make, passing = arena.begin(), arena.begin_batch()
        whole, part, passed = make(3, np.int64), make(5, np.float32), passing(4, np.float32)
        whole[:], part[:], passed[:] = [1, 2, 3], 0.5, 7
        copy = arena.copy()
        assert (copy is None) == (round_ == 0)  # the room grows when it is used again
        whole[:], part[:], passed[:] = 9, 9, 9
        if copy is not None:
            arena.restore(copy)
            assert whole.tolist() == [1, 2, 3] and (part == 0.5).all() and (passed == 9).all()


def test_what_was_made_of_an_arenas_arrays_ends_with_them() -> None:
    arena = Arena()
    for begin in (arena.begin, arena.begin_batch):
        arena.reusable = "made"
        begin()
        assert arena.reusable is None
