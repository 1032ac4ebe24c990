"""Decision Transformer: what it is given, what a token sees, its order, and what it remembers."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from problems import chain, streams, tiny
from torch.nn import functional as F

from arq_core.algorithm.types import DataError, Transitions
from arq_core.baselines.dt import (
    DecisionTransformer,
    ReturnPolicy,
    Sequences,
    Window,
    fit_dt,
    returns_to_go,
    squared_error,
)
from arq_core.baselines.networks import LayerNorm
from arq_core.baselines.transformer import LAYER_NORM_EPS, causal
from arq_core.engine.store import NoStore

SMALL = dict(context=4, layers=2, width=8, batch=5, dropout=0.0, times=6)


def two_episodes():
    """Rewards 1, 2, 3 up to a terminal, then 4, 5 up to a cut; s = row, a = 0.1·row."""
    rows, episode = torch.arange(5), torch.tensor([0, 0, 0, 1, 1])
    return Transitions(
        torch.arange(7.0)[:, None],
        rows + episode,
        rows + episode + 1,
        rows[:, None] / 10,
        rows + 1.0,
        rows == 2,
        episode,
    )


def some_window(k=4, members=2, sequences=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    shape = (members, sequences, k)
    return Window(
        torch.randn(shape, generator=g),
        torch.randn(*shape, 3, generator=g),
        torch.randn(*shape, 2, generator=g),
        torch.arange(k).expand(shape),
        torch.ones(shape, dtype=torch.bool),
    )


def small_model(**changes):
    """With weights that are not as small as the initial ones: every token matters."""
    model = DecisionTransformer(3, 2, streams(), **dict(width=8, layers=2, times=6) | changes)
    with torch.no_grad():
        for p in model.transformer.blocks.parameters():
            p.copy_(0.3 * streams().fork(*p.shape).randn(*p.shape[1:]) + (p == 1))
    return model


def small(**changes):
    hyper, _ = tiny()
    return replace(hyper, dt=dict(hyper.dt, **SMALL) | changes)


def test_returns_to_go_by_hand():
    assert returns_to_go(two_episodes()).tolist() == [6, 5, 3, 9, 5]


def test_a_window_goes_on_to_the_context_or_the_end_of_its_episode_and_is_padded_on_the_left():
    sequences = Sequences(two_episodes(), 3, scale=2.0)
    assert sequences.best == 9
    w = sequences.windows(torch.tensor([[0, 1, 4]]))
    assert w.seen[0].int().tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 1]]
    assert w.to_go[0, 0].tolist() == [3, 2.5, 1.5] and w.to_go[0, 1, 1:].tolist() == [2.5, 1.5]
    assert w.time[0, 0].tolist() == [0, 1, 2] and w.time[0, 1, 1:].tolist() == [1, 2]
    assert w.time[0, 2, 2] == 1 and w.actions[0, 2, 2, 0] == pytest.approx(0.4)
    acted_in = torch.tensor([0.0, 1, 2, 4, 5])  # what an episode ends in does not count
    z = (acted_in - acted_in.mean()) / (acted_in.std(correction=0) + 1e-6)
    torch.testing.assert_close(w.states[0, 0, :, 0], z[:3])
    torch.testing.assert_close(w.states[0, 2, 2, 0], z[4])


def test_squared_error_is_the_mean_over_what_is_seen():
    predicted, actions = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)
    actions[0, 1] *= 3
    seen = torch.tensor([[[True, True], [False, True]]])
    assert squared_error(predicted, actions, seen).tolist() == [pytest.approx((1 + 1 + 9) / 3)]


def test_a_token_sees_what_is_seen_before_it_and_itself():
    got = causal(torch.tensor([[[False, True, True]]]))
    assert got[0, 0].int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]


def test_layer_norm_is_torchs_of_each_member():
    norm, x = LayerNorm(2, 5, LAYER_NORM_EPS), torch.randn(2, 7, 5)
    with torch.no_grad():
        for p in norm.parameters():
            p.copy_(torch.randn(2, 1, 5))
    for e in range(2):
        plain = F.layer_norm(x[e], (5,), norm.weight[e, 0], norm.bias[e, 0])
        torch.testing.assert_close(norm(x)[e], plain)


@pytest.mark.parametrize("name, first", [("to_go", 2), ("states", 2), ("actions", 3)])
def test_what_comes_later_changes_no_action_before_it(name, first):
    """Return and state of step 2 change its action; the action of step 2 only those after it."""
    window, model = some_window(), small_model()
    changed = getattr(window, name).clone()
    changed[:, :, 2] += 3
    before, after = model(window), model(replace(window, **{name: changed}))
    torch.testing.assert_close(before[:, :, :first], after[:, :, :first], rtol=0, atol=1e-6)
    assert (before - after)[:, :, first:].abs().amax((1, 3)).min() > 1e-3  # in each member


def test_padding_changes_nothing():
    window, model = some_window(), small_model()

    def padded(x):
        junk = torch.full_like(x[:, :, :3], 0 if x.dtype == torch.bool else 3)
        return torch.cat([junk, x], 2)

    longer = Window(**{name: padded(x) for name, x in vars(window).items()})
    torch.testing.assert_close(model(longer)[:, :, 3:], model(window), rtol=1e-5, atol=1e-6)


def test_steps_beyond_the_last_vector_of_time_have_the_last_ones():
    window, model = some_window(), small_model(times=3)
    again = replace(window, time=window.time.clamp(max=2))
    assert torch.equal(model(window), model(again))


def plain_actions(w, e, to_go, states, actions, time):
    """Of one sequence [T], by torch's own layers; `w` has the weights of all members."""

    def linear(name, x):
        return x @ w[f"model.{name}.weight"][e] + w[f"model.{name}.bias"][e, 0]

    def norm(name, x):
        weight, bias = (w[f"model.transformer.{name}.{k}"][e, 0] for k in ("weight", "bias"))
        return F.layer_norm(x, x.shape[-1:], weight, bias)

    time = w["model.of_time"][e][time]
    kinds = dict(of_return=to_go[:, None], of_state=states, of_action=actions)
    x = torch.stack([linear(name, y) + time for name, y in kinds.items()], 1).flatten(0, 1)
    x = norm("first", x)
    for i in range(SMALL["layers"]):
        block = f"blocks.{i}"
        inside = partial(linear, f"transformer.{block}.attention")
        q, k, v = inside(norm(f"{block}.before_attention", x))[None].chunk(3, -1)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)[0]
        x = x + linear(f"transformer.{block}.mix", seen)
        h = linear(f"transformer.{block}.wide", norm(f"{block}.before_layers", x)).relu()
        x = x + linear(f"transformer.{block}.narrow", h)
    return linear("head", norm("last", x)[1::3]).tanh()


