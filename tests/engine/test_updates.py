"""One part of a training step, against torch's own optimisers, and several parts together."""

import copy

import pytest
import torch
from problems import streams
from torch import nn

from arq_core.algorithm.nets import MLP
from arq_core.engine import train as train_module
from arq_core.engine.filestore import FileStore
from arq_core.engine.store import NoStore
from arq_core.engine.train import LOSS_EVERY, train
from arq_core.engine.updates import (
    Averaging,
    Update,
    clipped_by_member,
    cosine_from_the_start,
    exponential,
    warmed_up_linearly,
)

G = torch.Generator()
X, GOAL = (
    torch.randn(2, 8, 4, generator=G.manual_seed(1)),
    torch.randn(2, 8, 3, generator=G.manual_seed(2)),
)


def net(name="a"):
    return MLP(4, 3, streams(0, 1).fork(name), 8)


def squared(f, goal=GOAL):
    return lambda: (f(X) - goal).square().mean((1, 2))


def trained(modules, updates, steps, store=None, **more):
    return train(
        "t", {}, modules, updates, steps=steps, rng=streams(0, 1), store=store or NoStore(), **more
    )


def weights(module):
    return [p.detach().clone() for p in module.parameters()]


def assert_close(a, b):
    for x, y in zip(weights(a), weights(b), strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("decoupled", [True, False])
def test_weight_decay_is_torchs(decoupled):
    """AdamW's where decoupled, Adam's own L2 where not."""
    ours, theirs = net(), net()
    update = Update("n", squared(ours), 0.01, weight_decay=0.1, decoupled=decoupled)
    trained(dict(n=ours), [update], 5)
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimizer = kind(theirs.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        squared(theirs)().sum().backward()
        optimizer.step()
    assert_close(ours, theirs)


def test_a_gradient_is_clipped_by_the_norm_of_its_own_member():
    """Member by member as clip_grad_norm_ does it for one network; a small one is left as it is."""
    gradients = [torch.randn(2, 3, 4), torch.randn(2, 1, 4), torch.randn(2)]
    gradients = [g * torch.tensor([10.0, 1e-3]).view(-1, *[1] * (g.ndim - 1)) for g in gradients]
    clipped = clipped_by_member(gradients, 0.25)
    for member in (0, 1):
        alone = [nn.Parameter(torch.zeros_like(g[member])) for g in gradients]
        for p, g in zip(alone, gradients, strict=True):
            p.grad = g[member].clone()
        torch.nn.utils.clip_grad_norm_(alone, 0.25)
        for p, g in zip(alone, clipped, strict=True):
            torch.testing.assert_close(p.grad, g[member])
    assert torch.equal(clipped[0][1], gradients[0][1])


def test_a_clipped_training_leaves_members_independent():
    """Member 0's weights do not depend on how wild the losses of member 1 are."""

    def run(scale):
        ours = net()
        loss = lambda: (ours(X) - GOAL).square().mean((1, 2)) * torch.tensor([1.0, scale])
        trained(dict(n=ours), [Update("n", loss, 0.01, clip=0.1)], 3)
        return [p[0] for p in weights(ours)]

    for a, b in zip(run(1.0), run(1e4), strict=True):
        assert torch.equal(a, b)


def test_updates_in_order_see_what_the_one_before_moved_and_those_of_a_tuple_do_not():
    """b chases a: after one step in order it chases the new a, in a tuple the old one."""

    def chase(together):
        a, b = net("a"), net("b")
        start = copy.deepcopy(a)
        pair = (
            Update("a", squared(a), 0.1),
            Update("b", lambda: squared(b, a(X).detach())(), 0.1),
        )
        trained(dict(a=a, b=b), [pair] if together else list(pair), 1)
        return start, a, b

    for together in (True, False):
        start, a, b = chase(together)
        theirs = net("b")
        optimizer = torch.optim.Adam(theirs.parameters(), lr=0.1)
        squared(theirs, (start if together else a)(X).detach())().sum().backward()
        optimizer.step()
        assert_close(b, theirs)


def test_an_update_that_is_not_due_moves_nothing_and_neither_do_its_averages():
    """TD3's delay: bitwise unmoved after the first step, moved after the second."""
    start = net("b")

    def after(steps):
        a, b, target = net("a"), net("b"), net("b")
        late = Update("b", squared(b), 0.1, every=2, after=[Averaging(target, b, 0.5)])
        trained(dict(a=a, b=b, target=target), [Update("a", squared(a), 0.1), late], steps)
        return a, b, target

    for steps, moved in ((1, False), (2, True), (3, True)):
        a, b, target = after(steps)
        assert not torch.equal(a.layers[0].weight, net("a").layers[0].weight)
        assert torch.equal(b.layers[0].weight, start.layers[0].weight) != moved
        assert torch.equal(target.layers[0].weight, start.layers[0].weight) != moved
    assert torch.equal(after(2)[1].layers[0].weight, after(3)[1].layers[0].weight)


def test_a_late_update_takes_the_steps_of_an_optimiser_that_was_called_half_as_often():
    """Neither moments nor schedule nor loss curve count the steps in between."""
    late, alone = net(), net()
    other = net("other")
    steps = 2 * LOSS_EVERY
    schedule = cosine_from_the_start
    curve = trained(
        dict(o=other, n=late),
        [Update("o", squared(other), 0.01), Update("n", squared(late), 0.01, schedule, every=2)],
        2 * steps,
    )["n"]
    straight = trained(dict(n=alone), [Update("n", squared(alone), 0.01, schedule)], steps)["n"]
    for x, y in zip(weights(late), weights(alone), strict=True):
        assert torch.equal(x, y)
    torch.testing.assert_close(curve.unflatten(1, (-1, 2)).mean(2), straight)


def test_an_average_may_follow_less_often_than_its_update():
    ours, target = net(), net()
    often = Averaging(target, ours, 0.0, every=2)  # a copy
    trained(dict(n=ours, t=target), [Update("n", squared(ours), 0.1, after=[often])], 3)
    two = net()
    trained(dict(n=two), [Update("n", squared(two), 0.1)], 2)
    for x, y in zip(weights(target), weights(two), strict=True):
        assert torch.equal(x, y)


def test_schedules():
    assert [warmed_up_linearly(4)(t, 100) for t in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert exponential(0.99, 100)(200, 1) == pytest.approx(0.99**2)
    assert [cosine_from_the_start(t, 4) for t in (0, 2, 4)] == pytest.approx([1, 0.5, 0])


def parts(rng):
    """Everything at once: a batch that two parts see, a delay, a schedule, a clip, averages."""
    a, b, target = net("a"), net("b"), net("b")
    rows = torch.zeros(2, 4, dtype=torch.long)

    def loss(f):
        def of_rows():
            row = rows[..., None]
            x, y = X.gather(1, row.expand(-1, -1, 4)), GOAL.gather(1, row.expand(-1, -1, 3))
            return (f(x) - y).square().mean((1, 2))

        return of_rows

    updates = [
        Update("a", loss(a), 0.01, cosine_from_the_start, clip=0.5, weight_decay=0.01),
        Update("b", loss(b), 0.01, every=2, after=[Averaging(target, b, 0.9)]),
    ]
    begin = lambda: rows.copy_(rng.randint(8, 4))
    return dict(a=a, b=b, target=target), updates, begin


@pytest.mark.parametrize("stopped", [1, 61, 100])
def test_several_parts_go_on_bit_for_bit_after_an_interruption(tmp_path, monkeypatch, stopped):
    def run(store, interrupt=None):
        rng = streams(0, 1)
        modules, updates, begin = parts(rng)

        def before(taken):
            if taken == interrupt:
                raise RuntimeError("killed")

        curves = train(
            "t",
            {},
            modules,
            updates,
            steps=200,
            rng=rng,
            store=store,
            begin=begin,
            before_step=before,
        )
        return [w for m in modules.values() for w in weights(m)], curves

    straight, curves = run(NoStore())
    monkeypatch.setattr(train_module, "CHECKPOINT_SECONDS", 0.0)
    store = FileStore(tmp_path)
    with pytest.raises(RuntimeError):
        run(store, stopped)
    again, resumed = run(store)
    for x, y in zip(straight, again, strict=True):
        assert torch.equal(x, y)
    loaded, kept = run(store)
    for found in (resumed, kept):
        assert found.keys() == curves.keys() == {"a", "b"}
        for name, curve in curves.items():
            assert torch.equal(found[name], curve) and curve.shape == (2, 200 // LOSS_EVERY)
    for x, y in zip(straight, loaded, strict=True):
        assert torch.equal(x, y)


def test_a_part_that_diverges_is_named():
    a, b = net("a"), net("b")
    wild = lambda: squared(b)() * float("inf")
    with pytest.raises(FloatingPointError, match="t: the loss of b became .* by step 50"):
        trained(dict(a=a, b=b), [Update("a", squared(a), 0.1), Update("b", wild, 0.1)], 60)


@pytest.mark.parametrize(
    "names, every, message",
    [
        (["a", "c"], 1, "updates: saw those of a, c, expected .* among a, b"),
        (["a", "a"], 1, "updates: saw those of a, a, expected"),
        ([], 1, "updates: saw those of nothing"),
        (["a", "b"], 3, "b.every: saw 3, expected a divisor of 50"),
    ],
)
def test_updates_that_do_not_fit_are_refused(names, every, message):
    modules = dict(a=net("a"), b=net("b"))
    updates = [Update(n, squared(modules["a"]), 0.1, every=1 if n == "a" else every) for n in names]
    with pytest.raises(ValueError, match=message):
        trained(modules, updates, 10)
