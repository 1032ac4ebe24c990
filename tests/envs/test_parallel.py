"""Worker processes: the serial numbers bit for bit, whoever starts them, and nothing left behind.

Skipped without the simulators.
"""

import os
import signal
import subprocess
import sys
from multiprocessing import active_children, parent_process

import numpy as np
import pytest
import torch
from problems import streams

pytest.importorskip("gymnasium", reason="the simulators are not installed")
cloudpickle = pytest.importorskip("cloudpickle", reason="the simulators are not installed")

from arq_core.envs.adroit import DoorEnvs, door_envs  # noqa: E402
from arq_core.envs.parallel import ParallelEnvs  # noqa: E402
from arq_core.envs.vector import EnvError  # noqa: E402
from arq_core.experiments.episodes import evaluate  # noqa: E402

# else each worker imports this file, and torch with it
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Countdown:
    """State (steps left, seed); reward 0.1 a step plus the action; an action of 9 fails, one of 8
    ends the process.
    """

    state_dim, action_dim, horizon = 2, 1, 3

    def __init__(self, n):
        self.n = n

    def reset(self, seeds):
        assert len(seeds) == self.n
        self.left, self.seeds = np.array([1 + s % 5 for s in seeds]), np.array(seeds)
        return self._states()

    def _states(self):
        return np.stack([self.left, self.seeds], 1).astype(np.float32)

    def step(self, actions):
        if (actions == 9).any():
            raise ValueError(f"100% of action {actions.max()}")
        if (actions == 8).any():
            os._exit(8)
        self.left = self.left - 1
        return (
            self._states(),
            0.1 + actions[:, 0].astype(float),
            self.left <= 0,
            actions[:, 0] > 0.5,
        )


class Constant:
    def __init__(self, value):
        self.value = value

    def reset(self, n):
        self.n = n

    def act(self, states, rng):
        if self.value is None:
            raise KeyboardInterrupt
        return torch.full((*states.shape[:2], 1), self.value)


def workers():
    return [p for p in active_children() if p.name.startswith("Worker<AsyncVectorEnv>")]


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert not workers()


def assert_same(parallel, serial, seeds, actions):
    starts = parallel.reset(seeds), serial.reset(seeds)
    for got, expected in [
        starts,
        *(pair for a in actions for pair in zip(parallel.step(a), serial.step(a), strict=True)),
    ]:
        np.testing.assert_array_equal(got, expected, strict=True)


def test_the_door_in_workers_is_the_serial_door_bit_for_bit():
    pytest.importorskip("mujoco", reason="the simulators are not installed")
    pytest.importorskip("gymnasium_robotics", reason="the simulators are not installed")
    actions = np.random.default_rng(0).uniform(-1, 1, (8, 5, 28)).astype(np.float32)
    with ParallelEnvs(DoorEnvs, 5, 2) as envs:
        assert_same(envs, DoorEnvs(5), [2**31 - 1, 3, 4, 3, 0], actions)
        assert_same(envs, DoorEnvs(5), [9, 8, 7, 6, 5], actions[:2])
        assert len(workers()) == 2
        with pytest.raises(
            EnvError,
            match=r"DoorEnvs in worker processes: episodes 3 to 4: EnvError: .*1 entries not "
            r"finite",
        ):
            envs.step(np.where(np.arange(5 * 28).reshape(5, 28) == 4 * 28, np.nan, 0))


@pytest.mark.parametrize("n, most", [(7, 3), (2, 4)])
def test_any_number_of_episodes_in_any_number_of_workers(n, most):
    actions = np.random.default_rng(1).uniform(0, 1, (4, n, 1)).astype(np.float32)
    with ParallelEnvs(Countdown, n, most) as envs:
        assert_same(envs, Countdown(n), list(range(10, 10 + n)), actions)
        assert len(workers()) == min(n, most)


