"""Preparing: every pair is accounted for, the same input gives the same bytes, and nothing half is ever left."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitrail import files
from vitrail.data.cleaning.clean import CleanConfig
from vitrail.data.cleaning.explain import explain
from vitrail.data.preparing.holdout import HoldoutConfig, sentence_key
from vitrail.data.preparing.prepare import DataConfig, fingerprint, fingerprint_differences, prepare
from vitrail.data.preparing.prepared import INDEX, NEIGHBOUR, OVERLAP, REPORT_TEXT, TOO_LONG, Prepared, open_prepared
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.vocabularies.subwords import SubwordsConfig
from vitrail.errors import DataError, ModelError, TrainingError, UsageError
from vitrail.files import FolderLock, NotWritten

NOUNS = {"cat": "chat", "dog": "chien", "baker": "boulanger", "doctor": "médecin", "neighbour": "voisin", "king": "roi", "fox": "renard"}
VERBS = {"sees": "voit", "follows": "suit", "calls": "appelle", "hears": "entend", "paints": "peint", "finds": "trouve"}
PLACES = {"at home": "à la maison", "in the rain": "sous la pluie", "by the river": "près du fleuve", "today": "aujourd'hui"}
SUBWORDS = SubwordsConfig(size=420)
LONG = ("a fox " * 3 + "is long and has more words than others", "un renard " * 2 + "est long et a plus de mots que les autres phrases")


def sentences(count: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """So many different sentences with their translations."""
    every = [
        (f"The {who} {does} the {whom} {where}.", f"Le {NOUNS[who]} {VERBS[does]} le {NOUNS[whom]} {PLACES[where]}.")
        for who in NOUNS
        for does in VERBS
        for whom in NOUNS
        for where in PLACES
    ]
    return random.Random(seed).sample(every, count)


def write(folder: Path, name: str, pairs: list[tuple[str, str]]) -> ParallelText:
    sides = [folder / f"{name}.en", folder / f"{name}.fr"]
    for path, texts in zip(sides, zip(*pairs, strict=True), strict=True):
        path.write_bytes("".join(f"{text}\n" for text in texts).encode("utf-8", "surrogateescape"))
    return ParallelText(source=sides[0], target=sides[1], name=name)


def configure(*corpora: ParallelText, **options: Any) -> DataConfig:
    return DataConfig(corpora=corpora, **({"subwords": SUBWORDS, "holdout": HoldoutConfig(dev_pairs=5, test_pairs=7)} | options))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def decoded(prepared: Prepared) -> list[tuple[str, str]]:
    sides = prepared.vocabularies.source, prepared.vocabularies.target
    return [(sides[0].decode(s.source(n)), sides[1].decode(s.target(n))) for s in prepared.stores for n in range(len(s))]


def test_every_pair_arrives_where_the_report_says(tmp_path: Path) -> None:
    good = sentences(300)
    dirty = [
        ("", "vide"),
        ("Quite the same text", "Quite the same text"),
        good[0],
        ("broken \udcff", "cassé"),
        (" a  cat\tsleeps ", "un chat dort"),
    ]
    given_dev = [
        *sentences(3, seed=1),
        ("", "rien"),
        ("bad \udcfe byte", "mauvais"),
        ("  as\u00a0the mo\u00addel reads it ", "tel\u2028quel\r"),
    ]
    config = configure(
        write(tmp_path, "a", [*good, *dirty, LONG]),
        dev=write(tmp_path, "dev", given_dev),
        holdout=HoldoutConfig(test_pairs=7),
        max_length=30,
    )
    said: list[str] = []
    prepared = prepare(config, tmp_path / "out", workers=2, say=said.append)
    report = prepared.report

    assert report.read == 306 == report.train + report.dev + report.test + sum(report.dropped.values())
    reasons = {"EmptySide": 1, "IdenticalFilter": 1, "DuplicateFilter": 1, "InvalidUtf8": 1, TOO_LONG: 1}
    assert report.dropped.items() >= reasons.items()
    assert report.dropped[OVERLAP] >= 1
    assert (report.dev, report.test) == (0, 7)
    assert len(prepared.stores[0]) == report.train == prepared.facts["pairs"]

    trained = decoded(prepared)
    assert ("a cat sleeps", "un chat dort") in trained + list(zip(*prepared.test, strict=True))
    assert set(trained) <= {*good, ("a cat sleeps", "un chat dort")}
    assert prepared.dev.source == [*(pair[0] for pair in given_dev[:4]), "bad \ufffd byte", "as the model reads it"]
    assert prepared.dev.target == [*(pair[1] for pair in given_dev[:5]), "tel\u2028quel"]  # \r\n is an end of line
    assert report.details["given"]["dev"]["found"] == {"with an empty side": 1, "not UTF-8": 1}
    for side in (0, 1):
        held = {sentence_key(text) for texts in (prepared.dev, prepared.test) for text in texts[side]}
        assert held.isdisjoint(sentence_key(pair[side]) for pair in trained)

    facts = prepared.facts
    assert (facts["source_language"], facts["target_language"]) == ("en", "fr")
    assert facts["source_words"] == sum(len(source.split()) for source, _ in trained)
    assert facts["longest_source"] == prepared.stores[0].source_lengths.max() <= 30
    assert facts["target_tokens"] == prepared.stores[0].target_lengths.sum()
    assert "a:302" not in report.to_text() and "line 302: Quite the same text  |  Quite the same text" in report.to_text()
    assert (tmp_path / "out" / "report.txt").read_text() == report.to_text()
    assert any("learning" in line for line in said)


@pytest.mark.parametrize("several", [0, 30])
def test_how_many_lines_hold_several_sentences_is_known(tmp_path: Path, several: int) -> None:
    single = sentences(120)
    joined = [
        (f"{one[0]} {two[0]}", f"{one[1]} {two[1]}") for one, two in zip(single[:several], single[several : 2 * several], strict=True)
    ]
    text = write(tmp_path, "a", joined + single[2 * several :])
    config = configure(text, subwords=SubwordsConfig(kind="character"), holdout=HoldoutConfig(dev_pairs=0, test_pairs=0))
    facts = prepare(config, tmp_path / "out").facts
    assert facts["several_sentences_share"] == pytest.approx(several / facts["pairs"], abs=1e-4)


noise_lines = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=12) | st.sampled_from(["A cat sees.", ""])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(noise_lines, noise_lines), max_size=12))
def test_no_pair_is_dropped_uncounted_whatever_the_text(tmp_path: Path, noise: list[tuple[str, str]]) -> None:
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    good = sentences(60)
    config = configure(write(tmp_path, "a", noise + good), subwords=SubwordsConfig(kind="character"), holdout=HoldoutConfig(dev_pairs=1))
    report = prepare(config, tmp_path / "out").report
    assert report.read == len(noise) + 60 == report.train + report.dev + report.test + sum(report.dropped.values())


def test_several_corpora_are_held_out_from_together_and_stored_apart(tmp_path: Path) -> None:
    pairs = sentences(400)
    heavy = write(tmp_path, "b", pairs[150:]).model_copy(update={"weight": 3.0})
    prepared = prepare(configure(write(tmp_path, "a", pairs[:200]), heavy), tmp_path / "out")
    assert prepared.weights == (1.0, 3.0)
    assert [part["read"] for part in prepared.report.details["corpora"]] == [200, 250]
    assert sum(map(len, prepared.stores)) == prepared.report.train
    held = {*zip(*prepared.dev, strict=True), *zip(*prepared.test, strict=True)}
    # Fifty pairs stand in both corpora: one that is held out from one is not trained on in the other.
    assert len(held) == 12 and held.isdisjoint(decoded(prepared))
    assert prepared.report.dropped.get(NEIGHBOUR, 0) == 450 - 12 - prepared.report.train
    without = prepare(configure(write(tmp_path, "a", pairs), holdout=HoldoutConfig(dev_pairs=0, test_pairs=0)), tmp_path / "none")
    assert without.dev.source == without.test.target == [] and without.report.train == 400


def test_a_corpus_kept_out_of_hold_out_is_in_neither_dev_nor_test_but_rid_of_what_they_hold(tmp_path: Path) -> None:
    pairs = sentences(400)
    made = write(tmp_path, "back", pairs[100:]).model_copy(update={"holdout": False})
    prepared = prepare(configure(write(tmp_path, "real", pairs[:200]), made), tmp_path / "out")
    held = {*zip(*prepared.dev, strict=True), *zip(*prepared.test, strict=True)}
    assert len(held) == 12 and held <= set(pairs[:200]) and held.isdisjoint(decoded(prepared))
    back = prepared.report.details["corpora"][1]
    assert (back["dev"], back["test"]) == (0, 0)
    assert back["dropped"][NEIGHBOUR] >= len(held & set(pairs[100:])) > 0
    assert back["train"] > 200
    with pytest.raises(DataError, match="no pair may be held out"):
        prepare(configure(made), tmp_path / "none")
    given = write(tmp_path, "given", sentences(20, seed=1))
    prepare(configure(made, dev=given, holdout=HoldoutConfig(test_pairs=0)), tmp_path / "with dev")


def test_more_dev_texts_are_kept_by_their_names(tmp_path: Path) -> None:
    pairs = sentences(300)
    more = tuple(write(tmp_path, name, pairs[280 + 5 * place :][:5]) for place, name in enumerate(("news", "law")))
    config = configure(write(tmp_path, "a", pairs), more_dev=more)
    prepared = prepare(config, tmp_path / "out")
    assert {name: list(zip(*texts, strict=True)) for name, texts in prepared.more_dev.items()} == {
        "news": pairs[280:285],
        "law": pairs[285:290],
    }
    assert set(decoded(prepared)).isdisjoint(pairs[280:290])
    assert prepared.report.details["given"].keys() == {"dev-0", "dev-1"}
    assert open_prepared(tmp_path / "out").more_dev == prepared.more_dev
    with pytest.raises(UsageError, match="two dev texts are called law"):
        configure(write(tmp_path, "a", pairs), more_dev=(more[1], more[1]))


def test_what_was_guessed_of_a_text_is_told_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("".join(f"https://a.b/{n}\t{source}\t{target}\n" for n, (source, target) in enumerate(sentences(60))))
    said: list[str] = []
    config = configure(ParallelText(source=path), subwords=SubwordsConfig(kind="character"))
    prepared = prepare(config, tmp_path / "out", say=said.append)
    told = next(line for line in said if "columns 2 and 3 of 3 are taken for the text" in line)
    assert told.count("\n") == 3 and sentences(60)[0][0] in told
    assert prepared.report.details["corpora"][0]["read_as"] == told
    assert "columns 2 and 3 of 3" in prepared.report.to_text()


def test_a_fingerprint_of_before_is_the_same_today(tmp_path: Path) -> None:
    """What was prepared, and trained, before a key was there is still known: later keys stand in it only where they are used."""
    corpus = write(tmp_path, "a", sentences(10))
    asked = fingerprint(DataConfig(corpora=(corpus,)))
    of_texts = ("data.corpora", "data.dev", "data.more_dev", "data.test", "data.holdout")
    assert sorted(key for key in asked if key.startswith(of_texts)) == [
        *("data.corpora.0.format", "data.corpora.0.languages", "data.corpora.0.source", "data.corpora.0.target", "data.corpora.0.weight"),
        *("data.dev", "data.holdout.dev_pairs", "data.holdout.test_pairs", "data.test"),
    ]
    changed = corpus.model_copy(update={"holdout": False})
    assert fingerprint_differences(asked, fingerprint(DataConfig(corpora=(changed,)))) == ["data.corpora.0.holdout: absent, now False"]
    more = fingerprint(DataConfig(corpora=(corpus,), more_dev=(corpus,)))
    assert {key.split(".")[1] for key in more.keys() - asked.keys()} == {"more_dev"}


def test_processes_that_clean_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [*sentences(300), ("", "vide"), ("<br>", "\udcff"), *sentences(80), ("a\tcat \u2028 sees", "un chat\rvoit")]
    config = configure(write(tmp_path, "a", pairs), test=write(tmp_path, "test", sentences(9, seed=3)), holdout=HoldoutConfig(dev_pairs=5))
    monkeypatch.setattr("vitrail.data.cleaning.clean_corpus.CHUNK", 37)
    here = prepare(config, tmp_path / "here", workers=1)
    monkeypatch.setattr("vitrail.data.preparing.prepare.PAIRS_WORTH_PROCESSES", 1)
    prepare(config, tmp_path / "apart", workers=3)
    assert contents(tmp_path / "here") == contents(tmp_path / "apart")
    assert here.report.dropped["DuplicateFilter"] == 80 and here.report.dropped[OVERLAP] >= 1


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    config = configure(write(tmp_path, "a", sentences(200)))
    first = prepare(config, tmp_path / "one", workers=1)
    second = prepare(config, tmp_path / "two", workers=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert first.digest == second.digest
    assert {path.name for path in tmp_path.iterdir()} == {"a.en", "a.fr", "one", "two"}


KILLED = """
import errno, os, signal, sys
from dataclasses import replace
from pathlib import Path
from vitrail import files
from vitrail.data.preparing.prepare import DataConfig, prepare

