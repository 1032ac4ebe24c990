"""A scratch checkout in which the steps of the grid are stand-ins that write their files and say
so: what is planned and what is run can be counted.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = '''
"""Stand-in for a step: reads the receipts that it would read, writes what it would write, and a
line of steps.txt. A task named in broken.txt has no data."""
import json, sys
from pathlib import Path

job = json.loads(sys.argv[1])
p, broken = job["parameters"], Path("broken.txt")
if job["step"] == "dataset" and broken.exists() and p["task"] in broken.read_text().split():
    error = {k: p[k] for k in ("task", "profile", "variant")}
    error |= dict(method=job["method"], step=job["step"], notebook=job["notebook"],
                  error="dataset.ipynb: saw a broken file", log=job["place"] + ".log")
    Path(job["place"] + ".error.json").write_text(json.dumps(error))
    sys.exit("error: saw a broken file")
Path(job["place"] + ".error.json").unlink(missing_ok=True)
for receipt in p["receipts"]:
    json.loads(Path(receipt).read_text())
with open("steps.txt", "a") as f:
    f.write(" ".join([job["step"], p["task"], job["method"]]).strip() + "\\n")
cell = dict(cell_type="markdown", id="a", metadata={}, source=job["step"])
notebook = dict(cells=[cell], metadata={}, nbformat=4, nbformat_minor=5)
Path(job["place"] + ".ipynb").write_text(json.dumps(notebook))
if job["step"] != "evaluate":
    Path(p["receipt"]).write_text(json.dumps(dict(step=job["step"], files=[])))
else:
    import numpy

    from arq_core.results import rows as results
    ones = dict.fromkeys(("return", "length", "success", "score"), numpy.ones((2, 3)))
    said = {k: p[k] for k in ("task", "profile", "variant")}
    rows = results.episode_rows(
        ones, [0, 1], None, **said, method=job["method"], dataset_sha256="0" * 64, fidelity="own",
        wall_s=1.0, device="none", commit="none", versions=dict(a="1"),
        created="2026-01-01T00:00:00+00:00")
    results.write_rows(p["rows"], rows)
    Path(p["rows"]).with_suffix(".run.json").write_text(json.dumps(dict(task=p["task"])))
'''


def scratch(folder: Path, stand_ins: bool = True) -> Path:
    """What the grid needs of a checkout, copied with what Python compiled of it; with `stand_ins`,
    steps that compute nothing.
    """
    for name in ("arq_core", "workflow", "notebooks", "book"):
        shutil.copytree(
            ROOT / name,
            folder / name,
            ignore=shutil.ignore_patterns("executed", ".snakemake"),
        )
    shutil.copytree(
        ROOT / "data",
        folder / "data",
        ignore=shutil.ignore_patterns("cache", "results", "policies"),
    )
    for name in ("constraints.txt", "pyproject.toml", "_config.yml", "Makefile"):
        shutil.copy(ROOT / name, folder / name)
    if stand_ins:
        (folder / "arq_core/grid/job.py").write_text(STAND_IN, encoding="utf-8")
    return folder


def with_python(root: Path) -> Path:
    """The Python of a new .venv in a scratch checkout, which finds this one's packages."""
    venv.create(root / ".venv", symlinks=True)
    python = root / ".venv/bin/python"
    at = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([python, "-c", at], capture_output=True, encoding="utf-8", check=True)
    outer = sysconfig.get_path("purelib") + "\n"
    Path(own.stdout.strip(), "outer.pth").write_text(outer, encoding="utf-8")
    return python


def grid(
    root: Path,
    *arguments: str,
    python: str | Path = sys.executable,
    command: str = "table",
    **environment: str,
) -> subprocess.CompletedProcess:
    """`arq table`, or another command, in a scratch checkout."""
    return subprocess.run(
        [python, "-m", "arq_core", command, *arguments],
        cwd=root,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"} | environment,
    )


def steps_done(root: Path) -> list[str]:
    """The steps that were run, sorted; and forgotten."""
    path = root / "steps.txt"
    lines = sorted(path.read_text(encoding="utf-8").splitlines()) if path.exists() else []
    path.unlink(missing_ok=True)
    return lines
