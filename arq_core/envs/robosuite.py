"""robosuite's Lift, Can, Square, Transport and Tool Hang as robomimic tries policies on them (Zhu
et al. 2020; Mandlekar et al. 2021).

The low-dimensional state is that of robomimic's study: of each robot the position and orientation
of the hand and the two fingers, then `object`. robosuite 1.5.1 gives other objects than the files
were made with (1.2 to 1.4.1): it puts the pose seen from the hand before the pose in the world, and
takes it from the object's pose one step ago; Lift's vector from hand to cube has the other sign;
Transport's two flags are no longer last. Here `object` is that of the files, with no delay.
Quaternions are (x, y, z, w).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float

from arq_core.envs.layout import Layout
from arq_core.envs.parallel import ParallelEnvs, in_workers
from arq_core.envs.vector import EnvError

PACKAGES = ("mujoco", "numba", "numpy", "robosuite")
# metres, quaternion of the hand's body, metres
ROBOT_WIDTHS = {"eef_pos": 3, "eef_quat": 4, "gripper_qpos": 2}
# change of position [3] and orientation [3] in the world's axes, gripper (1 closes)
ARM_ACTION = 7
# at least: 400 steps of one take about as long as a worker needs to start
EPISODES_PER_WORKER = 2

# Those of robomimic's files, read there from `env_args`: a full action of 1 asks for 5 cm or 0.5
# rad.
CONTROLLER = dict(
    type="BASIC",
    body_parts=dict(
        right=dict(
            type="OSC_POSE",
            input_max=1,
            input_min=-1,
            output_max=[0.05] * 3 + [0.5] * 3,
            output_min=[-0.05] * 3 + [-0.5] * 3,
            kp=150,
            damping=1,
            impedance_mode="fixed",
            kp_limits=[0, 300],
            damping_limits=[0, 10],
            position_limits=None,
            orientation_limits=None,
            uncouple_pos_ori=True,
            control_delta=True,
            interpolation=None,
            ramp_ratio=0.2,
            input_ref_frame="world",
            gripper=dict(type="GRIP"),
        )
    ),
)


def _unavailable(error: Exception) -> EnvError:
    return EnvError(
        f"robosuite cannot be loaded ({error}): expected {', '.join(PACKAGES)}; "
        "install the extra: pip install '.[sim,robosuite]' -c constraints.txt"
    )


def _robosuite() -> ModuleType:
    """The package. Its warnings at import (no file of private settings, no controller for
    humanoids) do not concern these tasks.
    """
    logging.disable(logging.WARNING)
    try:
        import robosuite
    except ImportError as error:
        raise _unavailable(error) from error
    finally:
        logging.disable(logging.NOTSET)
    return robosuite


def robosuite_versions() -> dict[str, str]:
    """What the simulator's numbers depend on."""
    try:
        return {package: version(package) for package in PACKAGES}
    except PackageNotFoundError as error:
        raise _unavailable(error) from error


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """robosuite draws sizes and places from NumPy's global generator: seeded here, and given back
    as it was.
    """
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)


