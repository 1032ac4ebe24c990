"""The readers against damaged and hostile files: each is read right or refused by one DataError, in
bounded memory; nothing is written.

The cases run in worker processes (fuzzing.run): one that crashes, hangs, grows or does what no
reader may fails the test by its number.
"""

import io
import pickle
import struct

import fuzzing
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arq_core.algorithm.types import DataError
from arq_core.datasets.readers.d4rl import read_d4rl
from arq_core.datasets.readers.demos import read_demos

LAYOUTS = ("d4rl", "robomimic", "minari")
QUICK, LONG = (
    dict(d4rl=60, robomimic=50, filtered=40, minari=60, demos=300),
    dict(d4rl=30_000, robomimic=20_000, filtered=20_000, minari=20_000, demos=200_000),
)


def check(function, cases, folder):
    seen, failures = fuzzing.run(function, cases, folder)
    assert not failures, "\n".join(map(str, failures))
    assert sum(seen.values()) == len(cases)
    return seen


@pytest.mark.parametrize("layout", QUICK)
def test_files_with_flipped_bytes_are_read_or_refused(layout, tmp_path):
    seen = check(fuzzing.mutation, [(layout, seed) for seed in range(QUICK[layout])], tmp_path)
    # the defects reach both the description and the data
    assert min(seen["read"], seen["refused"]) > QUICK[layout] / 20


@pytest.mark.slow(reason="reads 290,000 files")
@pytest.mark.parametrize("layout", QUICK)
def test_very_many_files_with_flipped_bytes_are_read_or_refused(layout, tmp_path):
    check(
        fuzzing.mutation, [(layout, seed) for seed in range(10**6, 10**6 + LONG[layout])], tmp_path
    )


