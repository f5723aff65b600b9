"""The prepared folder: vocabularies, encoded pairs, dev and test texts and the report, opened and checked.

data/  prepared.json  report.json  report.txt  joint.spm | source.spm + target.spm  store-0/ store-1/ ...
       dev.source  dev.target  test.source  test.target  (pairs), or  dev.text  test.text  (the text of a language model),
       or  dev.source  dev.label  test.source  test.label  (texts with labels)

`prepared.json` is written last and holds the SHA-256 of every other file and of itself: damage and half-written folders are detected.
"""

import json
import logging
import re
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from vitrail.data.cleaning.clean import Example, Report
from vitrail.data.cleaning.normalise import Normalisation
from vitrail.data.cleaning.typical import UNMEASURED, Typical
from vitrail.data.preparing.holdout import Overlap
from vitrail.data.preparing.store import INDEX, Store, store_name
from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.errors import ModelError
from vitrail.files import Damaged, FileEntry, is_json_with, is_published, seal, unseal, verify_file, write_file

FORMAT = 1
TEXT_FORMAT = 2
"""Format of a prepared folder of text, so that an older program reports that it is too old."""
LABELS_FORMAT = 3
"""The same of texts with labels."""
REPORT_JSON = "report.json"
REPORT_TEXT = "report.txt"
KNOWN_NAME = re.compile(
    r"prepared\.json|report\.(?:json|txt)|(?:dev(?:-\d+)?|test)\.(?:source|target|text|label)"
    r"|(?:joint|source|target)\.(?:spm|vocab\.json|labels\.json|pieces\.json)|store-\d+"
)
"""Every name that a prepared folder can hold. Other files are foreign: they are kept and not read."""

OVERLAP = "OverlapsGivenText"
"""Reason: the given dev or test text has a sentence of the pair."""
NEIGHBOUR = "OverlapsHeldOut"
"""Reason: a sentence of the pair is also in a pair held out for dev or test."""
TOO_LONG = "TooManySubwords"
"""Reason: a side has more subword tokens than `max_length`."""

_EXAMPLES = 5
_log = logging.getLogger(__name__)


class Texts(NamedTuple):
    """Sentences and their translations, as text; both empty when there are none."""

    source: list[str]
    target: list[str]


@dataclass
class CorpusReport:
    """What became of every pair of one corpus: read == train + dev + test + sum of dropped, always."""

    name: str
    typical: Typical = UNMEASURED
    clean: Report = field(default_factory=Report)
    overlap: Overlap = field(default_factory=Overlap)
    neighbours: int = 0
    too_long: int = 0
    dev: int = 0
    test: int = 0
    train: int = 0
    looked_into: int = 0
    several_sentences: int = 0
    """Training source lines that were examined, and how many of them have several sentences."""
    tokens: int = 0
    unknown: int = 0
    """Share of tokens unknown to the vocabulary; counted for vocabularies of words and characters."""
    source_words: int = 0
    target_words: int = 0
    repaired: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    examples: dict[str, list[Example]] = field(default_factory=dict[str, list[Example]])
    read_as: str = ""
    """Notes on how the text is written."""

    @property
    def dropped(self) -> dict[str, int]:
        """Dropped pairs by reason, in the order of the checks."""
        later = {OVERLAP: self.overlap.total - self.overlap.kept, NEIGHBOUR: self.neighbours, TOO_LONG: self.too_long}
        return dict(self.clean.as_dict()["dropped"]) | {reason: number for reason, number in later.items() if number}

    def exemplify(self, reason: str, example: Example) -> None:
        """Keep an example of a reason, while there are few."""
        kept = self.examples.setdefault(reason, [])
        if len(kept) < _EXAMPLES:
            kept.append(example)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        assert self.clean.total == self.train + self.dev + self.test + sum(self.dropped.values()), "a pair was dropped uncounted"
        overlaps = [{"line": line, "before": [source, target]} for line, source, target in self.overlap.examples]
        later = {key: [{"line": e.line, "before": list(e.before)} for e in examples] for key, examples in self.examples.items()}
        return {
            "name": self.name,
            "read": self.clean.total,
            "train": self.train,
            "dev": self.dev,
            "test": self.test,
            "dropped": self.dropped,
            "normalised": self.clean.normalised,
            "typical": self.typical._asdict(),
            **({"unknown_share": round(self.unknown / self.tokens, 6)} if self.tokens else {}),
            "repaired": self.repaired,
            "examples": self.clean.as_dict()["examples"] | ({OVERLAP: overlaps} if overlaps else {}) | later,
        } | ({"read_as": self.read_as} if self.read_as else {})


