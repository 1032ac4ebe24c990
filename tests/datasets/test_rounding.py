"""arq_core.datasets.readers.narrow: numbers that float32 cannot tell apart are refused or counted,
in every layout and in arrays; ordinary rounding passes in silence.
"""

import fuzzing
import h5py
import numpy as np
import pytest

from arq_core.algorithm.types import DataError
from arq_core.datasets.own import from_arrays
from arq_core.datasets.readers import narrow
from arq_core.datasets.readers.narrow import narrowed

K = np.arange(200)
RNG = np.random.default_rng(0)
STUCK = np.cumsum(RNG.normal(size=2000) * 0.1) + 20
STUCK[1000:] = STUCK[1000] + 1e-7 * RNG.normal(size=1000)

LOST = {
    "seconds since 1970": 1.7e9 + 0.01 * K,
    "milliseconds since 1970": 1.7e12 + 10 * K,
    "nanoseconds as integers": 1_700_000_000_000_000_000 + 1000 * K,
    "nanoseconds beyond int64": np.uint64(2**63) + K.astype(np.uint64),
    "below zero": -1.7e9 + 0.01 * K,
    "easting": 5e5 + 0.01 * K,
    "places of a map, a jump at each of ten starts": 5.8e6
    + np.repeat(RNG.uniform(0, 1000, 10), 200)
    + np.tile(0.01 * K, 10),
    "latitude": 52.52 + 1e-7 * K,
    "a counter above 2^24": 2**24 + K,
    "in no order": RNG.permutation(1.7e9 + 0.01 * K),
    "the start of each episode": np.repeat(1.7e9 + np.arange(10.0), 50),
    "in extended precision": np.longdouble(1.7e9) + 0.01 * K,
}
KEPT = {
    "normal": RNG.normal(size=20_000),
    "a counter below 2^24": 2**24 - 200 + K,
    "seconds since the start": 1000 + 0.01 * K,
    "metres of a map": 5e5 + K,
    "constant": np.full(200, 0.1),
    "one of ten goals, up to the rounding of float64": np.repeat(RNG.uniform(1e6, 2e6, 10), 50)
    * (1 + 1e-16 * RNG.normal(size=500)),
    "hours": np.repeat(1.7e9 + 3600.0 * np.arange(10), 50),
    "spikes": np.where(RNG.random(2000) < 0.05, 1e6, 1) * (1 + 1e-3 * RNG.random(2000)),
    "float16": RNG.normal(size=200).astype(np.float16),
    "one row": np.array([1.7e9 + 0.1]),
}
NOTED = {
    "at rest for half of the time": STUCK,
    "the last number of a quaternion": 1 - 1e-11 * RNG.random(2000),
    "small and close together": 1 + 1e-9 * K,
}


def with_column(x):
    """[n 3] float64 or wider: nothing, x, noise."""
    return np.stack([np.zeros(len(x), x.dtype), x, (np.arange(len(x)) % 7).astype(x.dtype)], 1)


@pytest.mark.parametrize("name", LOST)
def test_a_column_whose_changes_float32_cannot_hold_is_refused_by_its_number(name):
    with pytest.raises(DataError, match=r"field: saw column 1 with [\d,]+ changes .* subtract"):
        narrowed(with_column(LOST[name]), "field")[1].notes()


@pytest.mark.parametrize("name", LOST)
def test_it_is_refused_in_however_many_pieces_it_comes(name, monkeypatch):
    monkeypatch.setattr(narrow, "PIECE", 3)
    rounding, wide = narrow.Rounding("field"), with_column(LOST[name])
    for i in range(0, len(wide), 5):
        rounding.add(wide[i : i + 5], wide[i : i + 5].astype(np.float32))
    whole = narrowed(wide, "field")[1]
    np.testing.assert_array_equal(rounding.lost, whole.lost)
    with pytest.raises(DataError, match="column 1"):
        rounding.notes()


@pytest.mark.parametrize("name", KEPT)
def test_ordinary_rounding_passes_in_silence(name):
    assert narrowed(with_column(KEPT[name]), "field")[1].notes() == []


