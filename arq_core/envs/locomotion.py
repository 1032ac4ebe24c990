"""Hopper, Walker2d and HalfCheetah (Gymnasium's v4, successors of D4RL's v2) as vectors of
episodes, with D4RL's reward and termination.

Models, starting states and formulas are Gymnasium's; a step gives its numbers bit for bit. D4RL
wraps these simulators so that actions are clipped to the box, and so do we. Rewards of v2 and v4
are the same formula; the contact solver of MuJoCo 2.0 and of 3.9 is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from jaxtyping import Bool, Float

from arq_core.envs.parallel import ParallelEnvs, in_workers
from arq_core.envs.vector import EnvError

HORIZON = 1000  # steps; time limit of Gymnasium and of D4RL
PACKAGES = ("gymnasium", "mujoco")
# at least: some 2 s of work in 1,000 steps, against about 0.3 s to start
EPISODES_PER_WORKER = 25


def _unavailable(error: Exception) -> EnvError:
    return EnvError(
        f"the locomotion simulators cannot be loaded ({error}): expected "
        f"{', '.join(PACKAGES)}; install the simulators: pip install '.[sim]' -c "
        "constraints.txt"
    )


def simulator_versions() -> dict[str, str]:
    """What the simulators' numbers depend on."""
    try:
        return {package: version(package) for package in PACKAGES}
    except PackageNotFoundError as error:
        raise _unavailable(error) from error


def make(gym_id: str, **options):
    """One simulator without time limit or checking wrappers.

    `options` go to Gymnasium (render_mode, width, height).
    """
    try:
        import gymnasium
        import mujoco  # noqa: F401  Gymnasium names it only when an environment is made
    except ImportError as error:
        raise _unavailable(error) from error
    level = gymnasium.logger.min_level
    # a notice that v5 exists: D4RL's data are of v2, which v4 continues
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    try:
        return gymnasium.make(gym_id, **options).unwrapped
    finally:
        gymnasium.logger.min_level = level


class LocomotionEnvs:
    """Up to n episodes side by side: one model, one MuJoCo state each. No episode has a success: it
    is always false.

    A sibling names its simulator and its limits. What the model does beyond the horizon or after a
    terminal state is harmless.
    """

    gym_id: str
    state_dim: int
    action_dim: int
    horizon = HORIZON
    survive: float  # reward of each step
    cost: float  # of the squared action
    velocity_limit = 10.0  # observed velocities are clipped to it

    def __init__(self, n: int):
        self.sim = make(self.gym_id)
        import mujoco

        self._step = mujoco.mj_step
        self.data = [mujoco.MjData(self.sim.model) for _ in range(n)]
        self.running = self.data[:0]

    def reset(self, seeds: Sequence[int]) -> Float[np.ndarray, "n S"]:
        """Start n episodes, one a seed: states [n, S], float32. EnvError for no seeds, or for more
        than it was made for.
        """
        if not 0 < len(seeds) <= len(self.data):
            raise EnvError(
                f"{type(self).__name__}.reset: saw {len(seeds)} seeds, expected 1 to "
                f"{len(self.data)}; make one for {len(seeds)}."
            )
        self.running = self.data[: len(seeds)]
        for data, seed in zip(self.running, seeds, strict=False):
            self.sim.data = data
            self.sim.reset(seed=int(seed))
        self.keep(np.ones(len(seeds), bool))
        return self._observe(*self.positions_and_velocities())

    def keep(self, episodes: Bool[np.ndarray, " n"]) -> None:
        """Go on with these of the running episodes only."""
        self.running = [data for data, kept in zip(self.running, episodes, strict=True) if kept]
        self._views = [d.qpos for d in self.running], [d.qvel for d in self.running]

    def positions_and_velocities(self) -> tuple[Float[np.ndarray, "n Q"], Float[np.ndarray, "n V"]]:
        """MuJoCo's generalised coordinates now, of every running episode (D4RL's infos/qpos and
        infos/qvel).
        """
        return tuple(np.array(views) for views in self._views)

    def _observe(self, positions, velocities) -> Float[np.ndarray, "n S"]:
        """All but the position along the track."""
        return np.concatenate(
            [positions[:, 1:], velocities.clip(-self.velocity_limit, self.velocity_limit)], 1
        ).astype(np.float32)

    def step(
        self, actions: Float[np.ndarray, "n A"]
    ) -> tuple[
        Float[np.ndarray, "n S"],
        Float[np.ndarray, " n"],
        Bool[np.ndarray, " n"],
        Bool[np.ndarray, " n"],
    ]:
        """One step of every running episode: states, rewards, terminated (unhealthy), success
        (never). Actions are clipped.
        """
        n = len(self.running)
        if actions.shape != (n, self.action_dim) or not np.isfinite(actions).all():
            raise EnvError(
                f"{type(self).__name__}.step: saw actions of shape {actions.shape}, "
                f"{int((~np.isfinite(actions)).sum())} entries not finite, expected finite "
                f"actions of shape {(n, self.action_dim)}, one row per seed; reset first."
            )
        actions, model, frames = actions.clip(-1, 1), self.sim.model, self.sim.frame_skip
        before = np.array([positions[0] for positions in self._views[0]])
        for data, action in zip(self.running, actions, strict=False):
            data.ctrl[:] = action
            self._step(model, data, nstep=frames)
        positions, velocities = self.positions_and_velocities()
        speed = (positions[:, 0] - before) / self.sim.dt
        rewards = speed + self.survive - self.cost * np.square(actions).sum(1)
        return (
            self._observe(positions, velocities),
            rewards,
            ~self._healthy(positions, velocities),
            np.zeros(n, bool),
        )

    def _healthy(self, positions, velocities) -> Bool[np.ndarray, " n"]:
        raise NotImplementedError