@dataclass(frozen=True)
class GivenReport:
    """Findings on a given dev or test text. All of its lines are used."""

    name: str
    pairs: int
    found: dict[str, int]
    """Lines with an empty side, with bytes that are not UTF-8 (replaced by U+FFFD), or cut for their length."""
    repaired: dict[str, dict[str, int]]
    read_as: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        read_as = {"read_as": self.read_as} if self.read_as else {}
        return {"name": self.name, "pairs": self.pairs, "found": self.found, "repaired": self.repaired} | read_as


def make_report(corpora: list[CorpusReport], *, given: dict[str, GivenReport]) -> dict[str, Any]:
    """The whole report as plain values: totals, each corpus, the texts that were given."""
    parts = [corpus.as_dict() for corpus in corpora]
    dropped: Counter[str] = Counter()
    for part in parts:
        dropped.update(part["dropped"])
    totals = {key: sum(part[key] for part in parts) for key in ("read", "train", "dev", "test", "normalised")}
    return totals | {"dropped": dict(dropped), "corpora": parts, "given": {key: report.as_dict() for key, report in given.items()}}


def report_to_text(report: dict[str, Any]) -> str:
    """The report as text: counts of pairs by outcome, then examples of each reason; or counts of lines."""
    if "texts" in report:
        return _lines_to_text(report)
    lines: list[str] = []
    for part in report["corpora"]:
        total = max(part["read"], 1)
        lines += [f"{part['name']}: {part['read']:,} pairs read"]
        lines += _read_as(part)
        rows = [(key, part[key]) for key in ("train", "dev", "test") if part[key] or key == "train"]
        rows += [(f"dropped: {reason}", number) for reason, number in part["dropped"].items()]
        lines += [f"  {name:<30} {number:>12,}  {number / total:8.3%}" for name, number in rows]
        lines += [f"  {part['unknown_share']:.2%} of the tokens are unknown to the vocabulary"] if "unknown_share" in part else []
        lines += ["  " + Typical(**part["typical"]).to_text()] if "typical" in part else []
        lines += [f"  {part['normalised']:,} pairs were normalised: spaces, control characters, invisible marks, composed letters"] * bool(
            part["normalised"]
        )
        lines += _repairs(part["repaired"])
        for reason, examples in part["examples"].items():
            lines.append(f"  for example {reason}:")
            for example in examples:
                lines.append(f"    line {example['line']:,}: {example['before'][0]}  |  {example['before'][1]}")
                lines += [f"      becomes: {' | '.join(example['after'])}"] if "after" in example else []
        lines.append("")
    for key, part in report["given"].items():
        found = ", ".join(f"{number:,} {what}" for what, number in part["found"].items())
        lines += [f"{key}: {part['pairs']:,} pairs given by {part['name']}, all kept" + (f"; found: {found}" if found else "")]
        lines += _read_as(part) + _repairs(part["repaired"])
    return "\n".join(lines).rstrip("\n") + "\n"


def _lines_to_text(report: dict[str, Any]) -> str:
    lines: list[str] = []
    for part in report["texts"]:
        lines.append(f"{part['name']}: {part['read']:,} lines read")
        rows = [(key, part[key]) for key in ("train", "dev", "test")]
        rows += [(f"dropped: {reason}", number) for reason, number in part["dropped"].items()]
        lines += [f"  {name:<30} {number:>12,}  {number / max(1, part['read']):8.3%}" for name, number in rows]
        lines += [f"  {name}: {repair}: {number:,}" for name, seen in part["repaired"].items() for repair, number in seen.items()]
        lines += _read_as(part)
    lines += _labels_to_text(report["labels"]) if "labels" in report else []
    for name, part in report["given"].items():
        found = ", ".join(f"{number:,} {what}" for what, number in part["found"].items())
        lines.append(f"{name}: {part['lines']:,} lines given by {part['name']}" + (f"; left out: {found}" if found else ""))
    return "\n".join(lines) + "\n"


_MOST_LABELS = 50


def _labels_to_text(labels: dict[str, dict[str, int]]) -> list[str]:
    """The number of examples of each label in each part of the data."""
    shown = list(labels.items())[:_MOST_LABELS]
    width = min(30, max(len("label"), *(len(label) for label, _ in shown)))
    lines = [f"{'label':<{width}} {'train':>10} {'dev':>10} {'test':>10}"]
    lines += [f"{label[:width]:<{width}} {count['train']:>10,} {count['dev']:>10,} {count['test']:>10,}" for label, count in shown]
    return lines + ([f"and {len(labels) - len(shown):,} labels more"] if len(labels) > len(shown) else [])


