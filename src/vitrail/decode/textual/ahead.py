"""Work ahead: the next item is made in a thread while the last one is used."""

import atexit
import os
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from queue import Empty, Queue
from threading import Event, Lock, Thread
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def ahead(items: Iterable[S], make: Callable[[S], T], *, on_close: Callable[[], None] = lambda: None) -> Generator[T, None, None]:
    """What is made of each item, in order, in a thread of its own: one waits, and one more is in the making.

    What reading or making raises is raised after the items before it. When this generator is closed, the thread ends with the item that it
    is reading or making, and nobody waits for it. The end of the program waits until nothing is made, but not for what is read.

    Args: on_close: called then, and after the last item; what is made should end soon.
    """
    made: Queue[tuple[T, ...] | BaseException] = Queue(maxsize=1)
    closed, making, process = Event(), Lock(), os.getpid()

    def work() -> None:
        last: tuple[T, ...] | BaseException = ()
        try:
            for item in items:
                with making:
                    if closed.is_set():
                        break
                    one = make(item)
                made.put((one,))
                del item, one
                if closed.is_set():
                    break
        except BaseException as error:
            last = error
        if not closed.is_set():
            made.put(last)
        last = ()  # an error's traceback has this frame, and keeps what it iterates over
        atexit.unregister(leave)

    def leave() -> None:
        """The end of the program: a thread that is then in the middle of a library in C++, as a tokenizer, would abort it."""
        if os.getpid() == process:  # in a forked process what that thread had locked stays so
            closed.set()
            on_close()
            making.acquire()

    atexit.register(leave)
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
