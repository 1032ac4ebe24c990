"""Sampling at scale: memory does not grow with the number of states, and nothing is lost when it is
killed. Minutes; run with -m slow."""

import subprocess
import sys
import textwrap
import time

import pytest

pytestmark = pytest.mark.slow(reason="samples 20,000 states four times, twice to a kill")

SCRIPT = """
    import hashlib, sys
    import torch
    from arq_core.config import settings
    from arq_core.engine.filestore import FileStore
    from arq_core.algorithm.behavior import Normalizer, ScoreBehavior
    from arq_core.algorithm.nets import ScoreNet
    from arq_core.engine.streams import Streams
    from arq_core.algorithm.support import sample_support
    states, folder = int(sys.argv[1]), sys.argv[2]
    rng = Streams([0])
    net = ScoreNet(11, 3, 256, 3, rng).requires_grad_(False)
    of_state, of_action = (Normalizer(torch.zeros(d), torch.ones(d)) for d in (11, 3))
    budget = settings.with_changes(settings.budget("lite", "locomotion"), dict(probes=0), "test")
    behavior = ScoreBehavior(net, 1, of_state, of_action, budget, torch.zeros(1, 0))
    s = torch.randn(states, 11, generator=torch.Generator().manual_seed(0))
    support = sample_support(behavior, s, 30, rng, FileStore(folder), {})
    sha = hashlib.sha256()
    for x in (support.actions, support.log_prob):
        for rows in x[0].split(1000):
            sha.update(rows.numpy().data)
    status = [line.split() for line in open("/proc/self/status")]
    peak = next(int(words[1]) for words in status if words[0] == "VmHWM:")
    print(peak, sha.hexdigest(), *support.actions.shape)
"""


def start(states, folder):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(states), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )


def finish(process):
    peak, sha, *shape = process.communicate(timeout=1800)[0].split()
    return int(peak) / 1024, sha, tuple(map(int, shape))


def test_20_000_states_need_no_more_memory_than_2_000_and_survive_two_kills(tmp_path):
    small, _, _ = finish(start(2_000, tmp_path / "small"))
    large, whole, shape = finish(start(20_000, tmp_path / "large"))
    print(f"peak memory: {small:.0f} MB for 2,000 states, {large:.0f} MB for 20,000")
    assert shape == (1, 20_000, 30, 3)
    assert large < 2048 and large < 1.1 * small
    for kill in (1, 2):
        process, deadline = start(20_000, tmp_path / "killed"), time.monotonic() + 900
        while (
            len(list((tmp_path / "killed").glob("*.blocks/*.safetensors"))) < 40 * kill
            and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        process.kill()
        process.wait()
        assert 40 * kill <= len(list((tmp_path / "killed").glob("*.blocks/*.safetensors"))) < 157
    _, resumed, _ = finish(start(20_000, tmp_path / "killed"))
    assert resumed == whole
