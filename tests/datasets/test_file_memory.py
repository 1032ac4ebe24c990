"""What fits into memory is read however small its file is, and what does not is refused before it
is read: only the fields that are used count.
"""

import fuzzing
import h5py
import numpy as np
import pytest

from arq_core.algorithm.types import DataError
from arq_core.datasets.own import read_own
from arq_core.datasets.readers import guards

M, S, A = 100_000, 441, 4


def one_hot(file, name, rows=M, width=S, dtype="f4", chunk=4096):
    """A one-hot field, written piece by piece: a chunk of zeros takes a few bytes."""
    field = file.create_dataset(
        name, (rows, width), dtype, chunks=(chunk, width), compression="gzip"
    )
    for i in range(0, rows, chunk):
        n = min(chunk, rows - i)
        piece = np.zeros((n, width), dtype)
        piece[np.arange(n), (np.arange(i, i + n) // 7) % width] = 1
        field[i : i + n] = piece


def flat(file, rows=M):
    """The other fields of D4RL's layout, hardly any bytes."""
    file.create_dataset("actions", data=np.zeros((rows, A), "f4"), compression="gzip")
    for name in ("rewards", "terminals", "timeouts"):
        file.create_dataset(name, data=np.zeros(rows, "f4"), compression="gzip")


def test_one_hot_states_that_shrink_a_hundredfold_are_read(tmp_path):
    path = tmp_path / "sparse.hdf5"
    with h5py.File(path, "w") as file:
        one_hot(file, "observations")
        flat(file)
    assert 4 * M * S > guards.MOST_INFLATED * path.stat().st_size + guards.SMALL
    t = read_own(path).transitions
    assert t.states.shape == (M, S) and t.states.sum() == M
    assert (t.states.argmax(1) == t.states.new_tensor(np.arange(M) // 7 % S)).all()


@pytest.mark.parametrize("dtype", ["u1", "f8"])
def test_so_are_those_of_robomimic_s_layout(dtype, tmp_path):
    rows, width = 30_000, 600
    path = fuzzing.write("robomimic", tmp_path / "low_dim.hdf5")
    with h5py.File(path, "a") as file:
        del file["data/demo_0"], file["mask"]
        demo = file["data"].create_group("demo_0")
        one_hot(demo, "obs/object", rows, width, dtype)
        for key in list(fuzzing.KEYS)[:3]:
            demo[f"obs/{key}"] = np.zeros((rows, 1), "f4")
        demo.create_dataset("actions", data=np.zeros((rows, fuzzing.A), "f4"), compression="gzip")
        demo["rewards"] = np.zeros(rows, "f4")
        demo["dones"] = np.arange(rows) == rows - 1
        del file["data/demo_1"]
    assert 4 * rows * width > guards.MOST_INFLATED * path.stat().st_size // 4
    t = read_own(path).transitions
    assert t.states.shape[1] == width + 3 and len(t.state) == rows
    # of one state after the other, each seven times
    assert (t.states[t.state][:, 3:].argmax(1).numpy() == np.arange(rows) // 7 % width).all()


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize(
    "what",
    [
        dict(shape=(10**12, 3), dtype="f4", chunks=(1024, 3)),
        dict(shape=(10**12, 3), dtype="f4", chunks=(1024, 3), fillvalue=1),
        dict(shape=(10**11, 3), dtype="u1", chunks=(1024, 3), compression="gzip"),
        dict(shape=(10**10, 3), dtype="f8"),
    ],
)
def test_a_field_of_terabytes_that_was_never_written_is_refused_where_it_is_used(
    what, used, tmp_path
):
    path = tmp_path / "own.hdf5"
    with h5py.File(path, "w") as file:
        flat(file, 100)
        if used:
            for name in list(file):
                del file[name]
                vector = name != "actions"
                shape = what["shape"][:1] if vector else what["shape"]
                chunks = what.get("chunks")
                kw = what | dict(shape=shape, chunks=chunks and chunks[: len(shape)])
                file.create_dataset(name, **kw)
            file.create_dataset("observations", **what)
        else:
            file["observations"] = np.random.default_rng(0).normal(size=(100, 3))
            file.create_dataset("images", **what)
    if used:
        with pytest.raises(DataError, match=r"never written, which the file's [\d,]+ bytes cannot"):
            read_own(path)
    else:
        assert len(read_own(path).transitions.actions) == 99


@pytest.mark.parametrize("layout", ["d4rl", "robomimic", "minari"])
def test_what_the_machine_cannot_hold_is_refused_before_it_is_read(layout, tmp_path, monkeypatch):
    path = fuzzing.write(layout, tmp_path / fuzzing.NAMES[layout])
    monkeypatch.setattr(guards, "MOST_INFLATED", 0)
    monkeypatch.setattr(guards, "SMALL", 0)
    assert fuzzing.read(layout, path)
    monkeypatch.setattr(guards, "memory", lambda: 500)
    with pytest.raises(
        DataError, match="fits into this machine's 500 bytes; write a file of fewer"
    ):
        fuzzing.read(layout, path)


def test_many_small_fields_that_were_never_written_are_too_many_together(tmp_path):
    """Each of them alone would pass."""
    path = tmp_path / "low_dim.hdf5"
    fuzzing.write("robomimic", path)
    rows = 200_000
    with h5py.File(path, "a") as file:
        for i in range(2, 30):
            demo = file["data"].create_group(f"demo_{i}")
            for key, n in fuzzing.KEYS.items():
                demo.create_dataset(f"obs/{key}", (rows, n), "f4", chunks=(1024, n))
            demo.create_dataset("actions", (rows, fuzzing.A), "f4", chunks=(1024, 2))
            for name in ("rewards", "dones"):
                demo.create_dataset(name, (rows,), "f4", chunks=(1024,))
    with pytest.raises(DataError, match="never written"):
        read_own(path)


@pytest.mark.parametrize("chunks", [None, (20, 3)])
def test_flags_that_were_never_written_are_what_the_file_says_they_are(chunks, tmp_path):
    """A field that was made, and left at its fill value: terminals of a task that never ends."""
    path = fuzzing.write("d4rl", tmp_path / "own.hdf5")
    with h5py.File(path, "a") as file:
        del file["terminals"]
        file.create_dataset("terminals", (fuzzing.T,), bool, chunks=chunks and chunks[:1])
    assert not read_own(path).transitions.terminals.any()


@pytest.mark.parametrize("kind", ["virtual", "external"])
def test_data_in_other_files_are_refused_where_they_are_used_and_left_alone_elsewhere(
    kind, tmp_path
):
    def put(file, name):
        if kind == "virtual":
            fuzzing.virtual(file, name)
        else:
            place = [(fuzzing.other(file), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset(name, (fuzzing.T, fuzzing.S), "f8", external=place)

    path = fuzzing.write("d4rl", tmp_path / "own.hdf5")
    with h5py.File(path, "a") as file:
        put(file, "images")
    assert read_own(path).transitions
    with h5py.File(path, "a") as file:
        del file["observations"]
        put(file, "observations")
    with pytest.raises(DataError, match="observations.*whose data lie in other files"):
        read_own(path)


def test_a_field_by_two_names_counts_by_each(tmp_path, monkeypatch):
    """Names inside a file may lead anywhere: what is read counts, not what it is called."""
    path = fuzzing.write("d4rl", tmp_path / "own.hdf5")
    with h5py.File(path, "a") as file:
        del file["observations"]
        file["hidden/deep"] = np.zeros((fuzzing.T, 1000))
        file["observations"] = h5py.SoftLink("/hidden/deep")
    assert read_own(path).state_dim == 1000
    monkeypatch.setattr(guards, "MOST_INFLATED", 0)
    monkeypatch.setattr(guards, "SMALL", 0)
    monkeypatch.setattr(guards, "memory", lambda: 4 * fuzzing.T * 1000)
    with pytest.raises(DataError, match="'observations': saw fields of .* this machine's"):
        read_own(path)
