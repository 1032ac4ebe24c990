"""arq_core.datasets.readers.d4rl: which transitions a file in D4RL's layout becomes, and one clear
error for each way it can be wrong.
"""

import h5py
import numpy as np
import pytest
import torch

from arq_core.algorithm.types import DataError
from arq_core.datasets.readers.d4rl import read_d4rl

M, S, A = 9, 3, 2


def fields(**changes):
    """Three episodes: steps 0-3 end by time-out, 4-6 by a terminal, 7-8 where the file ends."""
    rng = np.random.default_rng(0)
    flags = np.zeros((2, M), bool)
    flags[0, 6] = flags[1, 3] = True
    return (
        dict(
            observations=rng.normal(size=(M, S)),
            actions=rng.uniform(-1, 1, (M, A)),
            rewards=rng.normal(size=M),
            terminals=flags[0],
            timeouts=flags[1],
        )
        | changes
    )


def write(path, arrays):
    with h5py.File(path, "w") as file:
        for name, x in arrays.items():
            file[name] = x
    return path


@pytest.fixture
def read(tmp_path):
    return lambda arrays=None, **kw: read_d4rl(
        write(tmp_path / "own.hdf5", fields() if arrays is None else arrays), **kw
    )


def next_observations(x):
    after = np.roll(x, -1, axis=0)
    after[[3, 6, 8]] = 100 + np.arange(3)[:, None]  # where the next row is another episode's
    return after


def test_time_out_drops_the_last_transition_and_terminal_keeps_it(read):
    t, x = read().transitions, fields()
    kept = [0, 1, 2, 4, 5, 6, 7]
    assert t.terminals.tolist() == [k == 6 for k in kept]
    assert t.episode.tolist() == [0, 0, 0, 1, 1, 1, 2]
    torch.testing.assert_close(
        t.actions, torch.tensor(x["actions"][kept], dtype=torch.float32), rtol=0, atol=0
    )
    torch.testing.assert_close(
        t.rewards, torch.tensor(x["rewards"][kept], dtype=torch.float32), rtol=0, atol=0
    )
    torch.testing.assert_close(
        t.states[t.state],
        torch.tensor(x["observations"][kept], dtype=torch.float32),
        rtol=0,
        atol=0,
    )
    after = t.states[t.next_state][~t.terminals]
    torch.testing.assert_close(
        after,
        torch.tensor(x["observations"][[1, 2, 3, 5, 6, 8]], dtype=torch.float32),
        rtol=0,
        atol=0,
    )
    assert "dropped the last transition of 2 episodes" in " ".join(read().notes)


def test_next_action_is_the_data_s(read):
    assert read().transitions.next_transition.tolist() == [1, 2, -1, 4, 5, -1, -1]


@pytest.mark.parametrize("given", [False, True])
def test_each_state_is_stored_once(read, given):
    x = fields()
    t = read(
        x | (dict(next_observations=next_observations(x["observations"])) if given else {})
    ).transitions
    # with the field, the terminal's own s' is one more
    assert len(t.states) == M + given
    assert len(torch.unique(t.states, dim=0)) == len(t.states)
    assert sorted(set(t.state.tolist()) | set(t.next_state.tolist())) == list(range(len(t.states)))


def test_terminal_s_next_comes_from_next_observations(read):
    x = fields()
    t = read(x | dict(next_observations=next_observations(x["observations"]))).transitions
    assert t.states[t.next_state[t.terminals]].tolist() == [[101.0] * S]


def test_gap_in_next_observations_cuts_the_episode_and_is_said(read):
    x = fields()
    after = next_observations(x["observations"])
    after[4] += 1
    data = read(x | dict(next_observations=after))
    assert data.transitions.episode.tolist() == [0, 0, 0, 1, 1, 2]
    assert "after 1 of 9 steps (first: step 4)" in " ".join(data.notes)


def test_one_step_episodes_vanish_with_their_states(read):
    x = fields()
    x["timeouts"][0] = True
    t = read(x).transitions
    assert len(t.actions) == 6 and len(t.states) == 8 and t.episode.tolist() == [0, 0, 1, 1, 1, 2]


def test_actions_outside_the_box_are_clipped_counted_and_said(read):
    x = fields()
    x["actions"][[0, 1], [1, 0]] = 1.5, -3
    data = read(x)
    assert data.transitions.actions[0, 1] == 1 and data.transitions.actions[1, 0] == -1
    assert "clipped 2 of 18 action entries (11.1%) to the box [-1, 1]" in data.notes


