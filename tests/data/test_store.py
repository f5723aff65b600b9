"""The store: what is written comes back, always the same bytes, and damage is found."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from encoded_pairs import encode_to_store
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.preparing import store as stores
from vitrail.data.preparing.store import Store, ids_dtype, write_store
from vitrail.data.reading.parallel_text import SentencePair
from vitrail.data.vocabularies.subwords import SubwordsConfig, Vocabularies, WordVocabulary, train_vocabularies
from vitrail.errors import DataError, ModelError
from vitrail.files import MANIFEST, publish_folder, remove_leftovers

PAIRS = [SentencePair(f"the {n} small boats sail, {n}!", f"les {n} petits bateaux voguent, {n} !", n + 1) for n in range(300)]
VOCABULARIES = train_vocabularies([p.source for p in PAIRS], [p.target for p in PAIRS], config=SubwordsConfig(size=330))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_encoded_pairs_come_back(tmp_path: Path) -> None:
    store = encode_to_store(PAIRS, VOCABULARIES, tmp_path / "train", workers=1)
    assert len(store) == len(PAIRS)
    for index, pair in enumerate(PAIRS):
        assert store.source(index).tolist() == VOCABULARIES.source.encode(pair.source)
        assert store.target(index).tolist() == VOCABULARIES.target.encode(pair.target)
        assert store.source_lengths[index] == len(store.source(index))
        assert store.target_lengths[index] == len(store.target(index))
    assert store.source(0).dtype == np.int32
    store.verify()
    store.require(VOCABULARIES)


@pytest.mark.parametrize("workers", [2, 5, 16])
def test_workers_and_chunks_change_no_byte(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = encode_to_store(PAIRS, VOCABULARIES, tmp_path / "one", workers=1)
    monkeypatch.setattr(stores, "_CHUNK", 7 * workers)
    many = encode_to_store(iter(PAIRS), VOCABULARIES, tmp_path / "many", workers=workers)
    assert contents(tmp_path / "one") == contents(tmp_path / "many")
    assert one.digest == many.digest


rows = st.lists(st.lists(st.integers(0, 400), max_size=6).map(lambda ids: np.array(ids, dtype=np.int32)), min_size=1, max_size=8)


@settings(deadline=None, max_examples=25)
@given(source=rows, seed=st.integers(0, 9))
def test_any_rows_come_back(source: list[np.ndarray], seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    target = [np.flip(row) for row in source]
    folder = tmp_path_factory.mktemp("store") / "s"
    with write_store(folder, VOCABULARIES) as writer:
        writer.append(source[:seed], target[:seed])
        writer.append(source[seed:], target[seed:])
    store = Store.open(folder)
    assert [store.source(i).tolist() for i in range(len(store))] == [row.tolist() for row in source]
    assert [store.target(i).tolist() for i in range(len(store))] == [row.tolist() for row in target]


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    assert [ids_dtype(size).itemsize for size in (1 << 16, (1 << 16) + 1)] == [2, 4]
    words = WordVocabulary([str(number) for number in range(70_000)])
    with write_store(tmp_path / "s", Vocabularies(words, words, joint=True)) as writer:
        writer.append([np.array([69_999, 4], dtype=np.int32)], [np.array([5], dtype=np.int32)])
    assert Store.open(tmp_path / "s").source(0).tolist() == [69_999, 4]


def test_no_pair_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        encode_to_store([], VOCABULARIES, tmp_path / "s", workers=1)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_older_store(tmp_path: Path) -> None:
    encode_to_store(PAIRS[:5], VOCABULARIES, tmp_path / "s", workers=1)
    before = contents(tmp_path / "s")

    def failing() -> Iterator[SentencePair]:
        yield from PAIRS
        raise RuntimeError("the disk with the text is gone")

    with pytest.raises(RuntimeError):
        encode_to_store(failing(), VOCABULARIES, tmp_path / "s", workers=1)
    assert contents(tmp_path / "s") == before
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


HERE = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
KILLED = """
import sys, time
from pathlib import Path
from encoded_pairs import encode_to_store
from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.data.reading.parallel_text import SentencePair
folder = Path(sys.argv[1])
def pairs():
    for n in range(300):
        if n == 150:
            (folder / "half").touch()
            time.sleep(60)
        yield SentencePair(f"the {n} small boats sail, {n}!", f"les {n} petits bateaux voguent, {n} !", n + 1)
