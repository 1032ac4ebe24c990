"""Texts in HDF5 files and in Minari's metadata, of every kind that people write them in."""

import json

import fuzzing
import h5py
import numpy as np
import pytest

from arq_core.algorithm.types import DataError
from arq_core.datasets.own import read_own
from arq_core.datasets.readers.minari import read_minari
from arq_core.datasets.readers.robomimic import read_robomimic

# what to write for names: data and the type to store them in
KINDS = {
    "h5py's default": lambda names: dict(data=names),
    "any length, UTF-8": lambda names: dict(data=names, dtype=h5py.string_dtype()),
    "any length, ASCII": lambda names: dict(data=names, dtype=h5py.string_dtype("ascii")),
    "numpy's bytes": lambda names: dict(data=np.array(names, "S")),
    "a fixed length, UTF-8": lambda names: dict(data=names, dtype=h5py.string_dtype("utf-8", 30)),
    "a fixed length, ASCII": lambda names: dict(data=names, dtype=h5py.string_dtype("ascii", 30)),
    "padded with spaces": lambda names: dict(data=np.array([n.ljust(30) for n in names], "S")),
    "in chunks": lambda names: dict(data=names, chunks=True, maxshape=(None,)),
    "compressed": lambda names: dict(data=np.array(names, "S"), compression="gzip"),
    "a column": lambda names: dict(data=np.array(names, "S")[:, None]),
}


@pytest.fixture
def path(tmp_path):
    """Two demonstrations, each with T transitions."""
    path = fuzzing.write("robomimic", tmp_path / "low_dim.hdf5")
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            del demo["next_obs"]
    return path


def put(path, name, **stored):
    with h5py.File(path, "a") as file:
        file.pop(name, None)
        file.create_dataset(name, **stored)


@pytest.mark.parametrize("key", ["train", "valid", "20_percent", "θ"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_key_is_read_however_its_names_are_stored(kind, key, path):
    put(path, f"mask/{key}", **KINDS[kind](["demo_1"]))
    t = read_robomimic(path, filter_key=key).transitions
    whole = read_robomimic(path).transitions
    assert len(t.actions) == fuzzing.T and (t.actions == whole.actions[fuzzing.T :]).all()
    put(path, f"mask/{key}", **KINDS[kind](["demo_0", "demo_1"]))
    assert read_robomimic(path, filter_key=key).sha256
    assert len(read_robomimic(path, filter_key=key).transitions.actions) == 2 * fuzzing.T


def test_a_single_name_is_a_filter_key_too(path):
    put(path, "mask/one", data="demo_1")
    assert len(read_robomimic(path, filter_key="one").transitions.actions) == fuzzing.T


@pytest.mark.parametrize(
    "kind, name",
    [
        *((kind, name) for kind in KINDS for name in ("demo_7", "data/demo_1", "mask")),
        *(("any length, UTF-8", name) for name in ("dêmo_1", "demo_١", "")),
    ],
)
def test_a_filter_key_that_names_what_is_not_there_is_refused(kind, name, path):
    put(path, "mask/train", **KINDS[kind](["demo_0", name]))
    with pytest.raises(DataError, match="under the filter key 'train', expected groups demo_0"):
        read_robomimic(path, filter_key="train")


@pytest.mark.parametrize(
    "data, seen",
    [
        (np.arange(3), "saw int64, expected texts"),
        (np.array([b"demo_0", b"\xff\xfe"]), "saw \ufffd\ufffd under"),
        (np.array([b"demo_0", b"d" * 2000]), "a text of 2,000 characters"),
        (np.zeros(2, "V8"), "expected texts"),
    ],
)
def test_a_filter_key_of_something_else_is_refused(data, seen, path):
    put(path, "mask/train", data=data)
    with pytest.raises(DataError, match=seen):
        read_robomimic(path, filter_key="train")


def test_names_as_long_as_the_file_are_refused_one_by_one(path):
    """Each text of any length may be the same large one: together they would fill the memory."""
    put(path, "mask/train", data=["d" * 10**5] * 100)
    with pytest.raises(DataError, match="a text of 100,000 characters"):
        read_robomimic(path, filter_key="train")


ARGS = json.dumps(dict(env_name="Lift", env_version="1.5.1"))


@pytest.mark.parametrize(
    "stored",
    [
        ARGS,
        ARGS.encode(),
        np.bytes_(ARGS),
        np.array([ARGS], object),
        np.array([ARGS], "S"),
        np.array(ARGS.ljust(200), "S"),
        np.array(ARGS, h5py.string_dtype("utf-8", 300)),
    ],
)
def test_env_args_are_read_however_they_are_stored(stored, path):
    with h5py.File(path, "a") as file:
        file["data"].attrs["env_args"] = stored
    assert "Lift, simulator version 1.5.1" in read_own(path).source


@pytest.mark.parametrize("name", ["Größe", "リフト", "\\ud800"])
def test_what_a_simulator_is_called_can_be_written_down_again(name, path):
    with h5py.File(path, "a") as file:
        file["data"].attrs["env_args"] = f'{{"env_name": "{name}"}}'
    assert name in read_own(path).source.encode().decode()


@pytest.mark.parametrize("stored", [np.int32(3), h5py.Empty("S1"), np.array(["a", "b"], "S"), 1.5])
def test_env_args_that_are_no_text_are_refused(stored, path):
    with h5py.File(path, "a") as file:
        file["data"].attrs["env_args"] = stored
    with pytest.raises(DataError, match="attribute env_args: saw"):
        read_own(path)


@pytest.mark.parametrize("stored", [np.array([fuzzing.T]), np.float64(fuzzing.T), np.uint8(20)])
def test_num_samples_may_be_any_number(stored, path):
    with h5py.File(path, "a") as file:
        file["data/demo_0"].attrs["num_samples"] = stored
    assert len(read_own(path).transitions.actions) == 2 * fuzzing.T


@pytest.mark.parametrize("demo", ["démo_2", "demo_２", "デモ", b"demo_\xff"])
def test_other_names_of_demonstrations_are_refused_by_name(demo, path):
    with h5py.File(path, "a") as file:
        file["data"].copy("demo_0", demo)
    with pytest.raises(DataError, match="in data, expected groups demo_0") as error:
        read_own(path)
    assert str(error.value).encode()


@pytest.fixture
def folder(tmp_path):
    return fuzzing.write("minari", tmp_path / "main_data.hdf5").parent


def metadata(folder, encoding="utf-8", **changes):
    path = folder / "metadata.json"
    text = json.dumps(json.loads(path.read_text("utf-8")) | changes, ensure_ascii=False)
    path.write_bytes(text.encode(encoding, "surrogatepass"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["eigene/Größe-v0", "ours/小さい-v0"])
def test_minari_s_metadata_are_read_in_every_encoding_of_json(name, encoding, folder):
    metadata(folder, encoding, dataset_id=name)
    assert read_minari(folder).source.startswith(name)


def test_spaces_may_be_objects_instead_of_texts(folder):
    spaces = json.loads(fuzzing.METADATA)
    objects = {k: json.loads(spaces[k]) for k in ("observation_space", "action_space")}
    before = read_minari(folder).transitions.fingerprint()
    metadata(folder, **objects)
    assert read_minari(folder).transitions.fingerprint() == before


@pytest.mark.parametrize("space", ["[]", "3", '"Box"', [1], None, "{"])
def test_spaces_that_are_none_are_refused(space, folder):
    metadata(folder, action_space=space)
    with pytest.raises(DataError, match="without readable spaces"):
        read_minari(folder)
