"""A progress bar for translation, on a terminal that does not show the translation itself."""

import os
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol


class Advance(Protocol):
    """Called with the number of finished lines."""

    def __call__(self, done: int, /) -> None: ...


def count_lines(source: Path) -> int | None:
    """Number of unread lines of a file, or of the file that stdin is redirected from; None where it is unknown."""
    try:
        descriptor = sys.stdin.fileno() if source == Path("-") else os.open(source, os.O_RDONLY)
    except (OSError, ValueError, AttributeError):
        return None
    try:
        if source.suffix == ".gz" or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        at, lines, last = os.lseek(descriptor, 0, os.SEEK_CUR), 0, b"\n"
        while block := os.pread(descriptor, 1 << 20, at):
            at, lines, last = at + len(block), lines + block.count(b"\n"), block[-1:]
        return lines + (last != b"\n")
    except OSError:
        return None
    finally:
        if source != Path("-"):
            os.close(descriptor)


@contextmanager
def progress(total: int | None) -> Generator[Advance]:
    """Show finished lines, rate and time left on stderr, if it is a terminal and stdout is not."""
    if total is None or not sys.stderr.isatty() or sys.stdout.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    class Bar(Progress):
        def tell(self, task: TaskID, done: int) -> None:
            seconds = self.tasks[0].elapsed or 0.0
            self.update(task, completed=done, rate=f"{done / seconds:,.1f}" if seconds > 0 else "?")

    columns = (TextColumn("translating"), BarColumn(None), MofNCompleteColumn(), TextColumn("{task.fields[rate]} lines/s"))
    console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
    with Bar(*columns, TimeRemainingColumn(), TextColumn("left"), console=console, refresh_per_second=2, transient=True) as bar:
        task = bar.add_task("", total=total, rate="?")
        yield lambda done: bar.tell(task, done)
