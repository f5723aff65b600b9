"""Shared by all tests: the shapes that tensors are annotated with are checked at run time, and tests use few threads."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook(["vitrail.nn", "vitrail.models", "vitrail.decode", "vitrail.data.batches"], "beartype.beartype")
