"""Theorem 1: the two iterations, its constant Z, the hard maximum, and what the support costs."""

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arq_core.algorithm.types import DataError
from arq_core.engine.streams import Streams
from arq_core.theory.penalties import induced_policy, log_partition
from arq_core.theory.theorem1 import (
    TabularMDP,
    corridor,
    evaluate,
    filtered_iteration,
    fitted_q_iteration,
    greedy,
    hard_max_iteration,
    kl_policy_iteration,
    random_mdps,
    relu_features,
    soft_policy_iteration,
    support_constant,
    support_gap,
)

GAMMA = 0.9


def processes(count=1000, seed=0, gamma=GAMMA):
    """Random processes and a support of at least one action at each state."""
    rng = Streams([seed])
    mdp = random_mdps(count, 5, 4, gamma, rng.fork("mdps"))
    inside = rng.rand(count, 5, 4)[0] < 0.5
    return mdp, inside | (rng.rand(count, 5, 4)[0].argsort(-1) == 0), rng


def eq4(inside):
    return torch.where(inside, 0.0, torch.inf).double()


def disagreement(a, b):
    """Largest difference of Q in units of the largest |Q| of the iterate, and of pi."""
    return max(
        ((a.q - b.q).abs() / b.q.abs().amax((-2, -1), keepdim=True)).max().item(),
        (a.pi - b.pi).abs().max().item(),
    )


@pytest.mark.parametrize("to_convergence", [False, True])
@pytest.mark.parametrize("kind", ["finite", "0 or infinite", "finite or infinite"])
def test_theorem1_both_iterations_agree_at_every_step_on_1000_processes(kind, to_convergence):
    mdp, inside, rng = processes()
    finite = 3 * rng.randn(1000, 5, 4, dtype=torch.float64)[0]
    penalty = {
        "finite": finite,
        "0 or infinite": eq4(inside),
        "finite or infinite": finite + eq4(inside),
    }[kind]
    regularised = kl_policy_iteration(mdp, induced_policy(penalty).log(), 30, to_convergence)
    soft = soft_policy_iteration(mdp, penalty, 30, to_convergence=to_convergence)
    assert disagreement(soft, regularised) <= 1e-10
    assert (soft.pi[:, penalty.isinf()] == 0).all() and soft.q.isfinite().all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(0, 0.99),
    st.lists(st.one_of(st.floats(-20, 20), st.just(float("inf"))), min_size=20, max_size=20),
    st.booleans(),
)
def test_theorem1_has_no_counterexample_that_hypothesis_finds(seed, gamma, entries, to_convergence):
    penalty = torch.tensor(entries).double().view(5, 4)
    penalty[penalty.isinf().all(-1), 0] = 0
    mdp = random_mdps(3, 5, 4, gamma, Streams([seed]))
    soft = soft_policy_iteration(mdp, penalty, 10, to_convergence=to_convergence)
    assert (
        disagreement(
            soft, kl_policy_iteration(mdp, induced_policy(penalty).log(), 10, to_convergence)
        )
        <= 1e-10
    )


def test_proof_of_theorem1_line_by_line_for_three_actions():
    (q, p), pi = (
        (sympy.symbols(f"{name}_1:4", real=True) for name in "qp"),
        sympy.symbols("pi_1:4", positive=True),
    )
    z = sympy.log(sum(sympy.exp(-x) for x in p))
    log_pi_p = [-x - z for x in p]
    inner = lambda a, b: sum(x * y for x, y in zip(a, b, strict=True))
    log_pi = [sympy.log(x) for x in pi]
    lines = [
        inner(pi, q) - inner(pi, [a - b for a, b in zip(log_pi, log_pi_p, strict=True)]),
        inner(pi, [a + b for a, b in zip(q, log_pi_p, strict=True)]) - inner(pi, log_pi),
        inner(pi, [a - b for a, b in zip(q, p, strict=True)]) - z - inner(pi, log_pi),
    ]
    normalised = {pi[2]: 1 - pi[0] - pi[1]}
    assert sympy.expand(lines[0] - lines[1]) == 0
    assert sympy.expand((lines[1] - lines[2]).subs(normalised)) == 0
    assert sympy.expand(lines[1] - lines[2]) != 0  # the last line needs that pi sums to one


def test_improvement_is_the_argmax():
    """No policy near or far does better than softmax(Q - p) in <pi, Q - p> + H(pi)."""
    mdp, inside, rng = processes(50)
    soft = soft_policy_iteration(mdp, eq4(inside), 5)
    objective = lambda pi: (torch.where(pi > 0, pi * (soft.q[-1] - pi.log()), 0)).sum(-1)
    for mix in (1e-3, 0.1, 1.0):
        other = (rng.randn(50, 5, 4, dtype=torch.float64)[0] - eq4(inside)).softmax(-1)
        assert (
            objective(soft.pi[-1]) >= objective((1 - mix) * soft.pi[-1] + mix * other) - 1e-12
        ).all()


