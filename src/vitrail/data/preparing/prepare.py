"""Make a prepared folder from raw parallel text: check, clean, hold out, learn vocabularies, encode. All of it or nothing is written.

The text is read twice: for its statistics, then to clean it. The pairs that are kept go to a scratch file, which the later passes read. The
new folder is made as `<folder>.preparing` and renamed once. The result depends on the configuration and the bytes of
the input alone: not on the machine, the time, or the number of workers.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import compress, islice
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from vitrail.data.any_config import AnyData
from vitrail.data.boundaries import count_sentences
from vitrail.data.cleaning.check import check_texts
from vitrail.data.cleaning.clean import Example, printable
from vitrail.data.cleaning.clean_corpus import Cleaned, clean_chunks
from vitrail.data.cleaning.filters import HashSet, Reason
from vitrail.data.cleaning.left_out import WARNING, conversion, describe_dropped
from vitrail.data.cleaning.normalise import Normalisation, compose
from vitrail.data.cleaning.typical import Survey, survey
from vitrail.data.data_config import DataConfig
from vitrail.data.labels_config import LabelsConfig
from vitrail.data.preparing.fingerprints import fingerprint, fingerprint_differences, stamps
from vitrail.data.preparing.holder import owner_lock, require_scratch, require_untrained
from vitrail.data.preparing.holdout import HeldOut, Keys, SplitRole, held_out, split_keys
from vitrail.data.preparing.prepare_labels import LabelPreparation, describe_dropped_examples
from vitrail.data.preparing.prepare_text import TextPreparation, describe_dropped_lines
from vitrail.data.preparing.prepared import (
    FORMAT,
    INDEX,
    KNOWN_NAME,
    NEIGHBOUR,
    REPORT_JSON,
    REPORT_TEXT,
    TOO_LONG,
    AnyPrepared,
    CorpusReport,
    GivenReport,
    Prepared,
    PreparedData,
    Texts,
    is_prepared,
    make_report,
    more_dev_name,
    open_data,
    open_prepared,
    readable_json,
    report_to_text,
    store_name,
    to_lines,
    write_index,
)
from vitrail.data.preparing.store import Store, write_store
from vitrail.data.reading.parallel_text import CUT_MARK, Notes, ParallelText, SentencePair, is_cut
from vitrail.data.text_config import TextConfig
from vitrail.data.vocabularies.subwords import UNK, Vocabularies
from vitrail.data.vocabularies.taking import make_vocabularies, new_tokens, warn_of_spelling
from vitrail.errors import DataError
from vitrail.files import (
    Damaged,
    FolderLock,
    FolderWriter,
    NotWritten,
    exchange,
    keep_entries,
    publish_folder,
    remove_folder,
    rename,
    require_own,
)
from vitrail.runtime.cores import usable_cores

__all__ = ["DataConfig", "Prepared", "fingerprint", "fingerprint_differences", "open_prepared", "prepare"]

Say = Callable[[str], None]

PAIRS_WORTH_PROCESSES = 100_000
"""A corpus of at least this many pairs is cleaned by several processes. Nothing else depends on it."""
# Source lines of a corpus in which sentences are counted, drawn evenly: a share of 0.05 is then known to 0.003.
_LOOKED_INTO = 20_000
# Pairs of a corpus in which it is looked whether a vocabulary that was taken knows the text.
_SPELLED = 1_000
# Pairs encoded at a time: enough for all threads of a large machine, about 20 MB of text. Nothing depends on it.
_CHUNK = 50_000


@overload
def prepare(
    config: DataConfig,
    folder: Path,
    *,
    workers: int = 0,
    say: Say = ...,
    accept: Callable[[Any], object] | None = None,
    kept: Mapping[str, Any] | None = None,
) -> Prepared: ...
@overload
def prepare(
    config: AnyData,
    folder: Path,
    *,
    workers: int = 0,
    say: Say = ...,
    accept: Callable[[Any], object] | None = None,
    kept: Mapping[str, Any] | None = None,
) -> AnyPrepared: ...
def prepare(
    config: AnyData,
    folder: Path,
    *,
    workers: int = 0,
    say: Say = lambda _: None,
    accept: Callable[[Any], object] | None = None,
    kept: Mapping[str, Any] | None = None,
) -> AnyPrepared:
    """Prepare text in a folder, or open the folder if it was prepared from the same text with the same settings.

    Another prepared folder, or a damaged one, is replaced when the new one is complete; foreign files in it are kept. A folder with only
    foreign files is refused, and so is one that a model was trained on.

    Args:    workers: processes that clean, then threads that encode; 0: one a core. Their number changes no byte.
             say: called with each line of progress.
             accept: from a caller with the lock of the parent folder: called with the new data before they replace the old; an exception
             changes nothing. Default: the parent's lock, if there is one, is taken here.
             kept: see `fingerprint`: text may be missing as long as the data prepared from it are sound.
    Raises:  DataError, UsageError before anything is written when the text cannot be read or its sides are unequal; DataError when too
             little is left; TrainingError when another process prepares the same folder, or trains on it; NotWritten.
    Cost:    53 µs of processor time a pair of 7 words (162,000 pairs: 8.6 s, 230 MB); cleaning and encoding, half of it, use all workers.
    """
    counts = [] if kept is not None else _count(config)
    before = stamps(config, gone=kept is not None)
    asked = fingerprint(config, kept=kept)
    require_own({folder: is_prepared}, what="prepared data", inputs=before)
    with owner_lock(folder) if accept is None else nullcontext():
        found, told = _open_same(folder, asked)
        if found is None and accept is None:
            require_untrained(folder)
        if told:
            say(told)
        if found is not None:
            _tell(found, config, say, only=WARNING)
            return found
        counts = counts or _count(config)
        if isinstance(config, DataConfig):
            check_texts(config, say=say)
        work = folder.absolute().with_name(f"{folder.absolute().name}.preparing")
        require_scratch(work)
        with FolderLock(work):
            try:
                _restore(work / "old", folder)
                for left_over in ("tree", "scratch", "old"):
                    if (work / left_over).exists():
                        remove_folder(work / left_over)
                _make(config, counts, work=work, workers=workers or usable_cores(), say=say).run(asked)
                if stamps(config) != before:
                    raise DataError("the text changed while it was read", remedy="run again when no other program writes to it")
                if accept is not None:
                    accept(open_data(work / "tree"))
                _put_in_place(work / "tree", folder, aside=work / "old")
            finally:
                if folder.exists() or not (work / "old").exists():
                    remove_folder(work)  # syncs the folder around it too, so that the new name is durable
        found = open_data(folder)
        _tell(found, config, say)
        return found


def _make(config: AnyData, counts: list[int], *, work: Path, workers: int, say: Say) -> "_Preparation | TextPreparation | LabelPreparation":
    match config:
        case DataConfig():
            return _Preparation(config, counts, work, workers, say)
        case TextConfig():
            return TextPreparation(config, counts, work, workers, say)
        case LabelsConfig():
            return LabelPreparation(config, counts, work, workers, say)


def _count(config: AnyData) -> list[int]:
    """Pairs of each text. Raises DataError where one cannot be read, or its sides are unequal."""
    return [text.count() for _, text in config.texts()]


def _tell(prepared: PreparedData, config: AnyData, say: Say, *, only: str = "") -> None:
    match config:
        case DataConfig():
            lines = describe_dropped(prepared.report.details, config)
        case TextConfig():
            lines = describe_dropped_lines(prepared.report)
        case LabelsConfig():
            lines = describe_dropped_examples(prepared.report)
    for line in lines:
        if line.startswith(only):
            say(line)


def _open_same(folder: Path, asked: dict[str, Any]) -> tuple[AnyPrepared | None, str]:
    """The folder if it fits the request, or None if it has to be made; and a line for the user."""
    if not (folder / INDEX).exists():
        return None, ""
    try:
        found = open_data(folder)
    except Damaged as error:
        return None, f"{error.found}; preparing it again"
    changed = fingerprint_differences(found.fingerprint, asked)
    if changed:
        return None, "preparing again: " + "; ".join(changed)
    return found, f"{folder}: is prepared from this text already"


def _restore(aside: Path, folder: Path) -> None:
    """Restore the name of a folder that a killed process had set aside."""
    if aside.exists() and not os.path.lexists(folder):
        rename(aside, folder)


def _put_in_place(tree: Path, folder: Path, *, aside: Path) -> None:
    try:
        if os.path.lexists(folder):
            keep_entries(folder, tree, [path.name for path in folder.iterdir() if not KNOWN_NAME.fullmatch(path.name)])
            if exchange(tree, folder):
                return
            rename(folder, aside)
        rename(tree, folder)
    except BaseException:
        with suppress(NotWritten):
            _restore(aside, folder)
        raise


class _Given(NamedTuple):
    """Given dev and test texts, by name."""

    texts: dict[str, Texts]
    reports: dict[str, GivenReport]
    keys: HeldOut


@dataclass(frozen=True)
class _Preparation:
    """One preparation: its steps in order, and its folders."""

    config: DataConfig
    counts: list[int]
    """Pairs of each corpus, as they are."""
    work: Path
    workers: int
    say: Say

    @property
    def tree(self) -> Path:
        return self.work / "tree"

    def run(self, asked: dict[str, Any]) -> None:
        """Make the whole folder at `tree`."""
        found = survey(list(zip(self.config.training_text, self.counts, strict=False)))
        given = _read_given(self.config, found.normalisation)
        reports = [
            CorpusReport(corpus.label, typical, read_as=corpus.describe())
            for corpus, typical in zip(self.config.training_text, found.typical, strict=True)
        ]
        with publish_folder(self.work / "scratch") as scratch:
            keys = [self._clean(place, given.keys, report=report, found=found, out=scratch) for place, report in enumerate(reports)]
        roles = self._split(keys)
        del keys
        texts = {"dev": Texts([], []), "test": Texts([], [])} | given.texts
        for place, report in enumerate(reports):
            self._hold_out(place, roles[place], texts=texts, report=report)
        self.say("taking the vocabulary" if self.config.subwords.folders() else "learning the vocabulary")
        # A vocabulary that was taken grows by the new text alone.
        learned = roles[: len(self.config.corpora)] if self.config.subwords.folders() else roles
        vocabularies = make_vocabularies(self._train_side(learned, 0), self._train_side(learned, 1), config=self.config.subwords)
        grown, lines = new_tokens(self.config.subwords, vocabularies)
        for line in lines:
            self.say(line)
        stores = [self._encode(place, roles[place], vocabularies, report=report) for place, report in enumerate(reports)]
        remove_folder(self.work / "scratch")
        facts = _facts(self.config, vocabularies=vocabularies, stores=stores, texts=texts, corpora=reports)
        facts |= grown
        facts["source_normalization"] = found.normalisation.to_fact()
        if tags := sorted({corpus.tag for corpus in self.config.training_text} - {""}):
            facts["tags"] = tags
        self._write(
            asked, vocabularies=vocabularies, stores=stores, texts=texts, report=make_report(reports, given=given.reports), facts=facts
        )

    def _clean(self, place: int, held: HeldOut, *, report: CorpusReport, found: Survey, out: FolderWriter) -> Keys:
        """Write the pairs that are kept to a scratch file: line, source, target, divided by tabs, which clean text cannot hold.

        Returns: the keys of their sources and targets, one row a pair.
        """
        corpus, notes = self.config.training_text[place], Notes()
        self.say(f"cleaning {report.name}")
        seen = None if Reason.DUPLICATE in self.config.clean.skip else HashSet()
        chunks = clean_chunks(
            corpus.pairs(notes=notes),
            config=self.config.clean,
            processes=self._processes(place),
            typical=report.typical,
            normalisation=found.normalisation,
        )
        keys: list[Keys] = [np.empty((0, 2), dtype=np.uint64)]
        with closing(chunks), out.create(str(place)) as file:
            for chunk in chunks:
                report.clean.add(chunk.report)
                kept = _sift(chunk, seen=seen, held=held, report=report)
                file.write(kept.rows)
                keys.append(kept.keys[:, 1:].copy())
            report.repaired = _plain(notes)
            if file.size == 0:
                _refuse_empty(report, cure=conversion(corpus, self.config.languages) if report.clean.dropped[Reason.INVALID_UTF8] else "")
        return np.concatenate(keys)

    def _processes(self, place: int) -> int:
        """A process takes as long to start as to clean 20,000 pairs, so few pairs are cleaned in this process."""
        return self.workers if self.workers > 1 and self.counts[place] >= PAIRS_WORTH_PROCESSES else 0

    def _pairs(self, place: int) -> Iterator[SentencePair]:
        """Every clean pair of a corpus."""
        with (self.work / "scratch" / str(place)).open("rb") as file:
            for row in file:
                yield _pair_of(row[:-1])

    def _tagged(self, place: int) -> Iterator[SentencePair]:
        """The same with the corpus's tag, as the model reads them."""
        corpus = self.config.training_text[place]
        return (pair._replace(source=corpus.tagged(pair.source)) for pair in self._pairs(place))

    def _split(self, keys: list[Keys]) -> list[npt.NDArray[np.uint8]]:
        """The role of every clean pair, corpus by corpus. Given texts are not held out."""
        sizes = list(map(len, keys))
        unset = {"dev_pairs": 0} if self.config.dev else {}
        unset |= {"test_pairs": 0} if self.config.test else {}
        wanted = self.config.holdout.model_copy(update=unset)
        if wanted.dev_pairs == wanted.test_pairs == 0:
            return [np.full(size, SplitRole.TRAIN, dtype=np.uint8) for size in sizes]
        self.say("holding out dev and test")
        sources, targets = np.concatenate(keys).T
        allowed = np.concatenate([np.full(size, corpus.holdout) for size, corpus in zip(sizes, self.config.training_text, strict=True)])
        return np.split(split_keys(sources, targets, config=wanted, allowed=allowed).roles, np.cumsum(sizes)[:-1])

    def _hold_out(self, place: int, roles: npt.NDArray[np.uint8], *, texts: dict[str, Texts], report: CorpusReport) -> None:
        """Collect the pairs of dev and test, and count the pairs removed because of them."""
        report.dev, report.test = int(np.count_nonzero(roles == SplitRole.DEV)), int(np.count_nonzero(roles == SplitRole.TEST))
        report.neighbours = int(np.count_nonzero(roles == SplitRole.REMOVED))
        if not (report.dev or report.test or report.neighbours):
            return
        for pair, role in zip(self._pairs(place), roles, strict=True):
            if role in (SplitRole.DEV, SplitRole.TEST):
                held = texts["dev" if role == SplitRole.DEV else "test"]
                held.source.append(self.config.training_text[place].tagged(pair.source))
                held.target.append(pair.target)
            elif role == SplitRole.REMOVED:
                report.exemplify(NEIGHBOUR, _example(pair))

    def _train_side(self, roles: list[npt.NDArray[np.uint8]], side: int) -> Iterator[str]:
        for place, of_corpus in enumerate(roles):
            yield from (pair[:2][side] for pair in compress(self._tagged(place), (of_corpus == SplitRole.TRAIN).tolist()))

    def _encode(self, place: int, roles: npt.NDArray[np.uint8], vocabularies: Vocabularies, *, report: CorpusReport) -> Store:
        """Write the store of one corpus: all training pairs except those that are too long."""
        self.say(f"encoding {report.name}")
        pairs = compress(self._tagged(place), (roles == SplitRole.TRAIN).tolist())
        every = 1 + int(np.count_nonzero(roles == SplitRole.TRAIN)) // _LOOKED_INTO
        folder = self.tree / store_name(place)
        with write_store(folder, vocabularies) as writer:
            while chunk := list(islice(pairs, _CHUNK)):
                if not writer.pairs:
                    plain = list(islice(compress(self._pairs(place), (roles == SplitRole.TRAIN).tolist()), _SPELLED))  # without the tag
                    some = {"source": [pair.source for pair in plain], "target": [pair.target for pair in plain]}
                    for line in warn_of_spelling(self.config.subwords, vocabularies, some, name=report.name):
                        self.say(line)
                sources = vocabularies.source.encode_arrays([pair.source for pair in chunk], threads=self.workers)
                targets = vocabularies.target.encode_arrays([pair.target for pair in chunk], threads=self.workers)
                fits = [max(len(s), len(t)) <= self.config.max_length for s, t in zip(sources, targets, strict=True)]
                writer.append(_where(sources, fits), _where(targets, fits))
                looked_into = chunk[::every]
                report.looked_into += len(looked_into)
                report.several_sentences += sum(count_sentences(pair.source) > 1 for pair in looked_into)
                if vocabularies.has_unknown:
                    report.tokens += sum(map(len, (*sources, *targets)))
                    report.unknown += sum(int(np.count_nonzero(row == UNK)) for row in (*sources, *targets))
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
        report: dict[str, Any],
        facts: dict[str, Any],
    ) -> None:
        """Write everything beside the stores, the index last."""
        content = {name: side.to_bytes() for name, side in vocabularies.files().items()}
        for name, held in texts.items():
            if held.source:
                content |= {f"{name}.{side}": to_lines(text) for side, text in zip(("source", "target"), held, strict=True)}
        index: dict[str, Any] = {
            "format": FORMAT,
            "fingerprint": asked,
            "facts": facts,
            "stores": [
                {"name": corpus.label, "weight": weight, "digest": store.digest}
                for corpus, weight, store in zip(self.config.training_text, _weights(self.config, stores), stores, strict=True)
            ],
        }
        if self.config.further_dev:
            index["more_dev"] = [text.label for text in self.config.further_dev]
        write_index(self.tree, index, content | {REPORT_JSON: readable_json(report), REPORT_TEXT: report_to_text(report).encode()})


