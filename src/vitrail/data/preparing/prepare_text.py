"""Make a prepared folder from the raw text of a language model: clean, hold out, learn a vocabulary, encode. Called by `prepare`.

The text is read twice. Lines keep their order, since a model predicts a line from those before it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail.data.cleaning.blank_lines import CUT, EMPTY, INVALID_UTF8, BlankLines
from vitrail.data.cleaning.normalise import normalise
from vitrail.data.preparing.holdout import SplitRole, sentence_key
from vitrail.data.preparing.prepared import (
    NEIGHBOUR,
    OVERLAP,
    REPORT_JSON,
    REPORT_TEXT,
    TEXT_FORMAT,
    PreparedReport,
    readable_json,
    report_to_text,
    store_name,
    to_lines,
    write_index,
)
from vitrail.data.preparing.store import TEXT, Store, write_store
from vitrail.data.reading.lines import Notes
from vitrail.data.text_config import TextConfig, TextFile
from vitrail.data.vocabularies.subwords import EOS, UNK, Vocabularies
from vitrail.data.vocabularies.taking import make_vocabulary, new_tokens
from vitrail.errors import DataError
from vitrail.files import FileWriter, publish_folder, remove_folder

_BLOCK_LINES = 20
"""Neighbouring lines that are held out together: lines beside training lines would be too easy a test."""
_SHARE, _MOST = 0.04, 1_000
"""Default share of the lines held out for each of dev and test, and their largest number."""
SAME_FROM = 5
"""A line of dev or test with at least this many words is left out of training; shorter ones are common phrases."""
_CHUNK = 50_000


@dataclass(frozen=True)
class TextPreparation:
    """One preparation: its steps in order, and its folders."""

    config: TextConfig
    counts: list[int]
    """Lines of each text, as they are."""
    work: Path
    workers: int
    say: Callable[[str], None]

    def run(self, asked: dict[str, Any]) -> None:
        """Make the whole folder at `tree`."""
        held, wholes = {"dev": list[str](), "test": list[str]()}, dict[str, Any]()
        for name, given in (("dev", self.config.dev), ("test", self.config.test)):
            if given is not None:
                held[name], wholes[name] = _read_whole(given, blank_lines=self.config.keeps_blank_lines)
        known = {sentence_key(line) for lines in held.values() for line in lines if len(line.split()) >= SAME_FROM}
        reports: list[dict[str, Any]] = []
        with publish_folder(self.work / "scratch") as scratch:
            for place, text in enumerate(self.config.text):
                self.say(f"reading {text.label}")
                with scratch.create(str(place)) as file:
                    reports.append(self._clean(text, file, known))
        roles = self._roles([report["kept"] for report in reports])
        for place, of_text in enumerate(roles):
            self._hold_out(place, of_text, held)
        own = {sentence_key(line) for lines in held.values() for line in lines if len(line.split()) >= SAME_FROM} - known
        self.say("taking the vocabulary" if self.config.subwords.folders() else "learning the vocabulary")
        train = [self._train_lines(place, of_text, own) for place, of_text in enumerate(roles)]
        vocabularies = make_vocabulary((line for lines in train for line in lines() if line), config=self.config.subwords)
        grown, lines = new_tokens(self.config.subwords, vocabularies)
        for line in lines:
            self.say(line)
        stores = [
            self._encode(place, train[place], vocabularies, report=report, roles=of_text)
            for place, (report, of_text) in enumerate(zip(reports, roles, strict=True))
        ]
        remove_folder(self.work / "scratch")
        self._write(asked, vocabularies=vocabularies, stores=stores, held=held, reports=reports, given=wholes, grown=grown)

    def _clean(self, text: TextFile, file: FileWriter, known: set[int]) -> dict[str, Any]:
        """Write the lines that are kept to a scratch file, and count the others by reason."""
        notes, dropped, kept, read = Notes(), Counter[str](), 0, 0
        blanks = BlankLines(keep=self.config.keeps_blank_lines)
        for line in text.lines(notes=notes):
            read += 1
            found = blanks.fault(line)
            clean = "" if found else normalise(line)
            if not found and len(clean.split()) >= SAME_FROM and sentence_key(clean) in known:
                found = OVERLAP
            if found:
                dropped[found] += 1
            else:
                file.write(f"{clean}\n".encode())
                kept += 1
        if not kept:
            reasons = ", ".join(f"{reason} {number:,}" for reason, number in dropped.items())
            long = dropped[CUT]
            remedy = "a sentence or a paragraph a line, such as by: fold -s -w 2000" if long else "look at the text"
            raise DataError(f"{text.label}: of {read:,} lines none is left to train on ({reasons})", remedy=remedy)
        repaired = {name: dict(sorted(seen.items())) for name, seen in notes.counts.items()}
        return {"name": text.label, "read": read, "kept": kept, "dropped": dropped, "repaired": repaired}

    def _lines(self, place: int) -> Iterator[str]:
        with (self.work / "scratch" / str(place)).open("rb") as file:
            for row in file:
                yield row[:-1].decode()

    def _roles(self, kept: list[int]) -> list[npt.NDArray[np.uint8]]:
        """The role of every line: blocks of neighbours for dev and test, spread evenly over all texts and drawn by the settings alone."""
        total = sum(kept)
        wanted = {
            SplitRole.DEV: 0 if self.config.dev else _number(self.config.holdout.dev_lines, total),
            SplitRole.TEST: 0 if self.config.test else _number(self.config.holdout.test_lines, total),
        }
        if sum(wanted.values()) >= total:
            raise DataError(f"{total:,} lines, of which {sum(wanted.values()):,} are to be held out", remedy="hold out fewer")
        roles = np.full(total, SplitRole.TRAIN, dtype=np.uint8)
        size = max(1, min(_BLOCK_LINES, total // 100))  # short blocks in a short text, so that dev is not from one place alone
        blocks = np.random.PCG64(0).random_raw(-(-total // size)).argsort(kind="stable") * size
        lines = (line for start in blocks.tolist() for line in range(start, min(start + size, total)))
        for role, number in wanted.items():
            roles[list(islice(lines, number))] = role
        return np.split(roles, np.cumsum(kept)[:-1])

    def _hold_out(self, place: int, roles: npt.NDArray[np.uint8], held: dict[str, list[str]]) -> None:
        if (roles == SplitRole.TRAIN).all():
            return
        for line, role in zip(self._lines(place), roles.tolist(), strict=True):
            if role != SplitRole.TRAIN:
                held["dev" if role == SplitRole.DEV else "test"].append(line)

    def _train_lines(self, place: int, roles: npt.NDArray[np.uint8], own: set[int]) -> Callable[[], Iterator[str]]:
        def lines() -> Iterator[str]:
            for line, role in zip(self._lines(place), roles.tolist(), strict=True):
                if role == SplitRole.TRAIN and not (len(line.split()) >= SAME_FROM and sentence_key(line) in own):
                    yield line

        return lines

    def _encode(
        self,
        place: int,
        lines: Callable[[], Iterator[str]],
        vocabularies: Vocabularies,
        *,
        report: dict[str, Any],
        roles: npt.NDArray[np.uint8],
    ) -> Store:
        """Write the store of one text: every line to train on, each with its EOS."""
        self.say(f"encoding {report['name']}")
        words = unknown = 0
        end, remaining = np.array([EOS], dtype=np.int32), lines()
        folder = self.work / "tree" / store_name(place)
        with write_store(folder, vocabularies, roles=TEXT) as writer:
            while chunk := list(islice(remaining, _CHUNK)):
                rows = vocabularies.target.encode_arrays(chunk, threads=self.workers)
                writer.append([np.concatenate([row, end]) for row in rows])
                words += sum(len(line.split()) for line in chunk)
                unknown += sum(int(np.count_nonzero(row == UNK)) for row in rows)
            report["train"] = writer.pairs
        report |= {
            "dev": int((roles == SplitRole.DEV).sum()),
            "test": int((roles == SplitRole.TEST).sum()),
            "words": words,
            "unknown": unknown,
        }
        twice = report.pop("kept") - report["train"] - report["dev"] - report["test"]
        report["dropped"] = dict(report["dropped"] + Counter({NEIGHBOUR: twice}))
        return Store.open(folder)

    def _write(
        self,
        asked: dict[str, Any],
        *,
        vocabularies: Vocabularies,
        stores: list[Store],
        held: dict[str, list[str]],
        reports: list[dict[str, Any]],
        given: dict[str, Any],
        grown: dict[str, Any],
    ) -> None:
        totals = {key: sum(report[key] for report in reports) for key in ("read", "train", "dev", "test")}
        dropped = sum((Counter(report["dropped"]) for report in reports), Counter[str]())
        report = totals | {"dropped": dict(dropped), "texts": reports, "given": given}
        tokens = sum(len(store.ids("text")) for store in stores)
        facts = {
            "language": self.config.language,
            "lines": totals["train"],
            "dev_lines": len(held["dev"]),
            "test_lines": len(held["test"]),
            "words": sum(part["words"] for part in reports),
            "tokens": tokens,
            "vocabulary": vocabularies.target.size,
            **grown,
        }
        content = {name: side.to_bytes() for name, side in vocabularies.files().items()}
        content |= {f"{name}.text": to_lines(lines) for name, lines in held.items() if lines}
        content |= {REPORT_JSON: readable_json(report), REPORT_TEXT: report_to_text(report).encode()}
        stored = [{"name": part["name"], "weight": 1.0, "digest": store.digest} for part, store in zip(reports, stores, strict=True)]
        write_index(self.work / "tree", {"format": TEXT_FORMAT, "fingerprint": asked, "facts": facts, "stores": stored}, content)


def _number(wanted: int | None, lines: int) -> int:
    return min(_MOST, int(_SHARE * lines)) if wanted is None else wanted


def _read_whole(text: TextFile, *, blank_lines: bool) -> tuple[list[str], dict[str, Any]]:
    """A text that perplexity is measured on: every line that holds something."""
    lines, faults, blanks = list[str](), Counter[str](), BlankLines(keep=blank_lines)
    for line in text.lines():
        found = blanks.fault(line)
        if found:
            faults[found] += 1
        else:
            lines.append(normalise(line))
    if not lines:
        raise DataError(f"{text.label}: has no readable line", expected="UTF-8 text")
    return lines, {"name": text.label, "lines": len(lines), "found": dict(faults)}


def describe_dropped_lines(report: PreparedReport) -> Iterator[str]:
    """Lines on what was left out of the text."""
    for reason, number in report.dropped.items():
        loud = "WARNING: " if reason == INVALID_UTF8 else ""
        cure = "; convert the file: iconv -f ENCODING -t utf-8 FILE > NEW" if reason == INVALID_UTF8 else ""
        yield f"{loud}left out: {number:,} of {report.read:,} lines: {_MEANING.get(reason, reason)}{cure}"


_MEANING = {
    EMPTY: "empty",
    INVALID_UTF8: "bytes that are not UTF-8",
    CUT: "longer than 1 MB",
    OVERLAP: "also in the given dev or test text",
    NEIGHBOUR: "also in the held-out dev or test text",
}
