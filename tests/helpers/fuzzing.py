"""Damaged files, thousands of them, read in worker processes: what crashes, hangs, eats memory or
writes is a failure with a number.

A case is (layout, seed) and can be made again alone: fuzzing.read_case("d4rl", 17, folder).
"""

import contextlib
import json
import os
import pickle
import random
import resource
import sys
import zlib
from collections import Counter
from pathlib import Path

import forked
import h5py
import numpy as np
import torch

from arq_core.algorithm.types import DataError
from arq_core.datasets.readers.d4rl import read_d4rl
from arq_core.datasets.readers.demos import read_demos
from arq_core.datasets.readers.minari import read_minari
from arq_core.datasets.readers.robomimic import read_robomimic

S, A, T = 3, 2, 20
# bytes beyond those of the process at rest: the guard's allowance, held up to three times over
MOST_MEMORY = 500 * 2**20
PATIENCE = 60  # seconds without a word from a worker
BOX = '{"type": "Box", "dtype": "float64", "shape": [%d], "low": [%s], "high": [%s]}'
KEYS = dict(robot0_eef_pos=3, robot0_eef_quat=4, robot0_gripper_qpos=2, object=4)
STORED = [
    dict(),
    dict(chunks=True, compression="gzip"),
    dict(chunks=True, shuffle=True, fletcher32=True, compression="gzip"),
]


def d4rl_fields(rng):
    return dict(
        observations=rng.normal(size=(T, S)).astype("f4"),
        actions=rng.uniform(-1, 1, (T, A)).astype("f4"),
        rewards=rng.normal(size=T),
        terminals=np.arange(T) == 7,
        timeouts=np.arange(T) % 10 == 9,
    )


def robomimic_fields(rng):
    demo = lambda: {
        **{
            f"{part}/{key}": rng.normal(size=(T, n))
            for part in ("obs", "next_obs")
            for key, n in KEYS.items()
        },
        "actions": rng.uniform(-1, 1, (T, A)),
        "rewards": np.zeros(T),
        "dones": np.arange(T) == T - 1,
    }
    return {f"data/demo_{i}/{k}": x for i in range(2) for k, x in demo().items()} | {
        "mask/train": np.array([b"demo_0"])
    }


def minari_fields(rng):
    return {
        f"episode_{i}/{k}": x
        for i in range(2)
        for k, x in dict(
            observations=rng.normal(size=(T + 1, S)),
            actions=rng.uniform(-1, 1, (T, A)),
            rewards=rng.normal(size=T),
            terminations=np.zeros(T, bool),
            truncations=np.arange(T) == T - 1,
        ).items()
    }


FIELDS = dict(d4rl=d4rl_fields, robomimic=robomimic_fields, minari=minari_fields)
NAMES = dict(
    d4rl="own.hdf5",
    robomimic="low_dim.hdf5",
    filtered="low_dim.hdf5",
    minari="main_data.hdf5",
    demos="demos.pickle",
)
METADATA = json.dumps(
    dict(
        observation_space=BOX % (S, "-10, -10, -10", "10, 10, 10"),
        action_space=BOX % (A, "-1, -1", "1, 1"),
        total_episodes=2,
        total_steps=2 * T,
        dataset_id="ours/small-v0",
        data_format="hdf5",
    )
).encode()


def write(layout, path, fields=None, libver="earliest", **stored):
    """A right file of the layout, or one with these fields."""
    with h5py.File(path, "w", libver=libver) as file:
        for name, x in (
            FIELDS[layout](np.random.default_rng(0)) if fields is None else fields
        ).items():
            file.create_dataset(name, data=x, **(stored if x.dtype.kind != "S" else {}))
        if layout == "robomimic":
            file["data"].attrs.update(
                total=2 * T, env_args=json.dumps(dict(env_name="Lift", env_version="1.5.1"))
            )
            for demo in file["data"].values():
                demo.attrs["num_samples"] = T
    if layout == "minari":
        path.with_name("metadata.json").write_bytes(METADATA)
    return path


def demo(rng):
    return dict(
        observations=rng.normal(size=(T, S)),
        actions=rng.normal(size=(T, A)),
        rewards=rng.normal(size=T),
        init_state_dict=dict(qpos=np.arange(4.0)),
    )