@pytest.mark.parametrize("name", NOTED)
def test_trembling_below_what_simulators_resolve_is_counted(name):
    (note,) = narrowed(with_column(NOTED[name]), "field")[1].notes()
    assert note.startswith("rounded to float32: field: column 1 with ")


def arrays(steps=200):
    ends = np.arange(steps) % 50 == 49
    states = RNG.normal(size=(steps, 3))
    return dict(
        observations=states,
        actions=RNG.uniform(-1, 1, (steps, 2)),
        rewards=RNG.normal(size=steps),
        terminals=np.zeros(steps, bool),
        timeouts=ends,
        next_observations=np.roll(states, -1, 0),
    )


@pytest.mark.parametrize("field", ["observations", "rewards", "next_observations"])
@pytest.mark.parametrize("name", ["seconds since 1970", "nanoseconds as integers", "easting"])
def test_arrays_given_in_python_are_asked_too(field, name):
    x = LOST[name] if field == "rewards" else with_column(LOST[name])
    with pytest.raises(DataError, match=f"^{field}: saw .*float32 keeps"):
        from_arrays(**arrays() | {field: x})


def test_a_note_of_arrays_is_with_the_data():
    states = with_column(NOTED["small and close together"])
    data = from_arrays(**arrays() | dict(observations=states, next_observations=None))
    assert "rounded to float32: observations: column 1" in data.notes[-1]


FIELDS = {
    "d4rl": ("observations", "rewards", "next_observations"),
    "robomimic": (
        "data/demo_{}/obs/object",
        "data/demo_{}/next_obs/object",
        "data/demo_{}/rewards",
    ),
    "minari": ("episode_{}/observations", "episode_{}/rewards"),
}


def rewrite(path, field, values, **stored):
    """Puts values(n) in every column of the field, in every episode."""
    with h5py.File(path, "a") as file:
        if field == "next_observations":
            file[field] = np.zeros((fuzzing.T, fuzzing.S))
        for name in {field.format(i) for i in range(2)}:
            rows, *columns = file[name].shape
            del file[name]
            x = values(rows).reshape(-1, *([1] * len(columns)))
            file.create_dataset(name, data=np.tile(x, (1, *columns)), **stored)


@pytest.mark.parametrize("chunks", [None, True])
@pytest.mark.parametrize("name", ["seconds since 1970", "nanoseconds as integers", "easting"])
@pytest.mark.parametrize("layout, field", [(k, f) for k, names in FIELDS.items() for f in names])
def test_every_layout_is_asked(layout, field, name, chunks, tmp_path):
    path = fuzzing.write(layout, tmp_path / fuzzing.NAMES[layout])
    rewrite(path, field, lambda n: LOST[name][:n], chunks=chunks)
    with pytest.raises(DataError, match=r"field '[\w/]*(obs|rewards).*: saw .*float32 keeps"):
        fuzzing.read(layout, path)


@pytest.mark.parametrize("layout", FIELDS)
def test_large_numbers_that_are_far_apart_are_read_in_every_layout(layout, tmp_path):
    path = fuzzing.write(layout, tmp_path / fuzzing.NAMES[layout])
    rewrite(path, FIELDS[layout][-1], lambda n: 1.7e9 + 1e5 * RNG.integers(0, 9, n))
    assert not [note for note in fuzzing.read(layout, path).notes if "float32" in note]


@pytest.mark.parametrize("field", ["observations", "actions", "rewards", "terminals", "timeouts"])
@pytest.mark.parametrize("given", [lambda x: x, list])
def test_masked_entries_are_not_known_and_so_refused(field, given):
    x = arrays()[field]
    masked = np.ma.masked_array(x, mask=np.arange(x.size).reshape(x.shape) % 90 == 7)
    with pytest.raises(DataError, match=f"^{field}: saw {masked.mask.sum()} masked entries"):
        from_arrays(**arrays() | {field: given(masked)})


def test_a_masked_array_without_masked_entries_is_an_array():
    x = arrays()
    masked = {name: np.ma.masked_array(v) for name, v in x.items()}
    assert from_arrays(**masked).sha256 == from_arrays(**x).sha256
