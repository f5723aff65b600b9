"""The display of a training: a bar in a terminal, plain lines elsewhere, and always `log.txt` in the run directory."""

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from logging.handlers import MemoryHandler
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from vitrail.runtime.streams import unfailing
from vitrail.train.log.metrics import Event

_log = logging.getLogger("vitrail")
_MOST_HELD = 10_000
"""Lines kept until the folder is known to be ours; a preparation has about a dozen."""


class _LogFile(logging.FileHandler):
    """A log whose write errors are ignored: a full disk must not end a training or print tracebacks."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # it is opened here, at the first line
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        pass


class _Shown(logging.Handler):
    """Shows warnings among the other lines."""

    def __init__(self, print_line: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._print_line = print_line

    def emit(self, record: logging.LogRecord) -> None:
        self._print_line(f"warning: {record.getMessage()}")


class TrainingDisplay:
    """Shows events and lines on stderr, and keeps them in `log.txt` once the folder is known to be this training's.

    with TrainingDisplay(folder) as display:
        train(config, folder, observers=[display.observe], say=display.say, begin=display.keep)
    """

    def __init__(self, folder: Path, *, stream: TextIO | None = None) -> None:
        self._console = Console(file=unfailing(sys.stderr if stream is None else stream), highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(None), TaskProgressColumn(), TextColumn("{task.fields[figures]}"))
            self._bar = Progress(*columns, console=self._console, refresh_per_second=2, transient=True)
            self._task = self._bar.add_task("training", total=1.0, figures="")
        self._file = _LogFile(folder / "log.txt", encoding="utf-8", errors="backslashreplace", delay=True)
        self._file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._held = MemoryHandler(_MOST_HELD, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
        self._shown = _Shown(self._print)

    def __enter__(self) -> "TrainingDisplay":
        _log.setLevel(logging.INFO)
        for handler in (self._held, self._shown):
            _log.addHandler(handler)
        return self

    def keep(self) -> None:
        """Write all lines to `log.txt` from now on, and the earlier ones, too."""
        _log.addHandler(self._file)
        _log.removeHandler(self._held)
        self._held.setTarget(self._file)
        self._held.flush()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        if error is not None:
            # A file's name may have bytes that are no text, which a log cannot have.
            _log.info("%s", str(error).encode("utf-8", "backslashreplace").decode())
        for handler in (self._held, self._file, self._shown):
            _log.removeHandler(handler)
        self._held.close()
        self._file.close()

    def say(self, line: str) -> None:
        """Show a line, and log it."""
        self.note(line)
        self._print(line)

    def note(self, line: str) -> None:
        """Log a line without showing it."""
        _log.info("%s", line)

    def observe(self, event: Event) -> None:
        """Show an event of the training."""
        values = event.values
        match event.kind:
            case "train":
                self._advance(event.step, values, unit=event.unit)
            case "validation":
                self.say(validation_line(event.step, values))
            case "mixed":
                self.say(f"{values['old_share']:.0%} old weights: {validation_line(event.step, values)}")
            case _:
                _log.info("step %d: %s %s", event.step, event.kind, values)

    def _print(self, line: str) -> None:
        self._console.print(Text(line))

    def _advance(self, step: int, values: dict[str, Any], *, unit: str) -> None:
        figures = f"loss {values['loss_nats_per_token']:.3f}  {values['tokens_per_second']:,.0f} {unit}/s"
        left = remaining(values["seconds"], values["done_share"])
        line = f"step {step:,}  epoch {values['epoch']:.1f}  {figures}  {left} left"
        self.note(line)
        if self._bar is None:
            self._print(f"{line}  ({values['done_share']:.0%})")
        else:
            self._bar.start()
            self._bar.update(self._task, completed=values["done_share"], description=f"step {step:,}", figures=f"{figures}  {left} left")


def validation_line(step: int, values: dict[str, Any]) -> str:
    """A validation on one line; below it, one for each further dev text."""
    mark = "  best so far" if values.get("best") else ""
    names = [key.removeprefix("dev_chrf/") for key in values if key.startswith("dev_chrf/")]
    more = [
        f"    {name}: loss {values[f'dev_loss_nats_per_token/{name}']:.3f}"
        f"  BLEU {values[f'dev_bleu/{name}']:.2f}  chrF {values[f'dev_chrf/{name}']:.2f}"
        for name in names
    ]
    line = f"step {step:,}  dev loss {values['dev_loss_nats_per_token']:.3f}"
    if "dev_matthews" in values:
        line += f"  accuracy {values['dev_accuracy']:.1%}  macro F1 {values['dev_f1']:.3f}  Matthews {values['dev_matthews']:.3f}"
    if "dev_perplexity" in values:
        line += f"  perplexity {values['dev_perplexity']:.2f}"
    if "dev_bleu" in values:
        line += f"  BLEU {values['dev_bleu']:.2f}  chrF {values['dev_chrf']:.2f}"
    if "dev_bits_per_byte" in values:
        words = f", {values['dev_perplexity_per_word']:.4g} a word" if "dev_perplexity_per_word" in values else ""
        line += f" a token{words}  {values['dev_bits_per_byte']:.3f} bits a byte"
    return "\n".join([line + mark, *more])


def remaining(seconds: float, done_share: float) -> str:
    """The time left, as 1:02:03 or 2:03, when a share of `done_share` took `seconds`."""
    if done_share <= 0:
        return "?"
    minutes, second = divmod(round(seconds * (1 - done_share) / done_share), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
