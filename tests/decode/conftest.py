"""The toy model and the random searches of these tests, and the list of models of tests/contract, importable from them."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "engines"), str(HERE.parent / "contract")]