# Every field of D4RL's layout, and one of each kind of the others'.
FIELDS = [
    *(("d4rl", name) for name in fuzzing.d4rl_fields(np.random.default_rng(0))),
    *(
        ("robomimic", f"data/demo_0/{name}")
        for name in ("obs/object", "next_obs/object", "actions", "rewards", "dones")
    ),
    *(("minari", f"episode_0/{name}") for name in ("observations", "rewards", "terminations")),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_field_that_is_a_trap_is_refused(layout, tmp_path):
    cases = [(*field, what) for field in FIELDS if field[0] == layout for what in fuzzing.HOSTILE]
    check(fuzzing.hostile, cases, tmp_path)


# Pickles


def bombs(folder):
    """Pickles that ask for what no demonstration needs."""
    canary = str(folder / "executed").encode()
    number = lambda n: b"\x8a\x08" + n.to_bytes(8, "little")  # LONG1
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
    deep = lambda n: b"N" + b"\x85" * n
    # a tuple of the last one, twice
    doubled = b"N" + b"q\x01h\x01\x86" * 60
    return {
        "os.system": b"cos\nsystem\n(X%btR."
        % (struct.pack("<I", len(canary) + 6) + b"touch " + canary),
        "builtins.eval": b"c__builtin__\neval\n(X\x01\0\0\0" + b"1tR.",
        "numpy's own loader": b"cnumpy\nload\n(X\x01\0\0\0" + b"atR.",
        "an attribute of an allowed name": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x93.",
        "an array of 10^9 numbers without data": b"]("
        + array
        + b"("
        + number(10**9)
        + b"tX\x02\0\0\0f8tRe.",
        "ndarray called": b"cnumpy\nndarray\n((" + number(10**9) + b"ttR.",
        "a memo of 2^32 places": b"]r\xff\xff\xff\xff.",
        "bytes of 2^40": b"\x8e" + (2**40).to_bytes(8, "little") + b"a.",
        "bytes of 2^31": b"B" + (2**31).to_bytes(4, "little") + b"a.",
        "text of 2^32 - 1": b"X\xff\xff\xff\xffa.",
        "a frame of 2^62": b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"].",
        "a number of 10^5 digits": b"L" + b"9" * 10**5 + b"L\n.",
        "a persistent id": b"Pid\n.",
        "a nested persistent id": b"](}Pid\nQe.",
        "an extension": b"\x82\x01.",
        "an instance": b"(ios\nsystem\n.",
        "an object": b"(cos\nsystem\no.",
        "lists, 10^6 deep": b"]" * 10**6 + b"a" * (10**6 - 1) + b".",
        "marks, 10^6 deep": b"(" * 10**6 + b"l.",
        "tuples as a key, 10^5 deep": b"}" + deep(10**5) + b"Ns.",
        "tuples as a key, 10^6 deep, many": b"}(" + deep(10**6) + b"Nu.",
        "a key of 2^60 tuples": b"}" + doubled + b"Ns.",
        "a list of a list of itself": b"]q\0h\0ah\0a.",
        "a shape of 2^60 tuples": b"]("
        + array
        + b"K\0\x85X\x01\0\0\0btR(K\x01"
        + doubled
        + b"cnumpy\ndtype\n(X\x02\0\0\0f8K\0K\1tR"
        b"\x89C\x08abcdefghtbe.",
        "a changed class": b"cnumpy\ndtype\n}X\x04\0\0\0nameX\x01\0\0\0as" + b"b.",
        "nothing": b"",
        "only an end": b".",
        "empty list": b"].",
        "text file": b"hello\n",
    }


def test_a_pickle_that_is_a_trap_is_refused_and_nothing_runs(tmp_path):
    data = bombs(tmp_path)
    seen, failures = fuzzing.run(
        fuzzing.given_bytes, [("demos", name, x) for name, x in data.items()], tmp_path
    )
    assert not failures, [(name, what) for (_, name, _), what in failures]
    assert seen["refused"] == len(data) and not (tmp_path / "executed").exists()


def test_the_canary_would_sing(tmp_path):
    """The test above can fail: the same bytes do run under the plain unpickler."""
    pickle.Unpickler(io.BytesIO(bombs(tmp_path)["os.system"])).load()
    assert (tmp_path / "executed").exists()


def test_one_array_many_times_does_not_fill_the_memory(tmp_path):
    large = fuzzing.demo(np.random.default_rng(0)) | dict(
        observations=np.zeros((20_000, fuzzing.S)),
        actions=np.zeros((20_000, fuzzing.A)),
        rewards=np.zeros(20_000),
    )
    path = tmp_path / "demos.pickle"
    path.write_bytes(pickle.dumps([large] * 1000, 3))
    with pytest.raises(DataError, match="the same arrays many times"):
        read_demos(path, fuzzing.S, fuzzing.A, dict(qpos=(4,)))


# Any types and shapes

KINDS = st.sampled_from(["f2", "f4", "f8", ">f8", "i1", "u1", "i8", "u8", "?", "c8", "S3", "V4"])
SHAPES = st.one_of(
    st.just((fuzzing.T, fuzzing.S)),
    st.just((fuzzing.T,)),
    st.lists(st.integers(0, 25), max_size=3).map(tuple),
)
VALUES = st.sampled_from([0, 1, 0.5, -1, 2, np.nan, np.inf, -np.inf, 1e39, 1e300])


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(
        st.sampled_from(list(FIELDS[i][1] for i in range(5))),
        st.tuples(KINDS, SHAPES, VALUES),
        min_size=1,
    )
)
def test_fields_of_any_type_and_shape_are_read_right_or_refused(tmp_path, changes):
    right = fuzzing.d4rl_fields(np.random.default_rng(0))
    with np.errstate(all="ignore"):
        given_fields = right | {
            name: np.full(shape, value if kind not in ("S3", "V4") else 0).astype(kind)
            for name, (kind, shape, value) in changes.items()
        }
    path = fuzzing.write("d4rl", tmp_path / "own.hdf5", given_fields)
    try:
        t = read_d4rl(path).transitions
    except DataError as error:
        assert str(error).startswith(str(path))
        return
    expected = {
        k: np.asarray(v, np.float32).reshape(
            fuzzing.T, *v.shape[1:][: 1 if k in ("observations", "actions") else 0]
        )
        for k, v in given_fields.items()
    }
    last = np.arange(fuzzing.T) == fuzzing.T - 1
    rows = np.flatnonzero(
        expected["terminals"].astype(bool) | ~(expected["timeouts"].astype(bool) | last)
    )
    np.testing.assert_array_equal(t.states[t.state], expected["observations"][rows])
    np.testing.assert_array_equal(t.actions, expected["actions"][rows].clip(-1, 1))
    np.testing.assert_array_equal(t.rewards, expected["rewards"][rows])
