"""Make a prepared folder from texts with labels: clean, hold out, learn a vocabulary, encode. Called by `prepare`.

All examples are in memory. The split depends on texts and labels alone: not on their order, the machine, or a random generator.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitrail.data.cleaning.blank_lines import CUT, EMPTY, INVALID_UTF8
from vitrail.data.cleaning.normalise import normalise
from vitrail.data.labels_config import Examples, LabelsConfig
from vitrail.data.preparing.holdout import sentence_key
from vitrail.data.preparing.prepared import (
    LABELS_FORMAT,
    OVERLAP,
    REPORT_JSON,
    REPORT_TEXT,
    PreparedReport,
    readable_json,
    report_to_text,
    store_name,
    to_lines,
    write_index,
)
from vitrail.data.preparing.store import LABELLED, Store, write_store
from vitrail.data.reading.lines import UNITS, Notes, is_cut
from vitrail.data.vocabularies.labels import LabelVocabulary, split_labels
from vitrail.data.vocabularies.subwords import UNK, Vocabularies
from vitrail.data.vocabularies.taking import make_vocabulary, new_tokens
from vitrail.errors import DataError

NO_LABEL, DUPLICATE = "EmptyLabel", "DuplicateFilter"
"""Why an example is left out: it has no label; the same text has the same label before."""
_SHARE, _MOST = 0.1, 1_000
"""Default share of the examples held out for each of dev and test, and their largest number."""
_FEW_LABELS = 20
"""More labels than this, in fewer than two examples each, are texts most likely."""
_CHUNK = 50_000
_ROLES = ("train", "dev", "test")


class Example(NamedTuple):
    """A text with its labels, UNITS between them, and the key by which equal texts are found."""

    text: str
    label: str
    key: int


@dataclass
class _File:
    """One file of examples: those that are kept, and what became of the others."""

    name: str
    kept: list[Example] = field(default_factory=list[Example])
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])
    notes: Notes = field(default_factory=Notes)
    read_as: str = ""


@dataclass(frozen=True)
class LabelPreparation:
    """One preparation: its steps in order, and its folders."""

    config: LabelsConfig
    counts: list[int]
    """Examples of each file, as they are."""
    work: Path
    workers: int
    say: Callable[[str], None]

    def run(self, asked: dict[str, Any]) -> None:
        """Make the whole folder at `tree`."""
        given = {name: self._read_whole(text) for name, text in (("dev", self.config.dev), ("test", self.config.test)) if text is not None}
        known = {example.key for examples in given.values() for example in examples}
        files = self._clean(known)
        everything = [example for file in files for example in file.kept]
        held: dict[str, list[Example]] = {"dev": [], "test": [], **given}
        wanted = self._wanted(len(everything), given)
        allowed = [text.holdout for text, file in zip(self.config.examples, files, strict=True) for _ in file.kept]
        chosen = hold_out(everything, wanted, allowed=allowed)
        for name, places in chosen.items():
            held[name] = [everything[place] for place in places]
        apart = {place for places in chosen.values() for place in places}
        train = [
            [file.kept[at] for at, place in enumerate(span) if place not in apart] for file, span in zip(files, _spans(files), strict=True)
        ]
        labels = self._labels([example.label for part in train for example in part])
        for name, text in (("dev", self.config.dev), ("test", self.config.test)):
            self._require_known(held[name], labels, name=name if text is None else text.label)
        self.say("taking the vocabulary" if self.config.subwords.folders() else "learning the vocabulary")
        subwords = make_vocabulary((example.text for part in train for example in part), config=self.config.subwords).source
        vocabularies = Vocabularies(subwords, labels, joint=False)
        grown, lines = new_tokens(self.config.subwords, Vocabularies(subwords, subwords, joint=True))
        for line in lines:
            self.say(line)
        filled = [(text, part) for text, part in zip(self.config.examples, train, strict=True) if part]
        stores = [(text, self._encode(place, text.label, part, vocabularies)) for place, (text, part) in enumerate(filled)]
        report = _report(dict(held, train=[example for part in train for example in part]), train, files, labels, given=self.config)
        self._write(asked, vocabularies, stores=stores, held=held, report=report, grown=grown)

    def _clean(self, known: set[int]) -> list[_File]:
        """The usable examples of each file, each once."""
        seen: set[tuple[int, str]] = set()
        files: list[_File] = []
        for text in self.config.examples:
            self.say(f"reading {text.label}")
            file = _File(text.label, read_as=text.describe())
            for pair in text.pairs(notes=file.notes):
                file.read += 1
                found = self._fault(pair.source, pair.target)
                example = None if found else self._example(pair.source, pair.target)
                if example is not None:
                    found = OVERLAP if example.key in known else DUPLICATE if (example.key, example.label) in seen else ""
                    seen.add((example.key, example.label))
                if found or example is None:
                    file.dropped[found] += 1
                else:
                    file.kept.append(example)
            files.append(file)
        if not any(file.kept for file in files):
            dropped = sum((file.dropped for file in files), Counter[str]())
            raise DataError(
                f"{', '.join(file.name for file in files)}: no example is left to train on ({_listed(dropped)})",
                expected="a text and its label in every line",
            )
        return files

    def _example(self, text: str, label: str) -> Example:
        clean = normalise(text)
        return Example(clean, UNITS.join(sorted(split_labels(label, self.config.parting))), sentence_key(clean))

    def _fault(self, text: str, label: str) -> str:
        """Why an example cannot be used; empty where it can."""
        if is_cut(text) or is_cut(label):
            return CUT
        try:
            (text + label).encode()
        except UnicodeEncodeError:  # bytes that are not UTF-8 were read as lone surrogates
            return INVALID_UTF8
        if not normalise(text):
            return EMPTY
        return "" if self.config.several or normalise(label) else NO_LABEL

    def _read_whole(self, text: Examples) -> list[Example]:
        """Examples that scores are measured on: all of them. Raises DataError naming the first that cannot be used."""
        found: list[Example] = []
        for pair in text.pairs():
            fault = self._fault(pair.source, pair.target)
            if fault:
                raise DataError(
                    f"{text.label}: line {pair.line:,}: {_MEANING.get(fault, fault)}",
                    expected="a text and its label in every line of dev and test, so that a score is one of all of them",
                    remedy="correct the line, or leave it out",
                )
            found.append(self._example(pair.source, pair.target))
        return found

    def _wanted(self, examples: int, given: dict[str, list[Example]]) -> dict[str, int]:
        usual, asked = min(_MOST, int(_SHARE * examples)), self.config.holdout
        numbers = {"dev": asked.dev_examples, "test": asked.test_examples}
        wanted = {name: usual if number is None else number for name, number in numbers.items() if name not in given}
        if sum(wanted.values()) >= examples:
            raise DataError(f"{examples:,} examples, of which {sum(wanted.values()):,} are to be held out", remedy="hold out fewer")
        return wanted

    def _labels(self, train: Sequence[str]) -> LabelVocabulary:
        """All labels of the training text. Raises DataError for one alone, and for very many."""
        labels, several = LabelVocabulary.train(train, separator=self.config.parting), self.config.several
        number = len(labels.labels)
        if number < (1 if several else 2):
            raise DataError(
                f"{number} label{'s' if number != 1 else ''} ({', '.join(labels.labels)}) in {len(train):,} examples",
                expected="two labels at least, so that there is something to tell apart",
                remedy="look at the file of labels, or name the columns: --examples FILE,columns=1:2",
            )
        allowed = "most_labels" in self.config.model_fields_set
        if number > self.config.most_labels or (number > _FEW_LABELS and number > len(train) / 2 and not allowed):
            raise DataError(
                f"{number:,} labels in {len(train):,} examples, such as {labels.labels[0][:60]!r} and {labels.labels[-1][:60]!r}",
                expected=f"at most {self.config.most_labels:,} labels, most of them of several examples",
                remedy="were texts given as labels? swap the two; if there are so many labels: "
                f"--set data.most_labels={number}"
                + ("" if several else "; if an example may have several of them: --set data.several=true"),
            )
        if not several and sum("," in label for label in labels.labels) * 4 > number:
            self.say("many labels hold a comma; if these are several labels of one example: --set data.several=true")
        return labels

    def _require_known(self, examples: Sequence[Example], labels: LabelVocabulary, *, name: str) -> None:
        unknown = Counter(label for example in examples for label in split_labels(example.label, UNITS) if label not in set(labels.labels))
        if unknown:
            label, number = unknown.most_common(1)[0]
            raise DataError(
                f"{name}: the label {label[:60]!r} ({number:,} examples) is not in the training text",
                expected="one of " + ", ".join(one[:30] for one in labels.labels[:20]) + (", ..." if len(labels.labels) > 20 else ""),
                remedy="correct the label, or add examples of it to the training text",
            )

    def _encode(self, place: int, name: str, examples: Sequence[Example], vocabularies: Vocabularies) -> Store:
        """Write the store of one file."""
        self.say(f"encoding {name}")
        folder = self.work / "tree" / store_name(place)
        with write_store(folder, vocabularies, roles=LABELLED) as writer:
            for start in range(0, len(examples), _CHUNK):
                part = examples[start : start + _CHUNK]
                texts = vocabularies.source.encode_arrays([example.text for example in part], threads=self.workers)
                labels = vocabularies.target.encode_arrays([example.label for example in part], threads=1)
                writer.append(texts, labels)
        return Store.open(folder)

    def _write(
        self,
        asked: dict[str, Any],
        vocabularies: Vocabularies,
        *,
        stores: list[tuple[Examples, Store]],
        held: dict[str, list[Example]],
        report: dict[str, Any],
        grown: dict[str, Any],
    ) -> None:
        lengths = np.concatenate([store.source_lengths for _, store in stores])
        unknown = sum(int(np.count_nonzero(store.ids("source") == UNK)) for _, store in stores)
        facts = {
            "language": self.config.language,
            "examples": report["train"],
            "dev_examples": len(held["dev"]),
            "test_examples": len(held["test"]),
            "labels": len(report["labels"]),
            "tokens": int(lengths.sum(dtype=np.int64)),
            "longest_source": int(lengths.max()),
            "unknown": unknown,
            "vocabulary": vocabularies.source.size,
            **grown,
        }
        content = {name: side.to_bytes() for name, side in vocabularies.files().items()}
        for name, examples in held.items():
            if examples:
                content[f"{name}.source"] = to_lines([example.text for example in examples])
                content[f"{name}.label"] = to_lines([example.label for example in examples])
        content |= {REPORT_JSON: readable_json(report), REPORT_TEXT: report_to_text(report).encode()}
        stored = [{"name": text.label, "weight": text.weight, "digest": store.digest} for text, store in stores]
        write_index(self.work / "tree", {"format": LABELS_FORMAT, "fingerprint": asked, "facts": facts, "stores": stored}, content)


def hold_out(examples: Sequence[Example], wanted: dict[str, int], *, allowed: Sequence[bool]) -> dict[str, list[int]]:
    """Draw examples for each part: from each label about its share, in an order that depends on texts and labels alone.

    At least one example of each label, or of labels that are together, stays. A text that has different labels is never drawn, so that
    it cannot be in two parts.
    Args:    allowed: whether each example may be drawn.
    Returns: the places of the examples of each part, in the order of the text; fewer than wanted where that many cannot be drawn.
    """
    labels_of: defaultdict[int, set[str]] = defaultdict(set)
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for example in examples:
        labels_of[example.key].add(example.label)
    for place, example in enumerate(examples):
        groups[example.label].append(place)
    pools: dict[str, list[int]] = {}
    for label, places in sorted(groups.items()):
        free = [place for place in places if allowed[place] and len(labels_of[examples[place].key]) == 1]
        free.sort(key=lambda place: examples[place].key)
        pools[label] = free[: len(places) - 1]
    parts: dict[str, list[int]] = {}
    for name, number in wanted.items():
        shares = _shares(
            {label: len(places) for label, places in groups.items()}, {label: len(pool) for label, pool in pools.items()}, number
        )
        parts[name] = sorted(place for label, share in shares.items() for place in pools[label][:share])
        for label, share in shares.items():
            pools[label] = pools[label][share:]
    return parts


def _shares(sizes: dict[str, int], limits: dict[str, int], number: int) -> dict[str, int]:
    """How many of each group: in proportion to its size, the largest remainders rounded up, within the limits."""
    total = sum(sizes.values())
    exact = {label: number * size / total for label, size in sizes.items()}
    found = {label: min(limits[label], int(share)) for label, share in exact.items()}
    for label in sorted(exact, key=lambda label: (found[label] - exact[label], label)):
        if sum(found.values()) >= number:
            break
        found[label] += found[label] < limits[label]
    return found


def _spans(files: Sequence[_File]) -> list[range]:
    """The places of each file's examples among those of all."""
    starts = np.cumsum([0, *(len(file.kept) for file in files)]).tolist()
    return [range(start, end) for start, end in pairwise(starts)]


