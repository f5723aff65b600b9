"""Shared by all tests: the shapes that tensors are annotated with are checked at run time, and tests use few threads.

By default they are checked in the tests of the rooms that they are written in; with the slow tests everywhere.
"""

import os
import signal
from collections import defaultdict
from pathlib import Path
from zlib import crc32

import pytest

# In the background of a script SIGINT is ignored, and so it would be in every program that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook(["vitrail.nn", "vitrail.models", "vitrail.decode", "vitrail.data.batches"], "beartype.beartype")

# The same examples every time: a check that passes on one day does not fail on another without a change. No deadline: machines are shared.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


CHECKED = {"nn", "models", "decode", "contract", "data"}
"""Folders of tests in which shapes are always checked: it takes a quarter of the time of a small model's step."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Shapes are checked or not from here on, in fixtures as well."""
    below = item.path.relative_to(Path(__file__).parent).parts[0]
    checked = below in CHECKED or item.config.getoption("markexpr") != "not slow"
    jaxtyping.config.update("jaxtyping_disable", not checked)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test with many variants and `@pytest.mark.sampled(count)`, all but `count` are slow.

    Each test draws its own, always the same, so that together they meet every variant.
    """
    variants = defaultdict[str, list[pytest.Item]](list)
    for item in items:
        variants[item.nodeid.partition("[")[0]].append(item)
    for found in variants.values():
        sampled = found[0].get_closest_marker("sampled")
        drawn = sorted(found, key=lambda item: crc32(item.nodeid.encode()))
        for item in [] if sampled is None else drawn[sampled.args[0] :]:
            item.add_marker(pytest.mark.slow)
