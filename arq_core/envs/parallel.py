"""Simulators in parallel worker processes: n episodes as W bundles, each a sub-environment of
Gymnasium's AsyncVectorEnv.

A bundle steps its episodes in one ordinary vector of them, so that a step costs one message per
worker, not one per episode. AsyncVectorEnv keeps one reward per sub-environment; rewards,
terminated and success of each episode therefore travel beside the states as the bundle's
observation, through shared memory. Same seeds and actions give the same numbers as the serial
vector, bit for bit.
"""

from __future__ import annotations

import signal
import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import active_children, resource_tracker
from multiprocessing.connection import wait
from types import ModuleType

import numpy as np

from arq_core.envs.vector import EnvError

# that a worker whose pipe is closed gets to end, so that its exit code can be told
EXIT_SECONDS = 5


def _bundle(kind: type, rows: slice, size: int):
    """Episodes `rows` as one gymnasium.Env with arrays of length `size`, the longest bundle's; what
    lies beyond its own episodes is 0.

    `kind(n)` is made at the first reset: in the worker, not in the process that only asks for the
    spaces.
    """
    import gymnasium
    from gymnasium.spaces import Box, Dict, MultiBinary

    class Bundle(gymnasium.Env):
        action_space = Box(-np.inf, np.inf, (size, kind.action_dim), np.float32)
        observation_space = Dict(
            states=Box(-np.inf, np.inf, (size, kind.state_dim), np.float32),
            rewards=Box(-np.inf, np.inf, (size,), np.float64),
            terminated=MultiBinary(size),
            success=MultiBinary(size),
        )
        envs, n = None, rows.stop - rows.start

        def reset(self, *, seed=None, options=None):
            def start():
                self.envs = self.envs or kind(self.n)
                return self.envs.reset(options["seeds"][rows]), 0.0, False, False

            return self._observe(start)

        def step(self, actions):
            observation, info = self._observe(lambda: self.envs.step(actions[: self.n]))
            return observation, 0.0, False, False, info

        def _observe(self, act):
            """The arrays that `act` returns, and its error as text: AsyncVectorEnv's own way of
            passing errors fails on some of them.
            """
            observation = {
                name: np.zeros(space.shape, space.dtype)
                for name, space in self.observation_space.items()
            }
            try:
                for name, values in zip(
                    ("states", "rewards", "terminated", "success"), act(), strict=True
                ):
                    observation[name][: self.n] = values
            except Exception as error:
                where = f"episodes {rows.start} to {rows.stop - 1}"
                return observation, dict(error=f"{where}: {type(error).__name__}: {error}")
            return observation, {}

    return Bundle()


@contextmanager
def _worker_start():
    """What workers inherit: no `__main__`, which they would run again, and a SIGINT that is
    blocked, so that Ctrl-C is ours to answer.
    """
    resource_tracker.ensure_running()  # starting it unblocks SIGINT
    main, mask = sys.modules["__main__"], signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        sys.modules["__main__"] = ModuleType("__main__")
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _kill(processes) -> None:
    for process in processes:
        if process.is_alive():
            # a worker has nothing to save, and may be too deep in a step to listen
            process.kill()
    for process in processes:
        process.join()


def _exit_codes(processes) -> dict[int, int]:
    """Exit code by number, of the workers that have ended; they may be at it just now."""
    ended = wait([process.sentinel for process in processes], EXIT_SECONDS)
    codes = {}
    for i, process in enumerate(processes):
        if process.sentinel in ended:
            process.join(EXIT_SECONDS)  # the sentinel is there a little before the code
            codes[i] = process.exitcode
    return codes


def _stop(vector) -> None:
    # its own way of closing waits for answers that may never come
    vector.closed = True
    _kill(vector.processes)
    for pipe in vector.parent_pipes:
        pipe.close()


