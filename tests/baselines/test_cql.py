"""CQL: its gap and its multiplier by hand, its order, and what it does in a short training."""

import math
from dataclasses import replace

import pytest
import torch
from problems import chain, streams, tiny
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from arq_core.algorithm.types import DataError
from arq_core.baselines import cql
from arq_core.baselines.networks import SquashedActor, squashed_log_prob, squashed_sample
from arq_core.engine import train as train_module
from arq_core.engine.filestore import FileStore
from arq_core.engine.store import NoStore


def gap(q, log_density, recorded):
    """Of one member and one critic: q [B, n], log_density [B, n], recorded [B]."""
    return cql.conservative_gap(q[None, None], log_density[None], recorded[None, None]).item()


@pytest.mark.parametrize("q", [-4.0, 0.0, 7.0])
def test_the_gap_of_a_constant_is_the_log_of_thirty_and_the_box(q):
    """For a uniform policy, ln 30 + A ln 2, whatever the constant; A = 3: 5.4806."""
    values, log_density = torch.full((5, 30), q), torch.full((5, 30), -3 * math.log(2))
    expected = math.log(30) + 3 * math.log(2)
    assert gap(values, log_density, torch.full((5,), q)) == pytest.approx(expected, abs=1e-5)
    assert expected == pytest.approx(5.4806, abs=1e-4)


def test_the_gap_becomes_the_log_of_the_integral_of_e_to_the_q():
    """For Q = 2a on [-1, 1] and many uniform actions: ln(2 sinh(2)/2), by the integral."""
    a = (torch.arange(100_000, dtype=torch.double) + 0.5) / 50_000 - 1
    found = gap(
        (2 * a)[None], torch.full((1, 100_000), -math.log(2), dtype=torch.double), 0 * a[:1]
    )
    assert found - math.log(100_000) == pytest.approx(math.log(2 * math.sinh(2) / 2), abs=1e-6)


def test_the_multiplier_grows_where_the_gap_is_above_its_threshold():
    log = torch.tensor([0.0, 0.0, 20.0], requires_grad=True)
    excess = torch.tensor([[3.0, 1.0], [-3.0, -1.0], [1.0, 1.0]])
    loss = cql.multiplier_loss(cql.multiplier_of(log), excess)
    assert loss.tolist() == pytest.approx([-2.0, 2.0, -1e6])
    (slope,) = torch.autograd.grad(loss.sum(), log)
    assert slope.tolist() == pytest.approx([-2.0, 2.0, 0.0])


def test_alpha_grows_where_the_entropy_is_below_minus_the_dimension():
    """Two dimensions: the entropy -log pi is to be -2."""
    log_alpha = torch.zeros(2, requires_grad=True)
    loss = cql.temperature_loss(log_alpha, torch.tensor([[3.0, 2.0], [1.0, 2.0]]), 2)
    (slope,) = torch.autograd.grad(loss.sum(), log_alpha)
    assert slope.tolist() == pytest.approx([-0.5, 0.5])


def test_the_backup_takes_the_largest_action_and_then_the_lower_critic():
    q = torch.tensor([[[[1.0, 5.0]], [[4.0, 2.0]]]])
    assert cql.backed_up(q).item() == 4.0  # not min first, which is max(1, 2) = 2


def test_the_squashed_density_is_the_change_of_variables():
    """Against torch.distributions, at own samples and at given actions."""
    actor, states = SquashedActor(3, 2, streams(), [8], (-5.0, 2.0)), torch.randn(2, 6, 3)
    mean, log_std = parts = actor.parts(states)
    given = torch.rand(2, 6, 2) * 1.8 - 0.9
    law = TransformedDistribution(
        Independent(Normal(mean, log_std.exp()), 1), TanhTransform(cache_size=1)
    )
    torch.testing.assert_close(squashed_log_prob(parts, given), law.log_prob(given))
    actions, log_pi = squashed_sample(parts, 4, streams().fork("z"))
    for i in range(4):
        torch.testing.assert_close(
            law.log_prob(actions[:, :, i]), log_pi[..., i], rtol=1e-4, atol=1e-4
        )
    assert actions.abs().max() < 1 and actor(states).equal(mean.tanh())


def saved_after(steps, hyper, data):
    kept = {}

    class Keep(NoStore):
        def save(self, name, key, tensors):
            kept.update({k: v.clone() for k, v in tensors.items()})

    cql.fit_cql(data, hyper, tiny(cql_steps=steps)[1], streams(), Keep())
    return kept


