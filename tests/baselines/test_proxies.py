"""What the learned proxies promise: they rank data above noise, reach the action by a gradient, and
resume bit for bit.
"""

from dataclasses import replace

import pytest
import torch
from problems import chain, streams, tiny

from arq_core.algorithm.types import Transitions
from arq_core.baselines import proxies
from arq_core.engine import train as train_module
from arq_core.engine.filestore import FileStore
from arq_core.engine.store import NoStore
from arq_core.engine.streams import Streams

OF_PAIRS = [
    proxies.fit_reconstruction,
    proxies.fit_pseudometric,
    proxies.fit_dynamics,
    proxies.fit_gaussian_log_prob,
]


def pushes(m=2000, noise=0.0) -> Transitions:
    """One step from a position x in [-1, 1] by an action near x/2: s' = x + a (with noise where a >
    0), reward a; then the process ends.
    """
    g = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(m, 1, generator=g) - 1
    a = (x / 2 + 0.1 * torch.randn(m, 1, generator=g)).clamp(-1, 1)
    after = x + a + noise * torch.randn(m, 1, generator=g) * (a > 0)
    row = torch.arange(m)
    return Transitions(
        torch.cat([x, after]), row, row + m, a, a[:, 0], torch.ones(m, dtype=torch.bool), row
    )


def trained(fit, data, **changes):
    h, b = tiny(policy_steps=400)
    return fit(
        data, replace(h, **(dict(policy_lr=4e-3, batch=128) | changes)), b, streams(), NoStore()
    )


STATES = torch.linspace(-0.8, 0.8, 9)[:, None].expand(2, -1, -1)


@pytest.mark.parametrize("fit", OF_PAIRS)
def test_a_gradient_reaches_the_action_and_no_weight(fit):
    h, b = tiny()
    proxy = fit(chain(), h, b, streams(), NoStore())
    actions = (torch.rand(2, 6, 4, 2) - 0.5).requires_grad_()
    values = proxy(torch.randn(2, 6, 3), actions)
    assert values.shape == (2, 6, 4)
    values.sum().backward()
    assert torch.isfinite(actions.grad).all() and (actions.grad.abs().sum(-1) > 0).all()


def test_mean_clone_is_the_conditional_mean():
    """E[a|s] = s/2 here, to a fifth of the action's noise."""
    beta = trained(proxies.fit_mean, pushes())(STATES)
    assert beta.shape == (2, 9, 1) and (beta - STATES / 2).abs().mean() < 0.02


def test_gaussian_clone_gives_the_log_density_of_the_standardised_action():
    """At its mean log N = -log(std/scale) - log(2 pi)/2, with std 0.1 and the scale of the
    actions.
    """
    data = pushes()
    log_prob = trained(proxies.fit_gaussian_log_prob, data)(STATES, STATES[:, :, None] / 2)
    expected = -torch.log(0.1 / data.actions.std()) - 0.5 * torch.log(torch.tensor(2 * torch.pi))
    assert (log_prob - expected).abs().mean() < 0.15


def test_pseudometric_is_small_on_the_data_and_grows_with_the_difference_of_reward():
    """Every step is the last, so the fixed point is |r - r'|: an action beyond the data lies as far
    from it as its reward does, had it been seen.
    """
    distance = trained(proxies.fit_pseudometric, pushes())
    on, off = distance(STATES, STATES[:, :, None] / 2), distance(STATES, torch.ones(2, 9, 1, 1))
    assert on.mean() < 0.05 and (off > on).all()


def test_states_are_as_far_apart_as_what_uniform_actions_do_there():
    """At the fixed point the loss is zero: with Phi = (a) and Psi = 0, rewards a and only last
    steps.
    """

    class Exact(torch.nn.Module):
        pair = staticmethod(lambda states, actions: actions)
        of_state = staticmethod(torch.zeros_like)

    a = 2 * torch.rand(2, 8, 1) - 1
    anywhere = torch.zeros(2, 8, 1)
    loss = proxies.pseudometric_loss(
        Exact(),
        Exact(),
        torch.randn(2, 8, 1),
        a,
        torch.randn(2, 8, 1),
        a[..., 0],
        torch.ones(2, 8, dtype=torch.bool),
        anywhere,
        0.9,
    )
    torch.testing.assert_close(loss, torch.zeros(2), atol=1e-9, rtol=0)


def test_the_pseudometric_bootstraps_from_the_next_states_unless_the_process_ended():
    """|r - r'| = 0 leaves gamma ‖Psi(s') - Psi(t')‖ as the goal of pairs that are embedded
    alike.
    """

    class Fixed(torch.nn.Module):
        pair = staticmethod(lambda states, actions: torch.zeros_like(states))
        of_state = staticmethod(lambda states: states)

    after, same = torch.tensor([[[1.0], [3.0]]]), torch.zeros(1, 2, 1)
    for over, expected in ((False, (0.5 * 2.0) ** 2), (True, 0.0)):
        loss = proxies.pseudometric_loss(
            Fixed(),
            Fixed(),
            same,
            same,
            after,
            torch.zeros(1, 2),
            torch.full((1, 2), over),
            same,
            0.5,
        )
        torch.testing.assert_close(loss, torch.tensor([expected]), atol=1e-5, rtol=0)


def test_reconstruction_error_is_smaller_on_the_data_than_far_from_it():
    error = trained(proxies.fit_reconstruction, pushes())
    far = -torch.sign(STATES + 0.01)[:, :, None]
    assert error(STATES, STATES[:, :, None] / 2).mean() < error(STATES, far).mean()


def test_dynamics_spread_is_larger_where_the_process_is_noisy():
    spread = trained(proxies.fit_dynamics, pushes(noise=0.5))
    noisy, calm = torch.full((2, 1, 1), 0.8), torch.full((2, 1, 1), -0.8)
    assert (spread(noisy, noisy[:, :, None] / 2) > 2 * spread(calm, calm[:, :, None] / 2)).all()


@pytest.mark.parametrize("fit", OF_PAIRS)
def test_member_computes_what_it_computes_alone(fit):
    data, (h, b) = chain(), tiny()
    states, actions = torch.randn(2, 6, 3), torch.rand(2, 6, 4, 2) - 0.5
    both, alone = (
        fit(data, h, b, streams(0, 1), NoStore())(states, actions),
        fit(data, h, b, streams(1), NoStore())(states[1:], actions[1:]),
    )
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fit", OF_PAIRS)
def test_interrupted_proxy_ends_with_the_weights_of_an_uninterrupted_one(
    fit, tmp_path, monkeypatch
):
    data, (h, b) = chain(), tiny()
    states, actions = torch.randn(2, 6, 3), torch.rand(2, 6, 4, 2) - 0.5
    straight = fit(data, h, b, streams(), NoStore())(states, actions)
    monkeypatch.setattr(train_module, "CHECKPOINT_SECONDS", 0.0)
    store = FileStore(tmp_path)
    save = store.save

    def interrupt(name, key, tensors):
        save(name, key, tensors)
        if int(tensors.get("step", 0)) == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(data, h, b, streams(), store)
    monkeypatch.undo()
    assert torch.equal(straight, fit(data, h, b, streams(), FileStore(tmp_path))(states, actions))
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: pytest.fail("trained again"))
    assert torch.equal(
        straight, fit(data, h, b, Streams((0, 1)), FileStore(tmp_path))(states, actions)
    )
