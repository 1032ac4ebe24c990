"""TD3+BC: its losses by hand, its delay, and two steps against plain networks."""

from dataclasses import replace

import pytest
import torch
from by_hand import assert_same, follow, member, mlp, optimiser, saved_after, step, twins
from problems import chain, streams, tiny

from arq_core.algorithm.types import DataError
from arq_core.baselines.neighbours import of_unit_size, smoothed, standardised
from arq_core.baselines.networks import DeterministicActor, Standardised
from arq_core.baselines.td3_bc import actor_loss, fit_td3_bc
from arq_core.engine.store import NoStore


def test_the_actors_loss_by_hand():
    """Q of 1 and -3 are 2 in size, so alpha = 2.5 weighs them by 1.25: 1.25; and errors of .1 and
    .3 in two dimensions, of 0 at the other state, are (.01 + .09)/4."""
    q = torch.tensor([[1.0, -3.0]])
    assert of_unit_size(q).tolist() == [[0.5, -1.5]]
    a = torch.zeros(1, 2, 2)
    assert actor_loss(q, a, a, 2.5).item() == pytest.approx(1.25)
    off = torch.tensor([[[0.1, -0.3], [0.0, 0.0]]])
    assert actor_loss(q, off, a, 2.5).item() == pytest.approx(1.25 + 0.025)


def test_a_reward_in_other_units_does_not_move_the_actor():
    """Its gradient by Q is the same where Q is ten times as large."""
    a = torch.rand(1, 4, 2)

    def gradient(scale):
        x = torch.tensor([[0.3, -1.0, 2.0, 0.7]], requires_grad=True)
        return torch.autograd.grad(actor_loss(scale * x, a, a, 2.5).sum(), x)[0]

    torch.testing.assert_close(gradient(10.0), gradient(1.0))


def test_the_targets_action_by_hand():
    """Noise is cut at the bound, and the sum at the box."""
    a, noise = torch.tensor([[[0.9, 0.0, -0.9]]]), torch.tensor([[[2.0, -2.0, 0.2]]])
    torch.testing.assert_close(smoothed(a, noise, 0.5), torch.tensor([[[1.0, -0.5, -0.7]]]))


def test_states_are_standardised_over_the_states_that_something_was_done_in():
    """Of 0, 2 and a last one that nothing follows: mean 1, std 1."""
    data = replace(
        chain(1, 2, state_dim=1),
        states=torch.tensor([[0.0], [2.0], [100.0]]),
        actions=torch.zeros(2, 2),
    )
    seen, mean, scale = standardised(data, 1e-3)
    assert mean.item() == 1 and scale.item() == pytest.approx(1.001)
    torch.testing.assert_close(seen.states[:2], torch.tensor([[-1.0], [1.0]]) / 1.001)


def test_a_policy_takes_states_as_they_are_recorded():
    data, (hyper, budget) = chain(), tiny()
    for states, wanted in (("standardised", Standardised), ("as recorded", DeterministicActor)):
        own = replace(hyper, td3_bc=dict(hyper.td3_bc, states=states))
        policy = fit_td3_bc(data, own, budget, streams(), NoStore())
        assert type(policy.head) is wanted
        with pytest.raises(DataError, match="states: saw dimension 4, expected 3"):
            policy.act(torch.zeros(2, 1, 4), streams())
    actor, shift = DeterministicActor(3, 2, streams(), [8]), torch.tensor([1.0, 2.0, 3.0])
    x = torch.randn(2, 5, 3)
    inside = Standardised(actor, shift, 2 * shift, 2)
    torch.testing.assert_close(inside(shift + 2 * shift * x), actor(x))


def small(**changes):
    hyper, _ = tiny()
    return replace(hyper, td3_bc=dict(hyper.td3_bc, width=8, batch=16, polyak=0.9, **changes))


def test_one_step_moves_the_critics_alone_and_the_second_everything():
    data, hyper = chain(), small()
    start, one, two = (
        saved_after(fit_td3_bc, data, hyper, tiny(td3_bc_steps=n)[1], streams()) for n in (0, 1, 2)
    )
    for k in (k for k in start if k.split(".")[0].endswith(("critic", "actor"))):
        first = k.split(".")[0]
        assert torch.equal(start[k], one[k]) is (first != "critic")
        assert not torch.equal(one[k], two[k])


@pytest.mark.parametrize("states", ["standardised", "as recorded"])
def test_two_steps_are_the_authors_critics_then_actor_then_averages(states):
    """Against autograd and torch.optim on plain networks with the same weights, batch and noise."""
    data, hyper = chain(), small(states=states)
    own = hyper.td3_bc
    start, end = (
        saved_after(fit_td3_bc, data, hyper, tiny(td3_bc_steps=n)[1], streams()) for n in (0, 2)
    )
    kept = data.states[data.state]
    seen = data.states
    if states == "standardised":
        seen = (data.states - kept.mean(0)) / (kept.std(0, correction=0) + 1e-3)
    draws = streams().fork("td3+bc")
    steps = [(draws.randint(len(data.actions), 16), draws.randn(16, 2)) for _ in range(2)]
    for e in range(2):
        w = member(start, e)
        of_critic, of_actor = (optimiser(w, m, own["lr"]) for m in ("critic", "actor"))
        for number, (m, noise) in enumerate(steps):
            s, after = seen[data.state[m[e]]], seen[data.next_state[m[e]]]
            a, r, d = data.actions[m[e]], data.rewards[m[e]], data.terminals[m[e]].float()
            z = (own["noise"] * noise[e]).clamp(-own["noise_clip"], own["noise_clip"])
            then = (mlp(w, "late_actor.net", after).tanh() + z).clamp(-1, 1)
            y = r + hyper.gamma * (1 - d) * twins(w, "late_critic", after, then).amin(0)
            q = twins(w, "critic", s, a)
            step(of_critic, sum(torch.nn.functional.mse_loss(x, y.detach()) for x in q))
            if number == 1:
                pi = mlp(w, "actor.net", s).tanh()
                first = twins(w, "critic", s, pi)[0]
                weight = own["alpha"] / first.abs().mean().detach()
                step(of_actor, -weight * first.mean() + torch.nn.functional.mse_loss(pi, a))
                follow(w, "late_critic", "critic", own["polyak"])
                follow(w, "late_actor", "actor", own["polyak"])
        assert_same(w, end, e)


def test_states_that_are_neither_are_refused():
    data, budget = chain(), tiny()[1]
    with pytest.raises(DataError, match="td3_bc.states: saw 'raw', expected one of 'standardised'"):
        fit_td3_bc(data, small(states="raw"), budget, streams(), NoStore())
