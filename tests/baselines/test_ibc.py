"""Implicit BC: its loss, its chain and its spectral norm by hand; its order; two modes."""

import math
from dataclasses import replace

import pytest
import torch
from problems import chain, streams, tiny

from arq_core.algorithm.types import DataError, Transitions
from arq_core.baselines import ibc
from arq_core.engine import train as train_module
from arq_core.engine.filestore import FileStore
from arq_core.engine.store import NoStore


def test_equal_energies_lose_the_log_of_their_number():
    assert ibc.info_nce(torch.full((2, 9), 3.7)).tolist() == pytest.approx([math.log(9)] * 2)
    assert math.log(9) == pytest.approx(2.1972, abs=1e-4)


def test_the_recorded_action_is_the_last():
    """Energies 0 and ln 3, the recorded action's: its share is 3/4."""
    assert ibc.info_nce(torch.tensor([0.0, math.log(3)])).item() == pytest.approx(math.log(4 / 3))


def test_slopes_below_one_are_free_and_others_cost_their_squared_excess():
    """Of two actions with slopes (.2, -3) and (.9, -1): ((3 - 1)² + 0)/2."""
    slopes = torch.tensor([[0.2, -3.0], [0.9, -1.0]])
    assert ibc.slope_penalty(slopes).item() == pytest.approx(2.0)


def test_step_sizes_fall_from_a_half_to_a_hundred_thousandth():
    sizes = ibc.step_sizes(100)
    assert sizes[0] == 0.5 and sizes[99] == pytest.approx(1e-5) and len(sizes) == 100
    assert sizes[33] == pytest.approx((0.5 - 1e-5) * (2 / 3) ** 2 + 1e-5)
    assert ibc.step_sizes(1) == [0.5]


BOX = ibc.ActionRange(torch.tensor([-1.0, -1.1]), torch.tensor([1.0, 0.9]))


def test_a_step_on_a_parabola_shrinks_the_action():
    """E = -|a|²/2 and no noise: a becomes (1 - eta/2) a."""
    a = torch.tensor([[[[0.4, -0.6]]]])
    moved = ibc.langevin_step(a, -a, 0.3, torch.zeros_like(a), BOX)
    torch.testing.assert_close(moved, 0.85 * a)


def test_noise_is_times_eta_moves_are_clipped_and_actions_stay_in_the_box():
    a = torch.zeros(1, 1, 1, 2)
    noise = torch.tensor([[[[0.5, -0.25]]]])
    assert ibc.langevin_step(a, 0 * a, 0.1, noise, BOX).flatten().tolist() == pytest.approx(
        [0.05, -0.025]
    )
    up = torch.full_like(a, 100.0)
    once = ibc.langevin_step(a, up, 0.5, 0 * a, BOX)
    assert once.flatten().tolist() == pytest.approx([0.5, 0.5])  # half of the half widths
    twice = ibc.langevin_step(once, up, 0.5, 0 * a, BOX)
    assert twice.flatten().tolist() == pytest.approx([1.0, 0.9])


def test_a_weight_is_divided_by_its_largest_singular_value():
    """In the end; the first iteration from (1, 0) of a matrix by hand."""
    w = torch.tensor([[[3.0, 0.0], [4.0, 5.0]]])
    divided, u = ibc.spectral(w, torch.tensor([[[1.0, 0.0]]]))
    # v = (3, 4)/5; v w = (25, 20)/5 = (5, 4), whose norm sqrt(41) is the estimate
    torch.testing.assert_close(divided, w / math.sqrt(41))
    torch.testing.assert_close(u, torch.tensor([[[5.0, 4.0]]]) / math.sqrt(41))
    for _ in range(30):
        divided, u = ibc.spectral(w, u)
    assert torch.linalg.matrix_norm(divided, 2).item() == pytest.approx(1.0, abs=1e-5)


def scaled_by_hand():
    data = chain()
    states = torch.cat([data.states[:, :2], torch.full_like(data.states[:, :1], 0.3)], 1)
    return replace(data, states=states, actions=data.actions * torch.tensor([1.0, 0.5]))


def test_states_are_divided_by_the_root_of_their_deviation_and_actions_fill_the_box():
    data = scaled_by_hand()
    scales, x = ibc.Scales.of(data), data.states[data.state]
    z = scales.states(x[None].expand(2, -1, -1))[0]
    assert z[:, :2].mean(0).abs().max() < 1e-5 and not z[:, 2].any()
    torch.testing.assert_close(z[:, :2].std(0, correction=0), x[:, :2].std(0, correction=0).sqrt())
    a = scales.actions(data.actions[None])[0]
    torch.testing.assert_close(a.amin(0), -torch.ones(2))
    torch.testing.assert_close(a.amax(0), torch.ones(2))
    torch.testing.assert_close(scales.raw(a[None])[0], data.actions)
    low, high = data.actions.amin(0), data.actions.amax(0)
    assert low[0] - 0.05 * (high - low)[0] > -1  # so neither edge is that of the actions allowed
    torch.testing.assert_close(scales.box.high, torch.full((2,), 1.1))
    whole = ibc.Scales.of(replace(data, actions=data.actions / data.actions.abs().amax(0)))
    assert (whole.box.high <= 1.1).all() and whole.raw(whole.box.high[None, None]).max() <= 1


