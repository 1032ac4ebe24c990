"""The two bandits, and what policy iteration with each row of Table 1 does there."""

import math

import pytest
import torch

from arq_core.algorithm.types import DataError
from arq_core.densities.quality import Grid
from arq_core.densities.segments import FIGURE_A1
from arq_core.engine.streams import Streams
from arq_core.theory import bandits, penalties
from arq_core.theory import penalty_study as study

RARE, HOLE = bandits.rare(0.01), bandits.hole(20.0)


def ends(row, bandit, alpha):
    return study.policy(row, study.of_bandit(bandit), bandit.q, alpha)


def test_samples_have_the_frequencies_of_beta_and_stay_in_the_support():
    actions, rewards = bandits.rare(0.2).sample(20_000, Streams([0, 1]))
    assert ((actions > 0).double().mean(1) - 0.2).abs().max() < 4 * math.sqrt(0.2 * 0.8 / 20_000)
    assert (
        ((actions > -0.7001) & (actions < -0.0999)) | ((actions > 0.3999) & (actions < 0.6001))
    ).all()
    assert (rewards[actions > 0].mean() - bandits.GOOD).abs() < 4 * 0.5 / math.sqrt(8000)


def test_bandits_refuse_what_is_no_behaviour():
    with pytest.raises(DataError, match="rarity: saw 1.5, expected a probability"):
        bandits.rare(1.5)
    with pytest.raises(DataError, match="beta: saw entries from 1 and the sum 2"):
        bandits.Bandit("x", "x", torch.ones(2), torch.zeros(2), torch.zeros(2), 0.0)


def test_the_support_penalty_gives_one_policy_whatever_the_frequencies_above_epsilon():
    torch.testing.assert_close(
        ends("support", bandits.rare(0.3), 1.0), ends("support", bandits.rare(0.003), 1.0)
    )


def test_a_good_action_that_is_rarer_than_epsilon_is_dropped():
    dropped = bandits.rare(0.2 * math.exp(study.LOG_EPSILON) * 0.9)  # its segment is .2 wide
    assert dropped.value(ends("support", dropped, 1.0)) == pytest.approx(
        bandits.USUAL / bandits.GOOD
    )


def test_brac_kl_weighs_each_action_by_its_frequency():
    """pi is in proportion to beta^alpha exp Q, cell by cell."""
    share = ends("brac-kl", RARE, 1.0)[RARE.actions > 0].sum()
    good, usual = 0.01 * math.exp(bandits.GOOD), 0.99 * math.exp(bandits.USUAL)
    torch.testing.assert_close(share, torch.tensor(good / (good + usual)), rtol=1e-3, atol=0)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 100.0])
def test_cql_ends_where_softmax_of_the_penalised_q_is_the_policy_itself(alpha):
    mu = ends("cql", RARE, alpha)
    again = penalties.induced_policy(
        penalties.cql(mu, RARE.beta, alpha)[RARE.inside] - RARE.q[RARE.inside]
    )
    torch.testing.assert_close(again, mu[RARE.inside], rtol=1e-2, atol=1e-5)


def test_strongly_tuned_cql_and_brac_mmd_become_behaviour_cloning():
    for row in ("cql", "brac-mmd"):
        assert abs(RARE.value(ends(row, RARE, 1000.0)) - RARE.value(RARE.beta)) < 0.01


def test_brac_mmd_ends_at_a_fixed_point():
    e, pi = study.of_bandit(HOLE), ends("brac-mmd", HOLE, 10.0)
    torch.testing.assert_close(
        penalties.induced_policy(study.ROWS["brac-mmd"](e, HOLE.q, pi, 10.0) - HOLE.q),
        pi,
        atol=1e-4,
        rtol=1e-2,
    )


def test_the_mean_of_two_modes_lies_in_the_hole():
    assert (
        study.of_bandit(HOLE).mean.abs().item() < 1e-4
        and HOLE.value(ends("td3+bc", HOLE, 1000.0)) < 1e-3
    )


@pytest.mark.parametrize("bandit", [RARE, HOLE], ids=lambda b: b.name)
def test_no_penalty_earns_more_than_the_oracle_when_it_keeps_to_soft_optimality(bandit):
    """E_pi r + H(pi) is at most ln sum exp r, which the oracle's policy attains: Gibbs'
    inequality."""
    score = lambda pi: (pi * bandit.reward).sum() + torch.special.entr(pi).sum()
    best = score(penalties.induced_policy(penalties.oracle(bandit.q, bandit.reward) - bandit.q))
    torch.testing.assert_close(best, bandit.reward.logsumexp(0))
    for row in study.ROWS:
        assert score(ends(row, bandit, 1.0)) <= best + 1e-4


@pytest.mark.parametrize("row", ["support", "brac-kl", "anti-exploration"])
def test_the_loss_is_at_most_the_log_of_one_over_the_induced_mass_of_good_actions(row):
    for bandit in (bandits.rare(0.3), RARE):
        p, good = study.penalty(row, study.of_bandit(bandit), bandit.q, 1.0), bandit.actions > 0.4
        good &= bandit.actions < 0.6
        assert (
            bandits.GOOD - (ends(row, bandit, 1.0) * bandit.q).sum() <= study.bound(p, good) + 1e-4
        )
    assert study.bound(
        study.penalty("support", study.of_bandit(RARE), RARE.q, 1.0), good
    ) == pytest.approx(math.log(4), rel=1e-4)
    assert study.bound(
        study.penalty("brac-kl", study.of_bandit(RARE), RARE.q, 1.0), good
    ) == pytest.approx(math.log(100), rel=1e-4)


def test_ranks_of_penalties_that_are_known():
    inside = torch.tensor([[True, True, False]])
    assert (
        study.in_or_out(torch.tensor([[0.0, 0.0, torch.inf]]), inside) == 1
        and study.in_or_out(torch.tensor([[1.0, 1.0, 0.0]]), inside) == 0
    )
    assert (
        study.in_or_out(torch.ones(1, 3), inside) == 0.5
        and study.spearman(torch.ones(3), torch.arange(3.0)) == 0
    )
    assert study.spearman(torch.arange(5.0).exp(), torch.arange(5.0)) == pytest.approx(1)
    assert study.spread_inside(torch.tensor([[1.0, 4.0, 9.0]]), inside) == 3
    assert study.distance_to_uniform(torch.tensor([[0.0, 0.0, torch.inf]]), inside) == 0


def test_exact_rows_order_the_support_of_figure_a1_and_a_constant_spread_does_not():
    grid = Grid((torch.arange(7) + 0.5) * 2 / 7 - 1, torch.linspace(-1.25, 1.25, 61))
    for density in FIGURE_A1.values():
        e = study.of_density(density, grid, 0.1)
        q, inside = torch.ones_like(e.log_beta), e.mass > 0
        rank = lambda row: study.in_or_out(study.penalty(row, e, q, 1.0), inside)
        assert rank("brac-kl") == rank("cql") == 1 and rank("mopo") == 0.5