def _report(
    parts: dict[str, list[Example]], train: list[list[Example]], files: list[_File], labels: LabelVocabulary, *, given: LabelsConfig
) -> dict[str, Any]:
    counts = {name: _count_labels(parts[name]) for name in _ROLES}
    own = {name: {id(example) for example in parts[name]} for name in ("dev", "test")}
    texts: list[dict[str, Any]] = [
        {
            "name": file.name,
            "read": file.read,
            "train": len(examples),
            **{name: sum(id(example) in own[name] for example in file.kept) for name in ("dev", "test")},
            "dropped": dict(file.dropped),
            "repaired": {name: dict(sorted(seen.items())) for name, seen in file.notes.counts.items()},
            **({"read_as": file.read_as} if file.read_as else {}),
        }
        for file, examples in zip(files, train, strict=True)
    ]
    whole = {name: text for name, text in (("dev", given.dev), ("test", given.test)) if text is not None}
    totals = {key: sum(text[key] for text in texts) for key in ("read", *_ROLES)}
    keys = Counter(key for key, _ in {(example.key, example.label) for example in parts["train"]})
    return totals | {
        "dropped": dict(sum((file.dropped for file in files), Counter[str]())),
        "labels": {label: {name: counts[name][label] for name in _ROLES} for label in labels.labels},
        "unlabelled": {name: counts[name][""] for name in _ROLES},
        "contradictory": sum(number > 1 for number in keys.values()),
        "texts": texts,
        "given": {name: {"name": text.label, "lines": len(parts[name]), "found": {}} for name, text in whole.items()},
    }