def saved_after(steps, hyper, data, **budget):
    kept = {}

    class Keep(NoStore):
        def save(self, name, key, tensors):
            kept.update({k: v.clone() for k, v in tensors.items()})

    fit_dt(data, hyper, tiny(dt_steps=steps, **budget)[1], streams(), Keep())
    return {k: v for k, v in kept.items() if k.startswith("model.")}


def test_two_steps_are_adamw_with_warm_up_and_clipping_on_the_windows_by_themselves():
    """Against torch.optim and torch's attention, without padding, one sequence at a time."""
    data, hyper = chain(length=5), small(warm_up=2.0, clip=0.05, weight_decay=0.3, scale=2.0)
    start, end = saved_after(0, hyper, data), saved_after(2, hyper, data)
    returns, draws = returns_to_go(data) / 2, streams().fork("dt")
    batches = [draws.randint(len(data.actions), 5) for _ in range(2)]
    acted_in = data.states[data.state]
    states = (acted_in - acted_in.mean(0)) / (acted_in.std(0, correction=0) + 1e-6)
    for e in range(2):
        w = {k: v.clone().requires_grad_() for k, v in start.items()}
        optimiser = torch.optim.AdamW(w.values(), lr=1.0, weight_decay=0.3)
        for taken, m in enumerate(batches):
            error, count = 0.0, 0
            for row in m[e].tolist():
                end_of_episode = 5 * (row // 5 + 1)
                r = slice(row, min(row + 4, end_of_episode))
                time = torch.arange(row, r.stop) - 5 * (row // 5)
                got = plain_actions(w, e, returns[r], states[r], data.actions[r], time)
                error = error + (got - data.actions[r]).square().sum()
                count += got.numel()
            for group in optimiser.param_groups:
                group["lr"] = hyper.dt["lr"] * (taken + 1) / 4
            optimiser.zero_grad()
            (error / count).backward()
            norm = torch.nn.utils.clip_grad_norm_(w.values(), 0.05)
            assert norm > 0.05  # else nothing was clipped
            optimiser.step()
        for k, v in end.items():
            torch.testing.assert_close(v[e], w[k][e].detach(), rtol=1e-5, atol=1e-6, msg=k)


def test_dropout_takes_its_draws_from_the_streams_and_acting_none():
    data, before = chain(), torch.get_rng_state()
    ends = [saved_after(3, small(dropout=p), data) for p in (0.0, 0.5, 0.5)]
    assert torch.equal(before, torch.get_rng_state())
    name = "model.transformer.blocks.0.wide.weight"
    assert torch.equal(ends[1][name], ends[2][name]) and not torch.equal(
        ends[0][name], ends[1][name]
    )
    window, model = some_window(), small_model(dropout=0.5)
    assert torch.equal(model(window), model(window))
    rng = streams()
    assert not torch.equal(model(window, rng), model(window, rng))


class Recorded(torch.nn.Module):
    """Says the recorded actions of rows, a step a call, and keeps the windows that it was shown."""

    def __init__(self, actions):
        super().__init__()
        self.of_state, self.of_action = (torch.nn.Linear(1, 1) for _ in range(2))
        self.of_state.weight = torch.nn.Parameter(torch.zeros(1, 3, 1))
        self.of_action.weight = torch.nn.Parameter(torch.zeros(1, actions.shape[1], 1))
        self.actions, self.windows = actions, []

    def forward(self, window, rng=None):
        self.windows.append(Window(**{k: v.clone() for k, v in vars(window).items()}))
        t = len(self.windows) - 1
        return self.actions[t].expand(*window.to_go.shape, -1)


def test_an_episode_is_remembered_as_the_window_that_training_would_make_of_it():
    """The second recorded episode, acted again: its own return asked for, its own rewards paid."""
    data = chain(length=7, episodes=3)
    sequences, rows = Sequences(data, 4, scale=2.0), torch.arange(7, 14)
    target = float(returns_to_go(data)[7])
    policy = ReturnPolicy(
        Recorded(data.actions[rows]), sequences.standardised, sequences.context, target, 2.0
    )
    policy.reset(2)
    for row in rows:
        policy.act(data.states[data.state[row]].expand(1, 2, -1), streams(0))
        policy.observe(data.rewards[row].expand(1, 2))
    for t, got in enumerate(policy.model.windows):
        begin = max(0, t - 3)
        expected = sequences.windows(rows[begin].expand(1, 2))
        last = 4 - (t - begin + 1)  # how many steps of the window are still padding
        assert got.seen.int().tolist() == [[[0] * last + [1] * (4 - last)] * 2]
        length = min(4, 7 - begin)
        here = slice(4 - length, 4 - length + t - begin + 1)
        for name in ("to_go", "states", "time"):
            there, mine = getattr(expected, name)[:, :, here], getattr(got, name)[:, :, last:]
            torch.testing.assert_close(mine, there, rtol=1e-5, atol=1e-5)
        known = expected.actions[:, :, here][:, :, :-1]  # the last is what is asked for
        torch.testing.assert_close(got.actions[:, :, last:-1], known)


def test_without_reset_every_state_is_the_first_of_an_episode():
    data = chain()
    policy = fit_dt(data, small(target=1.0), tiny(dt_steps=1)[1], streams(), NoStore())
    states, act = torch.randn(2, 3, 3), partial(policy.act, rng=streams())
    first = act(states)
    policy.observe(torch.ones(2, 3))
    assert torch.equal(act(states), first) and act(states[:, :2]).shape == (2, 2, 2)
    policy.reset(3)
    assert torch.equal(act(states), first) and not torch.equal(act(states), first)
    other = act(states[:, :2])  # not the number that was begun: the history is left alone
    torch.testing.assert_close(other, first[:, :2])
    third = act(states)
    policy.reset(3)
    assert torch.equal(act(states), first) and not torch.equal(third, first)


def test_what_is_remembered_stays_in_its_memory():
    """A step that is replayed as a CUDA graph writes where the captured one wrote."""
    policy = fit_dt(chain(), small(), tiny(dt_steps=1)[1], streams(), NoStore())
    policy.reset(3)
    places = {k: v.data_ptr() for k, v in vars(policy.history).items()}
    for _ in range(3):
        policy.act(torch.randn(2, 3, 3), streams())
        policy.observe(torch.ones(2, 3))
    assert {k: v.data_ptr() for k, v in vars(policy.history).items()} == places


def test_the_target_is_a_number_or_the_best_return_of_the_data_and_trains_nothing():
    data, budget = chain(), tiny(dt_steps=1)[1]
    keys = []

    class Keys(NoStore):
        def save(self, name, key, tensors):
            keys.append(key)

    best = fit_dt(data, small(target="best"), budget, streams(), Keys())
    given = fit_dt(data, small(target=5.0), budget, streams(), Keys())
    returns = torch.zeros(12).index_add(0, data.episode, data.rewards)
    assert best.target == pytest.approx(float(returns.max()), rel=1e-5) and given.target == 5
    assert keys[0] == keys[1]


def test_what_it_cannot_use_is_named_before_it_trains():
    data, budget = chain(), tiny()[1]
    lone = replace(data, episode=torch.arange(len(data.actions)))
    for hyper, given, message in (
        (small(), lone, "dt: saw 120 episodes of one transition each, expected some of two"),
        (small(target="most"), data, "dt.target: saw 'most', expected a number or 'best'"),
        (small(context=0), data, "dt.context: saw 0, expected an integer of 1 or more"),
        (replace(small(), dt=dict(lr=1e-4)), data, "dt: saw no batch, clip, context,"),
    ):
        with pytest.raises(DataError, match=message):
            fit_dt(given, hyper, budget, streams(), NoStore())
    policy = fit_dt(data, small(), tiny(dt_steps=1)[1], streams(), NoStore())
    with pytest.raises(DataError, match="states: saw dimension 4, expected 3"):
        policy.act(torch.randn(2, 6, 4), streams())
