"""Writing: whole or not at all, whatever call fails; damage is named; one process a folder."""

import dataclasses
import errno
import itertools
import json
import os
import random
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail import files
from vitrail.errors import ModelError, TrainingError, VitrailError
from vitrail.files import (
    Damaged,
    FileSystem,
    FolderLock,
    JsonLines,
    NotWritten,
    make_folder,
    publish_folder,
    read_json_lines,
    read_manifest,
    scratch_file,
    verify_folder,
    write_file,
)

ERRORS = [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES]


class Fault:
    """A file system whose call number `number` fails (and all later ones, if it is for good); 0: none fails. Keeps a record of calls."""

    def __init__(self, number: int = 0, error: int = errno.EIO, *, for_good: bool = False, short: bool = False) -> None:
        self.number, self.error, self.for_good, self.short = number, error, for_good, short
        self.calls: list[tuple[str, str]] = []
        self._names: dict[int, str] = {}
        real = FileSystem()
        self.system = FileSystem(**{field.name: self._wrap(field.name, getattr(real, field.name)) for field in dataclasses.fields(real)})

    @property
    def fired(self) -> bool:
        return 0 < self.number <= len(self.calls)

    def _wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            what = arguments[0]
            self.calls.append((name, self._names.get(what, "?") if isinstance(what, int) else Path(what).name))
            count = len(self.calls)
            if self.number and (count == self.number or (self.for_good and count > self.number)):
                if name == "close" and not self.short:
                    call(*arguments)  # a close that fails closes all the same
                if name == "write" and self.short:
                    return call(what, arguments[1][: max(1, len(arguments[1]) // 2)])
                if not self.short:
                    raise OSError(self.error, os.strerror(self.error))
            result = call(*arguments)
            if name == "open":
                self._names[result] = Path(what).name
            return result

        return wrapped


def every_fault(**kind: Any) -> Iterator[Fault]:
    """One fault after the other, until one comes too late to happen."""
    for number in itertools.count(1):
        fault = Fault(number, **kind)
        yield fault
        if not fault.fired:
            return


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def publish(path: Path, content: bytes) -> None:
    with publish_folder(path) as folder:
        folder.write("a.bin", content)
        with folder.create("b.bin") as first, folder.create("c.bin") as second:
            for _ in range(2):
                first.write(content)
                second.write(content[::-1])


def content_of(path: Path) -> bytes:
    verify_folder(path)
    assert (path / "c.bin").read_bytes() == (path / "a.bin").read_bytes()[::-1] * 2
    return (path / "a.bin").read_bytes()


# ---- whole or not at all


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o644)])
def test_mode_is_0644_under_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_file(tmp_path / "deep" / "er" / "a", b"text")
        publish(tmp_path / "folder", b"text")
    finally:
        os.umask(before)
    for path in (tmp_path / "deep/er/a", tmp_path / "folder/a.bin", tmp_path / "folder/manifest.json"):
        assert path.stat().st_mode & 0o777 == mode


def test_a_file_is_synced_before_it_gets_its_name_and_the_folder_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Fault()
    monkeypatch.setattr(files.system, "SYSTEM", log.system)
    write_file(tmp_path / "a", b"text")
    temporary, parent = f"a.vitrail-tmp-{os.getpid()}", tmp_path.name
    assert log.calls == [
        ("open", temporary),
        ("write", temporary),
        ("fsync", temporary),
        ("close", temporary),
        ("rename", temporary),
        ("open", parent),
        ("fsync", parent),
        ("close", parent),
    ]


def test_a_folder_gets_its_manifest_last_and_its_name_after_all_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Fault()
    monkeypatch.setattr(files.system, "SYSTEM", log.system)
    publish(tmp_path / "f", b"text")
    temporary = f"f.vitrail-tmp-{os.getpid()}"
    order = [call for call in log.calls if call[0] in ("fsync", "rename")]
    assert order == [
        ("fsync", "a.bin"),
        ("fsync", "c.bin"),
        ("fsync", "b.bin"),
        ("fsync", "manifest.json"),
        ("fsync", temporary),
        ("rename", temporary),
        ("fsync", tmp_path.name),
    ]
    for name in ("a.bin", "b.bin", "c.bin", "manifest.json"):
        written = [index for index, call in enumerate(log.calls) if call == ("write", name)]
        assert written and max(written) < log.calls.index(("fsync", name))