def saved_after(steps, hyper, data, name="ibc"):
    kept = {}

    class Keep(NoStore):
        def save(self, name, key, tensors):
            kept.update({k: v.clone() for k, v in tensors.items()})

    field = name.replace("-", "_")
    ibc.fit(name, data, hyper, tiny(**{f"{field}_steps": steps})[1], streams(), Keep())
    return kept


def test_one_step_is_a_chain_then_both_losses_with_a_power_iteration_each():
    """Against autograd and torch.optim on plain networks with the same weights, batch, draws."""
    data, (hyper, _) = chain(), tiny()
    own = dict(hyper.ibc, width=8, depth=4, batch=16, langevin=3, negatives=5)
    hyper = replace(hyper, ibc=own)
    start, end = saved_after(0, hyper, data), saved_after(1, hyper, data)
    draws, scales = streams().fork("ibc"), ibc.Scales.of(data)
    m = draws.randint(len(data.actions), 16)
    uniform, noises = draws.rand(16, 5, 2), [draws.randn(16, 5, 2) for _ in range(3)]
    low, high = scales.box.low, scales.box.high
    for e in range(2):
        w = {k: v[e].clone() for k, v in start.items() if k.startswith("net.") and v.ndim == 3}
        names = [k for k in w if ".layers." in k]
        leaves = [w[k].requires_grad_() for k in names]
        last = max(int(k.split(".")[2]) for k in names)

        def iterate(us, w=w, last=last):
            """Weights over singular values, and the next vectors."""
            weights, found = [], []
            for i in range(last + 1):
                weight = w[f"net.layers.{i}.weight"]
                v = us[i] @ weight.T
                v = v / v.norm()
                u = v @ weight
                u = u / u.norm()
                weights.append(weight / (v @ weight @ u.T))
                found.append(u)
            return weights, found

        def energy(weights, states, actions, w=w, last=last):
            x = torch.cat([states[:, None].expand(-1, actions.shape[1], -1), actions], -1)
            b = [w[f"net.layers.{i}.bias"] for i in range(last + 1)]
            h = x @ weights[0] + b[0]
            for i in range(1, last, 2):
                inner = h.relu() @ weights[i] + b[i]
                h = h + inner.relu() @ weights[i + 1] + b[i + 1]
            return (h @ weights[last] + b[last])[..., 0]

        x = data.states[data.state[m[e]]]
        s = (x - scales.state_centre) / scales.state_scale
        a = data.actions[m[e]].clamp(-1 + 1e-5, 1 - 1e-5)
        a = (a - scales.centre) / scales.scale
        weights, us = iterate([w[f"net.u{i}"] for i in range(last + 1)])
        wrong = low + (high - low) * uniform[e]
        for eta, z in zip((0.5, 0.125 + 0.75e-5, 1e-5), noises, strict=True):
            wrong = wrong.detach().requires_grad_()
            (g,) = torch.autograd.grad(energy(weights, s, wrong).sum(), wrong, retain_graph=True)
            move, most = eta * (g / 2 + 0.5 * z[e]), (high - low) / 4
            wrong = torch.minimum(torch.maximum(wrong + move.clamp(-most, most), low), high)
        every = torch.cat([wrong.detach(), a[:, None]], 1)
        share = energy(weights, s, every).softmax(1)[:, -1]
        weights, us = iterate([u.detach() for u in us])
        every.requires_grad_()
        (g,) = torch.autograd.grad(energy(weights, s, every).sum(), every, create_graph=True)
        penalty = (g.abs().amax(-1) - 1).clamp(min=0).square().mean()
        grads = torch.autograd.grad(-share.log().mean() + penalty, leaves)
        for k, p, g in zip(names, leaves, grads, strict=True):
            moved = torch.nn.Parameter(p.detach().clone())
            moved.grad = g
            torch.optim.Adam([moved], lr=own["lr"]).step()
            # a constant added to E changes no loss: the last biases' gradients are rounding alone,
            # and Adam's first step is as long for them as for any other
            told = g.abs() > 1e-6
            assert told.any() != (k in (f"net.layers.{last}.bias", f"net.layers.{last - 1}.bias"))
            torch.testing.assert_close(end[k][e][told], moved[told].detach(), rtol=1e-4, atol=2e-6)
        for i, u in enumerate(us):
            torch.testing.assert_close(end[f"net.u{i}"][e], u.detach(), rtol=1e-5, atol=1e-6)


