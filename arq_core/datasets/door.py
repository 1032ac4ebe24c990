"""door-human, made again as D4RL made it: the 25 human demonstrations replayed in the simulator,
with D4RL's reward.

Recipe (D4RL, scripts/generation/hand_dapg_demos.py): set a demonstration's initial state, step its
clipped actions open loop, store what the simulator returns; terminals never, a time-out at each
demonstration's last step.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from arq_core.algorithm.types import DataError
from arq_core.config.files import replacing, sha256_of
from arq_core.config.paths import cache_folder, root
from arq_core.datasets.dataset import Dataset, clip_actions
from arq_core.datasets.fetch import fetch
from arq_core.datasets.readers.d4rl import to_transitions
from arq_core.datasets.readers.demos import Demo, read_demos
from arq_core.envs.adroit import simulator_versions
from arq_core.envs.door import ACTION_DIM, STATE_DIM, d4rl_reward, make_door
from arq_core.envs.vector import EnvError

# hand_dapg at commit 9a1de23d, git blob ae07c9e8a3eba2afa0852dcaf1e889a2ef03d380, 3,682,022 bytes,
# Apache-2.0
DEMOS = dict(
    url="https://raw.githubusercontent.com/aravindr93/hand_dapg/9a1de23df6574e1b94e1da742e3326eb1f61c013/dapg/demonstrations/"
    "door-v0_demos.pickle",
    sha256="d6ec9a090261f901e5c9bf10082799e30c8d34c3f28aef4026e492a1aefc96c3",
    name="door-v0_demos.pickle",
)
INIT_SHAPES = dict(qpos=(30,), qvel=(30,), door_body_pos=(3,))
RECIPE = 1  # raise it when `rebuild` would store other numbers
# of MuJoCo, with their Debian packages
BACKENDS = dict(egl="libegl1 and libgl1-mesa-dri", osmesa="libosmesa6")


def load_demos() -> list[Demo]:
    """The 25 recordings as published."""
    return read_demos(fetch(**DEMOS), STATE_DIM, ACTION_DIM, INIT_SHAPES)


def replay(sim, demo: Demo, steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """States before each step [T 39] and D4RL's rewards [T] of the clipped actions, stepped open
    loop from the recorded start.
    """
    state, _ = sim.reset(seed=0, options=dict(initial_state_dict=demo.init_state))
    states, rewards = [], []
    for action in clip_actions(demo.actions)[0][:steps]:
        states.append(state)
        state, reward, *_ = sim.step(action)
        rewards.append(d4rl_reward(reward, state))
    return np.reshape(states, (-1, STATE_DIM)), np.array(rewards)


def rebuild(demos: list[Demo]) -> dict[str, np.ndarray]:
    """The fields of D4RL's door-human file (M = 6729 steps): float32 numbers, boolean flags."""
    sim = make_door()
    states, rewards = zip(*(replay(sim, demo) for demo in demos), strict=True)
    ends = np.cumsum([len(r) for r in rewards]) - 1
    timeouts = np.zeros(ends[-1] + 1, bool)
    timeouts[ends] = True
    return dict(
        observations=np.concatenate(states).astype(np.float32),
        rewards=np.concatenate(rewards).astype(np.float32),
        actions=clip_actions(np.concatenate([d.actions for d in demos]))[0].astype(np.float32),
        terminals=np.zeros_like(timeouts),
        timeouts=timeouts,
    )


def _rebuilt(demos: list[Demo]) -> dict[str, np.ndarray]:
    """`rebuild`, done once per key: the arrays lie in the cache, with a sidecar that holds the key
    and the arrays' hash.
    """
    key = dict(demos=DEMOS["sha256"], recipe=RECIPE, **simulator_versions())
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    path = cache_folder() / "rebuilt" / f"door-human-{name}.safetensors"
    sidecar = path.with_suffix(".json")
    if (
        path.is_file()
        and sidecar.is_file()
        and sidecar.read_text(encoding="utf-8") == _sidecar(key, path)
    ):
        return load_file(path)
    arrays = rebuild(demos)
    with replacing(path) as part:
        part.write_bytes(save(arrays))
    with replacing(sidecar) as part:
        part.write_text(_sidecar(key, path), encoding="utf-8")
    return arrays


def _sidecar(key: dict, path: Path) -> str:
    return json.dumps(key | {"sha256": sha256_of(path)}, indent=1, sort_keys=True) + "\n"


