"""Damaged files of arrays at every entrance that reads a user's: one clear error each, and what was
there before stays.
"""

import io
import os
import pickle
import random
import warnings
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from arq_core.__main__ import arq as command
from arq_core.algorithm.types import DataError
from arq_core.datasets.boxes import Box
from arq_core.datasets.own import read_own
from arq_core.datasets.readers.ogbench import read_ogbench
from arq_core.datasets.readers.saved import read_saved
from arq_core.experiments import choosing, kept

S = 3
GOAL = "pointmaze-medium-navigate-singletask-v0"


def saved(x, **how):
    held = io.BytesIO()
    np.save(held, x, **how)
    return held.getvalue()


def headed(text, numbers=b"", version=b"\x01\x00"):
    """A file whose header has this text."""
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode() + numbers


def header(dtype="'<f8'", order="False", shape="(4, 3)"):
    return f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


RIGHT = np.random.default_rng(0).normal(size=(4, S))
# what no entrance can read: (bytes, what is said of them, in a file and as a member of an archive)
DAMAGED = {
    "empty": (b"", "saw no bytes", "reading magic string"),
    "its first bytes alone": (b"\x93NUM", "begins with", "reading magic string"),
    "the magic alone": (b"\x93NUMPY", "cannot be read", "cannot be read"),
    "half a header": (saved(RIGHT)[:40], "cannot be read", "cannot be read"),
    "half the numbers": (saved(RIGHT)[:-50], "saw 46 bytes of numbers", "end at row 1 of 4"),
    "one byte less": (saved(RIGHT)[:-1], "saw 95 bytes of numbers", "end at row 3 of 4"),
    "one byte more": (saved(RIGHT) + b"\0", "saw 97 bytes of numbers", "saw more bytes"),
    "another magic": (b"\x92" + saved(RIGHT)[1:], "begins with b'\\\\x92NUMPY'", "not correct"),
    "a text": (b"0.1,0.2,0.3\n", "begins with b'0.1,0.'", "not correct"),
    "a pickle": (pickle.dumps(RIGHT), "saw a pickle, which is not read", "not correct"),
    "version 9": (headed(header(), version=b"\x09\x00"), r"version \(9, 0\)", r"version \(9, 0\)"),
    "a header without an end": (headed("{'descr': [('a', '<f8'"), "TokenError", "TokenError"),
    "a dtype of no type": (headed(header("[('a', ',f8')]")), "cannot be read", "cannot be read"),
    "a call": (headed(header("exit(1)")), "cannot be read", "cannot be read"),
    "parentheses": (headed("(" * 9000), "cannot be read", "cannot be read"),
    "minus a row": (headed(header(shape="(-1, 3)"), bytes(24)), "expected counts", "ted counts"),
    "10^12 rows": (headed(header(shape="(10**12, 3)")), "cannot be read", "cannot be read"),
    "many rows": (headed(header(shape="(999999999999, 3)")), "saw 0 bytes of num", "row"),
    "too many rows": (headed(header(shape=f"({'9' * 30}, 3)")), "saw 0 bytes of num", "saw"),
    "no rows of many": (headed(header(shape=f"({'9' * 30}, 0)")), "saw|9{30}", "axes"),
    "objects": (saved(np.array([{}, None]), allow_pickle=True), "object, which are pick", "axes"),
    "records with objects": (
        saved(np.zeros(4, [("a", "O"), ("b", "f4")]), allow_pickle=True),
        "which are pickled and not read",
        "axes",
    ),
    "records": (saved(np.zeros(4, [("a", "f4"), ("b", "f4")])), "convert it to float32", "axes"),
    "words": (saved(np.full((4, S), "a")), "saw an array of <U1", "axes"),
    "bytes": (saved(np.full((4, S), b"a")), r"saw an array of \|S1", "axes"),
    "complex": (saved(RIGHT + 1j), "saw an array of complex128", "axes"),
    "dates": (saved(np.zeros((4, S), "M8[s]")), r"saw an array of datetime64\[s\]", "axes"),
    "no rows": (saved(RIGHT[:0]), "shape", "at least one row"),
    "no columns": (saved(RIGHT[:, :0]), "shape", "axes"),
    "three axes": (saved(RIGHT[None]), "shape", "axes"),
    "one number": (saved(np.float64(1)), "shape", "axes"),
    "NaN": (saved(np.where(RIGHT > 0, np.nan, RIGHT)), "not finite as float32", "saw nan"),
    "infinity": (saved(RIGHT * np.inf), "not finite as float32", "saw -?inf"),
    "1e300": (saved(np.full((4, S), 1e300)), "not finite as float32", "saw 1e"),
    "another width": (saved(np.zeros((4, S + 1))), r"\(4, 4\)", None),  # OGBench's has any
    "flags": (saved(np.zeros((4, S), bool)), "saw an array of bool", None),
}


class Still:
    """A policy that does nothing."""

    def act(self, states, rng):
        return torch.zeros(*states.shape[:2], 2)

    def reset(self, n):
        pass


@pytest.fixture
def policy(monkeypatch):
    found = kept.KeptPolicy(Still(), Box([-1.0] * 2, [1.0] * 2), S, dict(task="mine"))
    monkeypatch.setattr(kept, "load", lambda path: found)


def starts(path, folder):
    return choosing._usable_starts(choosing.read_starts(path), S).numpy()


def observations(path, folder):
    out = folder / "actions.npy"
    out.write_bytes(b"what was there")
    try:
        kept.act_on_file("it.arq", path, out, 0)
    except DataError:
        assert out.read_bytes() == b"what was there"
        raise
    assert np.load(out).shape == (4, 2)
    return None


