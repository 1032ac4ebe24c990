"""Direct Q-penalisation: limits of the strength, what the best action in the data is worth, and
exact resumption.
"""

from dataclasses import replace

import pytest
import torch
from problems import chain, streams, tiny

from arq_core.algorithm.types import DataError, Transitions
from arq_core.baselines import proxies
from arq_core.baselines.penalised import ROWS, Actor, fit_actor_critic, fit_row
from arq_core.engine import train as train_module
from arq_core.engine.filestore import FileStore
from arq_core.engine.store import NoStore

STATES = torch.zeros(2, 1, 1)


def bandit(m=1000, centre=0.3, spread=0.1, slope=1.0) -> Transitions:
    """One step from one state: actions are normal around `centre`, the reward is slope·a, and the
    process ends.
    """
    a = (centre + spread * torch.randn(m, 1, generator=torch.Generator().manual_seed(0))).clamp(
        -1, 1
    )
    row = torch.zeros(m, dtype=torch.int64)
    return Transitions(
        torch.zeros(1, 1),
        row,
        row,
        a,
        slope * a[:, 0],
        torch.ones(m, dtype=torch.bool),
        torch.arange(m),
    )


def problem(steps=300, proxy_steps=200, **dqp):
    h, b = tiny(q_steps=steps, policy_steps=proxy_steps)
    strengths = {k.replace("_", "-"): float(v) for k, v in dqp.items()}
    return replace(h, batch=64, q_lr=4e-3, policy_lr=4e-3, dqp={**h.dqp, **strengths}), b


def fitted(row, data, h, b, store=None):
    return fit_row(row, data, h, b, streams(), store or NoStore())


def test_actor_log_density_is_that_of_the_squashed_gaussian():
    """log pi(a) = log N(artanh a; mean, std) - sum log(1 - a²), written out in double precision."""
    actor, states = Actor(3, 2, streams(), 16), torch.randn(2, 5, 3)
    actions, log_pi = actor.sample(states, 7, streams().fork("draw"))
    mean, log_std = (x.double() for x in actor.net(states)[:, :, None].chunk(2, -1))
    a = actions.double()
    expected = (
        torch.distributions.Normal(mean, log_std.exp()).log_prob(a.atanh()) - (1 - a.square()).log()
    )
    # nearer to the box's edge artanh magnifies the rounding of a float32 beyond 50 times
    inner = a.abs().amax(-1) < 0.99
    assert inner.any()
    torch.testing.assert_close(
        log_pi.double()[inner], expected.sum(-1)[inner], rtol=1e-4, atol=1e-4
    )


def test_without_a_penalty_the_actor_leaves_the_data_for_the_edge_of_the_box():
    """Q is linear in the data, so an unpenalised actor follows it beyond them: data end near
    0.6.
    """
    h, b = problem(temperature=0.01)
    assert (fitted("none", bandit(), h, b).act(STATES, streams()) > 0.8).all()


@pytest.mark.parametrize("row, alpha", [("brac-kl", 1.0), ("td3+bc", 10.0)])
def test_a_penalty_keeps_the_actor_where_slope_and_penalty_balance(row, alpha):
    """Q = a: brac-kl's alpha (a - c)²/(2 std²) balances at c + std²/alpha = 0.31, td3+bc's alpha (a
    - c)² at c + 1/(2 alpha) = 0.35.
    """
    h, b = problem(temperature=0.001, **{row: alpha})
    expected = {"brac-kl": 0.3 + 0.1**2 / alpha, "td3+bc": 0.3 + 1 / (2 * alpha)}[row]
    actions = fitted(row, bandit(), h, b).act(STATES, streams())
    assert (actions - expected).abs().max() < 0.04


def test_brac_kl_at_a_strength_equal_to_the_temperature_is_the_clone_where_nothing_is_at_stake():
    """With rewards of 0, KL(pi ‖ beta) is all there is: mean and standard deviation are the
    data's.
    """
    h, b = problem(temperature=1.0, brac_kl=1.0)
    head = fitted("brac-kl", bandit(slope=0.0), h, b).head
    actions, _ = head.sample(STATES, 4000, streams().fork("draw"))
    assert (actions.mean((1, 2, 3)) - 0.3).abs().max() < 0.03 and (
        actions.std((1, 2, 3)) - 0.1
    ).abs().max() < 0.03


def test_a_huge_strength_of_brac_kl_recovers_the_clones_mode_whatever_the_rewards():
    h, b = problem(temperature=0.01, brac_kl=1e3)
    assert (
        fitted("brac-kl", bandit(slope=-1.0), h, b).act(STATES, streams()) - 0.3
    ).abs().max() < 0.03