def load_door_human() -> Dataset:
    """door-human: 6704 transitions of 25 demonstrations.

    The second call reads the cache and returns the same numbers.
    """
    demos = load_demos()
    transitions, notes = to_transitions(**_rebuilt(demos), source="door-human")
    clipped = clip_actions(np.concatenate([d.actions for d in demos]))[1]
    return Dataset(
        transitions,
        DEMOS["sha256"],
        "rebuilt",
        f"{DEMOS['url']}, replayed in AdroitHandDoor-v1 by D4RL's recipe",
        (clipped, *notes),
    )


def _check_demo(demos: list[Demo], demo: int, step: int) -> None:
    if not 0 <= demo < len(demos):
        raise DataError(f"demo: saw {demo}, expected 0 to {len(demos) - 1}; choose one of these.")
    if not 0 <= step <= len(demos[demo].actions):
        raise DataError(
            f"step: saw {step}, expected 0 to {len(demos[demo].actions)}, the length of "
            f"demo {demo}; choose one of these."
        )


def replay_agreement(demo: int = 0) -> dict[str, np.ndarray]:
    """How near the replay comes to the recordings (D = 25 demonstrations, T = 300 the longest; NaN
    after a demonstration's end).

    length, recorded_return, replayed_return [D]; state_error [D T]: ‖replayed - recorded state‖
    before each step (it starts above 0: the recorded start is the reset pose, the first recorded
    state already shows the operator's); recorded_reward, replayed_reward [length of `demo`].
    """
    demos = load_demos()
    _check_demo(demos, demo, 0)
    arrays = _rebuilt(demos)
    cuts = np.flatnonzero(arrays["timeouts"])[:-1] + 1
    states, rewards = np.split(arrays["observations"], cuts), np.split(arrays["rewards"], cuts)
    lengths = np.array([len(d.rewards) for d in demos])
    error = np.full((len(demos), lengths.max()), np.nan)
    for row, d, s in zip(error, demos, states, strict=True):
        row[: len(s)] = np.linalg.norm(s - d.observations, axis=1)
    return dict(
        length=lengths,
        recorded_return=np.array([d.rewards.sum() for d in demos]),
        replayed_return=np.array([r.sum(dtype=np.float64) for r in rewards]),
        state_error=error,
        recorded_reward=demos[demo].rewards,
        replayed_reward=rewards[demo],
    )


def render_frame(demo: int, step: int, width: int = 480, height: int = 480) -> np.ndarray:
    """The simulator's picture [height width 3] uint8 after `step` replayed steps of a
    demonstration.

    Drawn in a process of its own, since MuJoCo binds to one backend per process: $MUJOCO_GL if set,
    else EGL, else OSMesa.
    """
    _check_demo(load_demos(), demo, step)
    chosen = os.environ.get("MUJOCO_GL")
    part = cache_folder() / "rebuilt" / f".frame.{os.getpid()}.npy"
    part.parent.mkdir(parents=True, exist_ok=True)
    inherited = {k: v for k, v in os.environ.items() if k != "PYOPENGL_PLATFORM"}
    path = os.pathsep.join(filter(None, (str(root()), os.environ.get("PYTHONPATH"))))
    seen = []
    try:
        for backend in [chosen] if chosen else BACKENDS:
            done = subprocess.run(
                [sys.executable, "-m", __name__, *map(str, (demo, step, width, height, part))],
                env=inherited | dict(MUJOCO_GL=backend, PYTHONPATH=path),
                capture_output=True,
                encoding="utf-8",
            )
            if done.returncode == 0:
                return np.load(part)
            seen.append(
                f"{backend}: "
                f"{(done.stderr.strip().splitlines() or [f'exit status {done.returncode}'])[-1]}"
            )
    finally:
        part.unlink(missing_ok=True)
    raise EnvError(
        f"no picture of the simulator could be drawn. Saw {'; '.join(seen)}. "
        "Expected one backend of MuJoCo to draw off screen; install its Debian "
        "packages (" + " or ".join(f"{k}: {v}" for k, v in BACKENDS.items()) + ")."
    )


def _draw(demo: int, step: int, width: int, height: int, target: str) -> None:
    sim = make_door(render_mode="rgb_array", width=width, height=height)
    replay(sim, load_demos()[demo], step)
    np.save(target, sim.render())


if __name__ == "__main__":
    _draw(*map(int, sys.argv[1:5]), sys.argv[5])