SMALL = dict(widths="8 8", batch=16, actions=3, std=0.7, alpha=0.5)
VARIANTS = [
    dict(weight=2.0, threshold=-1.0, cloning=0.0),
    dict(weight=0.5, threshold=0.3, cloning=1.0, max_backup=1),
]


@pytest.mark.parametrize("variant", VARIANTS, ids=["fixed weight", "multiplier"])
def test_one_step_moves_alpha_first_and_all_else_by_the_weights_from_before(variant):
    """Against autograd and torch.optim on plain networks with the same weights, batch and draws."""
    data, (hyper, _) = chain(), tiny()
    own = dict(hyper.cql, **SMALL) | variant
    hyper = replace(hyper, cql=own)
    start, end = saved_after(0, hyper, data), saved_after(1, hyper, data)
    draws, n, a_dim = streams().fork("cql"), own["actions"], 2
    backups = n if own["max_backup"] else 1
    m = draws.randint(len(data.actions), 16)
    z_pi, z_y = draws.randn(16, 1, a_dim), draws.randn(16, backups, a_dim)
    box = 2 * draws.rand(16, n, a_dim) - 1
    z_now, z_after = draws.randn(16, n, a_dim), draws.randn(16, n, a_dim)

    def mlp(weights, name, e, x):
        for i in range(3):
            x = x @ weights[f"{name}.{i}.weight"][e] + weights[f"{name}.{i}.bias"][e]
            x = x.relu() if i < 2 else x
        return x

    for e in range(2):
        w = {k: v.clone().requires_grad_() for k, v in start.items() if v.is_floating_point()}
        s, after = data.states[data.state[m[e]]], data.states[data.next_state[m[e]]]
        a, r = data.actions[m[e]].clamp(-1 + 1e-5, 1 - 1e-5), data.rewards[m[e]]

        def law(states, e=e, w=w):
            mean, log_std = mlp(w, "actor.net.layers", e, states).chunk(2, -1)
            std = log_std.clamp(-5, 2).exp()
            return mean, std

        def draw(states, z, law=law):
            """[B, n, A] and log pi by the formula as it is written."""
            mean, std = (x[:, None] for x in law(states))
            u = mean + std * z
            log_pi = Normal(mean, std).log_prob(u) - (1 - u.tanh().square()).log()
            return u.tanh(), log_pi.sum(-1)

        def q_of(states, actions, c, name="critic", e=e, w=w):
            rows = torch.cat([states[:, None].expand(-1, actions.shape[1], -1), actions], -1)
            return mlp(w, f"{name}.net.layers", 2 * e + c, rows)[..., 0]

        def step(loss, names, lr, w=w):
            grads = torch.autograd.grad(loss, [w[k] for k in names], retain_graph=True)
            new = {}
            for k, g in zip(names, grads, strict=True):
                p = torch.nn.Parameter(w[k].detach().clone())
                p.grad = g
                torch.optim.Adam([p], lr=lr).step()
                new[k] = p.detach()
            return new

        chosen, log_pi = draw(s, z_pi[e])
        moved = step(
            -(w["alpha.log"][e] * (log_pi - a_dim).detach().mean()), ["alpha.log"], own["policy_lr"]
        )
        alpha = moved["alpha.log"][e].exp()
        gain = torch.minimum(q_of(s, chosen, 0), q_of(s, chosen, 1))
        if own["cloning"]:
            mean, std = law(s)
            gain = Normal(mean, std).log_prob(a.atanh()) - (1 - a.square()).log()
            gain = gain.sum(-1, keepdim=True)
        actor_names = [k for k in w if k.startswith("actor.")]
        moved |= step((alpha * log_pi - gain).mean(), actor_names, own["policy_lr"])
        with torch.no_grad():
            next_q = [q_of(after, draw(after, z_y[e])[0], c, "target").amax(1) for c in (0, 1)]
            y = r + hyper.gamma * ~data.terminals[m[e]] * torch.minimum(*next_q)
            (now, log_now), (then, log_then) = draw(s, z_now[e]), draw(after, z_after[e])
        critics, penalties = 0, []
        for c in (0, 1):
            z = torch.cat(
                [
                    q_of(s, box[e], c) + a_dim * math.log(2),
                    q_of(s, now, c) - log_now,
                    q_of(s, then, c) - log_then,
                ],
                1,
            )
            q = q_of(s, a[:, None], c)[:, 0]
            penalties.append(own["weight"] * (z.logsumexp(1).mean() - q.mean()))
            critics = critics + (q - y).square().mean()
        if own["threshold"] >= 0:
            excess = sum(penalties) - 2 * own["threshold"]
            moved |= step(
                -0.5 * w["multiplier.log"][e].exp() * excess, ["multiplier.log"], own["q_lr"]
            )
            critics = critics + w["multiplier.log"][e].exp().detach() * excess
        else:
            critics = critics + sum(penalties)
        moved |= step(critics, [k for k in w if k.startswith("critic.")], own["q_lr"])
        for k, v in moved.items():
            mine = slice(2 * e, 2 * e + 2) if k.startswith("critic.") else e
            torch.testing.assert_close(end[k][mine], v[mine], rtol=1e-4, atol=2e-6)
            if k.startswith("critic."):
                followed = own["polyak"] * start[k][mine] + (1 - own["polyak"]) * end[k][mine]
                torch.testing.assert_close(end[k.replace("critic", "target", 1)][mine], followed)
        assert (end["multiplier.log"][e] == 0) == (own["threshold"] < 0)