def read(layout, path):
    if layout == "demos":
        return read_demos(path, S, A, dict(qpos=(4,)))
    return dict(
        d4rl=read_d4rl,
        robomimic=read_robomimic,
        filtered=lambda p: read_robomimic(p, filter_key="train"),
        minari=lambda p: read_minari(p.parent),
    )[layout](path)


def originals(layout, folder):
    """Bytes of right files, of every way to store them."""
    if layout == "demos":
        rng = np.random.default_rng(0)
        return [pickle.dumps([demo(rng), demo(rng)], protocol) for protocol in (3, 4)]
    path = Path(folder) / NAMES[layout]
    written = write_filtered if layout == "filtered" else lambda *a, **kw: write(layout, *a, **kw)
    return [
        written(path, libver=libver, **stored).read_bytes()
        for libver in ("earliest", "latest")
        for stored in STORED
    ]


def write_filtered(path, **stored):
    """A right file of robomimic's, with the names under its filter key as h5py writes texts."""
    write("robomimic", path, **stored)
    with h5py.File(path, "a", libver=stored["libver"]) as file:
        del file["mask/train"]
        file.create_dataset("mask/train", data=["demo_1", "demo_0"])
    return path


def mutated(data: bytes, r: random.Random) -> bytes:
    """The bytes with one to sixteen defects; half of them near the beginning, where a file
    describes itself.
    """
    x = bytearray(data)
    for _ in range(r.choice((1, 1, 1, 2, 4, 16))):
        at = r.randrange(min(len(x), r.choice((600, 3000, len(x), len(x)))))
        size = r.choice((1, 2, 4, 8))
        kind = r.randrange(8)
        if kind < 3:
            x[at] ^= 1 << r.randrange(8)
        elif kind < 5:
            x[at : at + size] = r.choice(
                (b"\0", b"\xff", b"\x7f", bytes([r.randrange(256)]))
            ) * len(x[at : at + size])
        elif kind == 5:
            other = r.randrange(len(x))
            x[at : at + 8 * size] = x[other : other + len(x[at : at + 8 * size])].ljust(
                len(x[at : at + 8 * size]), b"\0"
            )
        elif kind == 6:
            value = r.choice((1, 2**16, 2**31 - 1, 2**32 - 1, 2**63 - 1, len(data), at))
            x[at : at + 8] = value.to_bytes(8, "little")[: len(x[at : at + 8])]
        elif r.random() < 0.3 and len(x) > 10:
            del x[r.randrange(1, len(x)) :]
    return bytes(x)


def read_case(layout, seed, folder, files=None):
    """Reads case number `seed`: "read" or "refused", the only right outcomes, or what went
    wrong.
    """
    files, r = files or originals(layout, folder), random.Random(f"{layout} {seed}")
    path = Path(folder) / NAMES[layout]
    path.write_bytes(mutated(files[r.randrange(len(files))], r))
    if layout == "minari":
        spare = r.random() < 0.7
        path.with_name("metadata.json").write_bytes(METADATA if spare else mutated(METADATA, r))
    return verdict(layout, path)


def verdict(layout, path):
    try:
        with watching():
            data = read(layout, path)
    except DataError as error:
        if isinstance(error.__cause__, MemoryError) or isinstance(error.__context__, MemoryError):
            return f"asks for more memory than there is: {error}"[:300]
        return (
            "refused" if len(str(error)) < 4000 else f"an error of {len(str(error)):,} characters"
        )
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]
    if layout != "demos":
        assert (
            torch.isfinite(data.transitions.states).all()
            and data.transitions.actions.abs().max() <= 1
        )
    return "read"


NOTED, ARMED = [], []
EVENTS = (
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "socket.connect",
    "exec",
    "compile",
    "shutil.rmtree",
    "ctypes.dlopen",
)


def hook(event, args):
    if ARMED and (
        event in EVENTS
        or event == "open"
        and isinstance(args[2], int)
        and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    ):
        NOTED.append(f"{event} {args!r}"[:200])


@contextlib.contextmanager
def watching():
    """While the block runs nothing is written, run or connected to, or the case is a failure."""
    NOTED.clear()
    ARMED.append(True)
    try:
        yield
    finally:
        ARMED.clear()
    if NOTED:
        raise AssertionError(f"does what no reader may: {NOTED}")


