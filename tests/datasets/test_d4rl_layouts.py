"""Readers of D4RL's files, version by version: which steps, episodes, ends and cuts come out of a
file laid out as D4RL's are.

Every row of these files says where it belongs: its observation is (episode, step, noise), its
reward is the step, its first action the episode. So the tests see not only how many transitions
there are, but that each is one.
"""

import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from arq_core.algorithm.types import DataError
from arq_core.datasets.readers import cuts
from arq_core.datasets.readers.d4rl import read_d4rl, to_transitions

# SCALE: episodes are numbered in 1/64, to be exact in float32 inside the box
S, A, SCALE = 5, 2, 64.0


def steps(lengths):
    """(episode, step) of every row of episodes of these lengths."""
    return np.concatenate(
        [np.stack([np.full(n, e), np.arange(n)], 1) for e, n in enumerate(lengths)]
    )


def flat(lengths, number=np.float32):
    """Fields without flags [M ...] of episodes of these lengths, as float32 or float64."""
    where, rng = steps(lengths), np.random.default_rng(0)
    noise = rng.normal(size=(len(where), S - 2))
    actions = np.stack([where[:, 0] / SCALE, rng.uniform(-1, 1, len(where))], 1)
    return dict(
        observations=np.concatenate([where, noise], 1).astype(number),
        actions=actions.astype(number),
        rewards=where[:, 1].astype(number),
    )


def flags(lengths, chosen):
    """True at the last step of the chosen episodes."""
    out = np.zeros(sum(lengths), bool)
    out[(np.cumsum(lengths) - 1)[list(chosen)]] = True
    return out


def write(path, arrays):
    """Nested names become groups; arrays are compressed as D4RL compresses them, scalars are
    not.
    """
    with h5py.File(path, "w") as file:
        for name, x in arrays.items():
            file.create_dataset(name, data=x, compression="gzip" if np.ndim(x) else None)
    return path


def assert_each_transition_is_one(t):
    """s, a, r and s' of every transition belong together, and episodes are whole."""
    s, after, ends = t.states[t.state], t.states[t.next_state], t.terminals
    torch.testing.assert_close(t.actions[:, 0] * SCALE, s[:, 0], rtol=0, atol=0)
    torch.testing.assert_close(t.rewards, s[:, 1], rtol=0, atol=0)
    torch.testing.assert_close(after[~ends, 0], s[~ends, 0], rtol=0, atol=0)
    torch.testing.assert_close(after[~ends, 1], s[~ends, 1] + 1, rtol=0, atol=0)
    assert len(torch.unique(t.episode)) == len(torch.unique(s[:, 0])) == int(t.episode.max()) + 1
    assert len(torch.unique(t.states, dim=0)) == len(t.states)  # each distinct state once
    assert set(t.state.tolist()) | set(t.next_state.tolist()) == set(range(len(t.states)))


def counts(data):
    """(transitions, episodes, terminals, cuts, states) of a dataset; a cut is the end of an episode
    that is no terminal.
    """
    t = data.transitions
    episodes, ends = int(t.episode.max()) + 1, int(t.terminals.sum())
    return len(t.actions), episodes, ends, episodes - ends, len(t.states)


POLICY = {
    f"metadata/policy/{layer}/{part}": np.zeros(shape, np.float32)
    for layer, n in (("fc0", S), ("fc1", 4))
    for part, shape in (("weight", (4, n)), ("bias", (4,)))
}
POLICY |= {
    "metadata/policy/nonlinearity": b"relu",
    "metadata/policy/output_distribution": b"tanh_gaussian",
}


def infos(m, number=np.float32):
    return {
        "infos/qpos": np.zeros((m, 6), number),
        "infos/qvel": np.zeros((m, 6), number),
        "infos/action_log_probs": np.zeros(m, number),
    }


def test_locomotion_v0_has_no_timeouts_and_is_cut_by_length(tmp_path):
    """Lengths 6, 4, 6, 3: falls after 4 and 3 steps, the horizon of 6 twice. 19 steps, 2 ends, 2
    cuts, so 17 transitions of 19 states.
    """
    lengths = [6, 4, 6, 3]
    path = write(
        tmp_path / "hopper_medium.hdf5", flat(lengths) | dict(terminals=flags(lengths, [1, 3]))
    )
    with pytest.raises(
        DataError,
        match="expected also timeouts; add them .* or give a rule without timeouts, such "
        "as cuts='lengths:1000'",
    ):
        read_d4rl(path)
    data = read_d4rl(path, S, A, cuts="lengths:6")
    assert counts(data) == (17, 4, 2, 2, 19)
    assert_each_transition_is_one(data.transitions)


