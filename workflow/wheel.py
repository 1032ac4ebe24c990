"""A release's wheel, made and tried as a stranger would: `make wheel`, and the workflow `release`.

    python workflow/wheel.py FOLDER [--borrow SITE]        (from the root of the checkout)

1. Build wheel and source distribution into FOLDER, and let twine check them.
2. The wheel has every tracked file of the package, py.typed, and the settings of data.
3. Install it into a new environment, with what constraints.txt pins, and run in an empty folder:
   train on arrays, keep the policy, load it in another process, act: the same to the bit.

With --borrow, the new environment finds what the wheel needs in the folder SITE (site-packages of
another environment) and downloads nothing: a quick trial, which says nothing of the requirements.
It needs nothing besides Python and git; `build` and `twine` come into an environment of their own.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TOOLS = ["build==1.6.1", "twine==7.0.0"]
SETTINGS = "data/share/arq-core/data/"  # below NAME-VERSION.data of a wheel
FIRST = """
import sys
import numpy as np
import arq_core as arq

g = np.random.default_rng(0)
observations, actions = g.normal(size=(400, 3)), g.uniform(-0.9, 0.9, (400, 2))
ends = np.arange(400) % 20 == 19
data = arq.from_arrays(observations, actions, g.normal(size=400), np.zeros(400, bool), ends)
policy = arq.policy(arq.prepare(data, "toy", group="adroit", device="cpu"), "arq+s_psi")
policy.save("mine.arq")
np.save("acted.npy", policy.predict(observations[:50].astype(np.float32), seed=3))
print(arq.__file__)
"""
SECOND = """
import numpy as np
import arq_core as arq

observations = np.random.default_rng(0).normal(size=(400, 3))[:50].astype(np.float32)
acted = arq.load("mine.arq").predict(observations, seed=3)
there = np.load("acted.npy")
assert acted.dtype == there.dtype and acted.tobytes() == there.tobytes(), abs(acted - there).max()
assert there.std() > 0
print("the same to the bit in another process:", acted.shape)
"""


def ran(*words, **more) -> str:
    """What a command says; SystemExit with its output where it fails."""
    got = subprocess.run([str(w) for w in words], capture_output=True, encoding="utf-8", **more)
    if got.returncode:
        sys.exit(f"{' '.join(map(str, words))[:200]}: failed\n{got.stdout}{got.stderr}")
    return got.stdout


def built(folder: Path, work: Path) -> Path:
    """The wheel, beside its source distribution; both pass `twine check`."""
    tools = work / "tools/bin/python"
    ran(sys.executable, "-m", "venv", work / "tools")
    ran(tools, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *TOOLS)
    ran(tools, "-m", "build", "--outdir", folder)
    files = sorted([*folder.glob("arq_core-*.whl"), *folder.glob("arq_core-*.tar.gz")])
    if [f.suffix for f in files] != [".whl", ".gz"]:
        sys.exit(f"{folder}: saw {[f.name for f in files]}, expected one wheel and one archive.")
    print(ran(tools, "-m", "twine", "check", "--strict", *files), end="")
    return files[0]


def missing(wheel: Path, tracked: list[str]) -> list[str]:
    """Tracked files of the package, and settings, that a wheel lacks."""
    inside = zipfile.ZipFile(wheel).namelist()
    settings = {name.split(SETTINGS)[1] for name in inside if SETTINGS in name}
    wanted = [f for f in tracked if f.startswith("arq_core/") and f not in inside]
    top = [f for f in tracked if Path(f).parent == Path("data") and f.endswith((".csv", ".toml"))]
    return wanted + [f for f in top if Path(f).name not in settings]


def tried(wheel: Path, work: Path, borrow: str) -> None:
    """The wheel in an environment of its own, away from the checkout."""
    venv, away = work / "venv", work / "away"
    away.mkdir()
    ran(sys.executable, "-m", "venv", venv)
    python = venv / "bin/python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if borrow:
        ran(*pip, "--no-deps", wheel)
        site = next((venv / "lib").glob("python*/site-packages"))
        (site / "borrowed.pth").write_text(f"{Path(borrow).resolve()}\n", encoding="utf-8")
    else:
        ran(*pip, "-c", "constraints.txt", wheel)
        ran(python, "-m", "pip", "check")
    own = {k: v for k, v in os.environ.items() if not k.startswith(("ARQ_", "PYTHON"))}
    own |= {"HOME": str(away), "XDG_CACHE_HOME": str(away / "cache")}
    where = ran(python, "-c", FIRST, cwd=away, env=own).splitlines()[-1]
    if not Path(where).is_relative_to(venv.resolve()):
        sys.exit(f"saw arq_core at {where}, expected it in {venv}: what was tried is no wheel.")
    print(ran(python, "-c", SECOND, cwd=away, env=own), end="")
    said = ran(python, "-m", "arq_core", "weights", cwd=away, env=own)
    print(said.splitlines()[-1])


def main() -> None:
    """Build, look, try."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    asked.add_argument("folder", type=Path)
    asked.add_argument("--borrow", default="")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as work:
        wheel = built(given.folder.resolve(), Path(work))
        if lost := missing(wheel, ran("git", "ls-files").splitlines()):
            sys.exit(f"{wheel.name}: saw no {', '.join(lost)}, expected all tracked files.")
        tried(wheel, Path(work), given.borrow)
    print(wheel)


if __name__ == "__main__":
    main()