@pytest.mark.parametrize("row", [row for row in ROWS if row != "none"])
def test_zero_strength_equals_no_penalty(row):
    data, (h, b) = chain(), tiny()
    h = replace(h, dqp=dict(h.dqp, **{row: 0.0}))
    states, samples = torch.randn(2, 6, 3), ROWS[row].samples
    penalty = ROWS[row].penalty(0.0, data, h, b, streams(), NoStore())
    zero = penalty(
        states, torch.rand(2, 6, samples, 2) - 0.5, torch.randn(2, 6, samples), streams()
    )
    assert torch.equal(zero, torch.zeros(2, 6, samples))
    # and then both draw the same numbers
    if samples == 1:
        assert torch.equal(
            fitted(row, data, h, b).act(states, streams()),
            fitted("none", data, h, b).act(states, streams()),
        )


@pytest.mark.parametrize("row", [row for row in ROWS if row != "none"])
def test_a_gradient_reaches_the_action_through_every_row(row):
    data, (h, b) = chain(), tiny()
    penalty = ROWS[row].penalty(1.0, data, h, b, streams(), NoStore())
    actions = (torch.rand(2, 6, 4, 2) - 0.5).requires_grad_()
    penalty(torch.randn(2, 6, 3), actions, torch.ones(2, 6, 4), streams()).sum().backward()
    assert torch.isfinite(actions.grad).all() and (actions.grad.abs().sum(-1) > 0).all()


def test_the_actor_moves_no_critic_and_the_critics_error_no_actor():
    """A penalty that depends on the action alone changes the actor after a step, and no critic (the
    process ends, so it enters no target).
    """
    h, b = problem(steps=1)
    saved = []

    class Keep(NoStore):
        def save(self, name, key, tensors):
            saved.append({k: v.clone() for k, v in tensors.items()})

    for alpha in (0.0, 5.0):
        fit_actor_critic(
            bandit(),
            lambda s, a, q, rng, alpha=alpha: alpha * a.square().sum(-1),
            {},
            h,
            b,
            streams(),
            Keep(),
        )
    without, with_ = saved
    assert all(torch.equal(without[k], with_[k]) for k in without if k.startswith("net.critic"))
    assert any(not torch.equal(without[k], with_[k]) for k in without if k.startswith("net.actor"))


@pytest.mark.parametrize("row", ["brac-mmd"])  # whose penalty draws, too
def test_interrupted_training_ends_with_the_weights_of_an_uninterrupted_run(
    row, tmp_path, monkeypatch
):
    data, (h, b), states = chain(), tiny(), torch.randn(2, 6, 3)
    straight = fitted(row, data, h, b).act(states, streams())
    monkeypatch.setattr(train_module, "CHECKPOINT_SECONDS", 0.0)
    store = FileStore(tmp_path)
    save = store.save

    def interrupt(name, key, tensors):
        save(name, key, tensors)
        if name == "dqp.partial" and int(tensors["step"]) == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fitted(row, data, h, b, store)
    monkeypatch.undo()
    assert torch.equal(
        straight, fitted(row, data, h, b, FileStore(tmp_path)).act(states, streams())
    )


def test_samples_of_mmd_are_those_of_the_clone_that_anti_exploration_reconstructs_with(tmp_path):
    """One conditional VAE serves both: the second finds the first's file."""
    h, b = problem()
    proxies.fit_reconstruction(bandit(), h, b, streams(), FileStore(tmp_path))
    draw = proxies.fit_sampler(bandit(), h, b, streams(), FileStore(tmp_path))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert (draw(STATES, 2000, streams().fork("draw")).mean((1, 2, 3)) - 0.3).abs().max() < 0.05


@pytest.mark.parametrize(
    "row, dqp, message",
    [
        ("bear", {}, "row: saw 'bear', expected one of 'none', 'brac-kl'"),
        ("mopo", {"mopo": -1.0}, "dqp.mopo: saw -1.0, expected a finite number >= 0"),
        ("mopo", {"mopo": float("inf")}, "dqp.mopo: saw inf, .*use arq[+]s_psi"),
    ],
)
def test_unusable_strengths_are_refused(row, dqp, message):
    h, b = tiny()
    with pytest.raises(DataError, match=message):
        fitted(row, chain(), replace(h, dqp={**h.dqp, **dqp}), b)


def test_a_strength_that_is_not_given_is_refused():
    h, b = tiny()
    with pytest.raises(
        DataError, match="dqp: saw no 'mopo' among temperature, expected its strength"
    ):
        fitted("mopo", chain(), replace(h, dqp=dict(temperature=0.01)), b)
