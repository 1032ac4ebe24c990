"""The densities of Figure A.1 are densities, their samples are theirs, and a model's quality is
measured as said.
"""

import pytest
import torch
from problems import streams, tiny
from torch import nn

from arq_core.algorithm.nets import Normalizer
from arq_core.config import settings
from arq_core.densities import figure_a1
from arq_core.densities.members import fit_members
from arq_core.densities.quality import Grid, kl_divergence, of_samples, on_grid, total_variation
from arq_core.densities.segments import FIGURE_A1, SegmentDensity, samples
from arq_core.engine.filestore import FileStore
from arq_core.engine.store import NoStore, fingerprint
from arq_core.engine.train import train
from arq_core.engine.updates import Update, cosine

GRID, EVERY = Grid.of(), list(FIGURE_A1.values())


def constant(*segments) -> SegmentDensity:
    """The same segments (low, high, weight) at every state."""
    low, high, weight = torch.tensor(segments).T
    return SegmentDensity(
        "constant",
        "",
        lambda s: tuple(x.to(s.dtype).expand(*s.shape, len(segments)) for x in (low, high, weight)),
    )


@pytest.mark.parametrize("density", EVERY, ids=lambda d: d.name)
def test_integrates_to_one_with_disjoint_sharp_segments_inside_the_box(density):
    states = torch.linspace(-1, 1, 401, dtype=torch.float64)
    low, high, weight = density.segments(states)
    torch.testing.assert_close(weight.sum(-1), torch.ones_like(states))
    low, order = low.where(weight > 0, 9.0).sort(-1)
    high, there = high.gather(-1, order), low < 9
    assert (
        ((low[:, 1:] - high[:, :-1])[there[:, 1:]] > 0.05).all()
        and low.min() > -1
        and high[there].max() < 1
    )
    assert 0.15 < (high - low)[there].min() and (high - low)[there].max() < 0.36
    assert (there.sum(-1) > 1).double().mean() > 0.8
    fine = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 10_000 - 1
    total = density.log_prob(fine, states[::20, None]).exp().sum(-1) / 10_000
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=5e-3)


@pytest.mark.parametrize("name", FIGURE_A1)
def test_samples_lie_in_the_support_and_follow_the_cdf(name):
    """F(a|s) of a sample is uniform on [0, 1] at every s: Kolmogorov-Smirnov in halves of s, each
    rejected once in 10,000.
    """
    states, actions = samples(name, 20_000, streams(0))
    density = FIGURE_A1[name]
    assert (density.log_prob(actions, states) > -torch.inf).all() and (
        density.distance(actions, states) == 0
    ).all()
    for half in (states < 0, states >= 0):
        u = density.cdf(actions[half], states[half]).sort().values
        gap = (u - (torch.arange(len(u)) + 0.5) / len(u)).abs().max()
        assert gap < 2.23 / len(u) ** 0.5
    assert not torch.equal(actions[0], samples(name, 20_000, streams(1))[1][0])


def test_density_and_distances_of_a_known_support():
    density = constant((-0.4, -0.2, 0.25), (0.2, 0.6, 0.75), (0.8, 0.9, 0.0))
    a, s = torch.tensor([-0.3, 0.0, 0.3, 0.85]), torch.zeros(1)
    torch.testing.assert_close(density.log_prob(a, s).exp(), torch.tensor([1.25, 0.0, 1.875, 0.0]))
    # an absent segment is no support
    torch.testing.assert_close(density.distance(a, s), torch.tensor([0.0, 0.2, 0.0, 0.25]))
    jump = SegmentDensity(
        "jump",
        "",
        lambda s: tuple(
            x[..., None] for x in (s.sign() * 0.5 - 0.1, s.sign() * 0.5 + 0.1, torch.ones_like(s))
        ),
    )
    a, s = torch.tensor([0.5, -0.5, 0.7]), torch.tensor([-0.05, 0.3])
    torch.testing.assert_close(
        jump.plane_distance(a, s),
        torch.tensor([[0.05, 0.0, 0.0125**0.5], [0.0, 0.3, 0.1]]),
        rtol=0,
        atol=2e-3,
    )
    torch.testing.assert_close(jump.distance(a, s[:1]), torch.tensor([0.9, 0.0, 1.1]))