def test_dataset_says_what_it_is(read, tmp_path):
    import hashlib

    data = read(expected_state_dim=S, expected_action_dim=A)
    assert (data.state_dim, data.action_dim, data.fidelity) == (S, A, "own")
    assert data.sha256 == hashlib.sha256((tmp_path / "own.hdf5").read_bytes()).hexdigest()
    assert (
        data.transitions.states.dtype
        == data.transitions.actions.dtype
        == data.transitions.rewards.dtype
        == torch.float32
    )


def test_flags_may_be_numbers(read):
    x = fields()
    y = x | dict(
        terminals=x["terminals"].astype(np.float32), timeouts=x["timeouts"].astype(np.uint8)
    )
    assert read(y).transitions.fingerprint() == read(x).transitions.fingerprint()


def test_a_column_is_as_good_as_a_vector(read):
    """The replay files hold their rewards as [M 1]."""
    x = fields()
    columns = {name: x[name][:, None] for name in ("rewards", "terminals", "timeouts")}
    assert read(x | columns).transitions.fingerprint() == read(x).transitions.fingerprint()


def with_value(name, index, value):
    x = fields()
    x[name] = x[name].astype(float)
    x[name][index] = value
    return x


@pytest.mark.parametrize(
    "arrays, message",
    [
        (
            {k: v for k, v in fields().items() if k != "timeouts"},
            "saw the fields actions, observations, rewards, terminals, expected also timeouts",
        ),
        ({}, "saw the fields none"),
        (
            with_value("observations", (4, 2), np.nan),
            r"field 'observations': saw nan at index \(4, 2\) \(1 such",
        ),
        (with_value("actions", (1, 0), -np.inf), r"field 'actions': saw -inf at index \(1, 0\)"),
        (with_value("rewards", 8, 1e300), r"field 'rewards': saw inf at index \(8,\)"),
        (with_value("terminals", 2, 0.5), "field 'terminals': saw 0.5 at index 2, expected 0 or 1"),
        (with_value("timeouts", 2, np.nan), "field 'timeouts': saw nan at index 2"),
        (fields(rewards=np.zeros(M - 1)), "field 'rewards': saw 8 rows, expected 9"),
        (
            fields(rewards=np.zeros((M, 2))),
            r"field 'rewards': saw float64 of shape \(9, 2\), expected numbers with 1 " r"axes",
        ),
        (
            fields(observations=np.zeros((M, 4, 4))),
            r"field 'observations': saw float64 of shape \(9, 4, 4\)",
        ),
        (fields(actions=np.zeros((0, A))), r"field 'actions': saw float64 of shape \(0, 2\)"),
        (fields(actions=1.0), r"field 'actions': saw float64 of shape \(\)"),
        (fields(rewards=np.array([b"a"] * M)), r"field 'rewards': saw \|S1"),
        (
            {**{k: v for k, v in fields().items() if k != "actions"}, "actions/left": np.zeros(M)},
            "field 'actions': saw a group",
        ),
        (
            fields(next_observations=np.zeros((M, S + 1))),
            "field 'next_observations': saw dimension 4, expected 3",
        ),
        (
            fields(timeouts=np.ones(M, bool), terminals=np.zeros(M, bool)),
            "saw 9 steps, each the last of its episode",
        ),
    ],
)
def test_bad_file_is_one_error_that_names_file_and_field(read, arrays, message):
    with pytest.raises(DataError, match=r"own\.hdf5: .*" + message):
        read(arrays)


def test_state_or_action_of_another_dimension_than_the_task_s(read):
    with pytest.raises(DataError, match="'observations': saw dimension 3, expected 39"):
        read(expected_state_dim=39)
    with pytest.raises(DataError, match="'actions': saw dimension 2, expected 28"):
        read(expected_action_dim=28)


def test_missing_and_truncated_files(tmp_path):
    with pytest.raises(DataError, match="absent.hdf5: saw no such file"):
        read_d4rl(tmp_path / "absent.hdf5")
    path = write(tmp_path / "own.hdf5", fields())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"own\.hdf5: saw [\d,]+ bytes that cannot be read as HDF5"):
        read_d4rl(path)
