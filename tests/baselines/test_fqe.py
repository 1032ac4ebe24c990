"""Fitted Q evaluation against values that are solved for, and its parts against plain torch."""

from dataclasses import replace

import pytest
import torch
from problems import chain, streams
from torch import nn

from arq_core.algorithm.types import DataError, Transitions
from arq_core.baselines.fqe import (
    Episodes,
    Fitting,
    actions_of,
    bellman_error,
    first_rows,
    fit_fqe,
)
from arq_core.engine.store import NoStore
from arq_core.engine.streams import Streams

GAMMA = 0.9
QUICK = Fitting(warm_steps=50, steps=50, batch=32, width=16, heads=3, draws=2)


def test_loss_and_gradient_are_those_of_a_network_written_by_hand():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 5, generator=g), torch.randn(6, 5, generator=g)
    net, late = nn.Linear(5, 1), nn.Linear(5, 1)
    rewards, terminals = torch.randn(6, generator=g), torch.tensor([0, 1, 0, 0, 1, 0]).bool()
    q, after = net(x).squeeze(1), late(y).squeeze(1).detach()
    ours = bellman_error(q, rewards, (~terminals).float(), after, GAMMA)
    found = torch.autograd.grad(ours, net.weight)[0]
    total, slope = 0.0, torch.zeros(1, 5)
    for i in range(6):
        target = rewards[i] + (0.0 if terminals[i] else GAMMA * after[i])
        error = (target - net(x[i])[0]).detach()
        total, slope = total + error**2 / 6, slope - 2 * error * x[i] / 6
    torch.testing.assert_close(ours.detach(), total)
    torch.testing.assert_close(found, slope)


def test_a_linear_critic_stays_where_the_normal_equations_put_it():
    """LSTD-Q (Lagoudakis and Parr 2003): A w = b with A = phi' (phi - gamma (1 - d) phi')."""
    g = torch.Generator().manual_seed(1)
    phi, ahead = torch.randn(2, 40, 4, generator=g, dtype=torch.float64)
    rewards = torch.randn(40, generator=g, dtype=torch.float64)
    going_on = (torch.rand(40, generator=g) < 0.8).double()
    a = phi.T @ (phi - GAMMA * going_on[:, None] * ahead)
    w = torch.linalg.solve(a, phi.T @ rewards).requires_grad_()
    loss = bellman_error(phi @ w, rewards, going_on, (ahead @ w).detach(), GAMMA)
    assert torch.autograd.grad(loss, w)[0].abs().max() < 1e-10
    elsewhere = bellman_error(phi @ (2 * w), rewards, going_on, (ahead @ (2 * w)).detach(), GAMMA)
    assert torch.autograd.grad(elsewhere, w)[0].abs().max() > 1e-3


PLACES, RIGHT = 4, 0.5  # a corridor: left ends with 0.2, right of the last place with 1


def _corridor() -> Transitions:
    """Every place and both directions, thirty times, each an episode of one step."""
    rows = [(s, a) for s in range(PLACES) for a in (-RIGHT, RIGHT)] * 30
    there = [s + (1 if a > 0 else -1) for s, a in rows]
    ends = torch.tensor([not 0 <= t < PLACES for t in there])
    pay = torch.tensor([1.0 if t == PLACES else 0.2 if t < 0 else 0.0 for t in there])
    states = torch.arange(PLACES)[:, None].float()
    return Transitions(
        states,
        torch.tensor([s for s, _ in rows]),
        torch.tensor(there).clamp(0, PLACES - 1),
        torch.tensor([[a] for _, a in rows]),
        pay,
        ends,
        torch.arange(len(rows)),
    )


def _solved(right: float) -> torch.Tensor:
    """Values of the places under a policy that goes right with this probability."""
    p, r = torch.zeros(PLACES, PLACES, dtype=torch.float64), torch.zeros(PLACES).double()
    for s in range(PLACES):
        for chance, there in ((right, s + 1), (1 - right, s - 1)):
            if 0 <= there < PLACES:
                p[s, there] += chance
            else:
                r[s] += chance * (1.0 if there == PLACES else 0.2)
    return torch.linalg.solve(torch.eye(PLACES).double() - GAMMA * p, r).float()