encode_to_store(pairs(), Vocabularies.load(folder), folder / "train", workers=1, chunk=10)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_half_way_and_run_again_gives_the_same_bytes(tmp_path: Path) -> None:
    VOCABULARIES.save(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=HERE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "half").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "train").exists(), "half a store must not be visible"
    remove_leftovers(tmp_path)
    encode_to_store(PAIRS, VOCABULARIES, tmp_path / "train", workers=2)
    encode_to_store(PAIRS, VOCABULARIES, tmp_path / "unbroken", workers=1)
    assert contents(tmp_path / "train") == contents(tmp_path / "unbroken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half", "joint.spm", "train", "unbroken"]


NAMES = ("meta.json", "source.ids", "source.offsets", "target.ids", "target.offsets")


@pytest.mark.parametrize("name", [*NAMES, MANIFEST])
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "longer"])
def test_a_damaged_file_is_refused_by_name(name: str, damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    encode_to_store(PAIRS, VOCABULARIES, folder, workers=1)
    data = (folder / name).read_bytes()
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes({"truncated": data[:-3], "empty": b"", "longer": data + b"{"}[damage])
    with pytest.raises(ModelError) as refused:
        Store.open(folder)
    assert name in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_is_found(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    store = encode_to_store(PAIRS[:20], VOCABULARIES, folder, workers=1)
    data = bytearray((folder / name).read_bytes())
    for place in range(0, len(data), max(1, len(data) // 15)):
        data[place] ^= 4
        (folder / name).write_bytes(data)
        with pytest.raises(ModelError) as refused:
            store.verify()
        assert name in str(refused.value)
        data[place] ^= 4


@pytest.mark.parametrize(
    "change",
    [{"pairs": 299}, {"source": {"dtype": "<u2", "ids": 3}}, {"source": {"dtype": "|O", "ids": 3}}, {"format": 2}, {"pairs": "300"}],
)
def test_a_description_that_does_not_fit_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    """Even where size and digest agree with the manifest: the folder may come from a stranger."""
    encode_to_store(PAIRS, VOCABULARIES, tmp_path / "s", workers=1)
    files = contents(tmp_path / "s")
    meta = json.loads(files["meta.json"]) | change
    with publish_folder(tmp_path / "t") as out:
        for name in NAMES:
            out.write(name, json.dumps(meta).encode() if name == "meta.json" else files[name])
    with pytest.raises(ModelError):
        Store.open(tmp_path / "t")


def test_other_vocabularies_are_refused(tmp_path: Path) -> None:
    store = encode_to_store(PAIRS, VOCABULARIES, tmp_path / "s", workers=1)
    words = WordVocabulary(["a"])
    with pytest.raises(ModelError, match="other vocabularies"):
        store.require(Vocabularies(words, words, joint=True))


@pytest.mark.parametrize("places", [[0], [0, 9, 3], [0, -1, 3], [0, 2**40, 3]])
def test_offsets_that_lead_elsewhere_are_refused(places: list[int], tmp_path: Path) -> None:
    encode_to_store(PAIRS[:2], VOCABULARIES, tmp_path / "s", workers=1)
    files = contents(tmp_path / "s")
    meta = json.loads(files["meta.json"]) | {"pairs": len(places) - 1, "source": {"dtype": "<u2", "ids": places[-1]}}
    files["meta.json"] = json.dumps(meta).encode()
    files["source.offsets"] = files["target.offsets"] = np.array(places, dtype="<i8").tobytes()
    files["source.ids"] = files["source.ids"][: 8 + 2 * places[-1]]
    with publish_folder(tmp_path / "t") as out:
        for name in NAMES:
            out.write(name, files[name])
    with pytest.raises(ModelError, match="offsets"):
        Store.open(tmp_path / "t")