def test_locomotion_v2_with_infos_metadata_and_next_observations(tmp_path):
    """Lengths 5, 3, 5, 2: one fall, two time-outs, and a last episode that the file breaks off: 15
    - 3 transitions, and one state more, that after the fall.
    """
    lengths = [5, 3, 5, 2]
    x = flat(lengths)
    after = x["observations"].copy()
    after[:, 1] += 1
    after[:-1][np.diff(x["observations"][:, 0]) == 0] = x["observations"][1:][
        np.diff(x["observations"][:, 0]) == 0
    ]
    m = len(after)
    path = write(
        tmp_path / "hopper_medium-v2.hdf5",
        x
        | infos(m)
        | POLICY
        | {
            "terminals": flags(lengths, [1]),
            "timeouts": flags(lengths, [0, 2]),
            "next_observations": after,
            "metadata/algorithm": b"SAC",
            "metadata/iteration": np.int32(1),
        },
    )
    data = read_d4rl(path, S, A)
    assert counts(data) == (12, 4, 1, 3, 16)
    assert_each_transition_is_one(data.transitions)
    t = data.transitions
    assert t.states[t.next_state[t.terminals]][:, :2].tolist() == [[1, 3]]
    assert "the last step is neither terminal nor time-out: its episode was cut there" in data.notes


def test_medium_replay_in_float64_with_columns_and_one_step_episodes(tmp_path):
    """Lengths 1, 4, 1, 1, 3: the one-step episodes 0 and 2 are cut and vanish; 3 ends in a fall and
    stays. 10 steps: 3 + 1 + 3.
    """
    lengths = [1, 4, 1, 1, 3]
    x = flat(lengths, np.float64)
    path = write(
        tmp_path / "hopper_medium_replay-v2.hdf5",
        x
        | infos(10, np.float64)
        | {
            "rewards": x["rewards"][:, None],
            "terminals": flags(lengths, [3, 4]),
            "timeouts": flags(lengths, [0, 1, 2]),
            "metadata/algorithm": b"SAC",
            "metadata/iteration": np.int32(1),
        },
    )
    data = read_d4rl(path, S, A)
    assert counts(data) == (7, 3, 2, 1, 8)
    assert_each_transition_is_one(data.transitions)
    assert (
        "dropped the last transition of 3 episodes that were cut, not ended: the "
        "next action is unknown (2 of them had no other step)" in data.notes
    )
    assert (
        data.transitions.states.dtype
        == data.transitions.actions.dtype
        == data.transitions.rewards.dtype
        == torch.float32
    )


def test_kitchen_v0_s_infos_are_a_vector_and_its_timeouts_are_not_asked_for(tmp_path):
    """Lengths 4, 6, 5 with the horizon 6: an end, a cut by length, an end; the file's own timeouts
    would say otherwise.
    """
    lengths = [4, 6, 5]
    path = write(
        tmp_path / "kitchen.hdf5",
        flat(lengths)
        | dict(terminals=flags(lengths, [0, 2]), timeouts=np.zeros(15, bool), infos=np.arange(15)),
    )
    data = read_d4rl(path, S, A, cuts="lengths:6")
    assert counts(data) == (14, 3, 2, 1, 15)
    assert_each_transition_is_one(data.transitions)


def test_antmaze_v0_has_goals_in_its_infos_and_good_timeouts(tmp_path):
    """Lengths 5, 3, 4: time-out, goal, broken off."""
    lengths = [5, 3, 4]
    path = write(
        tmp_path / "antmaze.hdf5",
        flat(lengths)
        | {
            "terminals": flags(lengths, [1]),
            "timeouts": flags(lengths, [0]),
            "infos/goal": np.zeros((12, 2), np.float32),
            "infos/qpos": np.zeros((12, 15), np.float32),
            "infos/qvel": np.zeros((12, 14), np.float32),
        },
    )
    data = read_d4rl(path, S, A)
    assert counts(data) == (10, 3, 1, 2, 12)
    assert_each_transition_is_one(data.transitions)