def test_cloning_ends_after_its_share_of_the_steps():
    """At a share of a half, the first of two steps is a cloning one and the second is not."""
    data, (hyper, _) = chain(), tiny()
    actors = {}
    for share in (0.0, 0.5, 1.0):
        own = dict(hyper.cql, **SMALL, cloning=share)
        for steps in (1, 2):
            found = saved_after(steps, replace(hyper, cql=own), data)
            actors[share, steps] = found["actor.net.layers.0.weight"]
    assert actors[0.5, 2].ne(actors[0.0, 2]).any() and actors[0.5, 2].ne(actors[1.0, 2]).any()
    assert actors[0.0, 1].ne(actors[1.0, 1]).any()
    assert saved_after(1, replace(hyper, cql=dict(hyper.cql, **SMALL, cloning=0.5)), data)[
        "actor.net.layers.0.weight"
    ].equal(actors[1.0, 1])


def test_networks_start_near_zero_and_differ_by_member():
    own = cql.Settings("cql", dict(tiny()[0].cql, **SMALL), cql.NEEDED)
    actor, critic = cql.networks(own, 3, 2, streams())
    states, actions = torch.randn(2, 5, 3), torch.rand(2, 5, 2)
    mean, log_std = actor.parts(states)
    assert mean.abs().max() < 1e-2 and (log_std.exp() - 0.7).abs().max() < 1e-2
    q = critic.of(states, actions)
    assert q.abs().max() < 3e-2 and (q[:, 0] != q[:, 1]).all() and (q[0] != q[1]).all()


@pytest.mark.parametrize(
    "changed, message",
    [
        (dict(widths="64 wide"), "cql.widths: saw '64 wide', expected a number of units"),
        (dict(widths=""), "cql.widths: saw ''"),
        (dict(actions=0.5), "cql.actions: saw 0.5, expected an integer"),
        (dict(alpha=0.0), "cql.alpha: saw 0.0, expected a number above 0"),
        (dict(std=-1.0), "cql.std: saw -1.0, expected a number above 0"),
        (dict(weight="big"), "cql.weight: saw 'big', expected a number"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_named(changed, message):
    data, (hyper, budget) = chain(), tiny()
    with pytest.raises(DataError, match=message):
        cql.fit_cql(
            data, replace(hyper, cql=dict(hyper.cql, **changed)), budget, streams(), NoStore()
        )


def test_a_setting_that_is_missing_is_named():
    data, (hyper, budget) = chain(), tiny()
    own = {k: v for k, v in hyper.cql.items() if k != "threshold"}
    with pytest.raises(DataError, match="cql: saw no threshold among"):
        cql.fit_cql(data, replace(hyper, cql=own), budget, streams(), NoStore())


class Stopped(FileStore):
    """Stops the run behind its third checkpoint."""

    saved = 0

    def save(self, name, key, tensors):
        super().save(name, key, tensors)
        self.saved += 1
        if self.saved == 3:
            raise KeyboardInterrupt


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    """Also where the cloning of half of its steps ends after the interruption."""
    data, (hyper, budget) = chain(), tiny(cql_steps=8)
    hyper = replace(hyper, cql=dict(hyper.cql, **SMALL, cloning=0.5))

    def fitted(store):
        return cql.fit_cql(data, hyper, budget, streams(), store).head.state_dict()

    straight = fitted(NoStore())
    monkeypatch.setattr(train_module, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fitted(Stopped(tmp_path))
    resumed = fitted(FileStore(tmp_path))
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[k], straight[k]) for k in straight)
