"""The maze collectors: shortest ways, controllers that arrive, files that are the same bytes twice and hold what they say."""
import h5py
import numpy as np
import pytest

from arq_core.collectors import pointmaze
from arq_core.collectors.planner import draw_cell, next_cells, shortest_path
from arq_core.collectors.recording import data_card, record
from arq_core.datasets.d4rl import read_d4rl
from arq_core.envs.pointmaze import GOAL_CELL
from arq_core.envs.simulated_mazes import GOAL_RADIUS, MAPS, free_cells
from arq_core.settings import UnknownName
from arq_core.types import DataError

SIMULATOR = pytest.importorskip("gymnasium_robotics", reason="the simulators are an extra: pip install '.[sim]'")
POINT = list(pointmaze.KINDS)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path))


def distances(maze, goal):
    """Steps to the goal from every cell, by repeated relaxation."""
    far = {cell: np.inf for cell in free_cells(maze)} | {goal: 0}
    for _ in far:
        far = {(i, j): min(d, *(1 + far.get(c, np.inf) for c in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1))))
               for (i, j), d in far.items()}
    return far


@pytest.mark.parametrize("maze", MAPS)
def test_paths_are_connected_and_shortest(maze):
    for goal in free_cells(maze)[::3]:
        far = distances(maze, goal)
        for start in free_cells(maze):
            path = shortest_path(maze, start, goal)
            assert path[0] == start and path[-1] == goal and len(path) == far[start] + 1
            assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 and MAPS[maze][b[0]][b[1]] != "#" for a, b in zip(path, path[1:]))


def test_a_goal_inside_a_wall_is_named():
    with pytest.raises(DataError, match=r"saw a goal in cell \(0, 0\)"):
        next_cells("umaze", (0, 0))


def test_goals_are_drawn_from_all_other_cells():
    rng, cells = np.random.default_rng(0), free_cells("umaze")
    assert {draw_cell(cells, cells[0], rng) for _ in range(200)} == set(cells[1:])


def test_cells_are_where_the_walls_leave_them():
    assert pointmaze.cell_of(np.array([1.29, 0.31])) == (1, 1) and pointmaze.cell_of(np.array([1.31, 0.29])) == (2, 0)


def test_controller_is_proportional_derivative():
    assert pointmaze.controller(np.array([[1.0, 2.0, 0.5, -0.5]]), np.array([[1.1, 1.9]])) == pytest.approx(np.array([[0.5, -0.5]]))


@pytest.mark.parametrize("name", POINT)
def test_the_ball_reaches_a_hundred_goals_of_a_hundred(name):
    envs = pointmaze.KINDS[name](5)
    episodes = pointmaze.walks(envs, 6 * envs.horizon, np.random.default_rng(1))
    arrived = [np.linalg.norm(e["observations"][-1, :2] - e["infos/goal"][0]) < pointmaze.REACHED for e in episodes]
    cut_by_the_end = 5
    assert len(episodes) >= 100 and sum(arrived) >= len(episodes) - cut_by_the_end
    assert max(len(e["actions"]) for e in episodes) < envs.horizon and sum(len(e["actions"]) for e in episodes) == 5 * 6 * envs.horizon


def test_the_ball_goes_on_from_where_it_was():
    episodes = pointmaze.walks(pointmaze.KINDS[POINT[0]](1), 400, np.random.default_rng(1))
    assert len(episodes) > 2
    for e, following in zip(episodes, episodes[1:]):
        assert (following["observations"][0] == e["observations"][-1]).all() and (following["infos/goal"][0] != e["infos/goal"][0]).all()


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
        fields = {name: file[name][:] for name in ("observations", "next_observations", "timeouts", "terminals", "infos/goal", "infos/qpos",
                                                   "infos/qvel")}
    assert card["transitions"] == 800 == len(fields["infos/goal"]) and not fields["terminals"].any()
    goals_change = np.flatnonzero((np.diff(fields["infos/goal"], axis=0) != 0).any(1))
    assert np.flatnonzero(fields["timeouts"]).tolist() == sorted({*goals_change.tolist(), 199, 399, 599, 799})
    assert card["timeouts"] == card["episodes"] == fields["timeouts"].sum()
    assert (np.concatenate([fields["infos/qpos"], fields["infos/qvel"]], 1) == fields["observations"]).all()
    assert (fields["next_observations"][:199] == fields["observations"][1:200]).all()
    data = read_d4rl(path, fidelity="recollected")
    assert len(data.transitions.actions) == 800 - card["episodes"] and data.transitions.actions.abs().max() <= 1
    assert data.sha256 == card["sha256"]


def test_an_unknown_dataset_is_named():
    with pytest.raises(UnknownName, match="PointMaze dataset: saw 'pointmaze-tiny'"):
        pointmaze.recipe("pointmaze-tiny")