def _sift(chunk: Cleaned, *, seen: HashSet | None, held: HeldOut, report: CorpusReport) -> Cleaned:
    """Drop and count duplicates, and pairs with a sentence of dev or test."""
    new = [seen is None or seen.add(key) for key in chunk.keys[:, 0].tolist()]
    if all(new) and not held.sources and not held.targets:
        report.overlap.total += len(new)
        report.overlap.kept += len(new)
        return chunk
    rows = chunk.rows.split(b"\n")[:-1]
    kept: list[int] = []
    for place, (row, source, target) in enumerate(zip(rows, *chunk.keys[:, 1:].T.tolist(), strict=True)):
        if not new[place]:
            report.clean.drop_kept(Reason.DUPLICATE, _pair_of(row))
        elif report.overlap.keeps(partial(_pair_of, row), by_source=source in held.sources, by_target=target in held.targets):
            kept.append(place)
    return Cleaned(b"".join(rows[place] + b"\n" for place in kept), chunk.keys[kept], chunk.report)


def _pair_of(row: bytes) -> SentencePair:
    line, source, target = row.decode().split("\t")
    return SentencePair(source, target, int(line))


def _where(rows: list[npt.NDArray[np.int32]], fits: list[bool]) -> list[npt.NDArray[np.int32]]:
    return [row for row, fit in zip(rows, fits, strict=True) if fit]