def test_values_of_three_policies_are_the_solution_of_a_corridor():
    data, how = _corridor(), Fitting(warm_steps=1, steps=900, batch=64, width=32, heads=2)
    # of four draws a state, so many go right
    actions = torch.full((3, PLACES, 4, 1), -RIGHT)
    actions[1, :, :3] = RIGHT
    actions[2] = RIGHT
    fitted = fit_fqe(data, actions, GAMMA, how, streams(), NoStore())
    found = fitted.values(data.states, actions)
    expected = torch.stack([_solved(p) for p in (0.0, 0.75, 1.0)])
    assert (found - expected[:, None]).abs().max() < 0.04
    assert expected[2, 0] > expected[0, 0] + 0.4  # a policy that is mistaken for another is seen


def test_a_head_sees_the_episodes_that_it_drew_and_each_transition_equally_often():
    data = chain(episodes=3, length=4)
    keep = torch.tensor([0, 1, 4, 5, 6, 7, 8, 9, 10])  # episodes of 2, 4 and 3 transitions
    data = data.select(keep)
    assert first_rows(data).tolist() == [0, 2, 6]
    length = torch.tensor([2, 4, 3])
    episodes = Episodes(first_rows(data), length, torch.tensor([[1, 1, 0], [2, 0, 2]]))
    u = torch.stack([(torch.arange(n) + 0.5)[:8] / n for n in (10, 8)])
    rows = episodes.rows(u)
    assert rows.tolist() == [[2, 3, 4, 5, 2, 3, 4, 5], [6, 7, 8, 0, 1, 6, 7, 8]]
    assert episodes.rows(torch.full((2, 1), 0.999999)).tolist() == [[1], [8]]


def test_a_policy_has_the_same_value_alone_and_beside_others():
    data = chain(episodes=6, length=5)
    g = torch.Generator().manual_seed(3)
    actions = torch.rand(3, len(data.states), 2, 2, generator=g) - 0.5
    heads = Streams(range(3))
    together = fit_fqe(data, actions, GAMMA, QUICK, heads, NoStore()).values(data.states, actions)
    alone = fit_fqe(data, actions[1:2], GAMMA, QUICK, heads, NoStore())
    torch.testing.assert_close(
        alone.values(data.states, actions[1:2])[0], together[1], atol=1e-4, rtol=1e-4
    )
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_an_estimate_is_the_mean_over_the_beginnings_that_a_head_drew():
    data = chain(episodes=5, length=4)
    actions = torch.zeros(2, len(data.states), 2, 2)
    fitted = fit_fqe(data, actions, GAMMA, QUICK, Streams(range(3)), NoStore())
    begin = data.state[first_rows(data)]
    values = fitted.values(data.states[begin], actions[:, begin])
    found = fitted.estimates(data.states[begin], actions[:, begin])
    for p in range(2):
        for h in range(3):
            drawn = [values[p, h, i].item() for i in fitted.of_head[h].tolist()]
            assert found[p, h].item() == pytest.approx(sum(drawn) / 5, abs=1e-6)
    given = fitted.estimates(data.states[:7], actions[:, :7], recorded=False)
    torch.testing.assert_close(given, fitted.values(data.states[:7], actions[:, :7]).mean(-1))


def test_estimates_are_in_the_units_of_the_rewards():
    data = chain(episodes=6, length=5)
    actions = torch.zeros(1, len(data.states), 2, 2)
    heads, begin = Streams(range(3)), first_rows(data)
    one = fit_fqe(data, actions, GAMMA, QUICK, heads, NoStore())
    tenfold = replace(data, rewards=10 * data.rewards)
    ten = fit_fqe(tenfold, actions, GAMMA, QUICK, heads, NoStore())
    at = data.states[begin], actions[:, begin]
    torch.testing.assert_close(ten.estimates(*at), 10 * one.estimates(*at), rtol=1e-3, atol=1e-3)


def test_data_without_rewards_are_refused():
    data = chain(episodes=4, length=5)
    nothing = replace(data, rewards=0 * data.rewards)
    with pytest.raises(DataError, match="rewards: saw 0 in all 20 transitions.*record them"):
        fit_fqe(nothing, torch.zeros(1, len(data.states), 2, 2), GAMMA, QUICK, streams(), NoStore())


class Remembering:
    def reset(self, n):
        pass

    def act(self, states, rng):
        return states[..., :1]

    def observe(self, rewards):
        pass


def test_a_policy_that_remembers_its_episode_is_refused():
    with pytest.raises(DataError, match="Remembering: saw a policy that remembers"):
        actions_of(Remembering(), torch.zeros(3, 2), 2, streams())