def test_a_constant_z_may_be_ignored_exactly():
    mdp, _, rng = processes()
    penalty = (
        -(rng.randn(1000, 5, 4, dtype=torch.float64)[0].log_softmax(-1)) + 0.7
    )  # Z = -0.7 at every state
    kept, dropped = (soft_policy_iteration(mdp, penalty, 40, with_z) for with_z in (True, False))
    torch.testing.assert_close(dropped.pi, kept.pi, rtol=0, atol=1e-12)
    shift = -0.7 * sum(
        GAMMA**i for i in range(1, 40)
    )  # Q_1 = r + gamma (0 - Z): with Q_0 = 0 the first backup has it, too
    torch.testing.assert_close(dropped.q[-2], kept.q[-2] + shift, rtol=0, atol=1e-10)


def branches(z_left, z_right, gamma=GAMMA):
    """State 0 chooses between two absorbing states of equal rewards, and the penalty whose Z is 0,
    z_left, z_right there."""
    transitions = torch.zeros(1, 3, 2, 3).double()
    transitions[0, 0, [0, 1], [1, 2]] = transitions[0, 1, :, 1] = transitions[0, 2, :, 2] = 1
    penalty = (
        torch.full((3, 2), 2.0).double().log()
        - torch.tensor([0, z_left, z_right], dtype=torch.float64)[:, None]
    )
    return TabularMDP(transitions, torch.zeros(1, 3, 2).double(), gamma), penalty


@settings(max_examples=30, deadline=None)
@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.1, 0.95))
def test_any_spread_of_z_changes_the_policy_of_two_branches_by_the_largest_amount(
    left, right, gamma
):
    mdp, penalty = branches(left, right, gamma)
    kept, dropped = (
        soft_policy_iteration(mdp, penalty, 3, with_z, to_convergence=True)
        for with_z in (True, False)
    )
    assert kept.pi[-1, 0, 0, 0].item() == pytest.approx(0.5)
    log_odds = dropped.pi[-1, 0, 0].log().diff().item()
    assert log_odds == pytest.approx(gamma / (1 - gamma) * (right - left), rel=1e-9, abs=1e-9)


def test_ignoring_z_errs_by_at_most_the_spread_times_gamma_over_one_less_gamma():
    mdp, inside, _ = processes(200)
    z = log_partition(eq4(inside))
    spread = z.amax(-1) - z.amin(-1)
    kept, dropped = (
        soft_policy_iteration(mdp, eq4(inside), 200, with_z) for with_z in (True, False)
    )
    error = (dropped.q - kept.q).flatten(2)
    assert (error.amax(-1) - error.amin(-1) <= GAMMA / (1 - GAMMA) * spread + 1e-12).all()
    assert (error >= -1e-12).all()  # Z = ln(number of actions) >= 0: ignoring it is optimism


def test_the_hard_maximum_is_the_limit_of_both_and_knows_no_z():
    """At temperature tau the soft Q with Z is below the hard one, the one without above, each by at
    most tau gamma/(1 - gamma) ln A."""
    mdp, inside, _ = processes(200)
    hard = hard_max_iteration(mdp, inside, 200).q[-1]
    for temperature in (1.0, 0.1, 0.01):
        below, above = (
            temperature
            * soft_policy_iteration(mdp.at_temperature(temperature), eq4(inside), 200, with_z).q[-1]
            for with_z in (True, False)
        )
        reach = temperature * GAMMA / (1 - GAMMA) * torch.tensor(4.0).log() + 1e-12
        assert (below <= hard + 1e-12).all() and (hard <= above + 1e-12).all()
        assert (hard - below <= reach).all() and (above - hard <= reach).all()


def test_hard_maximum_to_convergence_is_policy_iteration_and_ends_at_the_same_point():
    mdp, inside, _ = processes(100)
    policy = hard_max_iteration(mdp, inside, 20, to_convergence=True)
    torch.testing.assert_close(policy.q[-1], hard_max_iteration(mdp, inside, 400).q[-1])
    assert (policy.q[1:] >= policy.q[:-1] - 1e-10).all() and (policy.pi[:, ~inside] == 0).all()


def test_filtration_has_the_fixed_point_of_eq4_where_values_are_not_negative():
    mdp, inside, _ = processes(200)
    positive = TabularMDP(mdp.transitions, mdp.rewards.abs(), GAMMA)
    torch.testing.assert_close(
        filtered_iteration(positive, inside, 300).q[-1],
        hard_max_iteration(positive, inside, 300).q[-1],
        rtol=0,
        atol=0,
    )
    negative = TabularMDP(mdp.transitions, -mdp.rewards.abs(), GAMMA)
    filtered, eq4_value = (
        filtered_iteration(negative, inside, 300).q[-1],
        hard_max_iteration(negative, inside, 300).q[-1],
    )
    assert (filtered > eq4_value)[(~inside).any(-1).any(-1)].any() and (
        filtered >= eq4_value - 1e-12
    ).all()


