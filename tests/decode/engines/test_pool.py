"""Threads that compute: whose turn it is, and how they end."""

import gc
import subprocess
import sys
import threading
import time
from threading import Event, Thread

import pytest

from vitrail.decode.engines.pool import Pool


def run_program(text: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)


def test_groups_come_back_in_their_order() -> None:
    pool = Pool(3)
    assert pool.map(lambda one: -one, range(100)) == [-one for one in range(100)]
    assert pool.map(str, []) == []
    later = [pool.begin(lambda one: one + 1, [first, first + 1]) for first in range(50)]
    assert [finish() for finish in later] == [[first + 1, first + 2] for first in range(50)]


def test_few_groups_do_not_wait_for_the_many_of_another_thread() -> None:
    """One thread computes for both: what it has begun, then theirs by turns."""
    pool, begun, go, done = Pool(1), Event(), Event(), list[int]()

    def slow(number: int) -> None:
        begun.set()
        go.wait(10)
        done.append(number)

    finish = pool.begin(slow, range(100))
    begun.wait(10)
    asked = Thread(target=lambda: pool.begin(done.append, [-1, -2]))
    asked.start()
    asked.join(10)
    go.set()
    finish()
    assert done[:5] == [0, 1, -1, 2, -2]


def test_what_fails_ends_the_rest_and_leaves_nothing_to_do() -> None:
    pool, stop, ran = Pool(1), Event(), list[int]()

    def run(number: int) -> None:
        ran.append(number)
        if number == 1:
            raise ValueError("one")
        assert number == 0 or stop.is_set()

    finish = pool.begin(run, range(9), failed=stop.set)
    with pytest.raises(ValueError, match="one"):
        finish()
    assert stop.is_set()
    assert pool.map(lambda one: one, [1, 2]) == [1, 2]


def test_its_threads_end_with_it() -> None:
    def threads() -> int:
        return sum(one.name.startswith("vitrail_") for one in threading.enumerate())

    gc.collect()
    before, pool = threads(), Pool(3)
    pool.map(str, range(9))
    assert threads() >= 3
    finish = pool.begin(str, [1, 2])
    del pool
    assert finish() == ["1", "2"]
    del finish
    gc.collect()
    until = time.monotonic() + 5
    while threads() > before and time.monotonic() < until:
        time.sleep(0.001)
    assert threads() <= before


def test_a_program_ends_at_once_while_it_computes() -> None:
    done = run_program("""if True:
        import threading
        from threading import Event
        from vitrail.decode.engines.pool import Pool
        stop, begun = Event(), Event()
        def run(_):
            begun.set()
            assert not stop.wait(100)
        pool = Pool(2)
        waiting = threading.Thread(target=pool.begin(run, range(1000), failed=stop.set), daemon=True)
        waiting.start()
        begun.wait()
        print("ends")
    """)
    assert (done.stdout, done.stderr, done.returncode) == ("ends\n", "", 0)


def test_a_thread_that_outlives_the_main_one_and_an_exit_handler_can_compute() -> None:
    done = run_program("""if True:
        import atexit, threading
        from vitrail.decode.engines.pool import Pool
        pool = Pool(2)
        atexit.register(lambda: print(pool.map(str, [3, 4])))
        def work():
            threading.main_thread().join()
            print(pool.map(str, [1, 2]), pool.begin(str, [1, 2])())
        threading.Thread(target=work).start()
    """)
    assert (done.stdout, done.stderr, done.returncode) == ("['1', '2'] ['1', '2']\n['3', '4']\n", "", 0)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_process_computes_and_ends() -> None:
    done = run_program("""if True:
        import os, sys, threading
        from vitrail.decode.engines.pool import Pool
        pool, go = Pool(2), threading.Event()
        begun = pool.begin(lambda one: go.wait(20), range(9))
        child = os.fork()
        if child == 0:
            print(pool.map(str, [1, 2]), pool.begin(str, [1, 2])(), pool.threads, Pool(2).map(str, [5, 6]), flush=True)
            sys.exit(3)
        print(os.waitpid(child, 0)[1] >> 8)
        go.set()
        begun()
    """)
    assert (done.stdout, done.returncode) == ("['1', '2'] ['1', '2'] 1 ['5', '6']\n3\n", 0)
