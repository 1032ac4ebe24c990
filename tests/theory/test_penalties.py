"""Table 1: each row's formula, the policy it induces, and the errors."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arq_core.algorithm.types import DataError
from arq_core.theory import penalties as p

BETA = torch.tensor([0.5, 0.3, 0.2, 0.0])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_eq4_induces_the_uniform_policy_on_the_support_and_z_counts_it():
    penalty = p.support(BETA.log(), math.log(0.25))
    assert penalty.tolist() == [0, 0, math.inf, math.inf]
    torch.testing.assert_close(p.induced_policy(penalty), torch.tensor([0.5, 0.5, 0, 0]))
    torch.testing.assert_close(p.log_partition(penalty), torch.tensor(2.0).log())


def test_brac_kl_induces_beta_itself_and_its_z_is_zero():
    penalty = p.brac_kl(BETA.log(), 1.0)
    torch.testing.assert_close(p.induced_policy(penalty), BETA)
    torch.testing.assert_close(p.log_partition(penalty), torch.tensor(0.0), atol=1e-6, rtol=0)


@given(st.floats(-50, 50))
def test_a_constant_of_the_state_does_not_change_the_induced_policy(c):
    penalty = normal(3, 7)
    torch.testing.assert_close(p.induced_policy(penalty + c), p.induced_policy(penalty))
    torch.testing.assert_close(p.log_partition(penalty + c), p.log_partition(penalty) - c)


def test_mmd2_is_zero_for_equal_samples_positive_for_others_and_symmetric():
    x, y = normal(2, 9, 3), normal(2, 5, 3, seed=1) + 1
    torch.testing.assert_close(
        p.mmd2(x, x, 0.7), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0
    )
    assert (p.mmd2(x, y, 0.7) > 0).all()
    torch.testing.assert_close(p.mmd2(x, y, 0.7), p.mmd2(y, x, 0.7))


def test_mmd_as_printed_cannot_change_the_induced_policy_and_its_witness_does():
    actions, pi, beta = normal(2, 6, 1), normal(2, 9, 1, seed=1), normal(2, 8, 1, seed=2) + 1
    torch.testing.assert_close(
        p.induced_policy(p.brac_mmd(actions, pi, beta, 0.5, 3.0, printed=True)),
        torch.full((2, 6), 1 / 6, dtype=torch.float64),
    )
    assert p.induced_policy(p.brac_mmd(actions, pi, beta, 0.5, 3.0, printed=False)).std() > 0.01


def test_mmd_witness_is_the_derivative_of_alpha_mmd2_by_finite_differences():
    a = normal(6, 1)
    kernel = p.gaussian_kernel(a, a, 0.8)
    pi, beta = normal(6, seed=1).softmax(0), normal(6, seed=2).softmax(0)
    witness, t = p.mmd_witness_of_masses(kernel, pi, beta, 2.5), 1e-5
    squared = lambda x: 2.5 * (x - beta) @ kernel @ (x - beta)
    for i in range(6):
        toward = torch.eye(6, dtype=torch.float64)[i] - pi
        derivative = (squared(pi + t * toward) - squared(pi - t * toward)) / (2 * t)
        torch.testing.assert_close(derivative, witness[i] - pi @ witness)


def test_mmd_witness_of_samples_is_that_of_their_frequencies():
    a, i, j = normal(4, 2), torch.tensor([0, 0, 1, 3]), torch.tensor([2, 3, 3, 3])
    share = lambda k: torch.bincount(k, minlength=4).double() / len(k)
    torch.testing.assert_close(
        p.mmd_witness(a, a[i], a[j], 0.6, 1.5),
        p.mmd_witness_of_masses(p.gaussian_kernel(a, a, 0.6), share(i), share(j), 1.5),
    )


def test_td3_bc_pulls_towards_the_data_and_its_printed_sign_pushes_away():
    actions, mean = torch.tensor([[-1.0], [0.0], [0.5]]), torch.tensor([0.0])
    assert p.td3_bc(actions, mean, 2.0, printed=False).tolist() == [2.0, 0.0, 0.5]
    assert p.induced_policy(p.td3_bc(actions, mean, 2.0, printed=True)).argmax() == 0


def test_ploff_leaves_q_on_the_data_and_as_printed_takes_it_away_there():
    q, far = torch.tensor([4.0, 4.0]), torch.tensor([0.0, 1e3])
    assert (q - p.ploff(q, far, 1.0, 1.0, printed=False)).tolist() == [4.0, 0.0]
    assert (q - p.ploff(q, far, 1.0, 1.0, printed=True)).tolist() == [0.0, 4.0]
    assert p.ploff(-q, far, 1.0, 1.0, printed=False)[1] < 0  # negative values: distance is rewarded


def test_mopo_takes_the_largest_norm_over_models_and_the_printed_reading_one_model():
    std = torch.tensor([[[3.0, 4.0]], [[6.0, 8.0]]])  # [K=2, N=1, D=2]
    assert p.mopo(p.ensemble_spread(std, printed=False), 0.5).item() == 5.0
    assert p.mopo(p.ensemble_spread(std, printed=True), 0.5).item() == 2.5


def test_cql_has_mean_zero_under_beta_and_its_limits():
    mu, beta = torch.tensor([0.1, 0.2, 0.7]), torch.tensor([0.6, 0.3, 0.1])
    torch.testing.assert_close(
        (beta * p.cql(mu, beta, 3.0)).sum(), torch.tensor(0.0), atol=1e-5, rtol=0
    )
    assert p.cql(
        torch.tensor([0.5, 0.5, 0.0, 0.0]), torch.tensor([0.5, 0.0, 0.5, 0.0]), 2.0
    ).tolist() == [0.0, math.inf, -2.0, -2.0]


def test_oracle_leaves_the_true_value_and_anti_exploration_scales_its_error():
    q, true = normal(5), normal(5, seed=1)
    torch.testing.assert_close(q - p.oracle(q, true), true)
    assert p.anti_exploration(torch.tensor([0.5]), 4.0).item() == 2.0


@pytest.mark.parametrize("function", [p.induced_policy, p.log_partition])
def test_empty_supports_nan_and_infinite_rewards_are_refused(function):
    with pytest.raises(
        DataError, match="saw 1 of 2 states whose candidates are all infinitely penalised"
    ):
        function(torch.tensor([[0.0, math.inf], [math.inf, math.inf]]))
    with pytest.raises(DataError, match="p: saw NaN at 1 of 2 entries"):
        function(torch.tensor([0.0, math.nan]))
    with pytest.raises(DataError, match="p: saw -inf at 1 of 2 candidates"):
        function(torch.tensor([0.0, -math.inf]))


def test_cql_refuses_what_are_no_probabilities_and_takes_densities_when_told():
    half = torch.tensor([0.5, 0.5])
    with pytest.raises(DataError, match="beta: saw entries from 0.4 and sums from 0.9"):
        p.cql(half, torch.tensor([0.4, 0.5]), 1.0)
    with pytest.raises(DataError, match="mu: saw entries from -0.5"):
        p.cql(torch.tensor([-0.5, 1.5]), half, 1.0)
    assert p.cql(torch.tensor([3.0]), torch.tensor([2.0]), 1.0, densities=True).item() == 0.5