def _read_as(part: dict[str, Any]) -> list[str]:
    return [f"  {line}" for line in part.get("read_as", "").splitlines()]


def _repairs(repaired: dict[str, dict[str, int]]) -> list[str]:
    return [f"  {name}: {repair}: {number:,}" for name, seen in repaired.items() for repair, number in seen.items()]


@dataclass(frozen=True)
class PreparedReport:
    """The counts over all corpora: read == train + dev + test + sum of dropped."""

    read: int
    train: int
    dev: int
    test: int
    dropped: dict[str, int]
    details: dict[str, Any]
    """All of `report.json`: each corpus by itself, with examples; what was found in given dev and test texts."""

    def to_text(self) -> str:
        """The report to read, as in `report.txt`."""
        return report_to_text(self.details)


@dataclass(frozen=True)
class PreparedData:
    """Prepared data for a training of any kind."""

    folder: Path
    vocabularies: Vocabularies
    stores: tuple[Store, ...]
    """One for each corpus, in the order of the configuration."""
    weights: tuple[float, ...]
    """Weight with which each store is sampled, relative to the others."""
    report: PreparedReport
    facts: dict[str, Any]
    """Facts about the training text: languages, pairs or lines, words, mean and greatest lengths in tokens, sizes of vocabularies."""
    fingerprint: dict[str, Any]
    """What the folder was made from: see `fingerprints.fingerprint`."""
    digest: str
    """SHA-256 over all that training depends on: stores and their weights, vocabularies, dev and test texts."""


@dataclass(frozen=True)
class Prepared(PreparedData):
    """Prepared data of a translator."""

    dev: Texts
    test: Texts
    more_dev: dict[str, Texts]
    """The further dev texts by their names."""

    @property
    def normalisation(self) -> Normalisation:
        """How sources were read."""
        return Normalisation.from_fact(self.facts.get("source_normalization"))


@dataclass(frozen=True)
class PreparedText(PreparedData):
    """Prepared data of a language model."""

    dev: list[str]
    """Lines."""
    test: list[str]


class Labelled(NamedTuple):
    """Texts with the label, or the labels, of each; both empty when there are none."""

    source: list[str]
    label: list[str]


@dataclass(frozen=True)
class PreparedLabels(PreparedData):
    """Prepared data of a classifier."""

    dev: Labelled
    test: Labelled

    @property
    def labels(self) -> LabelVocabulary:
        """All labels."""
        assert isinstance(self.vocabularies.target, LabelVocabulary)
        return self.vocabularies.target


AnyPrepared = Prepared | PreparedText | PreparedLabels
"""Prepared data of every kind."""


def is_prepared(folder: Path) -> bool:
    """Whether a folder was written by `prepare`, though it may be damaged since."""
    index = is_json_with("format", "fingerprint", "facts", "stores", "files")(folder / INDEX)
    return index or is_published(folder / store_name(0))


def open_prepared(folder: Path) -> Prepared:
    """Open a prepared folder of pairs. Raises ModelError where it holds other text; see `open_data`."""
    found = open_data(folder)
    if not isinstance(found, Prepared):
        held = "texts with labels" if isinstance(found, PreparedLabels) else "the text of a language model"
        raise ModelError(f"{folder}: holds {held}", expected="pairs of sentences, prepared for a translator")
    return found


