"""A Slurm of two nodes on this machine (workflow/slurm_here.sh), what runs on it for a checkout,
and ways to hurt that. Linux, as root.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from grids import ROOT, scratch

CELLS = ["--profile", "toy", "--tasks", "maze bridge", "--methods", "bc s_psi arq+pi", "--no-book"]
PATIENCE = 600  # seconds for anything: the machine may be busy


def missing() -> str:
    """Why there can be no such Slurm here; empty where there can."""
    if not sys.platform.startswith("linux") or os.geteuid():
        return "saw another system than Linux, or another user than root, whom Slurm's daemons need"
    if others := [
        path
        for path in ("/etc/slurm/slurm.conf", "/run/slurm/conf/slurm.conf")
        if Path(path).exists()
    ]:
        return f"saw {others[0]}, the configuration of another Slurm on this machine"
    if lacking := [
        name for name in ("slurmctld", "slurmd", "munged") if shutil.which(name) is None
    ]:
        return (
            f"saw no {', '.join(lacking)}; `workflow/slurm_here.sh start FOLDER` "
            "installs them (Debian: apt-get install slurm-wlm munge)"
        )
    return ""


def until(what: str, condition):
    """The first true value of condition()."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, f"saw nothing within {PATIENCE} s, expected {what}"
        time.sleep(0.2)
    return value


@dataclass(frozen=True)
class Slurm:
    """The two nodes, by the folder that holds them."""

    folder: Path

    def do(self, *arguments: str) -> str:
        command, *more = arguments
        run = subprocess.run(
            [ROOT / "workflow/slurm_here.sh", command, self.folder, *more],
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def ask(self, *command: str) -> list[str]:
        return subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            check=True,
            env=os.environ | self.environment(),
        ).stdout.splitlines()

    def queue(self) -> set[str]:
        """Numbers of the jobs that wait or run."""
        return set(self.ask("squeue", "--noheader", "--format=%i"))

    def state(self, node: str) -> str:
        return self.ask("sinfo", "--noheader", "--Node", f"--nodes={node}", "--format=%T")[0]

    def revive(self, node: str) -> None:
        """Wait until the controller has given the node up, and start its daemon again."""
        until(f"{node} to be given up", lambda: self.state(node).startswith("down"))
        self.do("start-node", node)
        until(f"{node} to be back", lambda: self.state(node) in ("idle", "mixed", "allocated"))


def processes_of(cluster: Slurm) -> list[str]:
    """Names of the processes that have this Slurm in their environment: daemons, and jobs with all
    they started.
    """
    marks = {f"{name}={value}" for name, value in cluster.environment().items()}
    found = []
    for process in filter(lambda p: p.name.isdecimal(), Path("/proc").iterdir()):
        try:
            if marks & set(_read(process, "environ")):
                found.append((process / "comm").read_text(encoding="utf-8").strip())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            # it ended meanwhile, or is the system's own
            continue
    return found


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Two idle nodes; after the tests of a file, nothing of them is left on the machine."""
    if reason := missing():
        pytest.skip(f"CLUSTER TEST NOT RUN: {reason}")
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.do("start")
        yield cluster
    finally:
        cluster.do("stop")
    assert not processes_of(cluster) and not Path("/run/slurm/conf").is_symlink()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """What a checkout needs for the grid, copied once: all runs that are compared are of the same
    code.
    """
    return scratch(tmp_path_factory.mktemp("original"), stand_ins=False)


@dataclass(frozen=True)
class Running:
    """A step that computes on a node: the process, what Slurm calls its job, the node, and the
    step's place in the grid.
    """

    pid: int
    job: str
    node: str
    place: str


def _read(process: Path, name: str) -> list[str]:
    return (process / name).read_bytes().decode(errors="replace").split("\0")


def _step(process: Path, root: Path) -> Running | None:
    """That process as a step of the checkout on a node, if it is one: the Python that runs the
    notebook, not the shells above it.
    """
    try:
        command = _read(process, "cmdline")
        if command[1:3] != ["-m", "arq_core.grid.job"] or (process / "cwd").readlink() != root:
            return None
        variables = dict(pair.split("=", 1) for pair in _read(process, "environ") if "=" in pair)
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return None
    if "SLURM_JOB_ID" not in variables:
        return None
    return Running(
        int(process.name),
        variables["SLURM_JOB_ID"],
        variables["SLURMD_NODENAME"],
        json.loads(command[3])["place"],
    )


def running(root: Path) -> list[Running]:
    """The steps of a checkout that compute on a node now."""
    return [
        found for p in Path("/proc").iterdir() if p.name.isdecimal() and (found := _step(p, root))
    ]


@dataclass
class Checkout:
    """A copy of the checkout with a cache of its own, in which the toy grid is run."""

    root: Path
    slurm: Slurm | None = None

    def begin(self, *more: str) -> subprocess.Popen:
        """Start the grid, as `make table` does, on the laptop or on Slurm."""
        own = {
            "PYTHONPATH": str(self.root),
            "OMP_NUM_THREADS": "1",
            "ARQ_CACHE": str(self.root / "cache"),
        }
        command = [
            sys.executable,
            "-m",
            "arq_core",
            "table",
            *CELLS,
            *more,
            "--engine",
            "slurm" if self.slurm else "laptop",
        ]
        with open(self.root / "output.txt", "w", encoding="utf-8") as output:
            return subprocess.Popen(
                command,
                cwd=self.root,
                stdout=output,
                stderr=output,
                env=os.environ | own | (self.slurm.environment() if self.slurm else {}),
            )

    def finish(self, begun: subprocess.Popen | None = None) -> str:
        """Wait for a run that was begun, or for a new one, to end well; what it said."""
        status = (begun or self.begin()).wait(timeout=3 * PATIENCE)
        said = (self.root / "output.txt").read_text(encoding="utf-8")
        assert status == 0, said
        return said

    def kill_head(self, head: subprocess.Popen) -> None:
        """kill -9 of Snakemake and of the process above it: neither can tidy up, and what they sent
        to the cluster stays there.
        """
        below = (
            Path(f"/proc/{head.pid}/task/{head.pid}/children").read_text(encoding="utf-8").split()
        )
        for pid in [*map(int, below), head.pid]:
            os.kill(pid, signal.SIGKILL)
        head.wait()
