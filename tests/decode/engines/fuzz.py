"""Compare the compiled search with torch on random models and requests: python tests/decode/engines/fuzz.py 0 100000

Four models of five are Transformers, a third of these with SSRUs in the decoder, the others recurrent; all requests but one of 32 are of
short sentences, so that many can be compared.
Prints each seed that finds something else, then how many there were and the seconds; the exit code is 1 where there was one but for ties of
two choices, where rounding decides.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from random_searches import KINDS, TIE, compare_with_torch, random_any_config

TOLD_SECONDS = 60.0
BRIEF = 32
"""All requests but one of so many are of short sentences."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the compiled search with torch.")
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int, help="the seed after the last")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began = told = time.monotonic()
    failed: list[int] = []
    tied: list[int] = []
    for done, seed in enumerate(range(asked.first, asked.last), start=1):
        if what := compare_with_torch(seed, random_any_config, brief=seed % BRIEF != 0):
            (tied if what.startswith(TIE) else failed).append(seed)
            print(f"seed {seed} ({KINDS[seed % len(KINDS)]}): {what}", flush=True)  # noqa: T201
        if time.monotonic() - told > TOLD_SECONDS:
            told = time.monotonic()
            print(f"{done:,} requests, {len(failed):,} differ, {told - began:.0f} seconds", file=sys.stderr, flush=True)  # noqa: T201
    seconds = time.monotonic() - began
    print(f"{asked.last - asked.first:,} requests, {len(failed):,} differ, {len(tied):,} more at a tie, {seconds:.0f} seconds")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
