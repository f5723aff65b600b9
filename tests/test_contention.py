"""Shorter waits while others want the cores."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vitrail.runtime.contention import Contention, IdleTeams, bring_together, teams_needed, waited_seconds
from vitrail.runtime.cores import WAITING

LINUX = sys.platform.startswith("linux")
UNSAID = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", *WAITING)}
BURNT = """
import sys, time, vitrail, torch
from vitrail.runtime.contention import IdleTeams, waited_seconds
torch.set_num_threads(len(__import__("os").sched_getaffinity(0)))
work = torch.zeros(1 << 17)
def burnt():  # the processor time that worker threads spend after their work
    started = time.process_time()
    for _ in range(500):
        work.add_(1)
        time.sleep(0.002)
    return time.process_time() - started
burnt(); alone = burnt(); teams = IdleTeams(1); held = burnt(); teams.end(); print(alone, held, burnt())
"""
WATCHED = """
import sys, threading, time, vitrail, torch
from vitrail.runtime.device import set_threads
set_threads(int(sys.argv[1]))
idle = lambda: sum(thread.name == "vitrail-idle-team" for thread in threading.enumerate())
work, until, most = torch.randn(512, 512), time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < until:
    work @ work
    most = max(most, idle())
print("vitrail-contention" in {thread.name for thread in threading.enumerate()}, most)
"""


def shown(code: str, *arguments: str, **said: str) -> list[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=UNSAID | said, capture_output=True, text=True, check=True, timeout=120).stdout.split()


def test_contended_from_one_look_and_calm_only_after_a_while() -> None:
    contention = Contention()
    assert not contention.observe(0.004, 0.5)  # two threads, alone
    assert contention.observe(0.18, 0.25)  # beside one busy thread
    assert contention.observe(0.02, 0.4)  # neither: it stays
    assert all(contention.observe(0.0, 0.5) for _ in range(7)) and not contention.observe(0.0, 0.5)
    assert not contention.observe(0.02, 0.4)
    assert not contention.observe(0.001, 0.0)  # idle: the little that it wanted says nothing


def test_a_neighbour_that_pauses_is_still_there() -> None:
    contention = Contention()
    contention.observe(0.2, 0.2)
    for _ in range(3):
        assert all(contention.observe(0.0, 0.5) for _ in range(6)) and contention.observe(0.2, 0.2)


def test_as_many_teams_as_make_more_threads_than_cores() -> None:
    assert [teams_needed(2, 2), teams_needed(4, 4), teams_needed(16, 16)] == [1, 1, 1]
    assert [teams_needed(2, 4), teams_needed(4, 16), teams_needed(8, 9)] == [3, 5, 1]
    assert [teams_needed(1, 1), teams_needed(1, 8), teams_needed(2, 64)] == [0, 0, 0]  # nobody waits; too many


def test_waiting_is_added_up_over_threads(tmp_path: Path) -> None:
    assert waited_seconds(tmp_path) is None
    for thread, line in (("7", "5 1500000000 9"), ("8", "5 250000000 9"), ("9", "")):
        (tmp_path / "task" / thread).mkdir(parents=True)
        (tmp_path / "task" / thread / "schedstat").write_text(line)
    assert waited_seconds(tmp_path) == 1.75
    for thread in ("7", "8"):
        (tmp_path / "task" / thread / "schedstat").unlink()
    assert waited_seconds(tmp_path) is None


@pytest.mark.skipif(not LINUX, reason="threads are named and bound by Linux")
def test_threads_are_held_to_some_cores_for_a_moment_and_then_free_as_before() -> None:
    teams = IdleTeams(1)
    time.sleep(0.1)
    before = {task.name: os.sched_getaffinity(int(task.name)) for task in Path("/proc/self/task").iterdir()}
    seen: list[set[int]] = []
    other = threading.Thread(target=bring_together, args=(1,))
    other.start()
    while other.is_alive():
        seen += [os.sched_getaffinity(int(name)) for name in before if Path("/proc/self/task", name).exists()]
    teams.end()
    after = {name: os.sched_getaffinity(int(name)) for name in before if Path("/proc/self/task", name).exists()}
    assert {name: before[name] for name in after} == after
    if len(os.sched_getaffinity(0)) > 1:
        assert any(len(cores) == 1 for cores in seen)
    assert all(os.sched_getaffinity(thread.native_id) == before[str(os.getpid())] for thread in threading.enumerate() if thread.native_id)


@pytest.mark.skipif(not LINUX or len(os.sched_getaffinity(0)) not in range(2, 17), reason="GNU's OpenMP with a few cores")
def test_gnu_looks_less_while_a_team_is_idle() -> None:
    alone, held, again = map(float, shown(BURNT, GOMP_SPINCOUNT="2000000"))
    assert held < 0.5 * alone and held < 0.5 * again


@pytest.mark.skipif(not LINUX or len(os.sched_getaffinity(0)) < 2 or waited_seconds() is None, reason="the kernel tells of waiting")
def test_a_busy_neighbour_is_noticed() -> None:
    cores = str(min(4, len(os.sched_getaffinity(0))))
    command = [sys.executable, "-m", "vitrail.bench.busy_loop", str(len(os.sched_getaffinity(0)))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as neighbour:
        try:
            assert neighbour.stdout is not None and neighbour.stdout.readline() == b"busy\n"
            watched, most = shown(WATCHED, cores, "2")
        finally:
            neighbour.kill()
    assert watched == "True" and int(most) >= (teams_needed(int(cores), len(os.sched_getaffinity(0))) > 0)


@pytest.mark.skipif(not LINUX, reason="only GNU's OpenMP is watched")
def test_nobody_watches_where_nobody_waits_or_somebody_has_said_how() -> None:
    assert shown(WATCHED, "1", "0") == ["False", "0"]
    assert shown(WATCHED, "2", "0", GOMP_SPINCOUNT="300000") == ["False", "0"]
    assert shown(WATCHED, "2", "0", OMP_WAIT_POLICY="passive") == ["False", "0"]
