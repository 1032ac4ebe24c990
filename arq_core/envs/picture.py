"""A picture of any simulator of `data/tasks.csv`, drawn off screen.

MuJoCo binds to one graphics backend per process, and the first may not work on a machine; so each
try is a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name
from tempfile import TemporaryDirectory

import numpy as np

from arq_core.envs.vector import EnvError

PACKAGE = Path(__file__).resolve().parents[2]  # the folder that arq_core lies in
# of MuJoCo, with their Debian packages
BACKENDS = {"egl": "libegl1 and libgl1-mesa-dri", "osmesa": "libosmesa6"}
FIRST_SEED = 0
OURS = "arq_core.envs.vector.EnvError: "  # how Python ends the report of an error of ours
NEAR = 2.3  # distance of the camera, in radii of what is to be seen
FLAT = 0.35  # height by width below which a scene is looked down on


def first_frame(environment: str, width: int = 480, height: int = 480) -> np.ndarray:
    """[height width 3] uint8: the start of episode FIRST_SEED in a task's `environment`
    ("module:function"); else EnvError says why not.

    $MUJOCO_GL chooses the backend; else EGL is tried, then OSMesa.
    """
    with TemporaryDirectory() as folder:
        target = Path(folder) / "frame.npy"
        size = [str(width), str(height)]
        drawn(f"picture of {environment}", __name__, [environment, *size, str(target)], environment)
        return np.load(target)


def drawn(what: str, module: str, arguments: list[str], environment: str) -> str:
    """Run a module that draws off screen in a process of its own, with one of MuJoCo's backends
    after the other until one works: what it printed; else EnvError says why none does.
    """
    if not environment:
        raise EnvError("this dataset has no simulator.")
    chosen = os.environ.get("MUJOCO_GL")
    inherited = {k: v for k, v in os.environ.items() if k != "PYOPENGL_PLATFORM"}
    path = os.pathsep.join(filter(None, (str(PACKAGE), os.environ.get("PYTHONPATH"))))
    seen = []
    for backend in [chosen] if chosen else BACKENDS:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            capture_output=True,
            encoding="utf-8",
            env=inherited | dict(MUJOCO_GL=backend, PYTHONPATH=path, OMP_NUM_THREADS="1"),
        )
        if done.returncode == 0:
            return done.stdout
        # no other backend would help
        if (said := done.stderr.strip()).rsplit("\n", 1)[-1].startswith(OURS):
            raise EnvError(said.rsplit(OURS, 1)[-1])
        seen.append(f"{backend}: {(said.splitlines() or [f'exit status {done.returncode}'])[-1]}")
    raise EnvError(
        f"no {what} could be drawn. Saw {'; '.join(seen)}. "
        "Expected one backend of MuJoCo to draw off screen; install the simulators "
        "and Debian's packages (" + " or ".join(f"{k}: {v}" for k, v in BACKENDS.items()) + ")."
    )


def simulation(envs) -> tuple:
    """MuJoCo's model, that of the `sim` (Gymnasium's or robosuite's) of a vector environment, and
    the data of its first episode.
    """
    # the kitchen has a robot
    sim = getattr(envs, "sim", None) or getattr(envs, "robot", None)
    # robosuite keeps MuJoCo one level deeper
    inner = getattr(sim, "sim", sim)
    model, data = (
        getattr(getattr(inner, name, None), f"_{name}", getattr(inner, name, None))
        for name in ("model", "data")
    )
    data = next(iter(getattr(envs, "data", None) or [data]))
    if model is None or data is None:
        raise EnvError(
            f"{type(envs).__name__}: saw no simulation of MuJoCo, expected one as its "
            "attribute `sim`; it has no picture."
        )
    return model, data


def camera(model, data, moving: bool = False):
    """A camera that faces everything but endless floors, from above where that is flat; `moving`:
    what can move alone, without the table that it stands on.
    """
    import mujoco

    shown = (
        (model.geom_type != mujoco.mjtGeom.mjGEOM_PLANE)
        & (model.geom_group < 3)
        & (model.geom_rgba[:, 3] > 0)
    )
    if moving:  # what is welded to the world has its number, 0
        shown &= model.body_weldid[model.geom_bodyid] > 0
    centre, radius = data.geom_xpos[shown], model.geom_rbound[shown, None]
    low, high = (centre - radius).min(0), (centre + radius).max(0)
    size = high - low
    out = mujoco.MjvCamera()
    out.lookat, out.distance = (low + high) / 2, NEAR * np.linalg.norm(size) / 2
    out.azimuth, out.elevation = 90, -60 if size[2] < FLAT * max(size[:2]) else -20
    return out


def _draw(environment: str, width: int, height: int, target: str) -> None:
    envs = resolve_name(environment)(1)
    envs.reset([FIRST_SEED])
    model, data = simulation(envs)
    import mujoco

    with mujoco.Renderer(model, height, width) as renderer:
        renderer.update_scene(data, camera(model, data))
        np.save(target, renderer.render())


if __name__ == "__main__":
    _draw(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
