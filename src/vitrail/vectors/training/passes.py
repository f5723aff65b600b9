"""Pieces of text by several threads, without locks."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from vitrail.vectors.training.piece import Learning, PieceResult


def run_pieces(
    learning: Learning, places: Iterable[int], *, threads: int, go_on: Callable[[], bool] = lambda: True
) -> Iterator[PieceResult]:
    """Read pieces, numbered over all epochs, and yield their results in order.

    No piece is begun once `go_on` says no; those that were begun are finished and yielded. With one thread each is finished before the next begins.
    """

    def read(place: int) -> PieceResult:
        return learning.read_piece(*divmod(place, learning.pieces))

    pending = iter(places)
    if threads == 1:
        while go_on():
            place = next(pending, None)
            if place is None:
                return
            yield read(place)
        return
    with ThreadPoolExecutor(threads) as pool:
        # Twice as many as threads: no thread waits until the oldest piece is finished.
        running = [pool.submit(read, place) for place in islice(pending, 2 * threads)]
        while running:
            yield running.pop(0).result()
            if go_on():
                running += [pool.submit(read, place) for place in islice(pending, 1)]
