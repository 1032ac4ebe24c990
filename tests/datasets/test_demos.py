"""arq_core.datasets.readers.demos: no pickle runs code, and every damaged demonstration is named by
index and field.
"""

import os
import pickle

import numpy as np
import pytest

from arq_core.algorithm.types import DataError
from arq_core.datasets.readers.demos import read_demos

S, A, T = 3, 2, 5
SHAPES = dict(qpos=(4,))


def demo(**changes):
    rng = np.random.default_rng(0)
    return (
        dict(
            observations=rng.normal(size=(T, S)),
            actions=rng.normal(size=(T, A)),
            rewards=rng.normal(size=T),
            init_state_dict=dict(qpos=np.arange(4.0)),
        )
        | changes
    )


def write(path, items, protocol=3):
    path.write_bytes(pickle.dumps(items, protocol=protocol))
    return path


class Evil:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_what_was_written_or_refuses(tmp_path, protocol):
    """Protocol 3 is that of the published files; 2 needs _codecs.encode, 5 _frombuffer, and those
    are refused.
    """
    path = write(tmp_path / "d.pickle", [demo(), demo()], protocol)
    if protocol in (2, 5):
        with pytest.raises(DataError, match="expected nothing but numpy arrays"):
            read_demos(path, S, A, SHAPES)
        return
    read = read_demos(path, S, A, SHAPES)
    assert len(read) == 2
    for field in ("observations", "actions", "rewards"):
        np.testing.assert_array_equal(getattr(read[1], field), demo()[field])
    np.testing.assert_array_equal(read[1].init_state["qpos"], np.arange(4.0))


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize(
    "hide",
    [lambda e: e, lambda e: [demo(rewards=e)], lambda e: [demo(rewards=np.array([e], object))]],
)
def test_malicious_pickle_is_refused_and_not_executed(tmp_path, protocol, hide):
    target = tmp_path / "executed"
    path = write(tmp_path / "d.pickle", hide(Evil(target)), protocol)
    with pytest.raises(DataError, match=r"d.pickle: saw a pickle that asks for (posix|nt).mkdir"):
        read_demos(path, S, A, SHAPES)
    assert not target.exists()


def test_malicious_pickle_would_execute_without_the_restriction(tmp_path):
    """The test above can fail: the same bytes do run under the plain unpickler."""
    target = tmp_path / "executed"
    with open(write(tmp_path / "d.pickle", Evil(target)), "rb") as file:
        pickle.Unpickler(file).load()
    assert target.exists()


def test_truncated_pickle_names_file_and_size(tmp_path):
    path = write(tmp_path / "d.pickle", [demo()])
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(
        DataError, match="d.pickle: saw 300 bytes that cannot be unpickled.*get the file again"
    ):
        read_demos(path, S, A, SHAPES)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="absent.pickle: saw no such file"):
        read_demos(tmp_path / "absent.pickle", S, A, SHAPES)


@pytest.mark.parametrize(
    "bad, message",
    [
        (demo(rewards=np.zeros(T - 1)), r"field 'rewards': saw shape \(4,\), expected \(5,\)"),
        (
            demo(actions=np.zeros((T, A + 1))),
            r"field 'actions': saw shape \(5, 3\), expected \('any', 2\)",
        ),
        (demo(actions=np.zeros((0, A))), r"field 'actions': saw shape \(0, 2\)"),
        (
            demo(observations=np.zeros((T, S + 1))),
            r"field 'observations': saw shape \(5, 4\), expected \(5, 3\)",
        ),
        (
            demo(observations=np.where(np.arange(S) == 2, np.nan, np.zeros((T, 1)))),
            r"field 'observations': saw nan at index \(0, 2\)",
        ),
        (demo(rewards=np.full(T, np.inf)), r"field 'rewards': saw inf at index \(0,\)"),
        (demo(rewards=[0.0] * T), "field 'rewards': saw an object of type list"),
        (demo(rewards=np.array(["a"] * T)), "field 'rewards': saw an array of <U1"),
        (demo(init_state_dict={}), "init_state_dict: saw the fields , expected a field 'qpos'"),
        (
            demo(init_state_dict=dict(qpos=np.zeros(3))),
            r"field 'qpos': saw shape \(3,\), expected \(4,\)",
        ),
        (
            {k: v for k, v in demo().items() if k != "actions"},
            "saw the fields observations, rewards, init_state_dict, expected a field 'act",
        ),
        (7, "saw an object of type int"),
    ],
)
def test_damaged_demo_is_named_by_index_and_field(tmp_path, bad, message):
    path = write(tmp_path / "d.pickle", [demo(), bad])
    with pytest.raises(DataError, match="d.pickle: demo 1.*" + message):
        read_demos(path, S, A, SHAPES)


def test_not_a_list(tmp_path):
    with pytest.raises(DataError, match="saw an object of type dict, expected a list"):
        read_demos(write(tmp_path / "d.pickle", demo()), S, A, SHAPES)
