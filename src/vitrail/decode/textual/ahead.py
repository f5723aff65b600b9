"""Work ahead: the next item is made in a thread while the last one is used."""

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from queue import Empty, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], *, on_close: Callable[[], None] = lambda: None) -> Generator[T, None, None]:
    """The items of an iterator, in order, made in a thread of its own: one waits, and one more is in the making.

    What the iterator raises is raised after the items before it. When this generator is closed, the thread ends with the item that it is
    making, and nobody waits for it.

    Args: on_close: called then, and after the last item.
    """
    made: Queue[tuple[T, ...] | BaseException] = Queue(maxsize=1)
    closed = Event()

    def work() -> None:
        last: tuple[T, ...] | BaseException = ()
        try:
            for item in items:
                made.put((item,))
                if closed.is_set():
                    break
        except BaseException as error:
            last = error
        if isinstance(items, Generator):
            items.close()
        if not closed.is_set():
            made.put(last)
        last = ()  # an error's traceback has this frame, and keeps what it iterates over

    Thread(target=work, daemon=True).start()
    try:
        while found := made.get():
            if isinstance(found, BaseException):
                raise found
            yield found[0]
    finally:
        closed.set()
        on_close()
        with suppress(Empty):
            while True:
                made.get_nowait()
