"""PointMaze is D4RL's maze2d: its maps, coordinates, starts, goal, reward and horizon, on
gymnasium-robotics' physics.
"""

import numpy as np
import pytest

from arq_core.envs.pointmaze import (
    GOAL_CELL,
    HORIZON,
    PointLargeEnvs,
    PointMediumEnvs,
    PointUMazeEnvs,
    pointmaze_large_envs,
    pointmaze_medium_envs,
    pointmaze_umaze_envs,
)
from arq_core.envs.simulated_mazes import MAPS, free_cells
from arq_core.envs.vector import EnvError

pytest.importorskip(
    "gymnasium_robotics", reason="the simulators are an extra: pip install '.[sim]'"
)

KINDS = {"umaze": PointUMazeEnvs, "medium": PointMediumEnvs, "large": PointLargeEnvs}
# D4RL's maze2d-*-v1, as registered in its own package: the text of each map with its goal, and the
# time limit.
D4RL = {
    "umaze": ("##### #GOO# ###O# #OOO# #####", 300),
    "medium": ("######## #OO##OO# #OO#OOO# ##OOO### #OO#OOO# #O#OO#O# #OOO#OG# ########", 600),
    "large": (
        "############ #OOOO#OOOOO# #O##O#O#O#O# #OOOOOO#OOO# #O####O###O# "
        "#OO#O#OOOOO# ##O#O#O#O### #OO#OOO#OGO# ############",
        800,
    ),
}
rng = np.random.default_rng(0)


@pytest.mark.parametrize("maze", KINDS)
def test_map_goal_and_horizon_are_d4rls(maze):
    text, horizon = D4RL[maze]
    rows = text.split()
    assert [row.replace("G", "O") for row in rows] == [row.replace(" ", "O") for row in MAPS[maze]]
    i, j = GOAL_CELL[maze]
    assert rows[i][j] == "G" and HORIZON[maze] == KINDS[maze].horizon == horizon


@pytest.mark.parametrize("maze", KINDS)
def test_map_is_gymnasium_robotics(maze):
    from gymnasium_robotics.envs.maze import maps

    theirs = {"umaze": maps.U_MAZE, "medium": maps.MEDIUM_MAZE, "large": maps.LARGE_MAZE}[maze]
    assert [[int(tile == "#") for tile in row] for row in MAPS[maze]] == theirs


def test_each_function_makes_its_maze():
    for make, kind in zip(
        (pointmaze_umaze_envs, pointmaze_medium_envs, pointmaze_large_envs),
        KINDS.values(),
        strict=True,
    ):
        assert type(make(1)) is kind


def test_physics_are_d4rls_numbers():
    model = PointUMazeEnvs(1).model
    assert model.opt.timestep == 0.01 and (model.opt.gravity == 0).all()
    assert (
        (model.actuator_gear[:, 0] == 100).all()
        and (model.actuator_ctrlrange == [-1, 1]).all()
        and (model.dof_damping == 1).all()
    )
    ball = model.geom("particle_geom").id
    assert model.geom_size[ball, 0] == 0.1 and model.body_mass[1] == pytest.approx(
        1000 * 4 / 3 * np.pi * 0.1**3
    )


@pytest.mark.parametrize("maze", KINDS)
def test_steps_are_gymnasiums_own_turned_by_a_quarter(maze):
    import gymnasium

    name = {"umaze": "UMaze", "medium": "Medium", "large": "Large"}[maze]
    theirs = gymnasium.make(f"PointMaze_{name}-v3").unwrapped
    rows, columns = len(MAPS[maze]), len(MAPS[maze][0])
    envs = KINDS[maze](2)
    states = envs.reset([3, 4])
    for episode in range(2):
        states = envs.reset([3, 4])
        x, y, vx, vy = envs.start(np.random.default_rng([3, 4][episode]))[0]
        theirs.reset(seed=0)
        theirs.data.qacc_warmstart[:] = 0
        theirs.point_env.set_state(
            np.array([y - columns / 2 + 0.7, rows / 2 - 0.7 - x]), np.array([vy, -vx])
        )
        for _ in range(150):
            actions = rng.uniform(-1.5, 1.5, (2, 2)) + 1
            states, *_ = envs.step(actions)
            ax, ay = actions[episode]
            seen = theirs.step(np.array([ay, -ax]))[0]["observation"]
            expected = [rows / 2 - 0.7 - seen[1], seen[0] + columns / 2 - 0.7, -seen[3], seen[2]]
            assert states[episode] == pytest.approx(np.array(expected, np.float32), abs=1e-6)


