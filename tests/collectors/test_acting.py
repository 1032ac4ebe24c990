"""Acting: the densities of squashed actions, and episodes side by side."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

pytest.importorskip("mujoco", reason="the simulators are not installed")

from saved_policies import archive, tensors  # noqa: E402

from arq_core.collectors.policies.acting import episodes, score, squashed  # noqa: E402
from arq_core.collectors.policies.archives import read_policy  # noqa: E402
from arq_core.engine.streams import Streams  # noqa: E402
from arq_core.envs.locomotion import KINDS  # noqa: E402


@pytest.fixture
def act(tmp_path):
    """A made-up policy of Hopper."""
    path = archive(tmp_path / "a.zip", "sac", tensors("sac", 11, 3))
    return read_policy(path, None, "sac", 11, 11, 3)


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


def test_side_by_side_episodes_are_those_stepped_alone(act):
    together = episodes(act, KINDS["hopper"](3), [1, 2, 3], None)
    for seed, episode in zip((1, 2, 3), together):
        (alone,) = episodes(act, KINDS["hopper"](1), [seed], None)
        assert (
            len(alone["actions"]) == len(episode["actions"])
            and alone["terminal"] == episode["terminal"]
        )
        np.testing.assert_allclose(alone["observations"], episode["observations"], atol=1e-2)
    drawn = [episodes(act, KINDS["hopper"](3), [1, 2, 3], Streams([0])) for _ in range(2)]
    for one, two in zip(*drawn):
        np.testing.assert_array_equal(one["actions"], two["actions"])


def test_a_score_is_of_ten_episodes_each_way_from_the_same_starts(act):
    scores = score(act, KINDS["hopper"](10))
    assert {name: s["episodes"] for name, s in scores.items()} == dict(
        deterministic=10, stochastic=10
    )
    assert scores == score(act, KINDS["hopper"](10))
