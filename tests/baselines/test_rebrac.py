"""ReBRAC: its losses by hand, whose next action it asks for, two steps against plain networks."""

from dataclasses import replace

import pytest
import torch
from by_hand import assert_same, follow, member, mlp, optimiser, saved_after, step, twins
from problems import chain, streams, tiny

from arq_core.algorithm.types import DataError
from arq_core.baselines.networks import Critics, LayerNorm, Perceptron
from arq_core.baselines.rebrac import actor_loss, distance, fit_rebrac, rows_with_next_action
from arq_core.datasets.rewards import REWARDS
from arq_core.engine.store import NoStore


def test_the_actors_loss_by_hand():
    """Distances .04 + .09 and 0, a half of their mean; Q of 1 and -3 are 2 in size, mean -.5."""
    a = torch.zeros(1, 2, 2)
    chosen = torch.tensor([[[0.2, -0.3], [0.0, 0.0]]])
    torch.testing.assert_close(distance(chosen, a), torch.tensor([[0.13, 0.0]]))
    loss = actor_loss(torch.tensor([[1.0, -3.0]]), chosen, a, 0.5)
    assert loss.item() == pytest.approx(0.5 * 0.13 / 2 + 0.5)


def test_cut_transitions_have_no_next_action_and_ends_need_none():
    """Of two episodes of three, the first ends in a terminal and the second is cut."""
    assert rows_with_next_action(chain(2, 3)).tolist() == [0, 1, 2, 3, 4]


def test_data_without_next_actions_are_refused_before_training():
    data, (hyper, budget) = chain(4, 1, terminal_every=9), tiny()
    data = replace(data, terminals=torch.zeros_like(data.terminals))
    with pytest.raises(DataError, match="rebrac: saw 4 transitions of which none is followed"):
        fit_rebrac(data, hyper, budget, streams(), NoStore())


def test_rewards_of_antmaze_are_a_hundredfold():
    data = chain()
    assert torch.equal(REWARDS["hundredfold"](data).rewards, 100 * data.rewards)


def test_layer_norm_is_torchs_member_by_member():
    norm, x = LayerNorm(2, 5), torch.randn(2, 7, 5)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(2, 1, 5))
        norm.bias.copy_(torch.rand(2, 1, 5))
    for e in range(2):
        plain = torch.nn.functional.layer_norm(
            x[e], (5,), norm.weight[e, 0], norm.bias[e, 0], eps=1e-6
        )
        torch.testing.assert_close(norm(x)[e], plain)


def test_critics_with_layer_norm_see_many_actions_as_one():
    critics = Critics(3, 2, streams().fork("c", copies=2), [8, 8], layer_norm=True)
    assert sum(isinstance(m, LayerNorm) for m in critics.modules()) == 2
    s, a = torch.randn(2, 5, 3), torch.randn(2, 5, 4, 2)
    plain = torch.cat([s[:, :, None].expand(-1, -1, 4, -1), a], -1).flatten(1, 2)
    expected = critics.net(plain.repeat_interleave(2, 0)).view(2, 2, 5, 4)
    torch.testing.assert_close(critics(s, a), expected)
    assert not any(isinstance(m, LayerNorm) for m in Perceptron(3, 2, streams(), [8]).modules())


def small(**changes):
    hyper, _ = tiny()
    sizes = dict(width=8, batch=16, layers=2, polyak=0.9, critic_bc=0.7, gamma=0.9)
    return replace(hyper, rebrac=dict(hyper.rebrac, **sizes, **changes))


def test_weights_start_as_the_authors_have_them():
    start = saved_after(fit_rebrac, chain(), small(), tiny(rebrac_steps=0)[1], streams())
    for net, last in (("actor", 1e-3), ("critic", 3e-3)):
        assert (start[f"{net}.net.layers.0.bias"] == 0.1).all()
        for part in ("weight", "bias"):
            w = start[f"{net}.net.layers.2.{part}"]
            assert 0 < w.abs().max() <= last and not torch.equal(w[0], w[1])
        assert (start[f"{net}.net.layers.1.weight"].abs() <= 8**-0.5).all()


def test_two_steps_are_the_authors_critics_then_averages_then_actor():
    """Against autograd and torch.optim on plain networks with the same weights, batch and noise."""
    data, hyper = chain(), small()
    own = hyper.rebrac
    start, end = (
        saved_after(fit_rebrac, data, hyper, tiny(rebrac_steps=n)[1], streams()) for n in (0, 2)
    )
    # every second episode of ten is cut: its last transition is left out
    rows = torch.tensor([i for i in range(120) if i % 20 != 19])
    draws = streams().fork("rebrac")
    steps = [(rows[draws.randint(len(rows), 16)], draws.randn(16, 2)) for _ in range(2)]
    for e in range(2):
        w = member(start, e)
        of_critic, of_actor = (optimiser(w, m, own[f"{m}_lr"]) for m in ("critic", "actor"))
        for number, (m, noise) in enumerate(steps):
            s, after = data.states[data.state[m[e]]], data.states[data.next_state[m[e]]]
            a, r, d = data.actions[m[e]], data.rewards[m[e]], data.terminals[m[e]].float()
            recorded = data.actions[(m[e] + 1).clamp(max=119)]
            z = (own["noise"] * noise[e]).clamp(-own["noise_clip"], own["noise_clip"])
            then = (mlp(w, "late_actor.net", after).tanh() + z).clamp(-1, 1)
            least = twins(w, "late_critic", after, then).amin(0)
            least = least - own["critic_bc"] * (then - recorded).square().sum(1)
            y = (r + own["gamma"] * (1 - d) * least).detach()
            step(of_critic, (twins(w, "critic", s, a) - y).square().mean(1).sum())
            if number == 1:
                follow(w, "late_critic", "critic", own["polyak"])
                follow(w, "late_actor", "actor", own["polyak"])
                pi = mlp(w, "actor.net", s).tanh()
                q = twins(w, "critic", s, pi).amin(0)
                penalty = own["actor_bc"] * (pi - a).square().sum(1)
                step(of_actor, (penalty - q / q.abs().mean().detach()).mean())
        assert_same(w, end, e)