def test_total_variation_and_kl_of_two_known_uniforms():
    """Uniform on [0, .5] against uniform on [.25, .75]: half of the mass is elsewhere; on [-.05,
    1.05]: 6/11, and log 2.2 nats.
    """
    grid = Grid.of(1, 500)
    truth, shifted, wide = (
        constant((low, high, 1.0)) for low, high in ((0.0, 0.5), (0.25, 0.75), (-0.05, 1.05))
    )
    mass, away, over = (
        grid.mass(truth),
        *(d.log_prob(grid.actions, grid.states[:, None]) for d in (shifted, wide)),
    )
    assert total_variation(mass, away, grid.cell).item() == pytest.approx(0.5, abs=1e-4)
    assert total_variation(mass, over, grid.cell).item() == pytest.approx(6 / 11, abs=1e-4)
    assert kl_divergence(mass, over, grid.cell).item() == pytest.approx(
        torch.tensor(2.2).log().item(), abs=1e-3
    )
    assert kl_divergence(mass, away, grid.cell).item() == torch.inf
    # an eighth is where the truth is
    beyond = constant((0.25, 2.25, 1.0)).log_prob(grid.actions, grid.states[:, None])
    assert total_variation(mass, beyond, grid.cell).item() == pytest.approx(7 / 8, abs=1e-4)


def test_recall_precision_and_dropped_share_of_a_hand_made_model():
    """A model that keeps the lower half of [0, .5], and [.5, .6] beyond it: recall .5, precision
    .25/.35, and nothing far away but a tenth.
    """
    truth, model = (
        constant((0.0, 0.5, 1.0)),
        constant((0.0, 0.25, 0.6), (0.5, 0.6, 0.3), (0.9, 1.0, 0.1)),
    )
    log_prob = model.log_prob(GRID.actions, GRID.states[:, None])[None]
    found = {k: v.item() for k, v in on_grid(truth, GRID, log_prob, torch.ones(1), -5.0).items()}
    assert found["recall"] == pytest.approx(0.5, abs=0.01)
    assert found["precision"] == pytest.approx(0.25 / 0.45, abs=0.02)
    assert (
        found["dropped_far"] == found["dropped_far_along"] == pytest.approx(1 - 0.1 / 1.8, abs=0.01)
    )
    assert found["normalisation"] == pytest.approx(1, abs=0.02) and found["tv"] == pytest.approx(
        0.5, abs=0.02
    )
    # as density of an action standardised by 1/2
    half = on_grid(truth, GRID, log_prob + torch.tensor(0.5).log(), torch.tensor([0.5]), -5.0)
    assert half["tv"].item() == pytest.approx(found["tv"], abs=1e-5)
    actions = torch.tensor([0.1, 0.4, 0.55, 0.95]).expand(1, len(GRID.states), -1)
    drawn = of_samples(
        truth, actions, GRID.states, torch.tensor([0.0, -6.0, 0.0, -9.0]).expand_as(actions), -5.0
    )
    assert [drawn[k].item() for k in ("samples_kept", "samples_inside", "kept_samples_inside")] == [
        0.5,
        0.5,
        0.5,
    ]


def problem(members=2):
    states = torch.rand(members, 200, 1, generator=torch.Generator().manual_seed(0))
    return states, (0.3 * states + torch.arange(members)[:, None, None] * states.flip(1)) / members


