"""The maze collectors: shortest ways, controllers that arrive, files that are the same bytes twice
and hold what they say.
"""

import h5py
import numpy as np
import pytest

from arq_core.algorithm.types import DataError
from arq_core.collectors import ant_gait, antmaze, pointmaze
from arq_core.collectors.planner import draw_cell, next_cells, shortest_path
from arq_core.collectors.recording import data_card, record
from arq_core.config.settings import UnknownName
from arq_core.datasets.readers.d4rl import read_d4rl
from arq_core.envs import antmaze as ant_envs
from arq_core.envs.pointmaze import GOAL_CELL
from arq_core.envs.simulated_mazes import GOAL_RADIUS, MAPS, free_cells

SIMULATOR = pytest.importorskip(
    "gymnasium_robotics", reason="the simulators are an extra: pip install '.[sim]'"
)
POINT = list(pointmaze.KINDS)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path))


def distances(maze, goal):
    """Steps to the goal from every cell, by repeated relaxation."""
    far = {cell: np.inf for cell in free_cells(maze)} | {goal: 0}
    for _ in far:
        far = {
            (i, j): min(
                d,
                *(1 + far.get(c, np.inf) for c in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1))),
            )
            for (i, j), d in far.items()
        }
    return far


@pytest.mark.parametrize("maze", MAPS)
def test_paths_are_connected_and_shortest(maze):
    for goal in free_cells(maze)[::3]:
        far = distances(maze, goal)
        for start in free_cells(maze):
            path = shortest_path(maze, start, goal)
            assert path[0] == start and path[-1] == goal and len(path) == far[start] + 1
            assert all(
                abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 and MAPS[maze][b[0]][b[1]] != "#"
                for a, b in zip(path, path[1:])
            )


def test_a_goal_inside_a_wall_is_named():
    with pytest.raises(DataError, match=r"saw a goal in cell \(0, 0\)"):
        next_cells("umaze", (0, 0))


def test_goals_are_drawn_from_all_other_cells():
    rng, cells = np.random.default_rng(0), free_cells("umaze")
    assert {draw_cell(cells, cells[0], rng) for _ in range(200)} == set(cells[1:])


def test_cells_are_where_the_walls_leave_them():
    assert pointmaze.cell_of(np.array([1.29, 0.31])) == (1, 1) and pointmaze.cell_of(
        np.array([1.31, 0.29])
    ) == (2, 0)


def test_controller_is_proportional_derivative():
    assert pointmaze.controller(
        np.array([[1.0, 2.0, 0.5, -0.5]]), np.array([[1.1, 1.9]])
    ) == pytest.approx(np.array([[0.5, -0.5]]))


@pytest.mark.parametrize("name", POINT)
def test_the_ball_reaches_a_hundred_goals_of_a_hundred(name):
    envs = pointmaze.KINDS[name](5)
    episodes = pointmaze.walks(envs, 6 * envs.horizon, np.random.default_rng(1))
    arrived = [
        np.linalg.norm(e["observations"][-1, :2] - e["infos/goal"][0]) < pointmaze.REACHED
        for e in episodes
    ]
    cut_by_the_end = 5
    assert len(episodes) >= 100 and sum(arrived) >= len(episodes) - cut_by_the_end
    assert (
        max(len(e["actions"]) for e in episodes) < envs.horizon
        and sum(len(e["actions"]) for e in episodes) == 5 * 6 * envs.horizon
    )


def test_the_ball_goes_on_from_where_it_was():
    episodes = pointmaze.walks(pointmaze.KINDS[POINT[0]](1), 400, np.random.default_rng(1))
    assert len(episodes) > 2
    for e, following in zip(episodes, episodes[1:]):
        assert (following["observations"][0] == e["observations"][-1]).all() and (
            following["infos/goal"][0] != e["infos/goal"][0]
        ).all()


