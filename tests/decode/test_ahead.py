"""Work ahead: order, errors in their place, and threads that end."""

import threading
import time
from collections.abc import Iterator

import pytest

from vitrail.decode.textual.ahead import ahead


def test_everything_comes_in_order() -> None:
    assert list(ahead(iter(range(100)))) == list(range(100))
    assert list(ahead(iter(()))) == []
    assert list(ahead(ahead(iter("abc")))) == ["a", "b", "c"]


def test_an_error_comes_after_the_items_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("third")

    seen: list[int] = []
    with pytest.raises(ValueError, match="third"):
        seen.extend(ahead(ahead(failing())))
    assert seen == [1, 2]


def test_it_works_in_another_thread_while_an_item_is_used() -> None:
    threads: set[int] = set()
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            threads.add(threading.get_ident())
            made.append(number)
            yield number

    found = ahead(items())
    assert next(found) == 0
    until = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < until:
        time.sleep(0.001)
    assert made == [0, 1, 2]  # one waits, one more is made
    assert threading.get_ident() not in threads
    found.close()


def test_closed_it_ends_its_threads_and_what_they_read() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    before = threading.active_count()
    found = ahead(ahead(endless()))
    assert next(found) == 1
    found.close()
    assert closed.wait(5)
    until = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.001)
    assert threading.active_count() <= before