def memory(name):
    """Bytes: of addresses (VmSize), in memory now (VmRSS), in memory at most so far (VmHWM)."""
    return next(
        int(line.split()[1]) * 1024
        for line in open("/proc/self/status", encoding="utf-8")
        if line.startswith(name)
    )


def work(pipe, function, cases, folder):
    """Calls function(case, folder, kept) for every case; says so before, and its verdict after."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"
    kept = {}
    function(cases[0], folder, kept)  # imports and first uses do not count
    sys.addaudithook(hook)
    # libhdf5 reserves sizes before it checks them
    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + 12 * MOST_MEMORY,) * 2)
    rest = memory("VmRSS")
    for case in cases:
        pipe.send(("begins", case))
        seen = function(case, folder, kept)
        more = memory("VmHWM") - rest
        pipe.send(("ends", f"takes {more / 2**20:.0f} MB ({seen})" if more > MOST_MEMORY else seen))
        if more > MOST_MEMORY:
            # the peak stays; a fresh process reads the rest
            return


def mutation(case, folder, kept):
    layout, seed = case
    if layout not in kept:
        kept[layout] = originals(layout, folder)
    return read_case(layout, seed, folder, kept[layout])


def run(function, cases, folder):
    """({verdict: how often}, [(case, what went wrong)]); a worker that dies or hangs is replaced,
    and its case is a failure.
    """
    seen, failures, left = Counter(), [], list(cases)
    while left and len(failures) < 20:
        process, pipe = forked.started(work, function, left, str(folder))
        done = 0
        for value in _verdicts(pipe, process):
            if value in ("read", "refused"):
                seen[value] += 1
            else:
                failures.append((left[done], value))
            done += 1
        left = left[done:]
    return seen, failures


def _verdicts(pipe, process):
    """What the worker says of its cases in turn, and what became of it in a case that it began and
    did not end.
    """
    # the first case is tried before it is announced
    busy = True
    try:
        while pipe.poll(PATIENCE):
            what, value = pipe.recv()
            busy = what == "begins"
            if not busy:
                yield value
        why = f"hangs for {PATIENCE} seconds"
    except EOFError:
        process.join()
        why = f"the process died: exit code {process.exitcode}"
    process.kill()
    process.join()
    if busy:
        yield why


def shortened(file, name, data, **stored):
    """The field of float64 [20000, 4], whose one chunk holds no more than these bytes."""
    field = file.create_dataset(name, (20_000, 4), "f8", chunks=(20_000, 4), **stored)
    field.id.write_direct_chunk((0, 0), data)


def zeros(file, name):
    """A field of 1 GB of zeros, of which a thousand chunks take a kilobyte each."""
    field = file.create_dataset(name, (2**26, 4), "f4", chunks=(2**16, 4), compression="gzip")
    for i in range(0, 2**26, 2**16):
        field.id.write_direct_chunk((i, 0), ZEROS)


def virtual(file, name):
    layout = h5py.VirtualLayout((T, S), "f8")
    layout[:] = h5py.VirtualSource(other(file), "x", (T, S))
    file.create_virtual_dataset(name, layout)


def other(file):
    """Another right file beside this one."""
    path = str(Path(file.filename).with_name("other.hdf5"))
    with h5py.File(path, "w") as beside:
        beside["x"] = np.zeros((T, S))
    return path


def pipe(file):
    """A pipe that nobody writes to: whoever opens it waits for ever."""
    path = Path(file.filename).with_name("pipe")
    if not path.exists():
        os.mkfifo(path)
    return str(path)


def unknown_filter(file, name):
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_chunk((T, S))
    how.set_filter(305, h5py.h5z.FLAG_OPTIONAL)
    h5py.h5d.create(
        file.id, name.encode(), h5py.h5t.NATIVE_DOUBLE, h5py.h5s.create_simple((T, S)), how
    )


def cycle(file, name):
    file[name] = file["/"]


def objects(file, name):
    file.create_dataset(name, (T,), h5py.string_dtype())[:] = "a"


ZEROS = zlib.compress(bytes(2**20))
HOSTILE = {
    "10^12 rows and no data": lambda f, n: f.create_dataset(n, (10**12, S), "f4", chunks=(1024, S)),
    "10^12 rows of a fill value": lambda f, n: f.create_dataset(
        n, (10**12, S), "f4", chunks=(1024, S), fillvalue=1
    ),
    "4 GB in one chunk of a small field": lambda f, n: f.create_dataset(
        n, (T, S), "f4", chunks=(2**28, S), maxshape=(None, S)
    ),
    "1 GB of zeros, compressed": zeros,
    "fewer bytes than the chunk has": lambda f, n: shortened(f, n, bytes(100)),
    "fewer bytes than the chunk has, inflated": lambda f, n: shortened(
        f, n, zlib.compress(bytes(8)), compression="gzip"
    ),
    "more bytes than the chunk has, inflated": lambda f, n: shortened(
        f, n, ZEROS, compression="gzip"
    ),
    "a checksum without bytes": lambda f, n: shortened(f, n, b"abc", fletcher32=True),
    "bytes that are not compressed": lambda f, n: shortened(f, n, b"no zlib", compression="gzip"),
    "another compression": lambda f, n: f.create_dataset(
        n, data=np.zeros((T, S)), compression="lzf"
    ),
    "scaled and offset": lambda f, n: f.create_dataset(
        n, data=np.zeros((T, S)), scaleoffset=2, chunks=True
    ),
    "an unknown filter": unknown_filter,
    "a link to another file": lambda f, n: f.__setitem__(n, h5py.ExternalLink(other(f), "x")),
    "a link to a pipe": lambda f, n: f.__setitem__(n, h5py.ExternalLink(pipe(f), "x")),
    "data in another file": lambda f, n: f.create_dataset(
        n, (T, S), "f8", external=[(other(f), 0, h5py.h5f.UNLIMITED)]
    ),
    "data in a device": lambda f, n: f.create_dataset(
        n, (T, S), "f8", external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)]
    ),
    "a virtual field": virtual,
    "a soft link to itself": lambda f, n: f.__setitem__(n, h5py.SoftLink(f"/{n}")),
    "a soft link to nothing": lambda f, n: f.__setitem__(n, h5py.SoftLink("/nothing")),
    "a group that holds its parents": cycle,
    "a group": lambda f, n: f.create_group(n).create_group("a/b/c"),
    "a type": lambda f, n: f.__setitem__(n, np.dtype("f8")),
    "text of any length": objects,
    "numbers of any length": lambda f, n: f.create_dataset(n, (T,), h5py.vlen_dtype(np.float64)),
    "references": lambda f, n: f.create_dataset(n, (T, S), h5py.ref_dtype),
    "a compound": lambda f, n: f.create_dataset(n, (T, S), np.dtype([("a", "f8"), ("b", "S10")])),
    "arrays as numbers": lambda f, n: f.create_dataset(n, (T,), np.dtype("(3,)f8")),
    "complex numbers": lambda f, n: f.__setitem__(n, np.zeros((T, S), complex)),
    "text": lambda f, n: f.__setitem__(n, np.full((T, S), b"a")),
    "opaque bytes": lambda f, n: f.__setitem__(n, np.zeros((T, S), "V8")),
    "nothing": lambda f, n: f.__setitem__(n, h5py.Empty("f8")),
    "one number": lambda f, n: f.__setitem__(n, 1.0),
    "no rows": lambda f, n: f.__setitem__(n, np.zeros((0, S))),
    "no columns": lambda f, n: f.__setitem__(n, np.zeros((T, 0))),
    "another number of rows": lambda f, n: f.__setitem__(n, np.zeros((T + 7, S))),
    "NaN": lambda f, n: f.__setitem__(n, np.full((T, S), np.nan)),
    "infinity": lambda f, n: f.__setitem__(n, np.full((T, S), np.inf)),
    "what float32 cannot hold": lambda f, n: f.__setitem__(n, np.full((T, S), 1e300)),
    "seven axes, of another width than any field": lambda f, n: f.__setitem__(
        n, np.zeros((T, 5) + (1,) * 5)
    ),
}


def hostile(case, folder, kept):
    """The right file with one field replaced by something that must be refused."""
    layout, field, what = case
    path = write(layout, Path(folder) / NAMES[layout])
    with h5py.File(path, "a") as file:
        del file[field]
        HOSTILE[what](file, field)
    seen = verdict(layout, path)
    return "is read as if it were right" if seen == "read" else seen


def given_bytes(case, folder, kept):
    """A file of these bytes."""
    layout, _, data = case
    path = Path(folder) / NAMES[layout]
    path.write_bytes(data)
    return verdict(layout, path)
