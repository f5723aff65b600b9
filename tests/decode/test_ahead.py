"""Work ahead: order, errors in their place, and threads that end."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from vitrail.decode.textual.ahead import ahead


def test_everything_comes_in_order() -> None:
    assert list(ahead(range(100), str)) == [str(number) for number in range(100)]
    assert list(ahead((), str)) == []
    assert list(ahead(ahead("abc", str.upper), str.lower)) == ["a", "b", "c"]


def test_an_error_comes_after_the_items_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("third")

    seen: list[int] = []
    with pytest.raises(ValueError, match="third"):
        seen.extend(ahead(ahead(failing(), int), int))
    assert seen == [1, 2]


def test_an_error_in_the_making_comes_in_its_place() -> None:
    found = ahead("12x4", int)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="x"):
        next(found)


def test_it_works_in_another_thread_while_an_item_is_used() -> None:
    threads: set[int] = set()
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            threads.add(threading.get_ident())
            made.append(number)
            yield number

    found = ahead(items(), int)
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
    found = ahead(ahead(endless(), int), int)
    assert next(found) == 1
    found.close()
    assert closed.wait(5)
    until = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.001)
    assert threading.active_count() <= before


@pytest.mark.parametrize("reads", [False, True])
def test_a_program_ends_when_nothing_is_made(*, reads: bool) -> None:
    """A thread in the middle of it would abort the program (sentencepiece did); one that reads may do so for ever."""
    program = f"""if True:
        import time
        from threading import Event
        from vitrail.decode.textual.ahead import ahead
        begun, closed = Event(), Event()
        def items():
            yield 1
            if {reads}:
                begun.set()
                time.sleep(100)
            yield 2
        def make(number):
            if number == 2:
                begun.set()
                closed.wait(100)
                time.sleep(0.1)
                print("made", flush=True)
            return number
        found = ahead(items(), make, on_close=closed.set)
        print(next(found))
        begun.wait()
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("1\n" if reads else "1\nmade\n", "", 0)
