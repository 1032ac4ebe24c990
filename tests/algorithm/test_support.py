"""Eq. 4, the K-th largest, and the candidates of every state."""

import time

import forked
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import chain, streams, tiny

from arq_core.algorithm.behavior import fit_behavior, with_budget
from arq_core.algorithm.support import (
    STATES_PER_BLOCK,
    in_support_share,
    kth_largest,
    sample_support,
)
from arq_core.algorithm.types import SupportSet
from arq_core.engine.filestore import FileStore
from arq_core.engine.store import NoStore


def test_eq4_mask_keeps_what_is_at_least_epsilon_and_moves_with_it():
    support = SupportSet(torch.zeros(1, 1, 4, 1), torch.tensor([[[-6.0, -5.0, -4.9, 2.0]]]))
    assert support.mask(-5.0).tolist() == [[[False, True, True, True]]]
    assert support.mask(-4.95).tolist() == [[[False, False, True, True]]]
    assert in_support_share(support, -5.0).tolist() == [0.75]


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=12), st.data())
def test_kth_largest_is_the_kth_of_the_sorted_support(values, data):
    mask = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    k = data.draw(st.integers(1, len(values)))
    inside = sorted((v for v, m in zip(values, mask, strict=True) if m), reverse=True)
    expected = inside[k - 1] if len(inside) >= k else -float("inf")
    assert kth_largest(torch.tensor(values), torch.tensor(mask), k).item() == expected


def test_kth_largest_refuses_a_k_beyond_the_candidates():
    with pytest.raises(ValueError, match="k: saw 6, expected 1 to 5"):
        kth_largest(torch.zeros(5), torch.ones(5, dtype=torch.bool), 6)


@pytest.fixture(scope="module")
def behavior():
    h, b = tiny()
    return fit_behavior(chain(), h, b, streams(), NoStore())


BLOCK = STATES_PER_BLOCK["cpu"]


def test_a_states_candidates_ignore_the_states_of_other_blocks(behavior):
    states = torch.randn(BLOCK + 40, 3)
    both = sample_support(behavior, states, 4, streams(), NoStore(), {})
    other = sample_support(
        behavior, torch.cat([torch.randn(BLOCK, 3), states[BLOCK:]]), 4, streams(), NoStore(), {}
    )
    assert torch.equal(both.actions[:, BLOCK:], other.actions[:, BLOCK:])
    assert both.actions.shape == (2, len(states), 4, 2) and both.log_prob.shape == (
        2,
        len(states),
        4,
    )


def test_parts_computed_apart_are_the_whole_bit_for_bit(behavior, tmp_path):
    states = torch.randn(4 * BLOCK + 7, 3)
    whole = sample_support(behavior, states, 4, streams(), NoStore(), {})
    assert (
        sample_support(behavior, states, 4, streams(), FileStore(tmp_path), {}, part=(1, 2)) is None
    )
    joined = sample_support(behavior, states, 4, streams(), FileStore(tmp_path), {}, part=(0, 2))
    assert torch.equal(joined.actions, whole.actions) and torch.equal(
        joined.log_prob, whole.log_prob
    )
    with pytest.raises(ValueError, match=r"part: saw \(2, 2\), expected \(i, p\) with 0 <= i < p"):
        sample_support(behavior, states, 4, streams(), FileStore(tmp_path), {}, part=(2, 2))


