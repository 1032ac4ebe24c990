"""The grid on a real Slurm of two nodes: the laptop's rows and table, whatever is killed on the
way.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from clusters import CELLS, Checkout, original, processes_of, running, slurm, until  # noqa: F401  (two of them are fixtures)
from grids import ROOT

from arq_core.grid.slurm import QueueError, cancel_left_over, left_over

# times, and what is computed from files or lines that hold them
VARIES = {"wall_s", "created", "seconds", "energy_j", "rows_sha256", "rows_crc32"}


def constant(x):
    """JSON without what differs between two runs of the same thing; the hash of a step's file
    covers its seconds too.
    """
    if isinstance(x, dict):
        drop = VARIES | ({"sha256"} if "file" in x else set())
        return {k: constant(v) for k, v in x.items() if k not in drop}
    return [constant(v) for v in x] if isinstance(x, list) else x


def results_of(root: Path) -> dict[str, list]:
    """Rows and provenance of every job, by the name of the file."""
    found = {
        p.name: [json.loads(line) for line in p.read_text(encoding="utf-8").splitlines()]
        for p in (root / "data/results").glob("*.jsonl")
    }
    found |= {
        p.name: json.loads(p.read_text(encoding="utf-8"))
        for p in (root / "data/results").glob("*.run.json")
    }
    return {name: constant(x) for name, x in sorted(found.items())}


def tensors_of(root: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Every finished step's tensors but its seconds, by the name of the file, which is the hash of
    all that it depends on.
    """
    files = sorted((root / "cache/steps").rglob("*.safetensors"))
    assert files, f"{root}: saw no tensors, expected those of the finished steps"
    return {
        p.name: {k: x for k, x in safetensors.torch.load_file(p).items() if k != "seconds"}
        for p in files
    }


def files_of(root: Path) -> list[str]:
    """What the grid keeps: receipts, notebooks, logs and rows; no errors.

    Locks, and hidden parts of what was killed, are nothing that is read.
    """
    grid = root / "_build/grid/toy.released"
    return sorted(
        str(p.relative_to(grid))
        for p in grid.rglob("*")
        if p.is_file() and p.suffix != ".lock" and not p.name.startswith(".")
    )


