"""Nothing is written outside the folders that were named."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WATCHED = """
import os, sys
allowed = tuple(os.path.realpath(place) for place in sys.argv.pop(1).split(os.pathsep))
def watch(event, arguments):
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    else:
        path, writes = (arguments[0] if arguments else None), event in ("os.mkdir", "os.rename", "os.remove", "os.symlink", "os.link")
    if writes and isinstance(path, (str, bytes, os.PathLike)):
        place = os.path.realpath(os.fsdecode(path))
        if not place.startswith((*allowed, "/dev/", "/proc/")):
            sys.stderr.write(f"WROTE {event} {place}\\n")
sys.addaudithook(watch)
sys.argv[0] = "vitrail"
from vitrail.cli import run
for line in sys.argv[1:]:
    code = run(line.split())
    if code:
        sys.exit(f"{line}: {code}")
"""
"""Runs command lines, and tells of everything that is written elsewhere than it may be."""

SETTINGS = (
    *("model.width=16", "model.heads=2", "model.encoder_layers=1", "model.decoder_layers=1", "model.feed_forward=16"),
    *("data.subwords.size=360", "data.holdout.dev_pairs=4", "data.holdout.test_pairs=4"),
    *("train.duration=2steps", "train.threads=1", "search.beams=1", "search.max_length=4"),
)


def test_verbs_write_only_where_they_were_told(tmp_path: Path) -> None:
    """With a home that is not there, and must not be made; the folder for temporary files is allowed (torch makes an empty one there), and
    that of compiled code, which is named."""
    pytest.importorskip("matplotlib")
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    work.mkdir()
    temporary.mkdir()
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    pairs = [(f"{a} {b} {c}", f"{c.upper()} {b.upper()} {a.upper()}") for a in words for b in words for c in words[:4]]
    for side, name in enumerate(("train.en", "train.fr")):
        (work / name).write_text("".join(f"{pair[side]}\n" for pair in pairs))
    (work / "few.en").write_text("one two\n")
    lines = [
        "train --source train.en --target train.fr -o run " + " ".join(f"--set {setting}" for setting in SETTINGS),
        "translate run --source few.en --threads 1",
        "evaluate run --bootstrap 0",
        "inspect run one -o seen.svg",
        "inspect run one -o seen.html",
        "doctor --json",
    ]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL", "TORCHINDUCTOR"))}
    environment = kept | {
        "HOME": str(tmp_path / "absent"),
        "TMPDIR": str(temporary),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "VITRAIL_CACHE": os.environ.get("VITRAIL_CACHE", str(Path.home() / ".cache" / "vitrail")),
    }
    allowed = (str(work), str(temporary), environment["VITRAIL_CACHE"])
    command = [sys.executable, "-c", WATCHED, os.pathsep.join(allowed), *lines]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WROTE" not in done.stderr, done.stderr
    assert (work / "seen.svg").read_text().startswith("<?xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["temporary", "work"]
    assert not [path for path in temporary.iterdir() if path.name.startswith(("vitrail", "matplotlib"))]


def test_the_watch_sees_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    code = WATCHED.partition("sys.argv[0] = ")[0] + f"open({str(tmp_path / 'elsewhere')!r}, 'w'); os.mkdir({str(tmp_path / 'new')!r})"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "work")], capture_output=True, text=True, check=True)
    assert done.stderr.count("WROTE") == 2
    shutil.rmtree(tmp_path / "new")
