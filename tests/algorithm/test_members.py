"""A member of a batch is what it would be alone."""

import pytest
import torch
from problems import chain, streams, tiny

from arq_core.algorithm.behavior import fit_behavior
from arq_core.algorithm.nets import MLP, Critic, ResNet, ScoreNet
from arq_core.algorithm.policies import fit_awr
from arq_core.algorithm.qlearning import fit_q, fit_q_beta
from arq_core.algorithm.support import sample_support
from arq_core.engine.store import NoStore
from arq_core.engine.streams import Streams


def test_streams_of_a_member_ignore_its_neighbours():
    many, alone = Streams([3, 7, 9]).fork("x"), Streams([7]).fork("x")
    assert torch.equal(many.randn(5)[1:2], alone.randn(5))
    assert torch.equal(many.randint(1000, 8)[1:2], alone.randint(1000, 8))
    assert not torch.equal(Streams([7]).fork("x").rand(4), Streams([7]).fork("y").rand(4))


def test_copies_of_a_fork_are_side_by_side():
    both = Streams([3, 7]).fork("w", copies=2).randn(4)
    assert torch.equal(both[2:], Streams([7]).fork("w", copies=2).randn(4))
    assert not torch.equal(both[0], both[1])


@pytest.mark.parametrize(
    "network", [MLP, lambda s, a, r: ResNet(s, a, r, width=32), lambda s, a, r: Critic(s, a, r)]
)
def test_network_of_members_equals_each_alone(network):
    def out(seeds, x, a):
        net = network(3, 2, Streams(seeds))
        return net(x, a) if isinstance(net, Critic) else net(x)

    x, a = torch.randn(3, 4, 3), torch.randn(3, 4, 6, 2)
    together = out([5, 6, 7], x, a)
    for e, seed in enumerate((5, 6, 7)):
        torch.testing.assert_close(
            together[e : e + 1], out([seed], x[e : e + 1], a[e : e + 1]), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("state_dim, action_dim", [(11, 3), (39, 28)])
def test_score_network_has_the_weights_of_the_papers(state_dim, action_dim):
    """Seven layers of 256 units (six of the blocks and the time's), the first and the last."""
    net = ScoreNet(state_dim, action_dim, 256, 3, streams(0))
    assert sum(p.numel() for p in net.parameters()) == (
        7 * (256 * 256 + 256) + (action_dim + state_dim + 1) * 256 + (256 + 1) * action_dim
    )


def test_score_network_adds_one_embedding_of_the_time_before_every_layer():
    net = ScoreNet(3, 2, 16, 3, streams(0)).double()
    (a, s), t = (torch.randn(1, 5, d, dtype=torch.double) for d in (2, 3)), torch.tensor([[0.3]])
    affine = lambda layer, x: x @ layer.weight + layer.bias
    phase = 2 * torch.pi * t[..., None].double() * net.frequencies
    time = affine(net.time, torch.cat([phase.sin(), phase.cos()], -1))
    h = torch.cat([a, s], -1) @ torch.cat([net.of_action.weight, net.of_state.weight], 1)
    h = h + net.of_state.bias
    swish = torch.nn.functional.silu
    for first, second in zip(net.dense[::2], net.dense[1::2], strict=True):
        h = h + affine(second, swish(affine(first, swish(h + time)) + time))
    torch.testing.assert_close(
        net(a, net.of_state(s), net.embed_time(t.double())), affine(net.out, h)
    )


def test_score_network_shares_a_time_among_consecutive_rows():
    net = ScoreNet(3, 2, 16, 3, streams())
    x, s, t = torch.randn(2, 12, 2), torch.randn(2, 12, 3), torch.rand(2, 4)
    shared = net(x, net.of_state(s), net.embed_time(t))
    each = net(x, net.of_state(s), net.embed_time(t.repeat_interleave(3, 1)))
    torch.testing.assert_close(shared, each)


def test_score_network_jvp_equals_autograd():
    net = ScoreNet(3, 2, 16, 3, streams()).double()
    x, s, t = (torch.randn(2, 4, d, dtype=torch.double) for d in (2, 3, 0))
    time = net.embed_time(torch.rand(2, 1, dtype=torch.double))
    v = torch.randn(2, 3, 4, 2, dtype=torch.double)
    value, d = net.jvp(x, net.of_state(s), time, v)
    for p in range(3):
        expected, jvp = torch.func.jvp(lambda x: net(x, net.of_state(s), time), (x,), (v[:, p],))
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(d[:, p], jvp)


STEPS = {  # every trainer, for its first 50 steps
    "behavior": lambda data, h, b, rng: fit_behavior(data, h, b, rng, NoStore()).loss,
    "q_beta": lambda data, h, b, rng: fit_q_beta(data, h, b, rng, NoStore()).loss,
    "q": lambda data, h, b, rng: (
        fit_q(data, _support(data, h, b, rng), h, b, rng, NoStore(), {}).loss
    ),
    "policy": lambda data, h, b, rng: (
        fit_awr(data, torch.zeros(len(rng), len(data.actions)), 1.0, h, b, rng, NoStore(), {}).loss
    ),
}


def _support(data, h, b, rng):
    return sample_support(
        fit_behavior(data, h, b, rng, NoStore()), data.states, h.n, rng, NoStore(), {}
    )


@pytest.mark.parametrize("step", STEPS)
def test_member_trains_as_it_would_alone_over_50_steps(step):
    """To 1e-4 of the loss over the first 50 steps: a batched product may sum in another order than
    a single one."""
    data = chain()
    h, b = tiny(score_steps=50, q_steps=50, q_beta_steps=50, policy_steps=50)
    together, alone = STEPS[step](data, h, b, streams(4, 5)), STEPS[step](data, h, b, streams(5))
    torch.testing.assert_close(together[len(together) // 2 :], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("step", STEPS)
def test_same_seed_same_numbers_bit_for_bit(step):
    data = chain()
    h, b = tiny(score_steps=50, q_steps=50, q_beta_steps=50, policy_steps=50)
    assert torch.equal(STEPS[step](data, h, b, streams()), STEPS[step](data, h, b, streams()))