moment, config, folder = sys.argv[1], DataConfig.model_validate_json(sys.argv[2]), Path(sys.argv[3])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def rename(before, after):
    if moment == "rename" and Path(before).name == "tree":
        die()
    os.replace(before, after)

def exchange(one, other):
    raise OSError(errno.ENOSYS, "no such call")

files.system.SYSTEM = replace(files.system.SYSTEM, rename=rename, exchange=exchange)
prepare(config, folder, say=lambda line: line.startswith(moment) and die())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("moment", ["holding out", "encoding", "rename"])
def test_a_killed_run_leaves_nothing_half_and_is_made_good(tmp_path: Path, moment: str) -> None:
    before = configure(write(tmp_path, "a", sentences(200, seed=1)))
    prepare(before, tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "before")
    config = configure(write(tmp_path, "a", sentences(200, seed=2)))
    prepare(config, tmp_path / "expected")

    arguments = [sys.executable, "-c", KILLED, moment, config.model_dump_json(), str(tmp_path / "out")]
    assert subprocess.run(arguments, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode == -signal.SIGKILL
    assert (tmp_path / "out.preparing").exists()
    if (tmp_path / "out").exists():  # between the two renames it has no name for a moment
        assert contents(tmp_path / "out") == contents(tmp_path / "before")
    else:
        assert moment == "rename"
    prepare(config, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    assert not (tmp_path / "out.preparing").exists()


def test_the_same_text_is_opened_and_a_changed_one_prepared_again(tmp_path: Path) -> None:
    config = configure(write(tmp_path, "a", sentences(200)))
    first = prepare(config, tmp_path / "out")
    inode = (tmp_path / "out").stat().st_ino
    said: list[str] = []
    assert prepare(config, tmp_path / "out", say=said.append).digest == first.digest
    assert (tmp_path / "out").stat().st_ino == inode and "already" in said[-1]

    moved = write(tmp_path, "elsewhere", sentences(200))
    assert fingerprint(configure(moved)) == fingerprint(config) == first.fingerprint

    changed = configure(write(tmp_path, "a", sentences(201)), clean=CleanConfig(max_words=99))
    names = [line.split(":")[0] for line in fingerprint_differences(first.fingerprint, fingerprint(changed))]
    assert names == ["data.corpora.0.source", "data.corpora.0.target", "data.clean.max_words"]
    again = prepare(changed, tmp_path / "out", say=said.append)
    assert again.report.read == 201 and again.digest != first.digest
    assert "data.clean.max_words: 250, now 99" in said[-4] + said[-5]


def test_what_cannot_be_prepared_writes_nothing(tmp_path: Path) -> None:
    corpus = write(tmp_path, "a", sentences(100))
    corpus.source.write_bytes(corpus.source.read_bytes() + b"one line more\n")
    with pytest.raises(DataError, match="101 lines"):
        prepare(configure(corpus), tmp_path / "deep" / "out")
    with pytest.raises(DataError, match="no such file"):
        prepare(configure(ParallelText(source=tmp_path / "no.en", target=tmp_path / "no.fr")), tmp_path / "deep" / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"a.en", "a.fr"}

    few = write(tmp_path, "few", sentences(10))
    for options in ({}, {"clean": CleanConfig(max_characters=1)}, {"max_length": 1, "holdout": HoldoutConfig(dev_pairs=1, test_pairs=1)}):
        with pytest.raises(DataError, match=r"few|none is left"):
            prepare(configure(few, **options), tmp_path / "out")
        assert {path.name for path in tmp_path.iterdir()} == {"a.en", "a.fr", "few.en", "few.fr"}


def test_a_failing_disk_leaves_the_older_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(configure(write(tmp_path, "a", sentences(100))), tmp_path / "out")
    before = contents(tmp_path / "out")

    def rename(old: Path, new: Path) -> None:
        if old.name == "tree":
            raise OSError(errno.ENOSPC, "No space left on device")
        old.replace(new)

    def no_exchange(one: Path, other: Path) -> None:
        raise OSError(errno.ENOSYS, "no such call")

    for system in (files.FileSystem(exchange=rename), files.FileSystem(rename=rename, exchange=no_exchange)):
        monkeypatch.setattr(files.system, "SYSTEM", system)
        with pytest.raises(NotWritten):
            prepare(configure(write(tmp_path, "a", sentences(101))), tmp_path / "out")
        assert contents(tmp_path / "out") == before
    assert not (tmp_path / "out.preparing").exists()


def test_a_text_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    corpus = write(tmp_path, "a", sentences(100))

    def meddle(line: str) -> None:
        if line.startswith("encoding"):
            write(tmp_path, "a", sentences(101))

    with pytest.raises(DataError, match="changed"):
        prepare(configure(corpus), tmp_path / "out", say=meddle)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    config = configure(write(tmp_path, "a", sentences(100)))
    thesis = tmp_path / "out" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        prepare(config, tmp_path / "out")
    assert thesis.read_text() == "years of work"
    with pytest.raises(ModelError, match="not a prepared folder"):
        open_prepared(tmp_path / "out")
    thesis.unlink()
    prepare(config, tmp_path / "out")  # an empty folder may be used
    with FolderLock(tmp_path / "new.preparing"), pytest.raises(TrainingError, match="in use"):
        prepare(config, tmp_path / "new")


def test_every_damaged_file_is_found_and_preparing_again_mends_it(tmp_path: Path) -> None:
    config = configure(write(tmp_path, "a", sentences(100)))
    prepare(config, tmp_path / "out")
    good = contents(tmp_path / "out")
    for name in sorted(good):
        path = tmp_path / "out" / name
        data = bytearray(good[name])
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
        if name == REPORT_TEXT:  # for people: they may mark it up
            open_prepared(tmp_path / "out")
        else:
            with pytest.raises(ModelError, match=path.name if "store-" not in name else "store-0"):
                open_prepared(tmp_path / "out")
        path.write_bytes(good[name])
    for index in (b"", b"[]", b"[" * 100_000, json.dumps({"format": 1, "stores": [{}]}).encode()):
        (tmp_path / "out" / INDEX).write_bytes(index)
        with pytest.raises(ModelError, match="prepared"):
            open_prepared(tmp_path / "out")
    said: list[str] = []
    prepare(config, tmp_path / "out", say=said.append)
    assert "again" in said[0] and contents(tmp_path / "out") == good


def test_contradictions_are_refused(tmp_path: Path) -> None:
    corpus, dev = write(tmp_path, "a", sentences(10)), write(tmp_path, "d", sentences(5))
    with pytest.raises(UsageError, match="dev_pairs"):
        configure(corpus, dev=dev)
    assert corpus.target is not None
    with pytest.raises(UsageError, match="from fr to en"):
        DataConfig(corpora=(corpus,), dev=ParallelText(source=corpus.target, target=corpus.source))
    with pytest.raises(UsageError, match="from fra_Latn to eng"):  # other codes of the same languages
        DataConfig(corpora=(corpus,), dev=ParallelText(source=tmp_path / "fra_Latn.dev", target=tmp_path / "d.eng"))
    DataConfig(corpora=(corpus,), dev=ParallelText(source=tmp_path / "eng_Latn.dev", target=tmp_path / "fra_Latn.dev"))
    plain = ParallelText(source=tmp_path / "train.txt", target=tmp_path / "train.src")
    assert DataConfig(corpora=(plain, corpus)).languages == ("en", "fr")
    assert DataConfig(corpora=(plain,), target_language="de").languages == ("", "de")


def test_explain_agrees_with_what_was_done(tmp_path: Path) -> None:
    pairs = [*sentences(150), ("", "rien"), sentences(150)[3], (" two  dogs ", "deux chiens"), LONG]
    config = configure(write(tmp_path, "a", pairs), max_length=30)
    prepared = prepare(config, tmp_path / "out")
    explained = list(explain(config, prepared, pairs=len(pairs)))
    assert [one.line for one in explained] == list(range(1, 155))
    fates = [one.fate for one in explained]
    counts = {fate: fates.count(fate) for fate in set(fates)}
    report = prepared.report
    assert counts == {"train": report.train, "dev": report.dev, "test": report.test} | report.dropped
    assert TOO_LONG in counts and "DuplicateFilter" in counts
    last = explained[-2]
    assert last.after == ("two dogs", "deux chiens") and "becomes  two dogs" in last.to_text()
    trained = next(one for one in explained if one.fate == "train")
    ids = prepared.vocabularies.source.encode(trained.after[0])
    assert trained.pieces[0] == prepared.vocabularies.source.pieces(ids)
    assert any(np.array_equal(ids, prepared.stores[0].source(n)) for n in range(report.train))
    assert len(list(explain(config, prepared, pairs=4))) == 4