@pytest.mark.parametrize("entrance", [starts, observations])
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_file_of_an_array_that_cannot_be_used_is_one_error_that_names_it(
    kind, entrance, tmp_path, policy
):
    content, said, _ = DAMAGED[kind]
    path = tmp_path / "given.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as error:
        entrance(path, tmp_path)
    message = str(error.value)
    assert "given.npy: " in message or message.startswith(("starts: ", "observations: "))
    assert "saw" in message and "expected" in message and "\n" not in message
    assert len(message) < 600 and "allow_pickle" not in message


@pytest.mark.parametrize("kind", [k for k, (_, _, said) in DAMAGED.items() if said])
def test_a_member_of_an_archive_that_cannot_be_used_is_one_error_that_names_it(kind, tmp_path):
    content, _, said = DAMAGED[kind]
    path = archive(tmp_path / "points-v0.npz", observations=content)
    with pytest.raises(DataError, match=said) as error:
        read_ogbench(path, goal=GOAL)
    message = str(error.value)
    # one that claims many rows is told of the field that has fewer
    named = "actions" if kind.endswith("many rows") else "observations"
    assert message.startswith(f"{path}: field {named!r}: saw ") and "expected" in message


def archive(path, **members):
    """An archive in OGBench's layout, with these bytes in the place of its members."""
    right = dict(
        observations=saved(RIGHT),
        actions=saved(np.zeros((4, 2))),
        terminals=saved(np.arange(4) == 3),
        qpos=saved(np.zeros((4, 2))),
    )
    with zipfile.ZipFile(path, "w") as file:
        for name, content in (right | members).items():
            file.writestr(f"{name}.npy", content)
    return path


SOUND = {
    "single": RIGHT.astype("f4"),
    "half": RIGHT.astype("f2"),
    "of another machine": RIGHT.astype(">f8"),
    "long": RIGHT.astype(np.longdouble),
    "by columns": np.asfortranarray(RIGHT),
    "whole numbers": np.arange(12).reshape(4, S),
    "bytes without a sign": np.arange(12, dtype="u1").reshape(4, S),
    "of another machine, whole": np.arange(12, dtype=">u2").reshape(4, S),
}


@pytest.mark.parametrize("kind", SOUND)
def test_numbers_of_any_width_and_order_are_the_same_numbers(kind, tmp_path, policy):
    path = tmp_path / "given.npy"
    np.save(path, SOUND[kind])
    np.testing.assert_array_equal(starts(path, tmp_path), SOUND[kind].astype(np.float32))
    observations(path, tmp_path)


def test_arrays_in_memory_may_lie_in_any_order(policy):
    reversed_ = RIGHT[::-1, ::-1]
    got = choosing._usable_starts(reversed_, S).numpy()
    np.testing.assert_array_equal(got, reversed_.astype(np.float32))
    assert kept.load("it.arq").predict(reversed_).shape == (4, 2)
    assert kept.load("it.arq").predict(RIGHT.astype(">f8")[0]).shape == (2,)


PLACES = {
    "nothing": (lambda path: None, "saw no such file"),
    "a folder": (os.mkdir, "saw a folder"),
    "a pipe": (os.mkfifo, "saw no such file"),
    "a link to nothing": (lambda path: os.symlink("nowhere", path), "saw no such file"),
    "an archive": (lambda path: archive(path), "saw an archive of several arrays"),
}


@pytest.mark.parametrize("what", PLACES)
def test_what_is_no_file_of_an_array_is_said(what, tmp_path):
    make, said = PLACES[what]
    path = tmp_path / "given.npy"
    make(path)
    with pytest.raises(DataError, match=rf"given.npy: {said}.*, expected states \[N, S\] in a fi"):
        choosing.read_starts(path)


def test_a_file_with_any_bytes_of_its_header_changed_is_read_or_refused_and_nothing_else(tmp_path):
    held, r, seen = saved(RIGHT), random.Random(0), dict(read=0, refused=0)
    path = tmp_path / "given.npy"
    for _ in range(400):
        broken = bytearray(held)
        for _ in range(r.choice((1, 2, 4))):
            broken[r.randrange(80)] = r.choice(b"()[]{}'\",:0-x#\\ \x00\xff")
        path.write_bytes(broken)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy asks for a newer file
            try:
                read_saved(path, "states [N, S]")
                seen["read"] += 1
            except DataError as error:
                seen["refused"] += 1
                assert len(str(error)) < 2000
    assert min(seen.values()) > 5


@pytest.mark.parametrize("ending", [".npy", ".hdf5", ""])
def test_a_single_array_is_no_dataset_and_what_to_do_is_said(ending, tmp_path):
    path = tmp_path / f"mine{ending}"
    path.write_bytes(saved(RIGHT))
    with pytest.raises(DataError, match="saw a single array .* give them to arq_core.from_arrays"):
        read_own(path)


ASKED = [
    ["choose", "FILE", "--group", "maze", "--profile", "toy"],
    ["keep", "FILE", "--group", "maze", "--profile", "toy", "--out", "it.arq"],
    ["task", "FILE"],
]


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked[0])
@pytest.mark.parametrize(
    "name, content",
    [
        ("a.npy", saved(RIGHT)),
        ("b.npz", b""),
        ("c.npz", saved(RIGHT)),
        ("d.npz", pickle.dumps(RIGHT)),
        ("e.hdf5", b""),
        ("f.pkl", pickle.dumps(RIGHT)),
    ],
)
def test_a_command_ends_in_one_line_for_a_file_that_is_no_dataset(tmp_path, asked, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    run = CliRunner().invoke(command, [str(path) if x == "FILE" else x for x in asked])
    assert run.exit_code == 1 and run.output.count("\n") == 1
    assert "error: " in run.output and name in run.output and "expected" in run.output
