"""Soft actor-critic: its equations, the same update twice (torch and C++), resumption, and a
problem that it must solve.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.stats import norm

pytest.importorskip("mujoco", reason="the simulators are not installed")

from arq_core.algorithm.types import DataError  # noqa: E402
from arq_core.collectors.policies.acting import LOG_STD, squashed  # noqa: E402
from arq_core.collectors.policies.sac import Training  # noqa: E402
from arq_core.collectors.policies.sac_learner import (  # noqa: E402
    UPDATES,
    Adam,
    Learner,
    Settings,
    critic_loss,
    soft_target,
)

TINY = Settings(
    steps=600, width=16, batch=8, uniform=100, actor_every=200, state_every=100, update="torch"
)
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="saw no g++, which the fast update is compiled with"
)


class Bandit:
    """One state; the reward of an action in [-1, 1]² is minus its squared distance to TARGET, and
    the episode ends after 5 steps.
    """

    state_dim, action_dim, horizon = 1, 2, 5
    TARGET = np.array([0.5, -0.3])

    def reset(self, seeds):
        return np.zeros((1, 1), np.float32)

    def step(self, actions):
        return (
            np.zeros((1, 1), np.float32),
            -np.square(actions - self.TARGET).sum(1),
            np.zeros(1, bool),
            np.zeros(1, bool),
        )


def learner(update, width=32, batch=16):
    chosen = Learner(5, 2, replace(TINY, width=width, batch=batch, update=update))
    chosen.replay.copy_(
        torch.randn(chosen.replay.shape, generator=torch.Generator().manual_seed(1))
    )
    chosen.replay[:, 8] = (chosen.replay[:, 8] > 1).float()
    return chosen


def test_log_prob_of_a_squashed_action_matches_the_closed_form():
    rng = torch.Generator().manual_seed(0)
    parameters = 0.5 * torch.randn(1, 50, 6, dtype=torch.float64, generator=rng)
    noise = torch.randn(1, 50, 3, dtype=torch.float64, generator=rng)
    actions, log_prob = squashed(parameters, noise)
    mean, std = parameters[..., :3].numpy(), parameters[..., 3:].exp().numpy()
    u = np.arctanh(actions.numpy())
    expected = (norm.logpdf(u, mean, std) - np.log(1 - actions.numpy() ** 2)).sum(-1)
    np.testing.assert_allclose(log_prob.numpy(), expected, rtol=1e-6)


def test_density_of_squashed_actions_integrates_to_one():
    u = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[None, :, None]
    mean, log_std = torch.tensor(0.4), torch.tensor(0.3)
    noise = (u - mean) / log_std.exp()
    actions, log_prob = squashed(
        torch.stack([mean, log_std]).double().expand(1, len(u[0]), 2), noise
    )
    assert float(torch.trapezoid(log_prob[0].exp(), actions[0, :, 0])) == pytest.approx(1, abs=1e-4)


def test_log_prob_is_finite_where_tanh_is_one():
    _, log_prob = squashed(torch.tensor([[[50.0, 0.0]]]), torch.zeros(1, 1, 1))
    assert torch.isfinite(log_prob).all()


def test_soft_target_takes_the_smaller_critic_and_stops_at_terminals():
    got = soft_target(
        torch.tensor([[1.0, 5.0], [2.0, 4.0]]),
        torch.tensor([-1.0, 3.0]),
        torch.tensor([0.5, 0.5]),
        torch.tensor([0.0, 1.0]),
        torch.tensor(0.1),
        0.9,
    )
    assert got.tolist() == pytest.approx([0.5 + 0.9 * (1.0 + 0.1), 0.5])


def test_critic_loss_is_zero_at_the_soft_bellman_fixed_point():
    """One state, one action, reward 1, no entropy: Q = 1/(1 - γ)."""

    def constant(value):
        return lambda states, actions: torch.full((2, *actions.shape[1:3]), value)

    batch = [torch.zeros(4, 1), torch.zeros(4, 1), torch.ones(4), torch.zeros(4), torch.zeros(4, 1)]
    arguments = (
        lambda s: torch.zeros(1, 4, 2),
        torch.tensor(-torch.inf),
        batch,
        torch.zeros(1, 4, 1),
        0.9,
    )
    assert float(critic_loss(constant(10.0), constant(10.0), *arguments)) == pytest.approx(
        0, abs=1e-9
    )
    assert float(critic_loss(constant(9.0), constant(10.0), *arguments)) == pytest.approx(2)


def test_adam_follows_its_formula():
    ours, gradients = torch.ones(2), np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.1]])
    adam, expected, mean, square = Adam([ours], 0.1), np.ones(2), 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        adam.step([torch.tensor(g, dtype=torch.float32)])
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
        expected -= 0.1 * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@needs_compiler
@pytest.mark.parametrize("width, batch", [(32, 16), (16, 7), (48, 13)])
def test_fast_update_is_the_torch_update(width, batch):
    both = [learner(update, width, batch) for update in sorted(UPDATES)]
    for _ in range(5):
        for one in both:
            one.update(600)
    got, expected = (one.tensors() for one in both)
    for name in expected:
        torch.testing.assert_close(
            got[name],
            expected[name],
            rtol=2e-4,
            atol=2e-6,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@needs_compiler
def test_fast_update_passes_no_gradient_through_a_clamped_standard_deviation():
    both = [learner(update) for update in sorted(UPDATES)]
    for one in both:
        with torch.no_grad():
            one.actor.layers[2].bias[..., 2:] = LOG_STD[1] + 1
        one.update(600)
    for one in both:
        assert (one.adam["actor"].mean[5][..., 2:] == 0).all() and (
            one.adam["actor"].mean[5][..., :2] != 0
        ).all()


@needs_compiler
def test_fast_update_refuses_a_width_it_cannot_have():
    with pytest.raises(DataError, match="multiple of 16"):
        learner("native", width=20)


@pytest.mark.parametrize("update", [pytest.param("native", marks=needs_compiler), "torch"])
def test_interrupted_training_takes_the_same_steps(tmp_path, update):
    chosen = replace(TINY, update=update, steps=240, actor_every=120, state_every=60)
    Training("hopper", chosen, tmp_path / "whole").run()
    Training("hopper", chosen, tmp_path / "halves").run(until=130)
    killed = Training("hopper", chosen, tmp_path / "halves")
    assert 130 <= killed.taken < 240
    killed.settings = replace(chosen, state_every=10_000)
    killed.run_episode()  # whose state is never kept
    killed.log.write_text(killed.log.read_text(encoding="utf-8") + "lost\n", encoding="utf-8")
    Training("hopper", chosen, tmp_path / "halves").run()
    whole, halves = (
        safetensors.torch.load_file(tmp_path / name / "state.safetensors")
        for name in ("whole", "halves")
    )
    assert whole.keys() == halves.keys()
    for name in whole:
        assert torch.equal(whole[name], halves[name]), name
    for name in ("episodes.jsonl", "actor-0000120.safetensors", "actor-0000240.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (
            tmp_path / "halves" / name
        ).read_bytes(), name


def test_a_folder_of_other_settings_is_refused(tmp_path):
    Training("hopper", TINY, tmp_path)
    with pytest.raises(DataError, match="another folder"):
        Training("hopper", replace(TINY, seed=1), tmp_path)


def test_time_limit_is_no_terminal(tmp_path):
    training = Training("bandit", replace(TINY, steps=20), tmp_path, Bandit())
    training.run()
    assert training.taken == 20 and not training.learner.replay[:, 1 + 2 + 1].any()
    lines = [
        json.loads(line)
        for line in (tmp_path / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [line["steps"] for line in lines] == [5, 10, 15, 20]


def test_it_finds_the_best_action_of_a_bandit(tmp_path):
    update = "native" if shutil.which("g++") else "torch"
    chosen = replace(TINY, steps=1_000, width=32, batch=32, lr=3e-3, gamma=0.5, update=update)
    training = Training("bandit", chosen, tmp_path, Bandit())
    training.run()
    np.testing.assert_allclose(
        training.act(np.zeros(1, np.float32), np.zeros(2)), Bandit.TARGET, atol=0.1
    )


def test_acting_is_the_squashed_normal(tmp_path):
    training, noise = Training("hopper", TINY, tmp_path), torch.randn(1, 7, 3)
    states = torch.randn(1, 7, 11)
    expected, _ = squashed(training.learner.actor(states), noise)
    got = np.stack([training.act(s.numpy(), z.numpy()) for s, z in zip(states[0], noise[0])])
    np.testing.assert_allclose(got, expected[0].detach(), rtol=1e-4, atol=1e-5)
