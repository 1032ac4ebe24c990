"""arq_core.datasets.readers.ogbench: which transitions an npz file becomes under a goal, by
hand, and what is refused.
"""

import zipfile

import numpy as np
import pytest
import torch

from arq_core.algorithm.types import DataError
from arq_core.config import tasks
from arq_core.config.settings import UnknownName
from arq_core.datasets import own
from arq_core.datasets.readers import ogbench
from arq_core.datasets.readers.ogbench import Part, goals, judged, read_ogbench

MAZE = "pointmaze-medium-navigate-singletask-v0"  # done within 1 of (20, 20)
# two trajectories: of three steps, of two; the place is qpos and the state alike
PLACES = [[0, 0], [19.5, 20], [20, 21], [5, 5]] + [[19, 20], [18.9, 20], [20, 20]]
DONE = [False, True, True] + [True, False]  # of the five steps; (19, 20) is just within


def fields(**changes):
    places = np.array(PLACES, np.float32)
    return {
        "observations": places,
        "actions": np.linspace(-0.7, 0.7, 14, dtype=np.float32).reshape(7, 2),
        "terminals": np.array([0, 0, 0, 1, 0, 0, 1], np.float32),
        "qpos": places.astype(np.float64),
        "qvel": np.zeros((7, 2)),
    } | changes


def write(path, compressed=True, **changes):
    kept = {name: x for name, x in fields(**changes).items() if x is not None}
    (np.savez_compressed if compressed else np.savez)(path, **kept)
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "points-v0.npz"


@pytest.mark.parametrize("compressed", [True, False])
def test_each_row_but_a_trajectory_s_last_is_a_step_and_the_next_row_is_its_next_state(
    file, compressed
):
    t = read_ogbench(write(file, compressed), goal=MAZE).transitions
    given, steps = fields(), [0, 1, 2, 4, 5]
    assert torch.equal(t.states[t.state], torch.tensor(given["observations"][steps]))
    after = [row + 1 for row in steps]
    assert torch.equal(t.states[t.next_state], torch.tensor(given["observations"][after]))
    assert torch.equal(t.actions, torch.tensor(given["actions"][steps]))
    assert len(t.states) == 7  # each once


def test_a_step_that_begins_at_the_goal_earns_0_and_is_a_terminal_and_all_others_earn_minus_1(file):
    data = read_ogbench(write(file), goal=MAZE)
    assert data.transitions.rewards.tolist() == [-1, 0, 0, 0, -1]
    assert data.transitions.terminals.tolist() == DONE
    # ends of recordings are no terminals; behind a terminal begins another episode
    assert data.transitions.episode.tolist() == [0, 0, 1, 2, 3]
    assert "3 of 5 steps begin where the task is done" in " ".join(data.notes)


def test_the_last_row_of_a_trajectory_is_no_step_even_at_the_goal(file):
    # the last row of all is (20, 20), and none of the five steps is it
    assert PLACES[-1] == [20, 20]
    assert 6 not in read_ogbench(write(file), goal=MAZE).transitions.state


def test_a_goal_of_several_conditions_earns_minus_those_that_are_not_met():
    goal = (Part("qpos", (0, 1), (3.0, 4.0), 5.0), Part("qpos", (2,), (1.0,), 0.0))
    x = np.array([[0, 0, 1], [0, -1, 1], [0, -1, 0], [3, 4, 1.01]])
    # distances 5, sqrt(34), sqrt(34), 0
    assert judged(x, goal).tolist() == [2, 1, 0, 1]


def test_rewards_of_several_fields_are_summed(file, monkeypatch):
    goal = (Part("qpos", (0,), (20.0,), 1.0), Part("button_states", (1,), (1.0,), 0.0))
    monkeypatch.setattr(ogbench, "goals", lambda: {"two": goal})
    buttons = np.array([[0, 1], [0, 1], [0, 0], [0, 1], [0, 0], [0, 1], [0, 0]])
    t = read_ogbench(write(file, button_states=buttons), goal="two").transitions
    # first number within 1 of 20: rows 1, 2, 4 (19), not 5 (18.9)
    assert t.rewards.tolist() == [-1, 0, -1, -1, -1]
    assert t.terminals.tolist() == [False, True, False, False, False]


def test_a_file_read_in_small_pieces_is_the_same(file, monkeypatch):
    write(file)
    whole = read_ogbench(file, goal=MAZE).transitions.fingerprint()
    monkeypatch.setattr(ogbench, "PIECE", 20)  # two rows of observations
    assert read_ogbench(file, goal=MAZE).transitions.fingerprint() == whole


def test_a_relabelled_file_has_its_own_rewards_and_masks(file):
    rewards = np.array([-3, -2, 0, 9, -1, -2, 9], np.float32)
    masks = np.array([1, 1, 0, 1, 1, 1, 1], np.float32)
    t = read_ogbench(write(file, qpos=None, rewards=rewards, masks=masks)).transitions
    assert t.rewards.tolist() == [-3, -2, 0, -1, -2]
    assert t.terminals.tolist() == [False, False, True, False, False]


def test_without_a_goal_an_error_says_how_to_name_a_single_task(file):
    with pytest.raises(DataError, match=r"saw no rewards and masks.*read_own\(\.\.\., goal='point"):
        read_ogbench(write(file))