class ParallelEnvs:
    """n episodes of `kind` (such as DoorEnvs; its states are float32) in `workers` processes.

    They start at `reset` and end with `close`, with an error or Ctrl-C, or with this object; after
    that `reset` starts new ones. They are spawned, not forked, because a fork of a process in which
    torch has run threads can hang.
    """

    def __init__(self, kind: type, n: int, workers: int):
        if min(n, workers) < 1:
            raise EnvError(
                f"ParallelEnvs: saw {n} episodes and {workers} workers, expected at least 1 "
                "of each."
            )
        self.state_dim, self.action_dim, self.horizon = (
            kind.state_dim,
            kind.action_dim,
            kind.horizon,
        )
        self.layout = getattr(kind, "layout", ())
        self.kind, self.n = kind, n
        # the first is the largest
        self.sizes = [len(part) for part in np.array_split(np.arange(n), min(workers, n))]
        # [W size]: entries that are episodes
        self.held = np.arange(self.sizes[0]) < np.array(self.sizes)[:, None]
        self._vector, self._end = None, None

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """States [n, S] of one episode per seed."""
        if len(seeds) != self.n:
            raise EnvError(
                f"ParallelEnvs.reset: saw {len(seeds)} seeds, expected {self.n}, one per "
                f"episode; make one for {len(seeds)}."
            )
        if self._vector is None:
            self._start()
        return self._ask(lambda: self._vector.reset(options=dict(seeds=[int(s) for s in seeds])))[
            "states"
        ]

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        """One step of every episode with actions [n, A]: states [n, S], rewards [n], terminated
        [n], success [n].
        """
        if self._vector is None:
            raise EnvError(
                "ParallelEnvs.step: saw no workers, expected those of running episodes; "
                "reset first."
            )
        if actions.shape != (self.n, self.action_dim):
            raise EnvError(
                f"ParallelEnvs.step: saw actions of shape {actions.shape}, expected "
                f"{(self.n, self.action_dim)}, one row per seed."
            )
        padded = np.zeros((*self.held.shape, self.action_dim), actions.dtype)
        padded[self.held] = actions
        got = self._ask(lambda: self._vector.step(padded))
        return (
            got["states"],
            got["rewards"],
            got["terminated"].astype(bool),
            got["success"].astype(bool),
        )

    def close(self) -> None:
        """Ends the workers, at once."""
        if self._vector is not None:
            self._vector = None
            self._end()

    def __enter__(self) -> ParallelEnvs:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def _start(self) -> None:
        try:
            from gymnasium.vector import AsyncVectorEnv, AutoresetMode
        except ImportError as error:
            raise EnvError(
                f"the workers cannot be started ({error}): expected gymnasium; install the "
                "simulators: pip install '.[sim]' -c constraints.txt"
            ) from error
        stops, others = np.cumsum(self.sizes).tolist(), set(active_children())
        bundles = [
            partial(_bundle, self.kind, slice(stop - size, stop), self.sizes[0])
            for stop, size in zip(stops, self.sizes, strict=False)
        ]
        try:
            with _worker_start():
                vector = AsyncVectorEnv(
                    bundles, copy=False, context="spawn", autoreset_mode=AutoresetMode.DISABLED
                )
            self._vector, self._end = vector, weakref.finalize(self, _stop, vector)
        except BaseException as error:
            _kill(set(active_children()) - others)
            if not isinstance(error, Exception):
                raise
            raise EnvError(
                f"{self.kind.__name__} in worker processes: saw them fail to start "
                f"({type(error).__name__}: {error}); what they wrote is above. "
                f"{self._alone()}"
            ) from error

    def _ask(self, call: Callable) -> dict[str, np.ndarray]:
        """The arrays of the answer, a row per episode.

        Whatever goes wrong, Ctrl-C too, ends the workers.
        """
        try:
            observation, *_, info = call()
            if "error" in info:
                raise EnvError(
                    f"{self.kind.__name__} in worker processes: "
                    f"{next(text for text in info['error'] if text)}"
                )
            return {name: values[self.held] for name, values in observation.items()}
        except (EOFError, OSError) as error:  # a pipe that nobody holds any more
            codes = _exit_codes(self._vector.processes)
            self.close()
            raise EnvError(
                f"{self.kind.__name__} in worker processes: saw workers end (number: exit "
                f"code) {codes}, expected them to run until closed; -9 is often too little "
                f"memory. {self._alone()}"
            ) from error
        except BaseException:
            self.close()
            raise

    def _alone(self) -> str:
        return f"To see what happens, use {self.kind.__name__}({self.n}), which needs no workers."


def in_workers(kind: type, n: int, least: int, check: Callable | None = None):
    """n episodes of `kind`: in worker processes where there are `least` for each and this process
    may use several cores, else here.

    The numbers are the same. OMP_NUM_THREADS=1 keeps everything in this process, as it does for
    torch. `check` (by default making one episode) reports a simulator that cannot be loaded: now,
    not after the training.
    """
    import torch  # not at the top: the workers, which import this file, do without it

    workers = min(torch.get_num_threads(), n // least)
    if workers < 2:
        return kind(n)
    check() if check else kind(1)
    return ParallelEnvs(kind, n, workers)
