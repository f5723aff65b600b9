"""From raw parallel text to a prepared folder: check, clean, hold out, learn vocabularies, encode; whole or not at all.

The text is read once: what cleaning keeps goes to a scratch file, from which the later passes read. All that is being made stands in
`<folder>.preparing`, beside its place, and takes its name in one rename. The result depends on the configuration and the bytes of
the input alone: not on the machine, the time, or the number of workers.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import file_digest, sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from vitrail import files
from vitrail.config import Config
from vitrail.data.clean import CleanConfig, Example, clean, show
from vitrail.data.holdout import HeldOut, HoldoutConfig, Role, held_out, remove_overlap, split
from vitrail.data.prepared import (
    FORMAT,
    INDEX,
    KNOWN_NAME,
    NEIGHBOUR,
    REPORT_JSON,
    REPORT_TEXT,
    TOO_LONG,
    CorpusReport,
    GivenReport,
    Prepared,
    Texts,
    make_report,
    open_prepared,
    report_to_text,
    store_name,
)
from vitrail.data.store import Store, write_store
from vitrail.data.subwords import SubwordsConfig, Vocabularies, train_vocabularies
from vitrail.data.text import CUT_MARK, Notes, ParallelText, SentencePair, is_cut
from vitrail.errors import DataError, UsageError
from vitrail.files import Damaged, FolderLock, NotWritten, publish_folder, remove_folder, write_file

__all__ = ["DataConfig", "Prepared", "differences", "fingerprint", "open_prepared", "prepare"]

Say = Callable[[str], None]

# Pairs encoded at a time: enough for all threads of a large machine, about 20 MB of text. Nothing depends on it.
_CHUNK = 50_000
_WRITTEN_TOGETHER = 2_000
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")
_NO_LANGUAGE = frozenset({"txt", "src", "tgt", "trg", "tok", "bpe", "raw", "low", "lc", "tsv", "tmx", "csv", "xml", "json", "snt"})


class DataConfig(Config):
    """Which text a translator learns from, and how it is prepared."""

    corpora: tuple[ParallelText, ...] = Field(min_length=1)
    """The training text: one corpus or several, which are then mixed by weight. Each is cleaned, and rid of duplicates, by itself."""
    dev: ParallelText | None = None
    """Text to choose the best step by; left out, it is held out of the corpora."""
    test: ParallelText | None = None
    """Text to report the score on; left out, it is held out of the corpora."""
    source_language: str = ""
    """Such as "en"; empty: from the corpora's languages or the endings of their names (train.en)."""
    target_language: str = ""
    """Such as "fr"; empty: as the source language."""
    clean: CleanConfig = CleanConfig()
    """Which pairs are kept."""
    holdout: HoldoutConfig = HoldoutConfig()
    """How much is held out where no dev or test text is given."""
    subwords: SubwordsConfig = SubwordsConfig()
    """How text becomes ids."""
    max_length: int = Field(default=256, ge=1)
    """Subword tokens on either side; longer pairs are left out of training, and counted."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Mixing of several corpora: 1 draws in proportion to size times weight, more draws the small ones more often."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "DataConfig":
        for name, given, number in (("dev", self.dev, self.holdout.dev_pairs), ("test", self.test, self.holdout.test_pairs)):
            if given is not None and number:
                raise UsageError(f"data.holdout.{name}_pairs: {number}, though data.{name} is given", remedy="give one of the two")
        languages = self.languages
        for name, text in self.texts():
            if all(languages) and languages[0] != languages[1] and _languages_of(text) == (languages[1], languages[0]):
                raise UsageError(
                    f"{name}: from {languages[1]} to {languages[0]}, by its names",
                    expected=f"from {languages[0]} to {languages[1]}, as the rest",
                    remedy="swap its source and target",
                )
        return self

    @property
    def languages(self) -> tuple[str, str]:
        """Source and target language; empty where nothing tells."""
        found = [_languages_of(corpus) for corpus in self.corpora]
        source = self.source_language or next((pair[0] for pair in found if pair[0]), "")
        target = self.target_language or next((pair[1] for pair in found if pair[1]), "")
        return source, target

    def texts(self) -> list[tuple[str, ParallelText]]:
        """All input texts with their names in the configuration."""
        named = [(f"data.corpora.{place}", corpus) for place, corpus in enumerate(self.corpora)]
        return named + [(f"data.{name}", text) for name, text in (("dev", self.dev), ("test", self.test)) if text is not None]


def _languages_of(text: ParallelText) -> tuple[str, str]:
    if text.languages is not None:
        return text.languages
    if text.target is None:
        return "", ""
    endings = [Path(path.name.removesuffix(".gz")).suffix[1:] for path in (text.source, text.target)]
    source, target = (ending if _LANGUAGE.fullmatch(ending) and ending not in _NO_LANGUAGE else "" for ending in endings)
    return source, target


# ---- what the folder is made from ------------------------------------------------------------------------------------------------


def fingerprint(config: DataConfig) -> dict[str, Any]:
    """What the prepared folder depends on, by name: every value of the configuration, and for each input file the SHA-256 of its bytes.

        {"data.corpora.0.source": "9f86d0...", "data.max_length": 256, ...}

    Where a file lies, and what reports call it, does not count. Raises DataError when a file cannot be read. Cost: reads all of it.
    """
    table = config.model_dump(mode="json") | dict(zip(("source_language", "target_language"), config.languages, strict=True))
    table["corpora"] = {str(place): _text_fingerprint(corpus) for place, corpus in enumerate(config.corpora)}
    for name, text in (("dev", config.dev), ("test", config.test)):
        table[name] = None if text is None else _text_fingerprint(text)
    return {"data.format": FORMAT} | dict(_flatten("data", table))


def _text_fingerprint(text: ParallelText) -> dict[str, Any]:
    languages = list(text.languages) if text.languages else None
    hashes = {"source": _hash(text.source)} | ({"target": _hash(text.target)} if text.target else {})
    return hashes | {"format": text.kind, "languages": languages, "weight": text.weight}


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _flatten(f"{prefix}.{key}", below)
    else:
        yield prefix, value


def differences(recorded: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """What differs between two fingerprints, one line each: `data.max_length: 256, now 128`."""
    absent = "absent"
    names = [*recorded, *(name for name in asked if name not in recorded)]
    return [
        f"{name}: {_brief(recorded.get(name, absent))}, now {_brief(asked.get(name, absent))}"
        for name in names
        if recorded.get(name, absent) != asked.get(name, absent)
    ]


def _brief(value: Any) -> str:
    text = str(value)
    return text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text


def _stamps(config: DataConfig) -> dict[Path, tuple[int, int, int]]:
    paths = [path for _, text in config.texts() for path in (text.source, text.target) if path is not None]
    try:
        return {path: (found.st_ino, found.st_size, found.st_mtime_ns) for path in paths if (found := path.stat())}
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None


# ---- preparing -------------------------------------------------------------------------------------------------------------------


def prepare(config: DataConfig, folder: Path, *, workers: int = 0, say: Say = lambda _: None) -> Prepared:
    """Prepare text in a folder, or open the folder when it was prepared from the same text in the same way.

    A folder made from anything else, or damaged, is replaced when the new one is complete; a folder that holds other things is refused.

    Args:    workers: threads that encode; 0: one a core. They change no byte. say: is told what is being done, a line at a time.
    Raises:  DataError, UsageError before anything is written when the text cannot be read or its sides are unequal; DataError when too
             little is left; TrainingError when another process prepares the same folder; NotWritten.
    Cost:    65 µs of processor time a pair of 7 words (162,000 pairs: 11 s, 229 MB), of which encoding, a third, uses all workers.
    """
    for _, text in config.texts():
        text.count()
    stamps = _stamps(config)
    asked = fingerprint(config)
    found = _open_same(folder, asked, say=say)
    if found is not None:
        return found
    work = folder.absolute().with_name(f"{folder.absolute().name}.preparing")
    with FolderLock(work):
        try:
            _restore(work / "old", folder)
            for left_over in ("tree", "scratch", "old"):
                if (work / left_over).exists():
                    remove_folder(work / left_over)
            _Preparation(config, work=work, workers=workers or os.cpu_count() or 1, say=say).run(asked)
            if _stamps(config) != stamps:
                raise DataError("the text changed while it was read", remedy="run again when nothing writes to it")
            _put_in_place(work / "tree", folder, aside=work / "old")
        finally:
            if folder.exists() or not (work / "old").exists():
                remove_folder(work)  # syncs the folder around it too, so that the new name is durable
    return open_prepared(folder)


def _open_same(folder: Path, asked: dict[str, Any], *, say: Say) -> Prepared | None:
    """The folder when it is what is asked for; None when it has to be made. Raises UsageError when it may not be replaced."""
    if not os.path.lexists(folder):
        return None
    foreign = sorted(path.name for path in folder.iterdir() if not KNOWN_NAME.fullmatch(path.name)) if folder.is_dir() else [folder.name]
    if foreign:
        raise UsageError(
            f"{folder}: holds {', '.join(foreign[:3])}, which prepared data does not", expected="a new folder, or one prepared before"
        )
    if not (folder / INDEX).exists():
        if any(folder.iterdir()):
            raise UsageError(f"{folder}: holds files, but no {INDEX}", expected="a new folder, or one prepared before")
        return None
    try:
        found = open_prepared(folder)
    except Damaged as error:
        say(f"{error.found}; preparing it again")
        return None
    changed = differences(found.fingerprint, asked)
    if not changed:
        say(f"{folder}: is prepared from this text already")
        return found
    say("preparing again: " + "; ".join(changed))
    return None


def _restore(aside: Path, folder: Path) -> None:
    """Give back its name to a folder that a killed process had set aside."""
    if aside.exists() and not os.path.lexists(folder):
        _rename(aside, folder)


def _put_in_place(tree: Path, folder: Path, *, aside: Path) -> None:
    try:
        if os.path.lexists(folder):
            _rename(folder, aside)
        _rename(tree, folder)
    except BaseException:
        with suppress(NotWritten):
            _restore(aside, folder)
        raise


def _rename(before: Path, after: Path) -> None:
    try:
        files.SYSTEM.rename(before, after)
    except OSError as error:
        raise NotWritten(f"{after}: cannot be written: {error.strerror}", remedy="choose another folder") from error


class _Given(NamedTuple):
    """Dev and test as far as they were given, by name."""

    texts: dict[str, Texts]
    reports: dict[str, GivenReport]
    keys: HeldOut


@dataclass(frozen=True)
class _Preparation:
    """One preparation: the steps in order, and where they work."""

    config: DataConfig
    work: Path
    workers: int
    say: Say

    @property
    def tree(self) -> Path:
        return self.work / "tree"

    def run(self, asked: dict[str, Any]) -> None:
        """Make the whole folder at `tree`."""
        given = _read_given(self.config)
        reports = [CorpusReport(corpus.label) for corpus in self.config.corpora]
        with publish_folder(self.work / "scratch") as scratch:
            for place, corpus in enumerate(self.config.corpora):
                self._clean(corpus, given.keys, report=reports[place], out=scratch, name=str(place))
        roles = self._split(reports)
        texts = {"dev": Texts([], []), "test": Texts([], [])} | given.texts
        for place, report in enumerate(reports):
            self._hold_out(place, roles[place], texts=texts, report=report)
        self.say("learning the vocabulary")
        vocabularies = train_vocabularies(self._train_side(roles, 1), self._train_side(roles, 2), config=self.config.subwords)
        stores = [self._encode(place, roles[place], vocabularies, report=report) for place, report in enumerate(reports)]
        remove_folder(self.work / "scratch")
        self._write(asked, vocabularies=vocabularies, stores=stores, texts=texts, corpora=reports, given=given.reports)

    def _clean(self, corpus: ParallelText, held: HeldOut, *, report: CorpusReport, out: files.FolderWriter, name: str) -> None:
        """Write the pairs that are kept to a scratch file: line, source, target, divided by tabs, which clean text cannot hold."""
        self.say(f"cleaning {report.name}")
        notes = Notes()
        kept = clean(corpus.pairs(notes=notes), config=self.config.clean, report=report.clean)
        separate = remove_overlap(kept, held=held, report=report.overlap)
        with out.create(name) as file:
            while rows := list(islice(separate, _WRITTEN_TOGETHER)):
                file.write("".join(f"{pair.line}\t{pair.source}\t{pair.target}\n" for pair in rows).encode())
            report.repaired = _plain(notes)
            if file.size == 0:
                _refuse_empty(report)

    def _rows(self, place: int) -> Iterator[list[str]]:
        """Line, source and target of every clean pair of a corpus."""
        with (self.work / "scratch" / str(place)).open("rb") as file:
            for raw in file:
                yield raw[:-1].decode().split("\t")

    def _pairs(self, place: int) -> Iterator[SentencePair]:
        return (SentencePair(source, target, int(line)) for line, source, target in self._rows(place))

    def _split(self, reports: list[CorpusReport]) -> list[npt.NDArray[np.uint8]]:
        """The role of every clean pair, corpus by corpus. What was given need not be held out."""
        sizes = [report.overlap.kept for report in reports]
        unset = {"dev_pairs": 0} if self.config.dev else {}
        unset |= {"test_pairs": 0} if self.config.test else {}
        wanted = self.config.holdout.model_copy(update=unset)
        if wanted.dev_pairs == wanted.test_pairs == 0:
            return [np.full(size, Role.TRAIN, dtype=np.uint8) for size in sizes]
        self.say("holding out dev and test")
        everything = chain.from_iterable(map(self._pairs, range(len(sizes))))
        return np.split(split(everything, config=wanted).roles, np.cumsum(sizes)[:-1])

    def _hold_out(self, place: int, roles: npt.NDArray[np.uint8], *, texts: dict[str, Texts], report: CorpusReport) -> None:
        """Gather the pairs that became dev and test, and count those removed for their sake."""
        report.dev, report.test = int(np.count_nonzero(roles == Role.DEV)), int(np.count_nonzero(roles == Role.TEST))
        report.neighbours = int(np.count_nonzero(roles == Role.REMOVED))
        if not (report.dev or report.test or report.neighbours):
            return
        for pair, role in zip(self._pairs(place), roles, strict=True):
            if role in (Role.DEV, Role.TEST):
                held = texts["dev" if role == Role.DEV else "test"]
                held.source.append(pair.source)
                held.target.append(pair.target)
            elif role == Role.REMOVED:
                report.exemplify(NEIGHBOUR, _example(pair))

    def _train_side(self, roles: list[npt.NDArray[np.uint8]], column: int) -> Iterator[str]:
        for place, of_corpus in enumerate(roles):
            for row, role in zip(self._rows(place), of_corpus, strict=True):
                if role == Role.TRAIN:
                    yield row[column]

    def _encode(self, place: int, roles: npt.NDArray[np.uint8], vocabularies: Vocabularies, *, report: CorpusReport) -> Store:
        """Write the store of one corpus: all pairs to train on but the too long ones."""
        self.say(f"encoding {report.name}")
        pairs = (pair for pair, role in zip(self._pairs(place), roles, strict=True) if role == Role.TRAIN)
        folder = self.tree / store_name(place)
        with write_store(folder, vocabularies) as writer:
            while chunk := list(islice(pairs, _CHUNK)):
                sources = vocabularies.source.encode_arrays([pair.source for pair in chunk], threads=self.workers)
                targets = vocabularies.target.encode_arrays([pair.target for pair in chunk], threads=self.workers)
                fits = [max(len(s), len(t)) <= self.config.max_length for s, t in zip(sources, targets, strict=True)]
                writer.append(_where(sources, fits), _where(targets, fits))
                for pair, fit in zip(chunk, fits, strict=True):
                    if fit:
                        report.source_words += len(pair.source.split())
                        report.target_words += len(pair.target.split())
                    else:
                        report.too_long += 1
                        report.exemplify(TOO_LONG, _example(pair))
            report.train = writer.pairs
            if report.train == 0:
                _refuse_empty(report)
        return Store.open(folder)

    def _write(
        self,
        asked: dict[str, Any],
        *,
        vocabularies: Vocabularies,
        stores: list[Store],
        texts: dict[str, Texts],
        corpora: list[CorpusReport],
        given: dict[str, GivenReport],
    ) -> None:
        """Write everything beside the stores, the index last."""
        report = make_report(corpora, given=given)
        content = {name: side.to_bytes() for name, side in vocabularies.files().items()}
        for name, held in texts.items():
            if held.source:
                content |= {f"{name}.{side}": _to_lines(text) for side, text in zip(("source", "target"), held, strict=True)}
        content[REPORT_JSON] = _to_json(report)
        content[REPORT_TEXT] = report_to_text(report).encode()
        for name, data in content.items():
            write_file(self.tree / name, data)
        index = {
            "format": FORMAT,
            "fingerprint": asked,
            "facts": _facts(self.config, vocabularies=vocabularies, stores=stores, texts=texts, corpora=corpora),
            "stores": [
                {"name": corpus.label, "weight": corpus.weight, "digest": store.digest}
                for corpus, store in zip(self.config.corpora, stores, strict=True)
            ],
            "files": {name: {"size": len(data), "sha256": sha256(data).hexdigest()} for name, data in sorted(content.items())},
        }
        write_file(self.tree / INDEX, _to_json(index))


def _where(rows: list[npt.NDArray[np.int32]], fits: list[bool]) -> list[npt.NDArray[np.int32]]:
    return [row for row, fit in zip(rows, fits, strict=True) if fit]


def _refuse_empty(report: CorpusReport) -> None:
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in report.dropped.items()) or "held out for dev and test"
    raise DataError(
        f"{report.name}: of {report.clean.total:,} pairs none is left to train on ({reasons})",
        remedy="look at the text, or at the limits in data.clean and data.max_length",
    )


def _example(pair: SentencePair) -> Example:
    return Example(pair.line, (show(pair.source), show(pair.target)))


def _plain(notes: Notes) -> dict[str, dict[str, int]]:
    return {name: dict(sorted(seen.items())) for name, seen in notes.counts.items()}


def _to_lines(texts: list[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def _to_json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _facts(
    config: DataConfig, *, vocabularies: Vocabularies, stores: list[Store], texts: dict[str, Texts], corpora: list[CorpusReport]
) -> dict[str, Any]:
    pairs = sum(map(len, stores))
    facts: dict[str, Any] = dict(zip(("source_language", "target_language"), config.languages, strict=True))
    facts |= {"pairs": pairs, "dev_pairs": len(texts["dev"].source), "test_pairs": len(texts["test"].source)}
    facts |= {"source_words": sum(c.source_words for c in corpora), "target_words": sum(c.target_words for c in corpora)}
    sides = {"source": [store.source_lengths for store in stores], "target": [store.target_lengths for store in stores]}
    for side, lengths in sides.items():
        tokens = sum(int(of_store.sum(dtype=np.int64)) for of_store in lengths)
        facts[f"{side}_tokens"] = tokens
        facts[f"mean_{side}_tokens"] = round(tokens / pairs, 3)
        facts[f"longest_{side}_tokens"] = max(int(of_store.max()) for of_store in lengths)
    facts |= {"source_vocabulary": vocabularies.source.size, "target_vocabulary": vocabularies.target.size}
    return facts | {"joint_vocabulary": vocabularies.joint}


# ---- dev and test that were given ------------------------------------------------------------------------------------------------


def _read_given(config: DataConfig) -> _Given:
    texts: dict[str, Texts] = {}
    reports: dict[str, GivenReport] = {}
    for name, text in (("dev", config.dev), ("test", config.test)):
        if text is not None:
            texts[name], reports[name] = _read_whole(text)
    pairs = (SentencePair(s, t, 0) for held in texts.values() for s, t in zip(held.source, held.target, strict=True))
    return _Given(texts, reports, held_out(pairs))


def _read_whole(text: ParallelText) -> tuple[Texts, GivenReport]:
    """Every line of a text that scores are measured on: none left out, none altered but where it is not text at all."""
    notes, sides = Notes(), Texts([], [])
    found = {"with an empty side": 0, "not UTF-8": 0, "cut for their length": 0}
    for pair in text.pairs(notes=notes):
        whole = [side.removesuffix(CUT_MARK) for side in pair[:2]]
        readable = [side.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for side in whole]
        found["cut for their length"] += is_cut(pair.source) or is_cut(pair.target)
        found["not UTF-8"] += readable != whole
        found["with an empty side"] += not all(map(str.strip, readable))
        for side, line in zip(sides, readable, strict=True):
            side.append(line)
    kept = {what: number for what, number in found.items() if number}
    return sides, GivenReport(text.label, len(sides.source), kept, _plain(notes))
