"""Cores are those that are left to this process, and a process lives as long as it runs and is
ours.
"""

import os
import subprocess
import sys

import psutil
import pytest

from arq_core.config import processes

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_cores_are_those_of_the_affinity():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from arq_core.config import processes; print(processes.cores())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert run.stdout == "1\n" and 1 <= processes.cores() <= os.cpu_count()


VERSION_2 = "0::{group}\n"
VERSION_1 = "9:name=systemd:{group}\n5:memory:{group}\n3:cpu,cpuacct:{group}\n"


def container(tmp_path, monkeypatch, told: str, group: str, files: dict[str, str]):
    """This process in control groups made of files."""
    folder = tmp_path / "proc/self"
    folder.mkdir(parents=True)
    (folder / "cgroup").write_text(told.format(group=group), encoding="utf-8")
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(processes, "PROC", tmp_path / "proc")
    monkeypatch.setattr(processes, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(processes, "affinity", lambda: 64)


def test_cores_and_memory_are_the_machines_where_nothing_bounds_them(tmp_path, monkeypatch):
    container(tmp_path, monkeypatch, "", "/", {})
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert (processes.cores(), processes.memory()) == (64, machine)
    assert 0 < processes.available_memory() <= machine


@pytest.mark.parametrize(
    "told, group, files",
    [
        # a container of Docker's, which sees its own group as the root
        (VERSION_2, "/", {"cpu.max": "350000 100000\n", "memory.max": "1073741824\n"}),
        # the limit is the outer group's, as in a pod
        (
            VERSION_2,
            "/pod/step",
            {
                "pod/cpu.max": "300000 100000\n",
                "pod/memory.max": "1073741824\n",
                "pod/step/cpu.max": "max 100000\n",
                "pod/step/memory.max": "max\n",
            },
        ),
        # the tighter of two counts
        (
            VERSION_2,
            "/user/run",
            {
                "user/cpu.max": "800000 100000\n",
                "user/memory.max": "4294967296\n",
                "user/run/cpu.max": "199000 50000\n",
                "user/run/memory.max": "1073741824\n",
            },
        ),
        (
            VERSION_1,
            "/docker/0123",
            {
                "cpu,cpuacct/docker/0123/cpu.cfs_quota_us": "390000\n",
                "cpu,cpuacct/docker/0123/cpu.cfs_period_us": "100000\n",
                "memory/docker/0123/memory.limit_in_bytes": "1073741824\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
        ),
        # version 1 where the path is the host's, and the container sees the root alone
        (
            VERSION_1,
            "/kubepods/of/the/host",
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "memory/memory.limit_in_bytes": "1073741824\n",
            },
        ),
    ],
)
def test_cores_and_memory_are_those_of_the_container(tmp_path, monkeypatch, told, group, files):
    container(tmp_path, monkeypatch, told, group, files)
    assert (processes.cores(), processes.memory()) == (3, 2**30)


@pytest.mark.parametrize(
    "quota, cores", [("20000 100000", 1), ("max 100000", 64), ("", 64), ("400000", 64)]
)
def test_a_share_of_a_core_is_one_and_no_quota_is_all(tmp_path, monkeypatch, quota, cores):
    container(tmp_path, monkeypatch, VERSION_2, "/", {"cpu.max": quota})
    assert processes.cores() == cores


def test_what_a_container_has_left_is_its_limit_less_what_cannot_be_had_back(tmp_path, monkeypatch):
    files = {
        "memory.max": "1000000000",
        "memory.current": "700000000",
        "memory.stat": "anon 500000000\ninactive_file 150000000\nactive_file 50000000\n",
    }
    container(tmp_path, monkeypatch, VERSION_2, "/", files)
    assert processes.available_memory() == 1000000000 - (700000000 - 150000000)


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
