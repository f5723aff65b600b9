"""The errors of the package for users, as one tree.

    VitrailError            exit 1    failed while running
    ├── NotWritten          exit 1    the disk refused a file (files/)
    ├── UsageError          exit 2    an invalid option or configuration
    ├── DataError           exit 3    input text that cannot be used
    ├── ModelError          exit 4    a model, a run or a file that is missing, damaged or incompatible
    │   └── Damaged         exit 4    a file that is not what its manifest says (files/)
    ├── TrainingError       exit 1    a training that cannot continue (diverged, out of memory, folder in use)
    ├── Stopped             exit 75   stopped on request; the same command resumes from here
    └── Interrupted         exit 130  Ctrl-C; what was saved is intact

Each has three texts: found, expected and remedy. `assert` is only for our own invariants.
"""

from typing import ClassVar


class VitrailError(Exception):
    """An error that the user can understand and fix.

    Args:
        found: what was found, after its place (`file:line` or a configuration key).
        expected: what was expected; empty where that is obvious.
        remedy: what to try next; empty only where nothing can be done.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, found: str, *, expected: str = "", remedy: str = "") -> None:
        self.found, self.expected, self.remedy = found, expected, remedy
        parts = [found]
        if expected:
            parts.append(f"  expected: {expected}")
        if remedy:
            parts.append(f"  try: {remedy}")
        super().__init__("\n".join(parts))


class UsageError(VitrailError):
    """An invalid option or configuration."""

    exit_code = 2


class DataError(VitrailError):
    """Input text that cannot be used."""

    exit_code = 3


class ModelError(VitrailError):
    """A model, a run or a file that is missing, damaged or incompatible."""

    exit_code = 4


class TrainingError(VitrailError):
    """A training that cannot continue: diverged, out of memory, or its folder is in use."""


class Stopped(VitrailError):
    """Stopped on request (SIGTERM); the same command resumes from the saved step."""

    exit_code = 75


class Interrupted(VitrailError):
    """Stopped by Ctrl-C; the same command resumes from the saved step."""

    exit_code = 130


_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "bad_alloc", "bad allocation")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out: a MemoryError of Python or NumPy, or an error of torch on processors ("can't allocate
    memory" on Linux and macOS, "not enough memory" on Windows), on GPUs, of C++ or of the system, recognised by its text.
    """
    text = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError | OSError) and any(words in text for words in _NO_MEMORY))