def test_walls_are_where_d4rl_has_them():
    """A ball of radius 0.1 pushed at a wall stops at it: cell (i, j) reaches from (i, j) - 0.7 to
    (i, j) + 0.3.
    """
    walls = [
        ((i, j), (di, dj))
        for i, j in free_cells("large")
        for di, dj in ((0, 1), (0, -1), (1, 0), (-1, 0))
        if MAPS["large"][i + di][j + dj] == "#"
    ]
    cells, pushes = np.array([w[0] for w in walls], float), np.array([w[1] for w in walls], float)
    envs = PointLargeEnvs(len(walls))
    envs.place(np.concatenate([cells - 0.2, np.zeros_like(cells)], 1), np.zeros_like(cells))
    for _ in range(100):
        states, *_ = envs.step(pushes)
    assert states[:, :2] == pytest.approx(cells - 0.2 + 0.4 * pushes, abs=0.02)


def test_reward_is_one_within_half_a_cell_at_every_step_and_nothing_ends():
    goal = np.array(GOAL_CELL["umaze"], float)
    starts = np.array([goal + (0, 0.45), goal + (0, 0.55), goal])
    envs = PointUMazeEnvs(3)
    envs.place(np.concatenate([starts, np.zeros((3, 2))], 1), np.stack([goal] * 3))
    for _ in range(20):
        states, rewards, terminated, success = envs.step(np.zeros((3, 2)))
        assert rewards.tolist() == [1, 0, 1] == success.tolist() and not terminated.any()


def test_starts_are_in_any_free_cell_and_depend_on_the_seed_alone():
    envs = PointMediumEnvs(400)
    states = envs.reset(range(400))
    cells, offsets = states[:, :2].round(), states[:, :2] - states[:, :2].round()
    assert {tuple(c) for c in cells.astype(int).tolist()} == set(free_cells("medium")) and np.abs(
        offsets
    ).max() <= 0.1 + 1e-6
    assert states[:, 2:].std() == pytest.approx(0.1, rel=0.1)
    assert (envs.reset([7, 3]) == states[[7, 3]]).all()
    assert (envs.goals == GOAL_CELL["medium"]).all()


def test_episodes_side_by_side_do_not_touch_each_other():
    actions = rng.uniform(-1, 1, (30, 3, 2))
    together, alone = PointUMazeEnvs(3), PointUMazeEnvs(1)
    together.reset([1, 2, 3])
    alone.reset([3])
    for a in actions:
        assert (together.step(a)[0][2] == alone.step(a[2:])[0][0]).all()


def test_wrong_use_is_named():
    envs = PointUMazeEnvs(1)
    with pytest.raises(EnvError, match="saw 2 seeds, expected 1 to 1"):
        envs.reset([0, 1])
    envs.reset([0])
    with pytest.raises(EnvError, match="expected finite actions of shape"):
        envs.step(np.full((1, 2), np.nan))


@pytest.mark.slow(reason="fifty simulators, and processes that import theirs")
def test_workers_give_the_same_numbers(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    actions = rng.uniform(-1, 1, (3, 50, 2))
    serial = PointUMazeEnvs(50)
    with pointmaze_umaze_envs(50) as parallel:
        assert (parallel.reset(range(50)) == serial.reset(range(50))).all()
        for a in actions:
            for x, y in zip(parallel.step(a), serial.step(a), strict=True):
                assert (x == y).all()


@pytest.mark.parametrize(
    "states, goals, message",
    [
        (3, 3, "saw 3 states, expected 1 to 2"),
        (2, 1, r"saw goals of shape \(1, 2\) and 2 states"),
        (1, 2, r"saw goals of shape \(2, 2\) and 1 states"),
        (0, 0, r"saw states of shape \(0, 4\)"),
    ],
)
def test_placing_needs_a_goal_for_each_state_and_room_for_them(states, goals, message):
    with pytest.raises(EnvError, match=message):
        PointUMazeEnvs(2).place(np.ones((states, 4)), np.ones((goals, 2)))