def human(lengths):
    """Adroit v0: a terminal at the last step of every demonstration, and a time-out after every
    third step, where nothing ends.
    """
    timeouts = np.zeros(sum(lengths), bool)
    timeouts[2::3] = True
    return flat(lengths) | dict(terminals=flags(lengths, range(len(lengths))), timeouts=timeouts)


def test_adroit_v0_human_never_ends_and_is_cut_where_terminals_stand(tmp_path):
    """Three demonstrations of 7, 5 and 4 steps: 6 + 4 + 3 transitions, no end."""
    path = write(tmp_path / "door.hdf5", human([7, 5, 4]) | infos(16))
    data = read_d4rl(path, S, A, cuts="terminals")
    assert counts(data) == (13, 3, 0, 3, 16)
    assert_each_transition_is_one(data.transitions)
    assert (
        "episodes end by the rule 'terminals': 3 cuts; 3 terminals of the file do "
        "not end the decision process" in data.notes
    )


def test_pen_human_v0_is_cut_at_its_one_length_though_a_terminal_is_missing(tmp_path):
    """Four demonstrations of 5 steps, and a terminal at the end of only two."""
    lengths = [5] * 4
    path = write(tmp_path / "pen.hdf5", human(lengths) | dict(terminals=flags(lengths, [0, 2])))
    data = read_d4rl(path, S, A, cuts="terminals:5")
    assert counts(data) == (16, 4, 0, 4, 20)
    assert_each_transition_is_one(data.transitions)


def test_door_cloned_v0_is_two_files_in_one(tmp_path):
    """Rows 0 to 11: recordings of 5, 4 and a broken 3, ended by terminals.

    Rows 12 to 26: rollouts of 5, one wrongly called ended.
    """
    lengths = [5, 4, 3, 5, 5, 5]
    terminals = flags(lengths, [0, 1]) | flags(lengths, [4])
    path = write(
        tmp_path / "door.hdf5",
        flat(lengths) | dict(terminals=terminals, timeouts=np.zeros(27, bool)),
    )
    data = read_d4rl(path, S, A, cuts="terminals@12 fixed:5")
    assert counts(data) == (21, 6, 0, 6, 27)
    assert_each_transition_is_one(data.transitions)


def test_pen_cloned_v0_keeps_the_drops_of_its_second_half(tmp_path):
    """Rows 0 to 9: recordings of 5.

    Rows 10 to 18: rollouts of 4, 2 (dropped), 3 (broken off): one end.
    """
    lengths = [5, 5, 4, 2, 3]
    path = write(
        tmp_path / "pen.hdf5",
        flat(lengths) | dict(terminals=flags(lengths, [0, 3]), timeouts=np.zeros(19, bool)),
    )
    data = read_d4rl(path, S, A, cuts="terminals:5@10 lengths:4")
    assert counts(data) == (15, 5, 1, 4, 19)
    assert_each_transition_is_one(data.transitions)


@pytest.mark.parametrize("shift", [-1, 1])
@pytest.mark.parametrize("rule, which", [("timeouts", "timeouts"), ("terminals", "terminals")])
def test_a_cut_one_step_off_would_be_seen(shift, rule, which):
    """What the tests above check fails when the same arrays are cut one step before or after."""
    lengths = [6, 5, 7]
    given = dict(terminals=np.zeros(18, bool), timeouts=np.zeros(18, bool)) | {
        which: flags(lengths, range(3))
    }
    right, _ = to_transitions(**flat(lengths), **given, cuts=rule)
    assert_each_transition_is_one(right)
    wrong, _ = to_transitions(
        **flat(lengths), **given | {which: np.roll(given[which], shift)}, cuts=rule
    )
    with pytest.raises(AssertionError):
        assert_each_transition_is_one(wrong)


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_length_one_step_off_would_be_seen(shift):
    lengths = [6, 6, 6]
    wrong, _ = to_transitions(
        **flat(lengths), terminals=np.zeros(18, bool), cuts=f"lengths:{6 + shift}"
    )
    with pytest.raises(AssertionError):
        assert_each_transition_is_one(wrong)