def test_the_support_costs_at_most_the_suboptimality_constant_over_one_less_gamma():
    mdp, inside, _ = processes()
    free, best = (
        hard_max_iteration(mdp, s, 50, to_convergence=True)
        for s in (torch.ones_like(inside), inside)
    )
    loss = (free.q[-1] - best.q[-1]).amax((-2, -1))
    assert (loss >= -1e-12).all() and (
        loss <= support_constant(mdp, free.q[-1], inside) / (1 - GAMMA) + 1e-10
    ).all()
    of_states = ((free.q[-1] * free.pi[-1]).sum(-1) - (best.q[-1] * best.pi[-1]).sum(-1)).amax(-1)
    assert (of_states <= support_gap(free.q[-1], inside).amax(-1) / (1 - GAMMA) + 1e-10).all()


def test_evaluation_is_the_fixed_point_of_its_backup():
    mdp, _, rng = processes(100)
    pi, bonus = (
        rng.randn(100, 5, 4, dtype=torch.float64)[0].softmax(-1),
        rng.randn(100, 5, dtype=torch.float64)[0],
    )
    q = evaluate(mdp, pi, bonus)
    torch.testing.assert_close(mdp.backup((pi * q).sum(-1) + bonus), q)


def test_fitted_iteration_with_a_feature_for_each_pair_is_the_tabular_one():
    mdp, inside, _ = processes(4)
    features = torch.eye(20).double().view(5, 4, 20).expand(4, -1, -1, -1)
    fitted = fitted_q_iteration(mdp, features, torch.ones(5, 4).double(), inside, 30, ridge=0.0)
    torch.testing.assert_close(fitted.q, hard_max_iteration(mdp, inside, 30).q)


def test_corridor_moves_a_tenth_of_the_action_in_the_mean_and_stops_at_its_ends():
    s, a, mdp = corridor()
    torch.testing.assert_close(mdp.transitions[0] @ s, (s[:, None] + 0.1 * a).clamp(0, 1))


def test_on_the_corridor_a_fit_to_slow_actions_overestimates_fast_ones_and_the_support_stops_it():
    s, a, mdp = corridor()
    slow, mdp = (a.abs() <= 0.25 + 1e-9).expand(len(s), -1), mdp.copies(3)
    features = relu_features(s, a, 100, Streams([0, 1, 2]))
    free, inside = (
        fitted_q_iteration(mdp, features, slow.double(), where, 40, 1e-4)
        .q[-1]
        .masked_fill(~where, -torch.inf)
        .amax(-1)
        .mean(-1)
        for where in (slow | True, slow)
    )
    best = mdp.rewards.max() / (1 - mdp.gamma)  # no policy is worth more
    assert (free > best).all() and (inside < best).all()


def test_greedy_takes_the_first_of_equals():
    assert greedy(torch.tensor([1.0, 2.0, 2.0])).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(gamma=1.0), "gamma: saw 1.0, expected 0 <= gamma < 1"),
        (
            dict(rewards=torch.full((1, 2, 2), torch.inf).double()),
            "rewards: saw 4 entries that are not finite",
        ),
        (
            dict(transitions=torch.full((1, 2, 2, 2), 0.4).double()),
            "sums from 0.8 to 0.8, expected probabilities",
        ),
        (
            dict(transitions=torch.tensor([-1.0, 2.0]).double().expand(1, 2, 2, 2)),
            "entries from -1",
        ),
        (dict(transitions=torch.full((1, 2, 2, 2), torch.nan).double()), "expected probabilities"),
        (dict(rewards=torch.zeros(2, 2).double()), r"expected \[K S A S\] and \[K S A\]"),
        (dict(rewards=torch.zeros(1, 2, 2)), r"expected float64 for both; call .double\(\)"),
    ],
)
def test_a_process_that_is_none_is_refused(change, message):
    given_fields = (
        dict(
            transitions=torch.full((1, 2, 2, 2), 0.5).double(),
            rewards=torch.zeros(1, 2, 2).double(),
            gamma=0.5,
        )
        | change
    )
    with pytest.raises(DataError, match=message):
        TabularMDP(**given_fields)


def test_an_empty_support_and_a_policy_that_is_none_are_refused():
    mdp, inside, _ = processes(2)
    nowhere = inside & False
    for run in (
        lambda: soft_policy_iteration(mdp, eq4(nowhere), 2),
        lambda: hard_max_iteration(mdp, nowhere, 2),
    ):
        with pytest.raises(DataError, match="expected a support that is not empty"):
            run()
    for log_pi_p in (-eq4(nowhere), torch.zeros(5, 4).double()):
        with pytest.raises(DataError, match="log_pi_p: saw probabilities whose log-sums"):
            kl_policy_iteration(mdp, log_pi_p, 2)
    with pytest.raises(DataError, match="saw 2 streams, expected 1"):
        random_mdps(2, 2, 2, 0.5, Streams([0, 1]))