def test_a_removed_folder_loses_its_name_durably_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / "f", b"text")
    log = Fault()
    monkeypatch.setattr(files.system, "SYSTEM", log.system)
    files.remove_folder(tmp_path / "f")
    assert [name for name, _ in log.calls][:4] == ["rename", "open", "fsync", "close"]
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("what", ["file", "folder", "new folder"])
def test_whatever_call_fails_the_old_or_the_new_version_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, for_good: bool, what: str
) -> None:
    old, new = b"the old version", b"the new one"
    write = write_file if what == "file" else publish
    read = Path.read_bytes if what == "file" else content_of
    failures = 0
    for fault in every_fault(error=error, for_good=for_good):
        folder = tmp_path / str(fault.number)
        path = folder / "x"
        folder.mkdir()
        if what != "new folder":
            write(path, old)
        monkeypatch.setattr(files.system, "SYSTEM", fault.system)
        try:
            write(path, new)
        except NotWritten as caught:
            failures += 1
            assert str(path) in caught.found and os.strerror(error) in caught.found and caught.remedy
            assert "bytes needed" in caught.found and "bytes free" in caught.found
        else:
            assert read(path) == new
        monkeypatch.setattr(files.system, "SYSTEM", FileSystem())
        if not for_good and what != "folder":
            assert names(folder) in (["x"], [])  # nothing temporary is left
        files.remove_leftovers(folder)
        if what == "new folder":
            assert names(folder) in (["x"], [])
            assert names(folder) == [] or read(path) == new
        else:
            assert names(folder) == ["x"] and read(path) in (old, new)
    assert failures >= 6


def test_a_single_fault_leaves_nothing_temporary_beside_a_replaced_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for fault in every_fault(error=errno.ENOSPC):
        path = tmp_path / str(fault.number) / "x"
        publish(path, b"old")
        monkeypatch.setattr(files.system, "SYSTEM", fault.system)
        try:
            publish(path, b"new")
        except NotWritten:
            assert [name for name in names(path.parent) if ".vitrail-tmp-" in name] == []
        monkeypatch.setattr(files.system, "SYSTEM", FileSystem())
        assert content_of(path) in (b"old", b"new")


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for fault in every_fault(short=True, for_good=True):
        monkeypatch.setattr(files.system, "SYSTEM", fault.system)
        publish(tmp_path / str(fault.number), b"some bytes in many pieces")
        assert content_of(tmp_path / str(fault.number)) == b"some bytes in many pieces"


def test_a_disk_that_takes_nothing_is_an_error_not_an_endless_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.system, "SYSTEM", dataclasses.replace(files.system.SYSTEM, write=lambda descriptor, data: 0))
    with pytest.raises(NotWritten, match="nothing could be written"):
        write_file(tmp_path / "a", b"text")


def test_a_disk_that_cannot_sync_names_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no")
        os.fsync(descriptor)

    monkeypatch.setattr(files.system, "SYSTEM", dataclasses.replace(files.system.SYSTEM, fsync=fsync))
    publish(tmp_path / "f", b"text")
    assert content_of(tmp_path / "f") == b"text"


def test_an_error_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    publish(tmp_path / "f", b"old")
    with pytest.raises(KeyboardInterrupt), publish_folder(tmp_path / "f") as folder:
        folder.write("a.bin", b"new")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["f"] and content_of(tmp_path / "f") == b"old"


def test_an_unreadable_source_is_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), publish_folder(tmp_path / "f") as folder:
        folder.write("a", (tmp_path / "nowhere").read_bytes())


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", "/etc/x", ".hidden", "a\0b", "é", "x" * 65, "a\n", "manifest.json"])
def test_a_published_file_cannot_have_such_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(AssertionError), publish_folder(tmp_path / "f") as folder:
        folder.write(name, b"x")
        if name == "manifest.json":
            folder.write("manifest.json", b"y")
    assert names(tmp_path) == []


FULL_DISK = """
import resource, sys
from pathlib import Path
from vitrail.errors import VitrailError
from vitrail.files import write_file
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_file(Path(sys.argv[1]), b"n" * 10_000)
except VitrailError as error:
    print(error)
    sys.exit(7)
"""


