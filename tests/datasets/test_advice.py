"""What a message advises can be done by whoever reads it: the argument that it names is one of
read_own, whose result prepare takes, and with it the data are read.
"""

import ast
import inspect
import json
import re
from pathlib import Path

import fuzzing
import h5py
import numpy as np
import pytest

import arq_core as arq
from arq_core.algorithm.types import DataError
from arq_core.datasets.find import find

DATASETS = Path(arq.__file__).parent / "datasets"
CALL = re.compile(r"arq\.(\w+)\(\.\.\., (\w+)=(.*?)\)(?= reads| and|;|\.|$)")


def without(name, path):
    with h5py.File(path, "a") as file:
        del file[name]


def no_timeouts(folder):
    path = fuzzing.write("d4rl", folder / "own.hdf5")
    without("timeouts", path)
    return path


def no_object(folder):
    path = fuzzing.write("robomimic", folder / "low_dim.hdf5")
    for i in range(2):
        without(f"data/demo_{i}/obs/object", path)
    return path


def another_robot(folder):
    path = fuzzing.write("robomimic", folder / "low_dim.hdf5")
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            for part in ("obs", "next_obs"):
                for key in list(demo[part]):
                    demo[part].move(key, key.replace("robot0", "arm"))
    return path


def another_name(folder):
    path = fuzzing.write("robomimic", folder / "low_dim.hdf5")
    with h5py.File(path, "a") as file:
        file["data"].copy("demo_1", "backup_of_demo_1")
    return path


def with_picture(folder):
    """Minari's layout with a Dict observation of a picture and two vectors."""
    path = fuzzing.write("minari", folder / "main_data.hdf5")
    meta = json.loads(fuzzing.METADATA)
    vector = json.loads(meta["observation_space"])
    picture = dict(type="Box", dtype="uint8", shape=[8, 8, 3], low=0, high=255)
    parts = dict(camera=picture, joints=vector, tip=vector)
    meta["observation_space"] = json.dumps(dict(type="Dict", subspaces=parts))
    (folder / "metadata.json").write_text(json.dumps(meta), encoding="utf-8")
    with h5py.File(path, "a") as file:
        for episode in file.values():
            x = episode["observations"][()]
            del episode["observations"]
            episode["observations/camera"] = np.zeros((len(x), 8, 8, 3), "u1")
            episode["observations/joints"], episode["observations/tip"] = x, x
    return folder


CASES = [no_timeouts, no_object, another_robot, another_name, with_picture]


@pytest.mark.parametrize("make", CASES)
def test_the_argument_that_is_advised_is_one_and_helps(make, tmp_path):
    path = make(tmp_path)
    with pytest.raises(DataError) as error:
        arq.read_own(path)
    function, argument, value = CALL.search(str(error.value)).groups()
    assert (function, argument in inspect.signature(arq.read_own).parameters) == ("read_own", True)
    data = arq.read_own(path, **{argument: ast.literal_eval(value)})
    assert len(data.transitions.actions)
    # what prepare makes of it
    assert find(data).load() is data
    assert argument in " ".join(data.notes)


@pytest.mark.parametrize("make", CASES)
def test_those_who_gave_a_path_are_advised_alike(make, tmp_path):
    with pytest.raises(DataError, match=r"arq\.read_own\(\.\.\., \w+=.* arq\.prepare takes"):
        find(make(tmp_path)).load()


def test_minari_s_wrong_part_is_answered_with_the_parts(tmp_path):
    folder = with_picture(tmp_path)
    with pytest.raises(DataError, match=r"expected some of camera, joints, tip; choose .*read_own"):
        arq.read_own(folder, observation_keys=["wrist"])
    assert arq.read_own(folder, observation_keys="tip").state_dim == fuzzing.S


def test_an_action_space_is_not_answered_with_keys_of_observations(tmp_path):
    path = fuzzing.write("minari", tmp_path / "main_data.hdf5")
    meta = json.loads(fuzzing.METADATA)
    meta["action_space"] = json.dumps(dict(type="Discrete", dtype="int64", start=0, n=4))
    path.with_name("metadata.json").write_text(json.dumps(meta), encoding="utf-8")
    with pytest.raises(DataError, match=r"actions: saw the space Discrete.*convert the dataset\.$"):
        arq.read_own(tmp_path)


def test_a_choice_of_another_layout_is_refused_with_those_of_this_one(tmp_path):
    d4rl = fuzzing.write("d4rl", tmp_path / "own.hdf5")
    with pytest.raises(DataError, match="filter_key: .* D4RL's layout, expected only cuts"):
        arq.read_own(d4rl, filter_key="train")
    robomimic = fuzzing.write("robomimic", tmp_path / "low_dim.hdf5")
    with pytest.raises(DataError, match="cuts: .* only filter_key and observation_keys and hor"):
        arq.read_own(robomimic, cuts="lengths:5")
    fuzzing.write("minari", tmp_path / "main_data.hdf5")
    with pytest.raises(DataError, match="horizon: .* Minari's layout, expected only observation_k"):
        arq.read_own(tmp_path, horizon=3)


@pytest.mark.parametrize("choice", [dict(cuts="lengths:5"), dict(cuts="fixed:4")])
def test_other_choices_of_one_file_are_other_data(choice, tmp_path):
    path = fuzzing.write("d4rl", tmp_path / "own.hdf5")
    plain, chosen = arq.read_own(path), arq.read_own(path, **choice)
    assert plain.sha256 != chosen.sha256 == chosen.transitions.fingerprint()
    assert arq.read_own(path, **choice).sha256 == chosen.sha256


def messages():
    """(file, text) of every text in an error of the room."""
    for path in sorted(DATASETS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and node.exc is not None:
                parts = (n.value for n in ast.walk(node.exc) if isinstance(n, ast.Constant))
                yield path.name, " ".join(part for part in parts if isinstance(part, str))


def test_every_argument_that_a_message_of_the_room_names_exists():
    """`name=` in a message is an argument of a function of the library that whoever reads it can
    call, or of the call that the message itself spells out.
    """
    known = {
        name
        for function in (arq.read_own, arq.from_arrays, arq.prepare)
        for name in inspect.signature(function).parameters
    }
    # of Minari's own function, named with it
    others = {"data_format": "MinariStorage.new"}
    seen = set()
    for file, text in messages():
        for name in re.findall(r"(?<![\w{])([a-z_]+)=(?!=)", text):
            seen.add(name)
            assert name in known or others.get(name, "\0") in text, (file, name, text)
    assert {"cuts", "filter_key", "observation_keys", "changes", "data_format"} <= seen


@pytest.mark.parametrize(
    "choice",
    [
        dict(horizon="3"),
        dict(horizon=2.5),
        dict(horizon=True),
        dict(filter_key=0),
        dict(observation_keys=[0]),
        dict(success_only="yes"),
        dict(cuts=7),
    ],
    ids=str,
)
def test_a_choice_of_another_kind_is_named_and_no_file_is_blamed(choice, tmp_path):
    path = tmp_path / "mine.hdf5"
    with h5py.File(path, "w") as file:
        file.create_group("data")
    with pytest.raises(DataError, match=f"^{next(iter(choice))}: saw .* expected"):
        arq.read_own(path, **choice)
