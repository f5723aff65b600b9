"""Shared by all tests: the shapes that tensors are annotated with are checked at run time, and tests use few threads."""

import os
import signal

# In the background of a script SIGINT is ignored, and so it would be in every program that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook(["vitrail.nn", "vitrail.models", "vitrail.decode", "vitrail.data.batches"], "beartype.beartype")

# The same examples every time: a check that passes on one day does not fail on another without a change. No deadline: machines are shared.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
