"""Shared by all tests: the shapes that tensors are annotated with are checked at run time, and tests use few threads."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook(["vitrail.nn", "vitrail.models", "vitrail.decode", "vitrail.data.batches"], "beartype.beartype")

# The same examples every time: a check that passes on one day does not fail on another without a change. No deadline: machines are shared.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