def test_an_unknown_goal_is_answered_with_those_that_come_near(file):
    with pytest.raises(UnknownName, match="pointmaze-medium-navigate-singletask-v0"):
        read_ogbench(write(file), goal="pointmaze-medium-navigate-v0")


def test_a_goal_of_another_environment_is_refused(file):
    with pytest.raises(DataError, match="saw 2 columns, expected more than 16"):
        read_ogbench(write(file), goal="cube-single-play-singletask-v0")
    with pytest.raises(DataError, match="expected also button_states"):
        read_ogbench(file, goal="puzzle-3x3-play-singletask-v0")


def test_a_validation_file_is_refused(tmp_path):
    path = write(tmp_path / "points-v0-val.npz")
    with pytest.raises(DataError, match=r"saw the validation file .* expected its training file, "):
        read_ogbench(path, goal=MAZE)


BAD = {
    "missing": (dict(actions=None), "expected also actions"),
    "short": (dict(actions=np.zeros((6, 2))), "saw 6 rows, expected 7"),
    "pictures": (dict(observations=np.zeros((7, 4, 4, 3), np.uint8)), "expected numbers with 2"),
    "texts": (dict(observations=np.full((7, 2), "a")), "expected numbers with 2"),
    "discrete": (dict(actions=np.zeros(7, np.int32)), "expected numbers with 2"),
    "objects": (dict(actions=np.array([[None, {}]] * 7)), "expected numbers with 2"),
    "half": (dict(terminals=np.full(7, 0.5)), "saw 0.5 at index 0, expected 0 or 1"),
    "nan": (dict(observations=np.full((7, 2), np.nan)), "saw nan in row 0"),
    "nan at the goal": (dict(qpos=np.full((7, 2), np.nan)), "not finite in rows 0 to 6 where"),
    "no steps": (dict(terminals=np.ones(7)), "each the last of its trajectory"),
    "columns": (dict(actions=np.asfortranarray(np.zeros((7, 2)))), "column by column"),
    "empty": ({name: x[:0] for name, x in fields().items()}, "at least one row"),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_cannot_be_read_is_refused_by_the_field_s_name(file, fault):
    changes, said = BAD[fault]
    with pytest.raises(DataError, match=said):
        read_ogbench(write(file, **changes), goal=MAZE)


@pytest.mark.parametrize("kept", [0, 10, 200, 0.5, 0.95])
def test_a_file_that_was_cut_off_is_refused(file, kept):
    held = write(file).read_bytes()
    file.write_bytes(held[: int(kept * len(held)) if kept < 1 else kept])
    with pytest.raises(DataError, match="copy or download it again"):
        read_ogbench(file, goal=MAZE)


def test_a_changed_byte_of_an_array_is_refused(file):
    held = bytearray(write(file, compressed=False).read_bytes())
    at = held.find(fields()["observations"].tobytes())
    held[at + 3] ^= 255
    file.write_bytes(held)
    with pytest.raises(DataError, match="cannot be read as npz"):
        read_ogbench(file, goal=MAZE)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_with_any_byte_changed_is_read_or_refused_and_nothing_else(file, compressed):
    held = write(file, compressed).read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for _ in range(300):
        broken = bytearray(held)
        broken[rng.integers(len(held))] ^= int(rng.integers(1, 256))
        file.write_bytes(broken)
        try:
            read_ogbench(file, goal=MAZE)
        except DataError:
            refused += 1
    assert 100 < refused < 300


def test_a_header_that_claims_more_rows_than_there_are_is_refused_without_their_memory(file):
    write(file, compressed=False)
    parts = {}
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            # as long as before, so that the header's length is right
            parts[name] = archive.read(name).replace(b"(7, ", b"(8, ").replace(b"(7,)", b"(8,)")
    with zipfile.ZipFile(file, "w") as archive:
        for name, held in parts.items():
            archive.writestr(name, held)
    with pytest.raises(DataError, match="saw it end at row 7 of 8"):
        read_ogbench(file, goal=MAZE)


def test_a_file_of_one_s_own_is_found_by_its_ending_and_hashed_with_its_goal(file):
    write(file)
    assert own.is_own("nowhere.npz") and own.layout_of(file) == "ogbench"
    data = own.read_own(file, goal=MAZE)
    assert len(data.transitions.actions) == 5 and data.fidelity == "own"
    # the same file holds other data under another goal
    assert data.sha256 != read_ogbench(file, goal=MAZE).sha256
    with pytest.raises(DataError, match="goal: saw 3, expected the name of a single task"):
        own.read_own(file, goal=3)
    with pytest.raises(DataError, match="expected only goal to be chosen"):
        own.read_own(file, horizon=3)


def test_an_action_outside_the_box_is_clipped_counted_and_kept_as_recorded(file):
    actions = fields()["actions"].copy()
    actions[1, 0], actions[3, 0] = 1.5, -2  # a step's, and the last row's of a trajectory
    data = read_ogbench(write(file, actions=actions), goal=MAZE)
    assert data.transitions.actions[1, 0] == 1 and data.recorded[1, 0] == 1.5
    assert len(data.recorded) == 5


def test_every_row_of_ogbench_has_a_goal_and_every_goal_a_row():
    rows = {name for name, row in tasks.tasks().items() if row.suite == "ogbench"}
    assert rows == set(goals())
