"""The toy model of these tests, and the list of models of tests/contract, importable from them."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "contract")]