def test_a_length_counts_from_the_last_end_and_a_terminal_at_the_horizon_stays_one():
    """Lengths 3, 4, 4, 2 with the horizon 4: the second episode is cut there, the third ends
    there.
    """
    lengths = [3, 4, 4, 2]
    t, _ = to_transitions(**flat(lengths), terminals=flags(lengths, [0, 2, 3]), cuts="lengths:4")
    assert t.episode.tolist() == [0] * 3 + [1] * 3 + [2] * 4 + [
        3
    ] * 2 and t.terminals.nonzero().flatten().tolist() == [2, 9, 11]
    assert_each_transition_is_one(t)


@pytest.mark.parametrize(
    "rule, message",
    [
        ("", "expected parts"),
        ("timeout", "expected timeouts, lengths:N"),
        ("lengths", "expected timeouts, lengths:N"),
        ("lengths:0", "expected timeouts, lengths:N"),
        ("timeouts:5", "expected timeouts, lengths:N"),
        ("fixed", "expected timeouts, lengths:N"),
        ("terminals@5", "no @row in the last"),
        ("terminals fixed:5", "rising @rows"),
        ("terminals@9 fixed:5@4 lengths:2", "rising @rows"),
        ("terminals@18 fixed:5", "arrays: saw 18 steps, expected more than 18"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(rule, message):
    with pytest.raises(DataError, match=re.escape(message)):
        to_transitions(
            **flat([18]), terminals=np.zeros(18, bool), timeouts=np.zeros(18, bool), cuts=rule
        )


def test_every_rule_of_the_task_table_can_be_read():
    from arq_core.config.tasks import tasks

    rules = {t.cuts for t in tasks().values() if t.cuts}
    assert len(rules) > 3 and all(cuts.parse(rule) for rule in rules)


def test_arrays_of_a_caller_are_left_as_they_were():
    lengths = [6, 1, 7]
    given = flat(lengths) | dict(terminals=flags(lengths, [0]), timeouts=flags(lengths, [1, 2]))
    before = {name: x.copy() for name, x in given.items()}
    for rule in ("timeouts", "terminals", "lengths:3", "fixed:4"):
        to_transitions(**given, cuts=rule)
        for name, x in given.items():
            np.testing.assert_array_equal(x, before[name])


def test_memory_that_may_be_overwritten_changes_nothing():
    lengths = [6, 1, 7, 1, 2]
    given = flat(lengths) | dict(
        terminals=flags(lengths, [0, 4]), timeouts=flags(lengths, [1, 2, 3])
    )
    kept, _ = to_transitions(**given)
    reused, _ = to_transitions(**given, overwrite=True)
    assert kept.fingerprint() == reused.fingerprint() and len(kept.states) == 15


READ = """
import re, sys
import torch                                       # what is imported counts for nothing
from arq_core.datasets.readers.d4rl import read_d4rl
def memory(which):
    return 1024 * int(re.search(which + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
before = memory("VmRSS")
data = read_d4rl(sys.argv[1])
last = int(data.transitions.episode.max())
print(memory("VmHWM") - before, len(data.transitions.actions), last + 1)
"""


@pytest.mark.slow(reason="writes and reads files of two million steps")
@pytest.mark.parametrize("with_next", [False, True])
def test_two_million_steps_need_at_most_twice_the_memory_of_the_file_s_arrays(tmp_path, with_next):
    """Of hopper's shape, with episodes of 999 steps, every tenth of one step: their states are
    dropped, so that arrays must be packed.
    """
    m, cycle = 2_000_000, 1000
    rng = np.random.default_rng(0)
    timeouts = np.zeros(m, bool)
    timeouts[998::cycle] = timeouts[999::cycle] = True
    arrays = dict(
        observations=rng.normal(size=(m, 11)).astype(np.float32),
        actions=rng.uniform(-1, 1, (m, 3)).astype(np.float32),
        rewards=rng.normal(size=m).astype(np.float32),
        terminals=np.zeros(m, bool),
        timeouts=timeouts,
    )
    if with_next:
        arrays["next_observations"] = np.roll(arrays["observations"], -1, axis=0)
    with h5py.File(tmp_path / "large.hdf5", "w") as file:
        for name, x in arrays.items():
            file[name] = x
    held = sum(x.nbytes for x in arrays.values())
    del arrays
    out = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "large.hdf5")],
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout
    used, transitions, episodes = map(int, out.split())
    assert (transitions, episodes) == (998 * m // cycle, m // cycle)
    assert used <= 2 * held, f"{used / held:.2f} times the {held:,} bytes of the file's arrays"
