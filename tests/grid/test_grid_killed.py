"""kill -9 of the head, of the engine, of a step's processes and of its kernel at random moments:
what is finished in the end is what an undisturbed run makes.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from grids import grid, scratch

from arq_core.results import rows

CELLS = [
    "--profile",
    "toy",
    "--tasks",
    "maze",
    "--methods",
    "bc s_psi q_beta+s_psi arq+pi arq+s_psi",
    "--no-book",
]
TIMED = {"wall_s", "created", "commit"}
KILLS = 20
PARTS = {
    "head": "arq_core table",
    "engine": "snakemake --snakefile",
    "step": "arq_core.grid.job",
    # the process that steps and their kernels are forked from, and these
    "forked": "multiprocessing.forkserver",
}


def _running(root: Path, words: str) -> list[int]:
    """Processes that work in `root` and whose command line has these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line, folder = (
                (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(),
                os.readlink(path / "cwd"),
            )
        except OSError:
            continue  # it has ended meanwhile
        if folder == str(root) and words in line:
            found.append(int(path.name))
    return found


def _begin(root: Path, cache: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "arq_core", "table", *CELLS],
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "ARQ_CACHE": str(cache)},
    )


def _rows(root: Path) -> dict[str, list[dict]]:
    """All rows without what must differ between two runs."""
    return {
        p.name: [{k: v for k, v in row.items() if k not in TIMED} for row in rows.read_file(p)]
        for p in sorted((root / "data/results").glob("*.jsonl"))
    }


@pytest.mark.slow(reason="twenty kills, and a grid of five methods that is trained twice")
@pytest.mark.skipif(
    not Path("/proc/self/cwd").exists(),
    reason="finds the processes of a run in /proc, which this system does not have",
)
def test_twenty_kills_at_random_moments_change_no_row(tmp_path):
    undisturbed, disturbed = (
        scratch(tmp_path / "a", stand_ins=False),
        scratch(tmp_path / "b", stand_ins=False),
    )
    first = grid(undisturbed, *CELLS, ARQ_CACHE=str(tmp_path / "cache_a"))
    assert first.returncode == 0, first.stderr
    draw, killed = random.Random(0), {part: 0 for part in PARTS}
    while sum(killed.values()) < KILLS:
        head = _begin(disturbed, tmp_path / "cache_b")
        while head.poll() is None and sum(killed.values()) < KILLS:
            time.sleep(draw.uniform(0.5, 12))
            part = draw.choice(list(PARTS))
            if found := _running(disturbed, PARTS[part]):
                os.kill(draw.choice(found), signal.SIGKILL)
                killed[part] += 1
        if head.poll() is not None and not _unfinished(disturbed):
            # finished too early: there is more to do
            (disturbed / "_build/grid/toy.released/maze/q.json").unlink(missing_ok=True)
            for path in (tmp_path / "cache_b" / "steps").rglob("q-*"):
                path.unlink()
        head.wait()
        _wait_for_the_folder(disturbed)
    last = grid(disturbed, *CELLS, ARQ_CACHE=str(tmp_path / "cache_b"))
    assert last.returncode == 0, last.stderr
    assert all(killed.values()), killed
    assert _rows(disturbed) == _rows(undisturbed)
    assert (
        not list(disturbed.rglob("*.tmp"))
        and not list((disturbed / "_build/grid").rglob(".*.ipynb"))
        and json.loads((disturbed / "_build/grid/failed.json").read_text(encoding="utf-8")) == []
    )
    print(f"killed: {killed}")


def _unfinished(root: Path) -> bool:
    return len(list((root / "_build/grid/toy.released/rows").glob("*.jsonl"))) < 5


def _wait_for_the_folder(root: Path) -> None:
    """Until nothing of the killed run works in the folder: an engine that outlives its head is told
    to stop, and stops.
    """
    for _ in range(600):
        if not _running(root, "arq_core table") and not _running(root, "snakemake --snakefile"):
            return
        time.sleep(0.5)
    raise AssertionError("saw an engine that goes on for five minutes after its head was killed")
