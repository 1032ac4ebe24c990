"""One run at a time: the second is told who holds the lock, or waits and says so; a process that is
killed holds nothing, unless what it started lives on.
"""

import errno
import subprocess
import sys
import threading
import time

import pytest

from arq_core.config import lock

HOLDS = (
    "import subprocess, sys, time; from pathlib import Path; from arq_core.config import lock\n"
    "with lock.only_one(Path(sys.argv[1]), 'a/lock', RuntimeError) as held:\n"
    "    child = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
    "    at = subprocess.Popen(child, pass_fds=[held] if sys.argv[2] == 'inherits' else [])\n"
    "    print(at.pid, flush=True)\n    time.sleep(60)"
)


def holder(folder, how):
    """(process that holds the lock, its child)."""
    running = subprocess.Popen(
        [sys.executable, "-c", HOLDS, folder, how], stdout=subprocess.PIPE, encoding="utf-8"
    )
    return running, int(running.stdout.readline())


@pytest.mark.parametrize("how", ["inherits", "does not"])
def test_a_second_run_is_told_who_holds_it_and_a_killed_one_holds_nothing(tmp_path, how):
    running, child = holder(tmp_path, how)
    told = rf"a/lock: saw a run that is going on \(process {running.pid}, begun 2\d.*one at a time"
    try:
        with pytest.raises(ValueError, match=told), lock.only_one(tmp_path, "a/lock", ValueError):
            pass
        running.kill()
        running.wait()
        if how == "inherits":
            # what it started is still at work
            with pytest.raises(ValueError, match=told):
                with lock.only_one(tmp_path, "a/lock", ValueError):
                    pass
    finally:
        running.kill()
        subprocess.run(["kill", str(child)], check=True)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            with lock.only_one(tmp_path, "a/lock", ValueError):
                return
        except ValueError:
            time.sleep(0.05)
    raise AssertionError("the lock of processes that have ended is still held")


def test_one_that_waits_says_so_and_goes_on(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(lock, "LOOK_EVERY", 0.02)
    order = []

    def second():
        with lock.only_one(tmp_path, "lock", ValueError, wait=True):
            order.append("second")

    waits = threading.Thread(target=second)
    with lock.only_one(tmp_path, "lock", ValueError):
        waits.start()
        time.sleep(0.3)
        order.append("first")
    waits.join(30)
    assert order == ["first", "second"] and capfd.readouterr().err.count("waits for it") == 1


def test_errors_of_the_work_are_its_own_and_free_the_lock(tmp_path):
    with pytest.raises(KeyError), lock.only_one(tmp_path, "lock", ValueError):
        raise KeyError("work")
    with lock.only_one(tmp_path, "lock", ValueError):
        pass


def test_a_file_system_without_locks_is_said_and_no_obstacle(tmp_path, capfd, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", none)
    with lock.only_one(tmp_path, "lock", ValueError):
        pass
    assert "saw a system without such locks (" in capfd.readouterr().err