def test_a_real_file_size_limit(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"old")
    ended = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path / "a")], capture_output=True, text=True)
    assert ended.returncode == 7, ended.stderr
    assert "File too large (10000 bytes needed, " in ended.stdout
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"old"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a small disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_real_full_disk(small_disk: Path) -> None:
    publish(small_disk / "f", b"old")
    with pytest.raises(NotWritten, match=r"f/a.bin: cannot be written: No space left on device \(100000 bytes needed, \d+ bytes free\)"):
        publish(small_disk / "f", b"n" * 100_000)
    assert names(small_disk) == ["f"] and content_of(small_disk / "f") == b"old"


KILLED = """
import errno, os, signal, sys
from pathlib import Path
from vitrail import files
path = Path(sys.argv[1])
with files.publish_folder(path / "run" / "model") as folder:
    folder.write("a.bin", b"old")
rename, count = os.replace, 0
def replace(source, target):
    global count
    count += 1
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
def exchange(one, other):
    raise OSError(errno.ENOSYS, "no such call")
files.system.SYSTEM = files.FileSystem(rename=replace, exchange=exchange)
with files.publish_folder(path / "run" / "model") as folder:
    folder.write("a.bin", b"new")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("rename", "left"), [(1, b"old"), (2, b"old"), (3, b"new")])
def test_kill_between_the_renames_is_mended_by_the_next_run(tmp_path: Path, rename: int, left: bytes) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(rename)]).returncode == -9
    with FolderLock(tmp_path):  # reaches run/, one folder down
        assert names(tmp_path / "run") == ["model"]
        verify_folder(tmp_path / "run" / "model")
        assert (tmp_path / "run" / "model" / "a.bin").read_bytes() == left


def test_sweep_removes_links_not_what_they_point_to(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a").write_text("x")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.vitrail-tmp-12").symlink_to(tmp_path / "precious")
    (tmp_path / "in" / "notes.vitrail-tmp-x").write_text("not ours")
    files.remove_leftovers(tmp_path / "in")
    assert names(tmp_path / "in") == ["notes.vitrail-tmp-x"] and names(tmp_path / "precious") == ["a"]


# ---- damage is named


def spoil_missing(folder: Path) -> None:
    (folder / "b.bin").unlink()


def spoil_truncated(folder: Path) -> None:
    os.truncate(folder / "b.bin", 3)


def spoil_empty(folder: Path) -> None:
    os.truncate(folder / "b.bin", 0)


def spoil_longer(folder: Path) -> None:
    with (folder / "b.bin").open("ab") as file:
        file.write(b"\0")


def spoil_altered(folder: Path) -> None:
    (folder / "b.bin").write_bytes((folder / "b.bin").read_bytes().swapcase())


def spoil_swapped(folder: Path) -> None:
    (folder / "b.bin").rename(folder / "z")
    (folder / "c.bin").rename(folder / "b.bin")
    (folder / "z").rename(folder / "c.bin")


def spoil_link(folder: Path) -> None:
    (folder / "b.bin").rename(folder.parent / "elsewhere")
    (folder / "b.bin").symlink_to(folder.parent / "elsewhere")


def spoil_folder(folder: Path) -> None:
    (folder / "b.bin").unlink()
    (folder / "b.bin").mkdir()


def spoil_pipe(folder: Path) -> None:
    (folder / "b.bin").unlink()
    os.mkfifo(folder / "b.bin")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_missing, "is missing"),
        (spoil_truncated, "is truncated: 3 bytes, 8 by the manifest"),
        (spoil_empty, "is empty"),
        (spoil_longer, "has extra bytes: 9 bytes, 8"),
        (spoil_altered, "is altered"),
        (spoil_swapped, "is altered"),
        (spoil_link, "is a symbolic link"),
        (spoil_folder, "is not a plain file"),
        (spoil_pipe, "is not a plain file"),
    ],
)
def test_damage_is_refused_with_file_and_reason(tmp_path: Path, spoil: Callable[[Path], None], reason: str) -> None:
    publish(tmp_path / "f", b"text")
    spoil(tmp_path / "f")
    with pytest.raises(Damaged) as caught:
        verify_folder(tmp_path / "f")
    assert "b.bin" in caught.value.found and reason in caught.value.found and caught.value.remedy
    assert caught.value.exit_code == 4


SHA = "0" * 64


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '"a"',
        "9" * 5000,
        '{"format": 0, "files": {"a": {"size": 1, "sha256": "' + SHA + '"}}}',
        '{"format": "1", "files": {}}',
        '{"format": 1, "files": {}}',
        '{"format": 1, "files": []}',
        '{"format": 1, "files": {"a": 3}}',
        '{"format": 1, "files": {"a": {"size": 1}}}',
        '{"format": 1, "files": {"a": {"size": "1", "sha256": "' + SHA + '"}}}',
        '{"format": 1, "files": {"a": {"size": true, "sha256": "' + SHA + '"}}}',
        '{"format": 1, "files": {"a": {"size": 1, "sha256": "' + SHA[1:] + 'A"}}}',
        '{"format": 1, "files": {"a": {"size": 1, "sha256": "' + SHA + '", "run": "x"}}}',
        '{"format": 1, "files": {"../a": {"size": 1, "sha256": "' + SHA + '"}}}',
        '{"format": 1, "files": {"a/b": {"size": 1, "sha256": "' + SHA + '"}}}',
        '{"format": 1, "files": {"..": {"size": 1, "sha256": "' + SHA + '"}}}',
        '{"format": 1, "files": {"manifest.json": {"size": 1, "sha256": "' + SHA + '"}}}',
        " " * 2_000_000,
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    (tmp_path.parent / "a").write_text("x")
    with pytest.raises(Damaged, match=r"manifest\.json"):
        verify_folder(tmp_path)


def test_a_newer_manifest_asks_for_an_update(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": 2, "files": {}, "more": 1}')
    with pytest.raises(ModelError, match=r"has format 2(.|\n)*update vitrail") as caught:
        verify_folder(tmp_path)
    assert not isinstance(caught.value, Damaged)


def test_no_folder_and_no_manifest(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(Damaged, match=r"manifest\.json: is missing"):
            verify_folder(path)


def test_every_bit_is_guarded_the_manifests_too(tmp_path: Path) -> None:
    publish(tmp_path / "f", b"text")
    for file in sorted((tmp_path / "f").iterdir()):
        good = file.read_bytes()
        for bit in random.Random(0).sample(range(len(good) * 8), min(len(good) * 8, 400)):
            bad = bytearray(good)
            bad[bit // 8] ^= 1 << bit % 8
            file.write_bytes(bad)
            with pytest.raises(ModelError):
                verify_folder(tmp_path / "f")
        file.write_bytes(good)
    verify_folder(tmp_path / "f")


# ---- log lines


def test_half_a_last_line_is_left_out_and_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log" / "metrics.jsonl"
    with JsonLines(path) as log:
        log.append({"step": 1, "note": "déjà\nvu \u2028 \ud800"})
        log.append({"step": 2, "loss": float("nan"), "parts": [float("inf"), (1, -float("inf"))]})
        log.sync()
        log.close()
    with path.open("ab") as file:
        file.write(b'{"step": 3, "lo')
    assert [record["step"] for record in read_json_lines(path)] == [1, 2]
    assert read_json_lines(path)[1] == {"step": 2, "loss": None, "parts": [None, [1, None]]}
    with JsonLines(path) as log:
        log.append({"step": 3})
    assert [record["step"] for record in read_json_lines(path)] == [1, 2, 3]
    assert path.read_bytes().count(b"\n") == 3


def test_each_line_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault()
    monkeypatch.setattr(files.system, "SYSTEM", fault.system)
    with JsonLines(tmp_path / "a.jsonl") as log:
        for step in range(5):
            log.append({"step": step, "text": "x" * 1000})
    assert [name for name, _ in fault.calls] == ["open", *["write"] * 5, "close"]


@given(total=st.integers(1, 12), stop=st.integers(0, 14), again=st.integers(0, 14))
def test_resume_repeats_no_step(tmp_path_factory: pytest.TempPathFactory, total: int, stop: int, again: int) -> None:
    path = tmp_path_factory.mktemp("log") / "a.jsonl"
    for saved in (0, stop, again):
        with JsonLines(path) as log:
            log.go_back(saved)
            last = max((record.get("step", 0) for record in read_json_lines(path)), default=0)
            assert last <= saved
            for step in range(last + 1, total + 1):
                log.append({"step": step})
                log.append({"note": "said after the step"})
    steps = [record["step"] for record in read_json_lines(path) if "step" in record]
    assert steps == list(range(1, total + 1)) and len(read_json_lines(path)) == 2 * total


def test_a_line_that_fits_half_leaves_the_lines_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    log = JsonLines(path)
    log.append({"step": 1})
    calls = iter([5, OSError(errno.ENOSPC, "No space left on device")])

    def write(descriptor: int, data: memoryview) -> int:
        outcome = next(calls)
        if isinstance(outcome, OSError):
            raise outcome
        return os.write(descriptor, data[:outcome])

    monkeypatch.setattr(files.system, "SYSTEM", dataclasses.replace(files.system.SYSTEM, write=write))
    with pytest.raises(NotWritten, match="No space left"):
        log.append({"step": 2})
    monkeypatch.setattr(files.system, "SYSTEM", FileSystem())
    log.append({"step": 3})
    log.close()
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n'


def test_log_faults_at_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for fault in every_fault(error=errno.ENOSPC):
        path = tmp_path / f"{fault.number}.jsonl"
        path.write_text('{"step": 1}\n{"step": 2}\n{"st')
        monkeypatch.setattr(files.system, "SYSTEM", fault.system)
        try:
            with JsonLines(path) as log:
                log.go_back(1)
                log.append({"step": 2})
                log.sync()
        except NotWritten:
            assert fault.fired
        monkeypatch.setattr(files.system, "SYSTEM", FileSystem())
        assert [record["step"] for record in read_json_lines(path)] in ([1], [1, 2])


def test_a_damaged_line_is_told_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for bad in (b"{\n", b"[1]\n", b"\xff\n", b"[" * 100_000 + b"\n"):
        caplog.clear()
        (tmp_path / "a.jsonl").write_bytes(b'{"step": 1}\n' + bad + b'\n{"step": 2}\n')
        assert read_json_lines(tmp_path / "a.jsonl") == [{"step": 1}, {"step": 2}]
        assert caplog.messages == [f"{tmp_path / 'a.jsonl'}: line 2 is no JSON object; left out"], "and a blank line is nothing to tell of"
    with pytest.raises(ModelError, match="No such file"):
        read_json_lines(tmp_path / "b.jsonl")


# ---- one process a folder

HOLD = """
import errno, os, sys
from pathlib import Path
from vitrail import files
def no_lock(descriptor):
    raise OSError(errno.ENOSYS, "no")