def open_data(folder: Path) -> AnyPrepared:
    """Open a prepared folder, after comparing every file that is loaded with its SHA-256.

    Raises: ModelError when it is no prepared folder, Damaged naming the file that is missing or altered.
    Cost:   1.2 GB/s; the ids are memory-mapped, dev and test are in memory.
    """
    index = _read_index(folder)
    entries = {name: FileEntry(entry["size"], entry["sha256"]) for name, entry in index["files"].items()}
    for name, entry in entries.items():
        if name != REPORT_TEXT:  # for people
            verify_file(folder / name, entry)
    if others := sorted(path.name for path in folder.iterdir() if not KNOWN_NAME.fullmatch(path.name)):
        _log.info("%s: holds %s besides; not read", folder, ", ".join(others))
    vocabularies = Vocabularies.load(folder, listed=entries)
    stores = tuple(_open_store(folder / store_name(place), part["digest"], vocabularies) for place, part in enumerate(index["stores"]))
    weights = tuple(float(part["weight"]) for part in index["stores"])
    details = json.loads((folder / REPORT_JSON).read_bytes())
    report = PreparedReport(**{key: details[key] for key in ("read", "train", "dev", "test", "dropped")}, details=details)
    held = [f"{name} {entries[name].sha256}" for name in sorted(entries) if name.startswith(("dev.", "test."))]
    parts = [vocabularies.digest, *(f"{store.digest} {weight!r}" for store, weight in zip(stores, weights, strict=True)), *held]
    data = PreparedData(
        folder=folder,
        vocabularies=vocabularies,
        stores=stores,
        weights=weights,
        report=report,
        facts=index["facts"],
        fingerprint=index["fingerprint"],
        digest=sha256("\n".join(parts).encode()).hexdigest(),
    )
    if index["format"] == TEXT_FORMAT:
        dev, test = (_read_side(folder, f"{name}.text", entries) for name in ("dev", "test"))
        return PreparedText(**vars(data), dev=dev, test=test)
    if index["format"] == LABELS_FORMAT:
        held = (Labelled(*(_read_side(folder, f"{name}.{side}", entries) for side in ("source", "label"))) for name in ("dev", "test"))
        return PreparedLabels(**vars(data), **dict(zip(("dev", "test"), held, strict=True)))
    return Prepared(
        **vars(data),
        dev=_read_texts(folder, "dev", entries),
        test=_read_texts(folder, "test", entries),
        more_dev={name: _read_texts(folder, more_dev_name(place), entries) for place, name in enumerate(index.get("more_dev", []))},
    )


def more_dev_name(place: int) -> str:
    """The file name of a further dev text."""
    return f"dev-{place}"


def _open_store(folder: Path, digest: str, vocabularies: Vocabularies) -> Store:
    store = Store.open(folder)
    if store.digest != digest:
        raise Damaged(f"{folder}: is another store than the one that was written here", remedy="prepare the data again")
    store.verify()
    store.require(vocabularies)
    return store


def _read_texts(folder: Path, name: str, entries: dict[str, FileEntry]) -> Texts:
    return Texts(*(_read_side(folder, f"{name}.{side}", entries) for side in ("source", "target")))


def _read_side(folder: Path, name: str, entries: dict[str, FileEntry]) -> list[str]:
    # Lines end at \n alone, also where a text holds U+2028 or a carriage return: no splitlines, no universal newlines.
    return (folder / name).read_bytes().decode().split("\n")[:-1] if name in entries else []


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        index = unseal(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(f"{folder}: is not a prepared folder: it has no {INDEX}", remedy="make one: vitrail prepare") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        reason = "is not valid JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)
        raise Damaged(f"{path}: {reason}", remedy="prepare the data again") from None
    match index:
        case {"format": int(number)} if number > LABELS_FORMAT:
            raise ModelError(f"{path}: has format {number}", expected=f"format {LABELS_FORMAT} or older", remedy="update vitrail")
        case {"format": 1 | 2 | 3, "fingerprint": dict(), "facts": dict(), "files": dict(files), "stores": [_, *_] as stores, **rest} if (
            rest.keys() <= {"more_dev"} and REPORT_JSON in files and all(map(_is_file, files.items())) and all(map(_is_store, stores))
        ):
            return index
        case _:
            raise Damaged(f"{path}: does not describe prepared data", remedy="prepare the data again")


def _is_file(item: tuple[Any, Any]) -> bool:
    match item:
        case (str(name), {"size": int(), "sha256": str()}):
            return KNOWN_NAME.fullmatch(name) is not None
        case _:
            return False


def _is_store(part: Any) -> bool:
    match part:
        case {"weight": float() | int(), "digest": str()}:
            return True
        case _:
            return False


def write_index(folder: Path, index: dict[str, Any], content: dict[str, bytes]) -> None:
    """Write the files beside the stores, and last the index that holds the SHA-256 of each."""
    for name, data in content.items():
        write_file(folder / name, data)
    files = {name: {"size": len(data), "sha256": sha256(data).hexdigest()} for name, data in sorted(content.items())}
    write_file(folder / INDEX, seal(index | {"files": files}))


def to_lines(texts: list[str]) -> bytes:
    """One text a line."""
    return "".join(f"{text}\n" for text in texts).encode()


def readable_json(value: dict[str, Any]) -> bytes:
    """Indented, for people."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
