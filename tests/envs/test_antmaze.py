"""AntMaze is D4RL's antmaze: its layouts, coordinates, ant, starts, goals, reward, termination and
horizon.
"""

import numpy as np
import pytest

from arq_core.envs.antmaze import (
    GOAL_CELL,
    HORIZON,
    START_CELL,
    AntLargeEnvs,
    AntMediumEnvs,
    AntUMazeEnvs,
    d4rl_ant,
    large_envs,
    medium_envs,
    umaze_diverse_envs,
    umaze_envs,
)
from arq_core.envs.simulated_mazes import MAPS

pytest.importorskip(
    "gymnasium_robotics", reason="the simulators are an extra: pip install '.[sim]'"
)

KINDS = {"umaze": AntUMazeEnvs, "medium": AntMediumEnvs, "large": AntLargeEnvs}
# D4RL's U_MAZE_TEST, BIG_MAZE_TEST, HARDEST_MAZE_TEST: 1 a wall, R the start, G the goal; and its
# time limits.
D4RL = {
    "umaze": ("11111 1R001 11101 1G001 11111", 700),
    "medium": ("11111111 1R011001 10010001 11000111 10010001 10100101 100010G1 11111111", 1000),
    "large": (
        "111111111111 1R0001000001 101101010101 100000010001 101111011101 "
        "100101000001 110101010111 100100010G01 111111111111",
        1000,
    ),
}
rng = np.random.default_rng(0)


@pytest.mark.parametrize("maze", KINDS)
def test_map_start_goal_and_horizon_are_d4rls(maze):
    text, horizon = D4RL[maze]
    rows = text.split()
    assert [[tile == "1" for tile in row] for row in rows] == [
        [tile == "#" for tile in row] for row in MAPS[maze]
    ]
    assert (
        rows[START_CELL[0]][START_CELL[1]] == "R"
        and rows[GOAL_CELL[maze][0]][GOAL_CELL[maze][1]] == "G"
    )
    assert HORIZON[maze] == KINDS[maze].horizon == horizon


def test_each_function_makes_its_maze():
    for make, maze in (
        (umaze_envs, "umaze"),
        (umaze_diverse_envs, "umaze"),
        (medium_envs, "medium"),
        (large_envs, "large"),
    ):
        assert type(make(1)) is KINDS[maze]


@pytest.mark.parametrize("maze", KINDS)
def test_walls_are_where_d4rl_has_them(maze):
    """The wall of row i and column j has its middle at (4 (j - 1), 4 (i - 1)) and half-width 2."""
    envs = KINDS[maze](1)
    model = envs.model
    blocks = [g for g in range(model.ngeom) if model.geom(g).name.startswith("block")]
    seen = sorted(tuple(model.geom_pos[g, :2] + envs.origin) for g in blocks)
    expected = sorted(
        (4 * (j - 1), 4 * (i - 1))
        for i, row in enumerate(MAPS[maze])
        for j, tile in enumerate(row)
        if tile == "#"
    )
    assert np.allclose(seen, expected) and (model.geom_size[blocks, :2] == 2).all()


def test_the_ant_is_d4rls():
    """The numbers of D4RL's own model of the ant."""
    model = AntUMazeEnvs(1).model
    motors = [model.joint(model.actuator_trnid[a, 0]).name for a in range(model.nu)]
    assert motors == [f"{joint}_{leg}" for leg in (4, 1, 2, 3) for joint in ("hip", "ankle")]
    assert (model.actuator_gear[:, 0] == 30).all() and (model.actuator_ctrlrange == [-1, 1]).all()
    assert model.opt.timestep == 0.02 and AntUMazeEnvs(1).frame_skip == 5
    assert (model.dof_damping[6:] == 1).all() and (model.dof_armature[6:] == 1).all()
    assert (model.geom_solimp[:, :3] == [0.8, 0.8, 0.01]).all() and (
        model.geom_solref == [0.02, 1]
    ).all()
    assert (model.geom_friction == [1, 0.5, 0.5]).all() and (model.geom_margin == 0.01).all()


@pytest.mark.parametrize("maze", KINDS)
def test_steps_are_gymnasiums_own_shifted(maze):
    import gymnasium

    turned = [[int(tile == "#") for tile in row] for row in MAPS[maze][::-1]]
    theirs = gymnasium.make("AntMaze_UMaze-v4", maze_map=turned).unwrapped
    d4rl_ant(theirs.ant_env.model)
    envs = KINDS[maze](2)
    shift = np.array([2 * len(turned[0]) - 6, 2 * len(turned) - 6])
    for episode in range(2):
        start, _ = envs.start(np.random.default_rng([5, 6][episode]))
        envs.reset([5, 6])
        theirs.reset(seed=0)
        theirs.data.qacc_warmstart[:] = 0
        theirs.ant_env.set_state(np.concatenate([start[:2] - shift, start[2:15]]), start[15:])
        for _ in range(25):
            actions = rng.uniform(-1, 1, (2, 8))
            states, *_ = envs.step(actions)
            seen = theirs.step(actions[episode])[0]
            expected = np.concatenate([seen["achieved_goal"] + shift, seen["observation"]])
            assert states[episode] == pytest.approx(expected, abs=1e-5)


def test_starts_and_goals_are_d4rls_and_depend_on_the_seed_alone():
    envs = AntMediumEnvs(200)
    states = envs.reset(range(200))
    goals = envs.goals.copy()
    assert np.abs(states[:, :15] - [0, 0, 0.75, 1, *11 * [0]]).max() <= 0.1 + 1e-6
    assert states[:, 15:].std() == pytest.approx(0.1, rel=0.1)
    corner = np.array([4 * (GOAL_CELL["medium"][1] - 1), 4 * (GOAL_CELL["medium"][0] - 1)])
    assert (
        (goals >= corner).all()
        and (goals <= corner + 1.5).all()
        and np.ptp(goals, axis=0).min() > 1.2
    )
    assert (envs.reset([7, 3]) == states[[7, 3]]).all() and (envs.goals == goals[[7, 3]]).all()


def test_reward_and_end_come_together_within_half_a_metre():
    envs = AntUMazeEnvs(2)
    states = envs.reset([0, 1])
    envs.place(states, states[:, :2] + [[0.3, 0.0], [0.9, 0.0]])
    _, rewards, terminated, success = envs.step(np.zeros((2, 8)))
    assert rewards.tolist() == [1, 0] == terminated.tolist() == success.tolist()
