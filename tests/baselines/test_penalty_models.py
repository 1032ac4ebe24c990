"""Learned evidence is what its methods would learn: where the model has a closed form it is that,
and counts are counts.
"""

import math

import torch
from problems import streams

from arq_core.baselines import penalty_models
from arq_core.baselines.clones import Recipe
from arq_core.densities.figure_a1 import training_data
from arq_core.densities.quality import Grid
from arq_core.densities.segments import FIGURE_A1
from arq_core.engine.store import NoStore
from arq_core.theory import bandits

BRIEF = Recipe(4e-3, 20, 64, 0.9)


def test_evidence_of_bandits_has_the_samples_mean_spread_counts_and_nearest():
    problems, rng = [bandits.rare(0.1), bandits.hole(20.0)], streams()
    actions, rewards = (torch.cat(x) for x in zip(*(b.sample(500, streams(3)) for b in problems)))
    for e, b, x in zip(
        penalty_models.on_bandits(problems, actions, rewards, BRIEF, rng, NoStore()),
        problems,
        actions,
        strict=True,
    ):
        torch.testing.assert_close(e.mean, x.mean(0, keepdim=True))
        z = (b.actions - x.mean()) / x.std()
        torch.testing.assert_close(
            e.log_clone, -z.square() / 2 - x.std().log() - math.log(2 * math.pi) / 2
        )
        cells = torch.tensor(
            [((x >= m - b.cell / 2) & (x < m + b.cell / 2)).float().mean() for m in b.actions]
        )
        # a sample on an edge may count next door
        torch.testing.assert_close(e.mass, cells, atol=3 / 500, rtol=0)
        assert abs(e.mass.sum() - 1) < 1e-5
        brute = min((abs(float(a) - float(b.actions[7])), float(a)) for a in x)[0]
        assert abs(float(e.distance[7]) - brute) < 1e-6
        assert (
            all(torch.isfinite(v).all() for v in (e.log_beta, e.error, e.spread))
            and (e.error >= 0).all()
            and (e.spread > 0).all()
        )


def test_counts_by_state_are_shares_of_the_states_own_samples():
    grid, (states, actions) = Grid.of(6, 40), training_data([0])
    counted = penalty_models.counted_by_state(states[0], actions[0], grid)
    torch.testing.assert_close(counted.sum(1), torch.ones(6))
    true = grid.mass(next(iter(FIGURE_A1.values())))
    coarse = Grid.of(600, 40)
    # a cell of the state holds many states
    mean = coarse.mass(next(iter(FIGURE_A1.values()))).unflatten(0, (6, 100)).mean(1)
    assert true.shape == counted.shape
    # 20,000 samples: about 3,300 a row, 40 cells
    assert (counted - mean).abs().sum(1).max() / 2 < 0.06


def test_the_nearest_pair_is_the_nearest_of_all():
    pairs, points = torch.rand(5000, 2), torch.rand(3, 4, 2)
    torch.testing.assert_close(
        penalty_models.nearest_pair(points, pairs),
        torch.cdist(points.flatten(0, 1), pairs).amin(1).unflatten(0, (3, 4)),
    )
