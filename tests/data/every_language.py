"""Prepare many languages without configuration, from and into one, and show what each loses: python tests/data/every_language.py FOLDER.

FOLDER holds files of equally many lines, line n of each meaning the same, whose endings name the languages, such as NTREX-128's
newstest2019.fra. Exits with 1 where a preparation fails, or drops more of its pairs than it may: 0.5 %. Duplicates and sentences kept
out of training for dev and test are told, but are no loss.
"""

import argparse
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vitrail.config import Override, build
from vitrail.data.cleaning.filters import Reason
from vitrail.data.preparing.prepare import DataConfig, prepare
from vitrail.data.preparing.prepared import NEIGHBOUR, OVERLAP
from vitrail.errors import VitrailError
from vitrail.train.request import Request, plan_run

NO_LOSS = (Reason.DUPLICATE.value, OVERLAP, NEIGHBOUR)


class Outcome(NamedTuple):
    """What became of one direction."""

    pairs: int
    lost: dict[str, int]
    """By reason."""
    aside: int
    """Duplicates, and pairs like those of dev and test."""
    size: int
    """Of the source's vocabulary."""
    failure: str = ""

    @property
    def share(self) -> float:
        return sum(self.lost.values()) / self.pairs

    def to_text(self) -> str:
        if self.failure:
            return f"FAILED: {self.failure}"
        reasons = ", ".join(f"{reason} {number}" for reason, number in self.lost.items())
        return f"{sum(self.lost.values()):>4} of {self.pairs:,} {self.share:7.2%}  ({self.aside} aside, {self.size:,} ids)  {reasons}"


def try_out(source: Path, target: Path, settings: Sequence[Override]) -> Outcome:
    """Prepare two files as `vitrail prepare --source --target` does."""
    corpus = Override(("data", "corpora"), [{"source": str(source), "target": str(target)}])
    with tempfile.TemporaryDirectory() as scratch:
        try:
            planned = plan_run(Request(overrides=(corpus, *settings)), Path(scratch), gpu=False)
            prepared = prepare(build(DataConfig, planned.table["data"], origin="data"), Path(scratch) / "data", workers=1)
        except VitrailError as error:
            return Outcome(1, {}, 0, 0, str(error).replace("\n", " "))
    dropped = prepared.report.dropped
    lost = {reason: number for reason, number in dropped.items() if reason not in NO_LOSS}
    return Outcome(prepared.report.read, lost, sum(dropped.values()) - sum(lost.values()), prepared.vocabularies.source.size)


def script(path: Path) -> str:
    """The script of most letters, by the first word of their names: LATIN, CJK, DEVANAGARI."""
    letters = filter(str.isalpha, path.read_text(encoding="utf-8"))
    names = Counter(unicodedata.name(letter, "UNKNOWN").split()[0] for letter in letters)
    return names.most_common(1)[0][0] if names else "NONE"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--pivot", default="eng", help="the language from and into which all others are prepared")
    arguments.add_argument("--most", type=float, default=0.005, help="the share of its pairs that a preparation may drop")
    arguments.add_argument("--size", type=int, help="subwords.size, instead of the automatic choice")
    arguments.add_argument("languages", nargs="*", help="some instead of all")
    asked = arguments.parse_intermixed_args()
    files = {path.name.split(".", 1)[1]: path for path in sorted(asked.folder.iterdir()) if path.suffix not in (".md", ".txt", "")}
    pivot = files.pop(asked.pivot)
    settings = [Override(("data", "subwords", "size"), asked.size)] if asked.size else []
    bad: list[str] = []
    outcomes: list[tuple[str, Outcome]] = []
    for language in asked.languages or files:
        path = files[language]
        for name, sides in ((f"{asked.pivot}-{language}", (pivot, path)), (f"{language}-{asked.pivot}", (path, pivot))):
            found = try_out(*sides, settings)
            sys.stdout.write(f"{name:<20} {script(path):<12} {found.to_text()}\n")
            sys.stdout.flush()
            bad += [name] if found.failure or found.share > asked.most else []
            outcomes.append((name, found))
    worst = max(outcomes, key=lambda one: (bool(one[1].failure), one[1].share))
    sys.stdout.write(f"\nworst: {worst[0]}: {worst[1].to_text().strip()}\n")
    sys.stdout.write(f"{len(bad)} beyond {asked.most:.1%} or failed{': ' + ', '.join(bad) if bad else ''}\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