def table_of(root: Path) -> dict[str, str]:
    """The tables' files, made from that checkout's rows, without the hashes of the files of rows:
    those hold times too.
    """
    command = [sys.executable, "-m", "arq_core", "export", "tables", "--results", "data/results"]
    run = subprocess.run(
        command,
        cwd=root,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    hashes = [
        hashlib.sha256(p.read_bytes()).hexdigest() for p in (root / "data/results").glob("*.jsonl")
    ]
    return {
        p.name: re.sub("|".join(hashes), "HASH", p.read_text(encoding="utf-8"))
        for p in sorted((root / "tables").iterdir())
    }


def assert_same(one: Path, other: Path) -> None:
    assert results_of(one) == results_of(other)
    a, b = tensors_of(one), tensors_of(other)
    assert {f: sorted(x) for f, x in a.items()} == {f: sorted(x) for f, x in b.items()}
    assert all(torch.equal(x, b[f][k]) for f in a for k, x in a[f].items())
    assert files_of(one) == files_of(other)
    assert table_of(one) == table_of(other)


@pytest.fixture(scope="module")
def undisturbed(original, tmp_path_factory):  # noqa: F811
    """The toy grid on the laptop profile, done once without disturbance."""
    checkout = Checkout(shutil.copytree(original, tmp_path_factory.mktemp("laptop") / "copy"))
    checkout.finish()
    names = [f"{t}.toy.{m}.released" for t in CELLS[3].split() for m in CELLS[5].split()]
    assert sorted(results_of(checkout.root)) == sorted(
        [f"{n}.jsonl" for n in names] + [f"{n}.run.json" for n in names]
    )
    return checkout.root


def test_starting_again_changes_nothing_and_a_daemon_that_was_killed_is_started(slurm):  # noqa: F811
    before = sorted(processes_of(slurm))
    assert (
        slurm.do("start") == f"export SLURM_CONF={slurm.folder}/slurm.conf\n"
        and sorted(processes_of(slurm)) == before
    )
    slurm.do("kill-node", "n2")
    assert sorted(processes_of(slurm)) != before
    slurm.do("start")
    assert sorted(processes_of(slurm)) == before and slurm.do("status").count("idle") == 2


def test_each_node_has_one_gpu_to_give(slurm):  # noqa: F811
    if not (slurm.folder / "gres.conf").exists():
        pytest.skip(
            "GPU SCHEDULING NOT TESTED: mknod is refused on this machine, so the nodes "
            "have no make-believe GPU"
        )
    jobs = [
        slurm.ask("sbatch", "--parsable", "--gpus=1", "--output=/dev/null", "--wrap=sleep 600")[0]
        for _ in range(3)
    ]
    until(
        "two jobs to run",
        lambda: len(slurm.ask("squeue", "--noheader", "--states=running", "--format=%i")) == 2,
    )
    assert slurm.ask("squeue", "--noheader", "--states=pending", "--format=%i %r") == [
        f"{jobs[2]} Resources"
    ]
    assert sorted(slurm.ask("squeue", "--noheader", "--states=running", "--format=%N")) == [
        "n1",
        "n2",
    ]
    slurm.ask("scancel", *jobs)
    until("an empty queue", lambda: not slurm.queue())


@pytest.mark.slow(reason="trains a grid by real jobs of a Slurm of two nodes")
def test_slurm_and_the_laptop_give_the_same_rows_tensors_and_table(
    slurm, original, undisturbed, tmp_path
):  # noqa: F811
    checkout = Checkout(shutil.copytree(original, tmp_path / "copy"), slurm)
    run = checkout.begin("--gpus", "1")
    until(
        "a step that was given a GPU",
        lambda: any(
            "gpu:1" in job for job in slurm.ask("squeue", "--noheader", "--Format=tres-per-job")
        ),
    )
    checkout.finish(run)
    assert_same(checkout.root, undisturbed)
    assert not slurm.queue()


@pytest.mark.slow(reason="trains a grid by real jobs of a Slurm of two nodes")
def test_nothing_is_lost_or_doubled_when_jobs_nodes_and_head_are_killed(
    slurm, original, undisturbed, tmp_path
):  # noqa: F811
    checkout = Checkout(shutil.copytree(original, tmp_path / "copy"), slurm)
    head, hurt = checkout.begin(), set()

    def victim():
        """A step that computes now and was not hurt yet."""
        found = until(
            "a step that computes",
            lambda: [r for r in running(checkout.root) if r.place not in hurt],
        )[0]
        hurt.add(found.place)
        return found

    cancelled = victim()
    slurm.ask("scancel", cancelled.job)
    os.kill(victim().pid, signal.SIGKILL)
    lost = victim().node
    # its jobs go on; the grid sends them once more to the other node
    slurm.do("kill-node", lost)
    slurm.revive(lost)
    lost = victim().node
    slurm.do("crash-node", lost)
    slurm.revive(lost)
    stuck = victim()
    # so that it is still there when the grid is run again
    os.kill(stuck.pid, signal.SIGSTOP)
    checkout.kill_head(head)
    assert stuck.job in slurm.queue()

    said = checkout.finish()
    assert stuck.job in re.search(
        "cancelled what a run that was killed left in the queue: (.*)", said
    )[1].split(", ")
    assert_same(checkout.root, undisturbed)
    assert not slurm.queue() and not running(checkout.root)
    assert "nothing to do" in checkout.finish()


FAKE = """#!/bin/sh
'''exec' {python} "$0" "$@"
' '''
import pathlib, sys
here = pathlib.Path(__file__).parent
if "scancel" in sys.argv[0]:
    left = [x for x in (here / "queue").open() if x.split("|")[0] not in sys.argv[1:]]
    (here / "queue").write_text("".join(left))
print((here / "queue").read_text(), end="")
sys.exit((here / "down").exists() and "Unable to contact slurm controller")
"""


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """Stand-ins for squeue and scancel, with jobs of this folder, of another folder and of somebody
    else's making.
    """
    for name in ("squeue", "scancel"):
        (tmp_path / name).write_text(
            FAKE.format(python=shlex.quote(sys.executable)), encoding="utf-8"
        )
        (tmp_path / name).chmod(0o755)
    (tmp_path / "queue").write_text(
        f"7|arq_5f|{tmp_path}\n8|arq_5f|{tmp_path.parent}\n"
        f"9|other|{tmp_path}\n11|arq_60|{tmp_path}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def test_only_jobs_of_this_folder_and_of_the_grid_are_cancelled(queue):
    assert cancel_left_over(queue) == ["7", "11"] and left_over(queue) == []
    assert [line.split("|")[0] for line in (queue / "queue").open(encoding="utf-8")] == ["8", "9"]


def test_a_cluster_that_does_not_answer_is_an_error_that_says_so(queue, monkeypatch):
    (queue / "down").touch()
    with pytest.raises(
        QueueError,
        match="squeue .*Unable to contact slurm controller.*expected an answer; is the "
        "cluster's controller up",
    ):
        left_over(queue)
    monkeypatch.setenv("PATH", str(queue / "nowhere"))
    with pytest.raises(
        QueueError, match="saw no command 'squeue', expected Slurm's; start the run on a machine"
    ):
        left_over(queue)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "workflow/slurm_here.sh start FOLDER"),
        (["begin", "folder"], "workflow/slurm_here.sh start FOLDER"),
        (["kill-node", "folder", "n3"], "workflow/slurm_here.sh start FOLDER"),
        (
            ["status", "folder"],
            r"saw no \S*/folder/slurm.conf, expected a folder that `start` made",
        ),
        (["start", "f" * 90], "saw a folder of .* characters, expected at most 70"),
    ],
)
def test_the_script_says_what_it_expects(arguments, message):
    # its own name is short: that of a worker's tmp_path is too long for sockets
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [ROOT / "workflow/slurm_here.sh", *arguments],
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
        )
    assert run.returncode and re.search(message, run.stderr), run.stderr