class RobosuiteEnvs:
    """n episodes, a simulator each, about 100 MB (Transport: 200 MB). The reward is 1 where the
    task is done, else 0; that ends an episode.

    robomimic evaluates the same way: until success or the horizon. Further steps are harmless.
    """

    simulator: ClassVar[str]
    robots: ClassVar[int] = 1
    object_dim: ClassVar[int]
    state_dim: ClassVar[int]
    action_dim: ClassVar[int] = ARM_ACTION
    horizon: ClassVar[int]
    layout: ClassVar[Layout]

    def __init_subclass__(cls):
        cls.layout = tuple(cls.observation_keys().items())

    def __init__(self, n: int):
        make = _robosuite().make
        with _numpy_seeded(0):  # a start is drawn here already; every reset draws all anew
            self.sims = [
                make(self.simulator, **self.env_args()["env_kwargs"], renderer="mujoco")
                for _ in range(n)
            ]
        self.running = 0

    @classmethod
    def env_args(cls) -> dict:
        """What robomimic's files say of their environment, and what robomimic makes it from."""
        arms = dict(
            robots=["Panda"] * cls.robots,
            controller_configs=[deepcopy(CONTROLLER) for _ in range(cls.robots)],
        )
        if cls.robots == 1:
            arms["controller_configs"] = arms["controller_configs"][0]
        else:
            arms["env_configuration"] = "single-arm-opposed"
        kwargs = dict(
            has_renderer=False,
            has_offscreen_renderer=False,
            ignore_done=True,
            use_object_obs=True,
            use_camera_obs=False,
            control_freq=20,
            camera_depths=False,
            camera_heights=84,
            camera_widths=84,
            lite_physics=False,
            reward_shaping=False,
        )
        return dict(
            env_name=cls.simulator,
            env_version=robosuite_versions()["robosuite"],
            type=1,
            env_kwargs=arms | kwargs,
        )

    @classmethod
    def observation_keys(cls) -> dict[str, int]:
        """robomimic's names of the parts of a state, and their widths, in order."""
        return {
            f"robot{i}_{name}": width
            for i in range(cls.robots)
            for name, width in ROBOT_WIDTHS.items()
        } | {"object": cls.object_dim}

    @staticmethod
    def object_state(seen: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The parts of `object` from what robosuite observes."""
        raise NotImplementedError

    def reset(self, seeds: Sequence[int]) -> Float[np.ndarray, "n S"]:
        """Start n episodes, one a seed: states [n, S], float32. EnvError for no seeds, or for more
        than it was made for.
        """
        if not 0 < len(seeds) <= len(self.sims):
            raise EnvError(
                f"{type(self).__name__}.reset: saw {len(seeds)} seeds, expected 1 to "
                f"{len(self.sims)}; make {type(self).__name__}({len(seeds)})."
            )
        self.running = len(seeds)
        states = []
        for sim, seed in zip(self.sims, seeds, strict=False):
            with _numpy_seeded(int(seed)):
                states.append(self._state(sim.reset()))
        return np.stack(states)

    def step(
        self, actions: Float[np.ndarray, "n A"]
    ) -> tuple[
        Float[np.ndarray, "n S"],
        Float[np.ndarray, " n"],
        Bool[np.ndarray, " n"],
        Bool[np.ndarray, " n"],
    ]:
        """One step of every running episode: states, rewards, terminated, success (these three are
        one fact). Actions are clipped.
        """
        if actions.shape != (self.running, self.action_dim) or not np.isfinite(actions).all():
            raise EnvError(
                f"{type(self).__name__}.step: saw actions of shape {actions.shape}, "
                f"{int((~np.isfinite(actions)).sum())} entries not finite, expected finite "
                f"actions of shape {(self.running, self.action_dim)}, one row per seed; "
                "reset first."
            )
        states = np.stack(
            [
                self._state(sim.step(action)[0])
                for sim, action in zip(self.sims, np.clip(actions, -1, 1), strict=False)
            ]
        )
        done = np.array([bool(sim._check_success()) for sim in self.sims[: self.running]])
        return states, done.astype(np.float64), done, done.copy()

    def _state(self, seen: Mapping[str, np.ndarray]) -> Float[np.ndarray, " S"]:
        robots = [seen[name] for name in self.observation_keys() if name != "object"]
        return np.concatenate(
            [np.atleast_1d(x) for x in [*robots, *self.object_state(seen)]]
        ).astype(np.float32)


def _from_hand(seen: Mapping[str, np.ndarray], name: str) -> list[np.ndarray]:
    """Position and orientation of an object in the world, then as seen from robot 0's hand."""
    import robosuite.utils.transform_utils as T

    position, orientation = seen[f"{name}_pos"], seen[f"{name}_quat"]
    hand = T.pose2mat((seen["robot0_eef_pos"], seen["robot0_eef_quat"]))
    return [
        position,
        orientation,
        *T.mat2pose(T.pose_inv(hand) @ T.pose2mat((position, orientation))),
    ]


class LiftEnvs(RobosuiteEnvs):
    """Lift a cube, of 4 cm: done where it is 4 cm above the table.

    Object: its pose, then the vector from it to the hand.
    """

    simulator, object_dim, state_dim, horizon = "Lift", 10, 19, 400

    @staticmethod
    def object_state(seen):
        """Of the cube: position [3] in metres, quaternion [4], vector to the hand [3] in metres."""
        return [seen["cube_pos"], seen["cube_quat"], -seen["gripper_to_cube_pos"]]


class CanEnvs(RobosuiteEnvs):
    """Put a can from one bin into its quarter of the other: done where it lies there and the hand
    is 4.3 cm away.
    """

    simulator, object_dim, state_dim, horizon = "PickPlaceCan", 14, 23, 400

    @staticmethod
    def object_state(seen):
        """Of the can: position [3], metres, and quaternion [4]: in the world, from the hand."""
        return _from_hand(seen, "Can")


class SquareEnvs(RobosuiteEnvs):
    """Put a square nut with a handle over a square peg: done where it has come down along the
    peg.
    """

    simulator, object_dim, state_dim, horizon = "NutAssemblySquare", 14, 23, 400

    @staticmethod
    def object_state(seen):
        """Of the nut: position [3], metres, and quaternion [4]: in the world, from the hand."""
        return _from_hand(seen, "SquareNut")


class TransportEnvs(RobosuiteEnvs):
    """Two arms take a hammer out of a closed bin, hand it over into another one, and clear a cube
    of rubbish away.
    """

    simulator, robots, object_dim, state_dim, action_dim, horizon = (
        "TwoArmTransport",
        2,
        41,
        59,
        2 * ARM_ACTION,
        700,
    )
    NAMES = (
        "payload_pos",
        "payload_quat",
        "trash_pos",
        "trash_quat",
        "lid_handle_pos",
        "lid_handle_quat",
        "target_bin_pos",
        "trash_bin_pos",
        "gripper0_to_payload",
        "gripper0_to_lid_handle",
        "gripper1_to_payload",
        "gripper1_to_trash",
        "payload_in_target_bin",
        "trash_in_trash_bin",
    )

    @staticmethod
    def object_state(seen):
        """The parts that NAMES lists, in metres and quaternions; the last two are flags."""
        return [seen[name] for name in TransportEnvs.NAMES]


class ToolHangEnvs(RobosuiteEnvs):
    """Put a hook into a stand, then hang a tool on the hook.

    Object: poses of stand, hook and tool, then one flag for each step.
    """

    simulator, object_dim, state_dim, horizon = "ToolHang", 44, 53, 700

    @staticmethod
    def object_state(seen):
        """Of stand, hook and tool: position [3] in metres and quaternion [4], in the world, then
        seen from the hand; then two flags.
        """
        poses = [x for name in ("base", "frame", "tool") for x in _from_hand(seen, name)]
        return [*poses, seen["frame_is_assembled"], seen["tool_on_frame"]]


def lift_envs(n: int) -> RobosuiteEnvs | ParallelEnvs:
    """n episodes of robosuite's Lift; EnvError where robosuite cannot be loaded."""
    return in_workers(LiftEnvs, n, EPISODES_PER_WORKER, _robosuite)


def can_envs(n: int) -> RobosuiteEnvs | ParallelEnvs:
    """n episodes of robosuite's PickPlaceCan; EnvError where robosuite cannot be loaded."""
    return in_workers(CanEnvs, n, EPISODES_PER_WORKER, _robosuite)


def square_envs(n: int) -> RobosuiteEnvs | ParallelEnvs:
    """n episodes of robosuite's NutAssemblySquare; EnvError where robosuite cannot be loaded."""
    return in_workers(SquareEnvs, n, EPISODES_PER_WORKER, _robosuite)


def transport_envs(n: int) -> RobosuiteEnvs | ParallelEnvs:
    """n episodes of robosuite's TwoArmTransport; EnvError where robosuite cannot be loaded."""
    return in_workers(TransportEnvs, n, EPISODES_PER_WORKER, _robosuite)


def tool_hang_envs(n: int) -> RobosuiteEnvs | ParallelEnvs:
    """n episodes of robosuite's ToolHang; EnvError where robosuite cannot be loaded."""
    return in_workers(ToolHangEnvs, n, EPISODES_PER_WORKER, _robosuite)