def _refuse_empty(report: CorpusReport, *, cure: str = "") -> None:
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in report.dropped.items()) or "held out for dev and test"
    raise DataError(
        f"{report.name}: of {report.clean.total:,} pairs none is left to train on ({reasons})",
        remedy=cure or "check the text, or the limits in data.clean and data.max_length",
    )


def _example(pair: SentencePair) -> Example:
    return Example(pair.line, (printable(pair.source), printable(pair.target)))


def _plain(notes: Notes) -> dict[str, dict[str, int]]:
    return {name: dict(sorted(seen.items())) for name, seen in notes.counts.items()}


def _weights(config: DataConfig, stores: Sequence[Store]) -> list[float]:
    """The weight of each store: as the configuration says, old text so that it makes `old_part` of the target tokens that are drawn."""
    texts, new = config.training_text, len(config.corpora)
    weights = [text.weight for text in texts]
    if not config.old:
        return weights
    # A store gives p ~ (n w)^(1/T) pairs (`batches.shares`) of m tokens each, ends counted.
    tokens = [
        (len(store) * weight) ** (1 / config.temperature) * (1 + int(store.target_lengths.sum(dtype=np.int64)) / len(store))
        for store, weight in zip(stores, weights, strict=True)
    ]
    wanted = config.old_part / (1 - config.old_part) * sum(tokens[:new]) / sum(tokens[new:])
    # 12 digits: the last bit of a power differs between platforms.
    return [*weights[:new], *(float(f"{weight * wanted**config.temperature:.12g}") for weight in weights[new:])]


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
        facts[f"longest_{side}"] = max(int(of_store.max()) for of_store in lengths)  # tokens; a translator splits what is longer
    # A translator splits lines into sentences if the model has hardly seen several in one line.
    facts["several_sentences_share"] = round(sum(c.several_sentences for c in corpora) / sum(c.looked_into for c in corpora), 4)
    facts |= {"source_vocabulary": vocabularies.source.size, "target_vocabulary": vocabularies.target.size}
    return facts | {"joint_vocabulary": vocabularies.joint}