def test_rewards_are_those_of_the_tasks_own_goal():
    for e in pointmaze._part(POINT[0], 4, 500, 0):
        near = np.linalg.norm(e["observations"][1:, :2] - GOAL_CELL["umaze"], axis=1) <= GOAL_RADIUS
        assert (e["rewards"] == near).all() and not e["terminal"]


def test_pointmaze_file_is_the_same_bytes_twice_and_holds_what_its_card_says(tmp_path, monkeypatch):
    small = pointmaze.recipe(POINT[0], parts=2, n=2, steps=200)
    path, card = record(small), data_card(small)
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "again"))
    assert record(small) != path and data_card(small)["sha256"] == card["sha256"]
    with h5py.File(path) as file:
        fields = {
            name: file[name][:]
            for name in (
                "observations",
                "next_observations",
                "timeouts",
                "terminals",
                "infos/goal",
                "infos/qpos",
                "infos/qvel",
            )
        }
    assert card["transitions"] == 800 == len(fields["infos/goal"]) and not fields["terminals"].any()
    goals_change = np.flatnonzero((np.diff(fields["infos/goal"], axis=0) != 0).any(1))
    assert np.flatnonzero(fields["timeouts"]).tolist() == sorted(
        {*goals_change.tolist(), 199, 399, 599, 799}
    )
    assert card["timeouts"] == card["episodes"] == fields["timeouts"].sum()
    assert (
        np.concatenate([fields["infos/qpos"], fields["infos/qvel"]], 1) == fields["observations"]
    ).all()
    assert (fields["next_observations"][:199] == fields["observations"][1:200]).all()
    data = read_d4rl(path, fidelity="recollected")
    assert (
        len(data.transitions.actions) == 800 - card["episodes"]
        and data.transitions.actions.abs().max() <= 1
    )
    assert data.sha256 == card["sha256"]


def test_an_unknown_dataset_is_named():
    with pytest.raises(UnknownName, match="PointMaze dataset: saw 'pointmaze-tiny'"):
        pointmaze.recipe("pointmaze-tiny")


def turned(states, angle):
    """The same ants, turned about the vertical."""
    w, x, y, z = states[:, 3:7].T
    c, s = np.cos(angle / 2), np.sin(angle / 2)
    out = states.copy()
    out[:, 3:7] = np.stack([c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w], 1)
    return out


def test_the_gait_depends_on_the_direction_seen_from_the_body():
    rng = np.random.default_rng(0)
    states, g = rng.normal(size=(6, 29)), ant_gait.FIRST
    states[:, 4:6] = 0
    states[:, 3:7] /= np.linalg.norm(states[:, 3:7], axis=1, keepdims=True)
    time, directions = rng.uniform(size=6), rng.uniform(-3, 3, 6)
    expected = ant_gait.walk(g, time, states, directions)
    assert ant_gait.walk(g, time, turned(states, 1.3), directions + 1.3) == pytest.approx(expected)
    assert not np.allclose(ant_gait.walk(g, time, states, directions + 1.3), expected)


def test_the_gait_aims_where_its_constants_say():
    """A leg that points where the ant goes swings with its ankle alone; motors are in the order of
    legs 4, 1, 2, 3.
    """
    g, states = ant_gait.Gait(1.0, 0.4, 0.2, 0.0, 0.0, 0.9, 2.0, 0.5), np.zeros((1, 29))
    states[:, 3] = 1
    actions = ant_gait.walk(g, np.array([0.25]), states, np.array([np.pi / 4]))[0].reshape(4, 2)[
        [1, 2, 3, 0]
    ]
    assert actions == pytest.approx(
        2.0 * np.array([[0, 0.9 - 0.2], [0.4, -0.9], [0, -0.9 - 0.2], [-0.4, 0.9]]), abs=1e-12
    )
    states[:, 21] = 1.0
    assert ant_gait.walk(g, np.array([0.25]), states, np.array([np.pi / 4]))[0][2] == pytest.approx(
        -0.5
    )