def test_pieces_of_a_pass_change_nothing_but_rounding(behavior, monkeypatch):
    states = torch.randn(1, 30, 3).expand(2, -1, -1)
    whole = behavior.sample_with_log_prob(states, 4, streams())
    monkeypatch.setenv("ARQ_SOLVE_ROWS", "20")
    for a, b in zip(whole, behavior.sample_with_log_prob(states, 4, streams()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


ADAPTIVE = pytest.mark.slow(reason="hundreds of evaluations of an untrained model's divergence")


@pytest.mark.parametrize("density", ["multistep", pytest.param("rk45", marks=ADAPTIVE)])
def test_a_clipped_sample_is_judged_where_it_is_taken(behavior, density):
    """The density is that of the action in the box; without `clip` that of the sample as drawn."""
    solved = with_budget(behavior, density=density, probes=0)
    states = torch.randn(1, 4, 3).expand(2, -1, -1)
    for clip in (False, True):
        actions, log_prob = solved.sample_with_log_prob(states, 4, streams(), clip)
        torch.testing.assert_close(solved.log_prob(actions, states, streams()), log_prob)
        assert (actions.abs().max() <= 1) == clip


class Stops:
    """A behaviour that is interrupted at its third block, and counts."""

    def __init__(self, behavior):
        self.behavior, self.calls = behavior, 0

    def sample_with_log_prob(self, states, n, rng, clip=False):
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt
        return self.behavior.sample_with_log_prob(states, n, rng)

    def sample(self, states, n, rng):
        return self.behavior.sample(states, n, rng)

    def log_prob(self, actions, states, rng):
        return self.behavior.log_prob(actions, states, rng)


def test_interrupted_sampling_goes_on_and_gives_the_same_candidates(behavior, tmp_path):
    states, store, stops = torch.randn(3 * BLOCK, 3), FileStore(tmp_path), Stops(behavior)
    whole = sample_support(behavior, states, 4, streams(), NoStore(), {})
    with pytest.raises(KeyboardInterrupt):
        sample_support(stops, states, 4, streams(), store, {})
    resumed = sample_support(stops, states, 4, streams(), store, {})
    assert stops.calls == 4
    assert torch.equal(resumed.actions, whole.actions) and torch.equal(
        resumed.log_prob, whole.log_prob
    )
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]


def test_block_that_fails_its_checksum_is_computed_again(behavior, tmp_path, capsys):
    states, stops = torch.randn(3 * BLOCK, 3), Stops(behavior)
    whole = sample_support(behavior, states, 4, streams(), NoStore(), {})
    with pytest.raises(KeyboardInterrupt):
        sample_support(stops, states, 4, streams(), FileStore(tmp_path), {})
    for part, damage in (
        (0, lambda b: b[:-3] + bytes([b[-3] ^ 1]) + b[-2:]),
        (1, lambda b: b[:50]),
    ):
        (file,) = tmp_path.glob(f"*.blocks/{part:06d}.safetensors")
        file.write_bytes(damage(file.read_bytes()))
    resumed = sample_support(stops, states, 4, streams(), FileStore(tmp_path), {})
    assert stops.calls == 6
    assert torch.equal(resumed.actions, whole.actions) and torch.equal(
        resumed.log_prob, whole.log_prob
    )
    assert capsys.readouterr().out.count("fails its checksum") == 2


def test_out_of_memory_names_the_number_of_rows_to_try(behavior, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("arq_core.algorithm.nets.ScoreNet.jvp", full)
    with pytest.raises(
        MemoryError, match="out of memory.*8,192 rows of width 256.*ARQ_SOLVE_ROWS=2048"
    ):
        sample_support(behavior, torch.randn(8, 3), 4, streams(), NoStore(), {})


def test_two_processes_that_join_at_once_both_get_the_whole(tmp_path):
    """The second finds the blocks gone, or half gone, and takes the joined file."""
    parts = [
        dict(x=torch.full((1, 2, 3), float(i)), seconds=torch.tensor(1.0, dtype=torch.float64))
        for i in range(3)
    ]
    first, second = (FileStore(tmp_path).blocks("step", {}, 3) for _ in range(2))
    for i, tensors in enumerate(parts):
        first.save(i, tensors)
    written = second._write_joined

    def late(target, axis):
        assert torch.equal(first.join(1)["x"], torch.cat([p["x"] for p in parts], 1))
        written(target, axis)

    second._write_joined = late
    assert torch.equal(second.join(1)["x"], torch.cat([p["x"] for p in parts], 1))
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]


def test_block_of_another_step_is_not_taken(tmp_path, capsys):
    one, two = (FileStore(tmp_path).blocks("step", {}, count) for count in (1, 2))
    two.save(0, dict(x=torch.zeros(1, 2)))
    assert two.has(0) and not one.has(0)
    assert "expected block 0 of 1" in capsys.readouterr().out


def test_failed_join_keeps_blocks_and_leaves_no_temporary_file(tmp_path, monkeypatch):
    blocks = FileStore(tmp_path).blocks("step", {}, 1)
    blocks.save(0, dict(x=torch.zeros(1, 2)))

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)
    with pytest.raises(OSError, match="No space left.*make room.*finished blocks are kept"):
        blocks.join(1)
    assert blocks.has(0) and not list(tmp_path.glob("*.tmp"))


def sampled(pipe, folder):
    """Candidates of 16 blocks of states; in a process of its own where a pipe is given."""
    h, b = tiny()
    states = torch.randn(16 * BLOCK, 3, generator=torch.Generator().manual_seed(0))
    behavior = fit_behavior(chain(), h, b, streams(), NoStore())
    store = FileStore(str(folder)) if folder else NoStore()
    return sample_support(behavior, states, 4, streams(), store, {})


def test_sampling_killed_twice_ends_with_every_block_once(tmp_path):
    blocks = lambda: len(list(tmp_path.glob("*.blocks/*.safetensors")))
    kept = []
    for _ in range(2):
        (process, _), deadline = forked.started(sampled, tmp_path), time.monotonic() + 120
        before = blocks()
        while blocks() <= before + 1 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
        process.join(60)
        kept.append(blocks())
    assert 0 < kept[0] < kept[1] < 16, "killed too early or too late to show anything"
    resumed, whole = sampled(None, tmp_path), sampled(None, None)
    assert torch.equal(resumed.actions, whole.actions)
    assert torch.equal(resumed.log_prob, whole.log_prob)