def test_evaluate_closes_the_workers_and_the_next_reset_starts_new_ones():
    envs = ParallelEnvs(Countdown, 6, 2)
    for _ in range(2):
        assert not workers()
        got, expected = (
            evaluate(Constant(0.7), e, 3, streams(3, 4), horizon=3) for e in (envs, Countdown(6))
        )
        assert all(np.array_equal(got[k], expected[k]) for k in expected) and got["success"].all()
        assert not workers()
    with pytest.raises(KeyboardInterrupt):
        evaluate(Constant(None), envs, 3, streams(3, 4), horizon=3)
    assert not workers()


def test_an_error_in_a_worker_says_which_episodes_and_what():
    envs = ParallelEnvs(Countdown, 5, 2)
    with pytest.raises(EnvError, match="saw no workers.*reset first"):
        envs.step(np.zeros((5, 1)))
    with pytest.raises(EnvError, match="saw 4 seeds, expected 5"):
        envs.reset([0, 1, 2, 3])
    envs.reset(range(5))
    with pytest.raises(EnvError, match=r"shape \(4, 1\), expected \(5, 1\)"):
        envs.step(np.zeros((4, 1)))
    with pytest.raises(
        EnvError,
        match=r"Countdown in worker processes: episodes 3 to 4: ValueError: 100% of " r"action 9",
    ):
        envs.step(np.array([[0], [0], [0], [0], [9.0]]))
    assert not workers()
    envs.reset(range(5))
    with pytest.raises(EnvError, match=r"\(number: exit code\) \{0: 8\}.*use Countdown\(5\)"):
        envs.step(np.array([[8.0], [0], [0], [0], [0]]))
    with pytest.raises(EnvError, match="saw 0 episodes and 2 workers"):
        ParallelEnvs(Countdown, 0, 2)


class EndsInWorkers(type):
    @property
    def action_dim(cls):
        return 1 if parent_process() is None else sys.exit(3)


def test_workers_that_cannot_start_are_an_error_not_a_hang():
    class Unstartable(metaclass=EndsInWorkers):
        state_dim, horizon = 2, 3

    with pytest.raises(EnvError, match=r"Unstartable in worker processes: saw them fail to start"):
        ParallelEnvs(Unstartable, 2, 2).reset([0, 1])


def test_workers_end_with_the_object_and_only_the_parent_answers_ctrl_c():
    envs = ParallelEnvs(Countdown, 2, 2)
    envs.reset([0, 1])
    for process in workers():
        os.kill(process.pid, signal.SIGINT)
    assert envs.step(np.zeros((2, 1)))[0][:, 1].tolist() == [0, 1]
    del envs
    assert not workers()


SCRIPT = """
import os, signal, threading, time
from multiprocessing import active_children
import numpy as np, torch
torch.set_num_threads(2)
torch.rand(600, 600) @ torch.rand(600, 600)
from arq_core.envs.parallel import ParallelEnvs

class Slow:
    state_dim, action_dim, horizon = 1, 1, 1
    def __init__(self, n): self.n = n
    def reset(self, seeds): return np.array(seeds, np.float32)[:, None]
    def step(self, actions): time.sleep(60)

print("main runs")
envs = ParallelEnvs(Slow, 3, 2)
print(envs.reset([4, 5, 6])[:, 0].tolist())
threading.Timer(0.3, lambda: os.killpg(0, signal.SIGINT)).start()
try:
    envs.step(np.zeros((3, 1)))
except KeyboardInterrupt:
    print("interrupted", active_children())
envs.reset([4, 5, 6])     # left open: the end of the script closes it
"""


def test_a_script_without_guard_starts_workers_beside_torch_threads_and_ctrl_c_ends_them(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        start_new_session=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "main runs\n[4.0, 5.0, 6.0]\ninterrupted []\n",
        "",
    )


def test_the_door_uses_workers_for_many_episodes_on_several_cores(monkeypatch):
    pytest.importorskip("gymnasium_robotics", reason="the simulators are not installed")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert (
        isinstance(door_envs(49), DoorEnvs)
        and len(door_envs(50).sizes) == 2
        and len(door_envs(300).sizes) == 2
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert isinstance(door_envs(60), DoorEnvs)