def test_the_vectors_of_the_power_iteration_are_part_of_a_finished_step():
    """A policy out of a store is the policy that was trained: its acting starts from them."""
    data, (hyper, _) = chain(), tiny()
    start, end = (saved_after(n, hyper, data, "ibc-small") for n in (0, 2))
    for i in range(4):
        assert end[f"net.u{i}"].shape == start[f"net.u{i}"].shape
        torch.testing.assert_close(end[f"net.u{i}"].norm(dim=-1), torch.ones(2, 1))
        assert end[f"net.u{i}"].ne(start[f"net.u{i}"]).any() or i == 3  # of one number: +-1


def two_modes(n=256):
    """Actions -0.6 and 0.6 in one dimension, each half the time, whatever the state."""
    g = torch.Generator().manual_seed(0)
    rows = torch.arange(n)
    actions = 0.6 * (2.0 * (rows % 2)[:, None] - 1)
    nothing = torch.zeros(n)
    return Transitions(
        torch.randn(n + 1, 2, generator=g), rows, rows + 1, actions, nothing, nothing.bool(), rows
    )


def test_it_acts_on_a_mode_and_not_between():
    """Where the mean of the recorded actions is 0, and none was near it."""
    data, (hyper, _) = two_modes(), tiny()
    own = dict(hyper.ibc_small, width=32, depth=2, langevin=5, samples=16, batch=32, lr=5e-3)
    budget = tiny(ibc_small_steps=100)[1]
    policy = ibc.fit_ibc_small(data, replace(hyper, ibc_small=own), budget, streams(), NoStore())
    chosen = policy.act(data.states[None, :50].expand(2, -1, -1), streams().fork("act"))
    assert ((chosen.abs() - 0.6).abs() < 0.15).float().mean() > 0.95


def test_states_in_pieces_are_acted_on_one_by_one(monkeypatch):
    """The action of a state does not depend on how many are acted on in one piece, but for its
    draws: without noise and from equal starts, not at all."""
    data, (hyper, budget) = chain(), tiny()
    policy = ibc.fit_ibc(data, hyper, budget, streams(), NoStore())
    states = data.states[None, :7].expand(2, -1, -1)
    monkeypatch.setattr(ibc, "NOISE_ACTING", 0.0)
    monkeypatch.setattr(ibc, "NOISE_AGAIN", 0.0)
    monkeypatch.setattr(
        ibc.ActionRange,
        "uniform",
        lambda box, rows, n, rng: torch.linspace(-1, 1, n)[:, None].expand(2, rows, n, 2),
    )
    whole = policy.act(states, streams())
    monkeypatch.setattr(ibc, "ROWS", 3 * policy.samples)
    torch.testing.assert_close(policy.act(states, streams()), whole)


@pytest.mark.parametrize(
    "changed, message",
    [
        (dict(depth=3), "ibc.depth: saw 3, expected an even number"),
        (dict(langevin=0), "ibc.langevin: saw 0, expected an integer"),
        (dict(lr="low"), "ibc.lr: saw 'low', expected a number"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_named(changed, message):
    data, (hyper, budget) = chain(), tiny()
    with pytest.raises(DataError, match=message):
        ibc.fit_ibc(
            data, replace(hyper, ibc=dict(hyper.ibc, **changed)), budget, streams(), NoStore()
        )


def test_the_small_form_has_settings_of_its_own_and_names_them():
    data, (hyper, budget) = chain(), tiny()
    own = {k: v for k, v in hyper.ibc_small.items() if k != "samples"}
    with pytest.raises(DataError, match="ibc-small: saw no samples among"):
        ibc.fit_ibc_small(data, replace(hyper, ibc_small=own), budget, streams(), NoStore())


def test_states_of_another_dimension_are_refused():
    data, (hyper, budget) = chain(), tiny()
    policy = ibc.fit_ibc(data, hyper, budget, streams(), NoStore())
    with pytest.raises(DataError, match="states: saw dimension 4, expected 3"):
        policy.act(torch.randn(2, 6, 4), streams())


class Stopped(FileStore):
    """Stops the run behind its third checkpoint."""

    saved = 0

    def save(self, name, key, tensors):
        super().save(name, key, tensors)
        self.saved += 1
        if self.saved == 3:
            raise KeyboardInterrupt


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    """Its vectors of the power iteration go on with it."""
    data, (hyper, budget) = chain(), tiny(ibc_small_steps=8)

    def fitted(store):
        return ibc.fit_ibc_small(data, hyper, budget, streams(), store).net.state_dict()

    straight = fitted(NoStore())
    monkeypatch.setattr(train_module, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fitted(Stopped(tmp_path))
    resumed = fitted(FileStore(tmp_path))
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[k], straight[k]) for k in straight)
