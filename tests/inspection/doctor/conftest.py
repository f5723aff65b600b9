"""A healthy run, trained once for all tests of the doctor, and the helpers that plant faults in copies of it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from planted_runs import train_tiny


@pytest.fixture(scope="session")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Transformer that was trained on the phrasebook for long enough to translate, if badly. Never changed: faults go into copies."""
    folder = tmp_path_factory.mktemp("healthy") / "run"
    train_tiny(folder)
    return folder