def _count_labels(examples: Iterable[Example]) -> Counter[str]:
    """How many examples have each label; "": none."""
    return Counter(label for example in examples for label in (split_labels(example.label, UNITS) or [""]))


def _listed(dropped: Counter[str]) -> str:
    return ", ".join(f"{_MEANING.get(reason, reason)} {number:,}" for reason, number in dropped.items())


def describe_dropped_examples(report: PreparedReport) -> Iterable[str]:
    """Lines on what was left out of the examples, on their labels, and on what is odd about them."""
    for reason, number in report.dropped.items():
        loud = "WARNING: " if reason in (INVALID_UTF8, NO_LABEL) else ""
        cure = "; convert the file: iconv -f ENCODING -t utf-8 FILE > NEW" if reason == INVALID_UTF8 else ""
        yield f"{loud}left out: {number:,} of {report.read:,} examples: {_MEANING.get(reason, reason)}{cure}"
    labels, unlabelled = report.details["labels"], report.details["unlabelled"]["train"]
    shown = sorted(labels.items(), key=lambda item: -item[1]["train"])[:12]
    told = ", ".join(f"{label} {count['train']:,}" for label, count in shown) + (
        f" and {len(labels) - 12} more" if len(labels) > 12 else ""
    )
    yield f"examples of each label: {told}" + (f"; without a label: {unlabelled:,}" if unlabelled else "")
    if number := report.details["contradictory"]:
        yield f"{number:,} texts are there with different labels"
    rare = [label for label, count in labels.items() if count["train"] < 5]
    if rare:
        listed = ", ".join(rare[:5])
        yield f"WARNING: {len(rare)} of {len(labels)} labels have fewer than five examples to learn from, such as {listed}"


_MEANING = {
    EMPTY: "empty text",
    INVALID_UTF8: "bytes that are not UTF-8",
    CUT: "longer than 1 MB",
    OVERLAP: "also in the given dev or test text",
    DUPLICATE: "the same text with the same label again",
    NO_LABEL: "no label",
}