# ---- dev and test that were given ------------------------------------------------------------------------------------------------


def _read_given(config: DataConfig, normalisation: Normalisation) -> _Given:
    texts: dict[str, Texts] = {}
    reports: dict[str, GivenReport] = {}
    more = [(more_dev_name(place), text) for place, text in enumerate(config.further_dev)]
    named = (("dev", config.dev), ("test", config.test), *more)
    for name, text in named:
        if text is not None:
            texts[name], reports[name] = _read_whole(text, normalisation)
    tags = {name: text.tag for name, text in named if text is not None}
    pairs = (
        SentencePair(source.removeprefix(f"{tags[name]} ") if tags[name] else source, target, 0)
        for name, held in texts.items()
        for source, target in zip(held.source, held.target, strict=True)
    )
    return _Given(texts, reports, held_out(pairs))


def _read_whole(text: ParallelText, normalisation: Normalisation) -> tuple[Texts, GivenReport]:
    """Every line of a text that scores are measured on, none left out: sources as the model reads them, references composed (NFC)."""
    notes, sides = Notes(), Texts([], [])
    found = {"with an empty side": 0, "not UTF-8": 0, "cut for their length": 0}
    for pair in text.pairs(notes=notes):
        whole = [side.removesuffix(CUT_MARK) for side in pair[:2]]
        readable = [side.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for side in whole]
        found["cut for their length"] += is_cut(pair.source) or is_cut(pair.target)
        found["not UTF-8"] += readable != whole
        found["with an empty side"] += not all(map(str.strip, readable))
        sides.source.append(text.tagged(normalisation.source(readable[0])))
        sides.target.append(compose(readable[1]))
    kept = {what: number for what, number in found.items() if number}
    return sides, GivenReport(text.label, len(sides.source), kept, _plain(notes), text.describe())