def test_member_with_data_of_its_own_trains_as_it_would_alone():
    h, b = tiny(score_steps=50)
    states, actions = problem()
    together = fit_members(states, actions, h, b, streams(4, 5), NoStore())[50]
    alone = fit_members(states[1:], actions[1:], h, b, streams(5), NoStore())[50]
    torch.testing.assert_close(together.loss[h.ensemble :], alone.loss, rtol=1e-4, atol=1e-4)
    assert torch.equal(together.of_action.mean[1:], alone.of_action.mean)
    points, at = torch.linspace(-1, 1, 12).view(1, 3, 4, 1), torch.rand(1, 3, 1)
    both = together.log_prob(points.expand(2, -1, -1, -1), at.expand(2, -1, -1), streams(0, 1))
    torch.testing.assert_close(
        both[1:], alone.log_prob(points, at, streams(1)), rtol=1e-3, atol=1e-3
    )
    other = fit_members(
        torch.cat([states[:1] + 1, states[1:]]),
        actions.flip(0).where(torch.tensor([True, False])[:, None, None], actions),
        h,
        b,
        streams(4, 5),
        NoStore(),
    )[50]
    torch.testing.assert_close(
        other.loss[h.ensemble :], together.loss[h.ensemble :], rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(other.loss[: h.ensemble], together.loss[: h.ensemble])


def test_models_kept_on_the_way_are_those_of_shorter_trainings():
    h, b = tiny(score_steps=40)
    kept = fit_members(*problem(), h, b, streams(), NoStore(), keep_at=(0, 20))
    assert list(kept) == [0, 20, 40]
    short = fit_members(*problem(), h, tiny(score_steps=20)[1], streams(), NoStore())[20]
    for a, c in zip(kept[20].net.parameters(), short.net.parameters(), strict=True):
        assert torch.equal(a, c)
    with pytest.raises(ValueError, match=r"keep_at: saw \[40\], expected steps from 0 to 39"):
        fit_members(*problem(), h, b, streams(), NoStore(), keep_at=(40,))


def test_each_member_is_standardised_by_its_own_data():
    x = torch.randn(3, 500, 2) * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    each = Normalizer.of(x, keepdim=True)
    for e in range(3):
        torch.testing.assert_close(each.scale[e, 0], Normalizer.of(x[e]).scale)


def test_members_are_density_by_density_with_their_seeds_side_by_side():
    states, actions = figure_a1.training_data([3, 7])
    assert states.shape == actions.shape == (8, figure_a1.SAMPLES)
    for i, name in enumerate(FIGURE_A1):
        for x, y in zip(
            samples(name, figure_a1.SAMPLES, streams(7)), (states, actions), strict=True
        ):
            assert fingerprint(dict(x=x[0])) == fingerprint(dict(x=y[2 * i + 1]))


def test_a_schedule_is_the_share_of_the_learning_rate_that_a_step_uses():
    """On a loss whose gradient is constant each step of Adam is as long as its learning rate."""
    line = nn.Linear(1, 1, bias=False)
    start = line.weight.detach().clone()
    train(
        "line",
        {},
        dict(line=line),
        [Update("line", lambda: line.weight.sum((1,)), 0.01, cosine)],
        steps=300,
        rng=streams(0),
        store=NoStore(),
    )
    walked = 0.01 * sum(cosine(taken, 300) for taken in range(300))
    assert (start - line.weight).item() == pytest.approx(walked, rel=1e-4)
    assert (
        cosine(0, 300) < 0.011
        and cosine(150, 300) == pytest.approx(0.5)
        and cosine(299, 300) < 1e-4
    )


def test_scheduled_training_that_is_interrupted_ends_with_the_same_models(tmp_path, monkeypatch):
    monkeypatch.setattr("arq_core.engine.train.CHECKPOINT_SECONDS", 0.0)
    h, b = tiny(score_steps=30)
    h = settings.with_changes(h, dict(score_schedule="cosine", time_power=3.0), "test")
    store, save = FileStore(tmp_path), FileStore.save

    def interrupt(self, name, key, tensors):
        save(self, name, key, tensors)
        if name.endswith(".partial") and int(tensors["step"]) == 20:
            raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(FileStore, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit_members(*problem(), h, b, streams(), store, keep_at=(10,))
    resumed, whole = (
        fit_members(*problem(), h, b, streams(), s, keep_at=(10,)) for s in (store, NoStore())
    )
    for steps in (10, 30):
        for a, c in zip(
            resumed[steps].net.parameters(), whole[steps].net.parameters(), strict=True
        ):
            assert torch.equal(a, c)
    constant_rate = fit_members(
        *problem(),
        settings.with_changes(h, dict(score_schedule="constant"), "test"),
        b,
        streams(),
        store,
        keep_at=(10,),
    )
    # another key, another result
    assert not torch.equal(constant_rate[30].net.out.weight, whole[30].net.out.weight)
