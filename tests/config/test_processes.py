"""Cores are those that are left to this process, and a process lives as long as it runs and is
ours.
"""

import os
import subprocess
import sys

import psutil

from arq_core.config import processes

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_cores_are_those_of_the_affinity():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from arq_core.config import processes; print(processes.cores())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "1\n" and 1 <= processes.cores() <= os.cpu_count()


def test_memory_is_the_machines():
    assert processes.memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_process_lives_until_it_ends_even_if_nobody_asked_how():
    with subprocess.Popen(SLEEPS) as child:
        assert processes.alive(child.pid) and processes.alive(os.getpid())
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays as a zombie
        assert psutil.pid_exists(child.pid) and not processes.alive(child.pid)
    assert not processes.alive(child.pid)


def test_a_process_of_another_user_is_not_the_one_that_was_meant(monkeypatch):
    somebody, number = os.getuid() + 1, os.getpid()
    monkeypatch.setattr(os, "geteuid", lambda: somebody)
    assert psutil.pid_exists(number) and not processes.alive(number)