def test_the_ant_reaches_goals_four_metres_away_in_all_directions():
    n, envs, rng = 8, ant_gait.AntPlainEnvs(8), np.random.default_rng(0)
    angles = np.arange(n) * 2 * np.pi / n
    goals = 4 * np.stack([np.cos(angles), np.sin(angles)], 1)
    states, arrived = envs.place(envs.reset(range(n)), goals), np.zeros(n, bool)
    for step in range(80):
        aside = goals - states[:, :2]
        actions = ant_gait.walk(
            ant_gait.gait(), np.full(n, 0.1 * step), states, np.arctan2(aside[:, 1], aside[:, 0])
        )
        states, _, _, success = envs.step(
            actions + antmaze.NOISE * rng.standard_normal(actions.shape)
        )
        arrived |= success
    assert arrived.all()


@pytest.mark.parametrize("name", antmaze.VARIANTS)
def test_ways_of_the_ant_lead_from_its_starts_to_its_goals(name):
    variant, rng = antmaze.VARIANTS[name], np.random.default_rng(0)
    maze, seen = variant.kind.maze, set()
    for start in variant.starts:
        assert antmaze.cell_of(ant_envs.cell_position(start)) == start and (
            MAPS[maze][start[0]][start[1]] != "#"
        )
        for _ in range(10):
            cells = [
                antmaze.cell_of(p)
                for p in antmaze.way_to(maze, ant_envs.cell_position(start), variant.goals, rng)
            ]
            assert cells == shortest_path(maze, start, cells[-1])[1:] and cells[-1] != start
            seen.add(cells[-1])
    assert seen == set(variant.goals)


def test_antmaze_variants_are_d4rls():
    starts = {name: len(v.starts) for name, v in antmaze.VARIANTS.items()}
    assert starts["antmaze-umaze-recollected"] == 1 and all(
        n > 1 for name, n in starts.items() if name != "antmaze-umaze-recollected"
    )
    for name, v in antmaze.VARIANTS.items():
        if "diverse" in name:
            assert (
                set(v.goals)
                == set(free_cells(v.kind.maze))
                == {*v.starts, ant_envs.GOAL_CELL[v.kind.maze]}
            )
    # The mazes that D4RL collected in, BIG_MAZE and HARDEST_MAZE, without their walls.
    for name, text in (
        ("medium", ". ........ ......G. ........ ........ .G...... .....G.."),
        (
            "large",
            ". ......G..... ............ .....G....G. ............ ..G......... "
            "............ ....G.G..G..",
        ),
    ):
        marked = {
            (i, j)
            for i, row in enumerate(text.split())
            for j, tile in enumerate(row)
            if tile == "G"
        }
        assert set(antmaze.VARIANTS[f"antmaze-{name}-play-recollected"].goals) == marked


def test_antmaze_file_is_the_same_bytes_twice_and_ends_at_the_rewarded_goal(tmp_path, monkeypatch):
    small = antmaze.recipe("antmaze-umaze-recollected", parts=1, steps=400)
    path, card = record(small), data_card(small)
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "again"))
    assert record(small) != path and data_card(small)["sha256"] == card["sha256"]
    with h5py.File(path) as file:
        after, rewards, terminals, qpos = (
            file[name][:] for name in ("next_observations", "rewards", "terminals", "infos/qpos")
        )
        assert (file["observations"][:, :15] == qpos).all() and np.abs(
            file["actions"][:]
        ).max() <= 1
    near = np.linalg.norm(after[:, :2] - antmaze.reward_goal("umaze"), axis=1) <= GOAL_RADIUS
    assert (near == terminals).all() and (rewards == terminals).all() and terminals.any()
    data = read_d4rl(path, fidelity="recollected")
    assert card["transitions"] == 400 and len(data.transitions.actions) == 400 - card["timeouts"]
    assert (
        data.state_dim == 29
        and data.action_dim == 8
        and int(data.transitions.terminals.sum()) == card["terminals"] == terminals.sum()
    )
