"""The .venv of a checkout, in a folder of any name: `make` calls this with the Python to take.

    python workflow/install.py STAMP EXTRAS        (from the root of the checkout)

STAMP is the file that says that it is done. Two that begin at once: one waits for the other, and
then finds it done. It needs nothing besides Python; with INSTALLER=uv in the environment, uv (on
the PATH) does what pip would.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

NEEDS = ("constraints.txt", "pyproject.toml")
EVERY = 3  # seconds between two lines of progress
LAST = 60  # lines that are shown of a command that failed


def literal(folder: str) -> dict:
    """Variables by which a folder's name means itself: setuptools takes $name and {name} in the
    path of an environment for variables. SystemExit where a name cannot be meant.
    """
    names = re.findall(r"\$([A-Za-z_]\w*)", folder) + re.findall(r"\{([^{}]*)\}", folder)
    odd = [mark for mark in (":", "\n") if mark in folder]
    odd += [n for n in names if n in os.environ or not re.fullmatch(r"[A-Za-z_]\w*", n)]
    odd += re.findall(r"[{}]", re.sub(r"\{[^{}]*\}", "", folder))
    if odd:
        sys.exit(
            f"{folder!r}: saw {odd[0]!r} in the path, which Python's installer does not take for "
            "a part of a name, expected none; rename the folder, or clone into another."
        )
    said = {name: f"${name}" for name in names}
    return said | {name: f"{{{name}}}" for name in names if f"{{{name}}}" in folder}


def homed() -> dict:
    """HOME, where this user has none that can be written to (containers): packages that are built
    from their source look for settings there, and fail where nothing says where that is.
    """
    home = os.path.expanduser("~")
    if home != "/" and os.path.isdir(home) and os.access(home, os.W_OK | os.X_OK):
        return {}
    spare = Path("_build/home").absolute()
    spare.mkdir(parents=True, exist_ok=True)
    return {"HOME": str(spare)}


def commands(venv: Path, extras: str, installer: str) -> list[list]:
    """What is run one after the other; SystemExit where `installer` is neither pip nor uv, or uv is
    not there.
    """
    python = venv / "bin/python"
    wanted = ["-c", "constraints.txt", "-e", f".[{extras}]"]
    if installer == "pip":
        pip = [python, "-m", "pip"]
        return [
            [sys.executable, "-m", "venv", venv],
            [*pip, "install", "--disable-pip-version-check", "--progress-bar=off", *wanted],
            [*pip, "check"],
        ]
    uv = shutil.which(installer)
    if installer != "uv" or uv is None:
        saw = f"INSTALLER={installer}" + (", and no program uv" if installer == "uv" else "")
        sys.exit(f"{saw}, expected pip (or nothing), or uv where that is installed.")
    of = ["--python", python]
    return [
        # with pip in it, which `make peers` calls
        [uv, "venv", "--allow-existing", "--seed", "--python", sys.executable, venv],
        [uv, "pip", "install", *of, *wanted],
        [uv, "pip", "check", *of],
    ]


def followed(command: list, variables: dict) -> int:
    """The exit status of a command; while it runs, a line every few seconds says how long it has
    been and what it printed last. Where it fails, the last that it printed is shown.
    """
    said, begun = deque(["begun"], maxlen=LAST), time.monotonic()
    with subprocess.Popen(
        command,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as run:
        listener = threading.Thread(target=lambda: said.extend(run.stdout), daemon=True)
        listener.start()
        while listener.is_alive():
            listener.join(EVERY)
            if listener.is_alive():
                print(f"{time.monotonic() - begun:5.0f} s  {said[-1].strip()[:90]}", flush=True)
    if run.returncode:
        sys.stderr.write("".join(said))
    return run.returncode


def main(stamp: Path, extras: str) -> None:
    """Make the environment unless the stamp is newer than what it is made from."""
    venv = stamp.parent
    steps = commands(venv, extras, os.environ.get("INSTALLER") or "pip")
    variables = os.environ | literal(os.getcwd()) | homed()
    lock = Path("_build/venv.lock")
    lock.parent.mkdir(exist_ok=True)
    with open(lock, "w", encoding="utf-8") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{venv}: another make is making it; waiting for that", flush=True)
            fcntl.flock(held, fcntl.LOCK_EX)
        made = stamp.stat().st_mtime_ns if stamp.exists() else 0
        if made >= max(Path(name).stat().st_mtime_ns for name in NEEDS):
            return
        print(f"{venv}: installing what constraints.txt pins", flush=True)
        for command in steps:
            if status := followed(command, variables):
                sys.exit(status)
        stamp.touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
