"""sac_update.cpp for sac.Learner: compiled once by the machine's C++ compiler into the cache,
called through ctypes.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from torch import Tensor

from arq_core.algorithm.types import DataError
from arq_core.config.paths import cache_folder

SOURCE = Path(__file__).with_name("sac_update.cpp")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC")
UNITS = 16  # a width is a multiple of it

Pointers = ctypes.POINTER(ctypes.c_void_p)


class _Trained(ctypes.Structure):
    _fields_ = [(name, Pointers) for name in ("p", "taken", "mean", "square")]


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled file; it is kept under a name that says what it was made from, and by what."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise DataError(
            "sac: saw no C++ compiler (g++), expected one for the fast update; install "
            "it (Debian: apt-get install g++), or train with --update torch."
        )
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, encoding="utf-8", check=True
    ).stdout
    ask = [compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull]
    cpu = subprocess.run(ask, capture_output=True, encoding="utf-8", check=True).stdout
    digest = hashlib.sha256(
        "\n".join([SOURCE.read_text(encoding="utf-8"), *FLAGS, version, cpu]).encode()
    ).hexdigest()[:12]
    target = cache_folder() / "compiled" / f"sac_update-{digest}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{target.name}.{uuid4().hex}.tmp")
        made = subprocess.run(
            [compiler, *FLAGS, str(SOURCE), "-o", str(temporary)],
            capture_output=True,
            encoding="utf-8",
        )
        if made.returncode:
            raise DataError(
                f"{SOURCE.name}: saw {compiler} fail ({made.stderr.strip()[:500]}), "
                "expected it to compile; train with --update torch."
            )
        os.replace(temporary, target)
    return ctypes.CDLL(str(target))


def _pointers(tensors: list[Tensor]):
    return (ctypes.c_void_p * len(tensors))(*[x.data_ptr() for x in tensors])


def native_update(learner) -> Callable[[Tensor, Tensor], None]:
    """`update(rows [B], noise [2 B A])` for this learner.

    It holds addresses: the learner's tensors must stay where they are.
    """
    (s, a), chosen = learner.dims, learner.settings
    if chosen.width % UNITS:
        raise DataError(
            f"sac: saw a width of {chosen.width}, expected a multiple of {UNITS} for "
            "the fast update; choose one, or train with --update torch."
        )
    sizes = (ctypes.c_long * 4)(s, a, chosen.width, chosen.batch)
    lists = [
        [_pointers(x) for x in (adam.parameters, adam.taken, adam.mean, adam.square)]
        for adam in (learner.adam[name] for name in ("critic", "actor", "alpha"))
    ]
    trained = [_Trained(*[ctypes.cast(x, Pointers) for x in four]) for four in lists]
    target, rates = (
        _pointers(list(learner.target.parameters())),
        [ctypes.c_float(x) for x in (chosen.gamma, chosen.lr, chosen.polyak)],
    )
    call, replay, held = (
        library().sac_update,
        ctypes.c_void_p(learner.replay.data_ptr()),
        [ctypes.byref(x) for x in trained],
    )
    call.restype = None

    def update(rows: Tensor, noise: Tensor) -> None:
        call(
            sizes,
            replay,
            ctypes.c_void_p(rows.data_ptr()),
            ctypes.c_void_p(noise.data_ptr()),
            *rates,
            *held,
            target,
        )

    return update
