"""Which files of the package run for one training batch and for one translation: `python tools/traced.py` prints them as JSON.

A tiny model is trained and translates, and every call of a Python function is noted. Files that run now and then (validation, saving, a
line of metrics) are none of a batch: counted is what runs in at least half of the batches.
"""

import json
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import vitrail

PACKAGE = str(Path(vitrail.__file__).parent)
SETTINGS = [
    *("preset=tiny", "train.threads=1", "train.duration=60 steps", "train.validate_every=0 steps", "train.batch_tokens=256"),
    *("train.log_every=50", "data.subwords.kind=character", "train.select=loss", "train.validation_sentences=2"),
]
WORDS = (("red", "rouge"), ("green", "vert"), ("blue", "bleu"), ("grey", "gris"), ("black", "noir"), ("white", "blanc"), ("brown", "brun"))


class Calls:
    """The files whose functions were called; a new set begins at each call of a model's loss."""

    def __init__(self) -> None:
        self.sets: list[set[str]] = [set()]

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """What sys.setprofile calls."""
        name = frame.f_code.co_filename
        if event != "call" or not name.startswith(PACKAGE) or frame.f_code.co_name == "<module>":
            return
        file = name[len(PACKAGE) + 1 :]
        if frame.f_code.co_name == "loss" and file.startswith("models/"):
            self.sets.append(set())
        self.sets[-1].add(file)

    def __enter__(self) -> "Calls":
        threading.setprofile(self)
        sys.setprofile(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def usual(self) -> list[str]:
        """Files in at least half of the sets."""
        counts = Counter(file for found in self.sets for file in found)
        return sorted(file for file, count in counts.items() if 2 * count >= len(self.sets))


def pairs() -> list[tuple[str, str]]:
    """Invented sentences of up to four words."""
    places = [(a, b, c) for a in range(len(WORDS)) for b in range(len(WORDS)) for c in range(len(WORDS))]
    return [(f"it is {' '.join(WORDS[i][0] for i in row)} .", f"c'est {' '.join(WORDS[i][1] for i in row)} .") for row in places]


def main() -> None:
    """Train and translate, watched."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for side, name in enumerate(("a.en", "a.fr")):
            (folder / name).write_text("".join(f"{pair[side]}\n" for pair in pairs()))
        with Calls() as training:
            vitrail.train_translator(folder / "a.en", folder / "a.fr", folder / "run", settings=SETTINGS)
        translator = vitrail.load(folder / "run", threads=1)
        translator.translate("it is red .")
        with Calls() as translating:
            translator.translate("it is green .")
    files = {"batch": training.usual(), "translation": sorted(translating.sets[0]), "batches": len(training.sets) - 1}
    sys.stdout.write(json.dumps(files) + "\n")


if __name__ == "__main__":
    main()
