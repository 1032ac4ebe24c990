"""AdroitHandDoor with D4RL's reward: a hand of 28 actuators opens a door (Rajeswaran et al. 2018; D4RL's door-*)."""
from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stderr
from importlib.metadata import PackageNotFoundError, version
from io import StringIO

import numpy as np
from jaxtyping import Bool, Float

from arq_core.envs import EnvError
from arq_core.envs.parallel import ParallelEnvs

STATE_DIM, ACTION_DIM = 39, 28
HORIZON = 200                     # steps; D4RL's time limit for door
PACKAGES = ("gymnasium", "gymnasium-robotics", "mujoco")
PALM_TO_HANDLE = slice(35, 38)    # of the state: palm minus handle, metres
EPISODES_PER_WORKER = 25          # at least: 1.2 s of work in 200 steps, against about 0.3 s to start


def _unavailable(error: Exception) -> EnvError:
    return EnvError(f"the door simulator cannot be loaded ({error}): expected {', '.join(PACKAGES)}; install the simulators: "
                    "pip install '.[sim]' -c constraints.txt")


def simulator_versions() -> dict[str, str]:
    """What the simulator's numbers depend on."""
    try:
        return {package: version(package) for package in PACKAGES}
    except PackageNotFoundError as error:
        raise _unavailable(error) from error


def make_door(**options):
    """One simulator without time limit or checking wrappers. `options` go to Gymnasium (render_mode, width, height)."""
    try:
        import gymnasium
        with redirect_stderr(StringIO()):   # a notice about the reward, which d4rl_reward corrects: every worker would print it
            import gymnasium_robotics
        import mujoco  # noqa: F401  Gymnasium names it only when an environment is made
    except ImportError as error:
        raise _unavailable(error) from error
    gymnasium.register_envs(gymnasium_robotics)
    return gymnasium.make("AdroitHandDoor-v1", **options).unwrapped


def d4rl_reward(reward: float, state: Float[np.ndarray, "39"]) -> float:
    """D4RL's reward from the simulator's: gymnasium-robotics 1.4.2 adds 0.1·‖palm - handle‖ where D4RL subtracts it."""
    return reward - 0.2 * float(np.linalg.norm(state[PALM_TO_HANDLE]))


class DoorEnvs:
    """Up to n episodes side by side. They share one model; what differs (dynamic state, position of the door) is kept for each.

    `success` is true while the hinge is at 1.35 rad or beyond, D4RL's goal_achieved. (D4RL's evaluate_success asks for more than
    25 such steps.) Nothing terminates; the horizon is the evaluator's to enforce, and further steps are harmless.
    """

    state_dim, action_dim, horizon = STATE_DIM, ACTION_DIM, HORIZON

    def __init__(self, n: int):
        self.sim = make_door()
        import mujoco
        self.data = [mujoco.MjData(self.sim.model) for _ in range(n)]
        self.door = np.zeros((0, 3))      # position of the door's frame in each running episode, metres

    def reset(self, seeds: Sequence[int]) -> Float[np.ndarray, "n 39"]:
        if not 0 < len(seeds) <= len(self.data):
            raise EnvError(f"DoorEnvs.reset: saw {len(seeds)} seeds, expected 1 to {len(self.data)}; make DoorEnvs({len(seeds)}).")
        states, door = [], []
        for data, seed in zip(self.data, seeds):
            self.sim.data = data
            states.append(self.sim.reset(seed=int(seed))[0])
            door.append(self.sim.model.body_pos[self.sim.door_body_id].copy())
        self.door = np.stack(door)
        return np.stack(states).astype(np.float32)

    def step(self, actions: Float[np.ndarray, "n 28"]) -> tuple[
            Float[np.ndarray, "n 39"], Float[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        """One step of every running episode: states, D4RL's rewards, terminated (never), success. Actions are clipped."""
        n = len(self.door)
        if actions.shape != (n, ACTION_DIM) or not np.isfinite(actions).all():
            raise EnvError(f"DoorEnvs.step: saw actions of shape {actions.shape}, {int((~np.isfinite(actions)).sum())} entries not "
                           f"finite, expected finite actions of shape {(n, ACTION_DIM)}, one row per seed; reset first.")
        states, rewards, success = np.empty((n, STATE_DIM)), np.empty(n), np.empty(n, bool)
        for i, (data, door) in enumerate(zip(self.data, self.door)):
            self.sim.data = data
            self.sim.model.body_pos[self.sim.door_body_id] = door
            states[i], reward, _, _, info = self.sim.step(actions[i])
            rewards[i], success[i] = d4rl_reward(reward, states[i]), info["success"]
        return states.astype(np.float32), rewards, np.zeros(n, bool), success


def door_envs(n: int) -> DoorEnvs | ParallelEnvs:
    """n episodes: in worker processes where there are enough of them and this process may use several cores, else here.

    The numbers are the same. OMP_NUM_THREADS=1 keeps everything in this process, as it does for torch.
    """
    import torch   # not at the top: the workers, which import this file, do without it
    workers = min(torch.get_num_threads(), n // EPISODES_PER_WORKER)
    if workers < 2:
        return DoorEnvs(n)
    make_door()    # a simulator that cannot be loaded is reported now, not after the training
    return ParallelEnvs(DoorEnvs, n, workers)