class HopperEnvs(LocomotionEnvs):
    """One leg, three motors. Reward: forward speed in m/s + 1 - 0.001·‖a‖². Ends where the torso is
    at 0.7 m or lower, leans 0.2 rad or more, or a joint's angle or a velocity reaches 100.
    """

    gym_id, state_dim, action_dim, survive, cost = "Hopper-v4", 11, 3, 1.0, 1e-3

    def _healthy(self, positions, velocities):
        bounded = (np.abs(np.concatenate([positions[:, 2:], velocities], 1)) < 100).all(1)
        return bounded & (positions[:, 1] > 0.7) & (np.abs(positions[:, 2]) < 0.2)


class Walker2dEnvs(LocomotionEnvs):
    """Two legs, six motors. Reward: forward speed in m/s + 1 - 0.001·‖a‖². Ends where the torso is
    not between 0.8 m and 2 m high, or leans 1 rad or more.
    """

    gym_id, state_dim, action_dim, survive, cost = "Walker2d-v4", 17, 6, 1.0, 1e-3

    def _healthy(self, positions, velocities):
        return (positions[:, 1] > 0.8) & (positions[:, 1] < 2.0) & (np.abs(positions[:, 2]) < 1.0)


class HalfCheetahEnvs(LocomotionEnvs):
    """Two legs, six motors. Reward: forward speed in m/s - 0.1·‖a‖². Never terminates."""

    gym_id, state_dim, action_dim, survive, cost, velocity_limit = (
        "HalfCheetah-v4",
        17,
        6,
        0.0,
        0.1,
        np.inf,
    )

    def _healthy(self, positions, velocities):
        return np.ones(len(positions), bool)


KINDS = {"hopper": HopperEnvs, "walker2d": Walker2dEnvs, "halfcheetah": HalfCheetahEnvs}


def hopper_envs(n: int) -> LocomotionEnvs | ParallelEnvs:
    """n episodes of Hopper; see `HopperEnvs`."""
    return in_workers(HopperEnvs, n, EPISODES_PER_WORKER)


def walker2d_envs(n: int) -> LocomotionEnvs | ParallelEnvs:
    """n episodes of Walker2d; see `Walker2dEnvs`."""
    return in_workers(Walker2dEnvs, n, EPISODES_PER_WORKER)


def halfcheetah_envs(n: int) -> LocomotionEnvs | ParallelEnvs:
    """n episodes of HalfCheetah; see `HalfCheetahEnvs`."""
    return in_workers(HalfCheetahEnvs, n, EPISODES_PER_WORKER)