if sys.argv[2] == "record":
    files.system.SYSTEM = files.FileSystem(lock=no_lock)
with files.FolderLock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def no_lock(descriptor: int) -> None:
    raise OSError(errno.ENOSYS, "no")


@pytest.fixture(params=["kernel", "record"])
def locking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to lock: by the kernel, and by the record where the disk has no locks."""
    if request.param == "record":
        monkeypatch.setattr(files.system, "SYSTEM", FileSystem(lock=no_lock))
    return request.param


@pytest.fixture
def holder(tmp_path: Path, locking: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), locking], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_by_name_and_let_in_after(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(TrainingError, match=f"in use by pid {holder.pid} on host {socket.gethostname()}"), FolderLock(tmp_path):
        raise AssertionError("let in")
    holder.communicate("")
    assert holder.returncode == 0
    with FolderLock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert (tmp_path / ".lock").read_bytes() == b""


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    (tmp_path / f"model.vitrail-tmp-{holder.pid}").mkdir()
    holder.kill()
    holder.wait()
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == holder.pid
    with FolderLock(tmp_path):
        assert names(tmp_path) == [".lock"]


def test_a_zombie_is_dead(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped
    with FolderLock(tmp_path):
        pass


def test_the_same_process_cannot_enter_twice(tmp_path: Path, locking: str) -> None:
    with FolderLock(tmp_path), pytest.raises(TrainingError, match=f"in use by pid {os.getpid()}"), FolderLock(tmp_path):
        pass
    with FolderLock(tmp_path):
        pass


def record(path: Path, pid: int, host: str, started: str) -> None:
    (path / ".lock").write_text(json.dumps({"pid": pid, "host": host, "started": started}))


def test_a_record_decides_where_the_disk_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.system, "SYSTEM", FileSystem(lock=no_lock))
    host = socket.gethostname()
    record(tmp_path, os.getppid(), host, "another boot:1")  # alive, but not the one that wrote this
    with FolderLock(tmp_path):
        pass
    record(tmp_path, 2**22 + 1, host, "")  # Linux has no such number
    with FolderLock(tmp_path):
        pass
    record(tmp_path, os.getppid(), host, "")
    with pytest.raises(TrainingError, match=f"in use by pid {os.getppid()}"), FolderLock(tmp_path):
        pass
    record(tmp_path, 1, "another-host", "")
    with pytest.raises(TrainingError, match="in use by pid 1 on host another-host"), FolderLock(tmp_path):
        pass
    for nonsense in ("", "{", "[]", '{"pid": "1"}', '{"pid": -1, "host": "' + host + '", "started": ""}'):
        (tmp_path / ".lock").write_text(nonsense)
        with FolderLock(tmp_path):
            pass


def test_where_the_kernel_locks_a_record_of_another_host_keeps_nobody_out(tmp_path: Path) -> None:
    record(tmp_path, 1, "a-container-that-was-killed", "")
    with FolderLock(tmp_path):
        pass


def test_of_two_that_take_a_dead_ones_place_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(descriptor: int, data: memoryview) -> int:
        written = os.write(descriptor, data)
        record(tmp_path, os.getppid(), socket.gethostname(), "")
        return written

    monkeypatch.setattr(files.system, "SYSTEM", FileSystem(lock=no_lock, write=write))
    with pytest.raises(TrainingError, match=f"in use by pid {os.getppid()}"), FolderLock(tmp_path):
        pass


def test_lock_faults_at_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for fault in every_fault(error=errno.EIO):
        monkeypatch.setattr(files.system, "SYSTEM", fault.system)
        try:
            with FolderLock(tmp_path / "run"):
                pass
        except VitrailError as caught:
            assert fault.fired and str(tmp_path) in caught.found
        monkeypatch.setattr(files.system, "SYSTEM", FileSystem())
        with FolderLock(tmp_path / "run"):
            pass


def test_many_writers_of_one_file_in_turn_never_show_half(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_file(path, b"0" * 10_000)
    done = threading.Event()
    seen: set[tuple[int, int]] = set()

    def read() -> None:
        while not done.is_set():
            data = path.read_bytes()
            seen.add((len(data), len(set(data))))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(50):
        write_file(path, b"%d" % (number % 10) * 10_000)
    done.set()
    reader.join()
    assert seen == {(10_000, 1)}


# ---- what is no file -------------------------------------------------------------------------------------------------------------


def test_a_pipe_or_device_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_file(pipe, b"through the pipe")
        assert os.read(reading, 100) == b"through the pipe"
    finally:
        os.close(reading)
    assert pipe.is_fifo() and [path.name for path in tmp_path.iterdir()] == ["pipe"]
    target = tmp_path / "target"
    with target.open("wb") as file:
        write_file(Path(f"/proc/self/fd/{file.fileno()}") if Path("/proc/self/fd").exists() else target, b"by its number")
    assert target.read_bytes() == b"by its number"


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full")
def test_a_full_device_is_told() -> None:
    with pytest.raises(NotWritten, match="No space left"):
        write_file(Path("/dev/full"), b"x")
    assert Path("/dev/full").is_char_device()


def test_a_name_that_is_not_utf8_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(NotWritten, match="not UTF-8"):
        make_folder(tmp_path / "caf\udce9")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ModelError, match="not UTF-8"):
        read_manifest(tmp_path / "caf\udce9")


@pytest.mark.parametrize("with_readv", [True, False])
def test_a_scratch_file_is_written_anywhere_and_gone_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_readv: bool) -> None:
    if not with_readv:
        monkeypatch.delattr(os, "readv", raising=False)
    with scratch_file(tmp_path / "deep" / "counts") as scratch:
        scratch.write(10, b"behind")
        scratch.append(b" the end")
        scratch.write(0, b"begin")
        assert (scratch.size, scratch.read(0, 24)) == (24, b"begin" + bytes(5) + b"behind the end")
        with pytest.raises(ModelError, match="counts: ends 6 bytes too early"):
            scratch.read(20, 10)
    assert names(tmp_path / "deep") == []
