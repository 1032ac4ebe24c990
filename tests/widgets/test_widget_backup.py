"""The widget of Eq. 5 and Eq. 6 says what the library would do: both bootstraps, and the policy's
probabilities with and without the filter.
"""

import re

import numpy as np
import pytest
import torch
import traitlets

from arq_core.algorithm.policies import ImplicitPolicy, implicit_probabilities
from arq_core.algorithm.qlearning import BOOTSTRAPS
from arq_core.engine.streams import Streams
from arq_core.widgets.backup import Backup
from arq_core.widgets.base import MAX_POINTS, fixed, percent

U, N = 6, 12


def numbers(seed=0, n=N):
    g = np.random.default_rng(seed)
    return (
        3 * g.standard_normal((U, n)),
        -5 + 2 * g.standard_normal((U, n)),
        3 * g.standard_normal(U),
        -5 + 2 * g.standard_normal(U),
    )


def widget(*arrays, **position):
    return Backup([f"state {u}" for u in range(U)], *(arrays or numbers()), **position)


POSITIONS = [
    dict(state_index=u, k=k, log_epsilon=e, log_alpha=a)
    for u in range(U)
    for k, e, a in [
        (1, -20.0, -2.0),
        (3, -5.0, 1.0),
        (9, -4.0, 0.0),
        (2, 5.0, 4.0),
        (12, -5.0, 0.5),
    ]
]


def torched(shown):
    """(Q, in support, Q of the data's action, log-density) of the present state, as the script
    reads them, in double precision.
    """
    q, log_prob, of_data = (
        torch.tensor(shown.arrays[k][shown.state_index]).double()
        for k in ("q", "log_prob", "q_data")
    )
    return q, log_prob >= shown.log_epsilon, of_data, log_prob


def test_positions_include_supports_of_fewer_than_k_and_of_none():
    counts = [(int(torched(widget(**p))[1].sum()), p["k"]) for p in POSITIONS]
    assert (
        any(m == 0 for m, _ in counts)
        and any(0 < m < k for m, k in counts)
        and any(m >= k for m, k in counts)
    )


@pytest.mark.parametrize("variant", BOOTSTRAPS)
def test_it_bootstraps_from_what_eq5_of_each_variant_does(variant):
    for position in POSITIONS:
        shown = widget(**position)
        q, mask, of_data, _ = torched(shown)
        value, whose = shown.bootstraps()[variant]
        assert value == BOOTSTRAPS[variant](q, mask, shown.k, of_data).item()
        assert f"{fixed(value, shown.words['digits'])} ({whose})" in shown.finding()
        assert ("data's own" in whose) == (value == of_data)


def test_it_chooses_with_the_probabilities_of_eq6():
    for position in POSITIONS:
        shown = widget(**position)
        q, mask, _, _ = torched(shown)
        alpha = 10.0**shown.log_alpha
        pairs = [
            (
                implicit_probabilities(q, torch.ones_like(mask), alpha),
                shown.probabilities(filtered=False),
            )
        ]
        if mask.any():
            pairs.append((implicit_probabilities(q, mask, alpha), shown.probabilities()))
        for expected, seen in pairs:
            np.testing.assert_allclose(seen, expected, atol=1e-12)
            effective = torch.special.entr(expected).sum().exp().item()
            assert re.search(
                f"{percent(expected.max().item(), 1)} and (chooses as if among "
                f")?{re.escape(fixed(effective, 1))}",
                shown.finding(),
            )


class Drawn:
    """A behaviour whose candidates are the places of one state's candidates, with their
    log-density.
    """

    def __init__(self, log_prob):
        self.log_prob = log_prob

    def sample(self, states, n, rng):
        return torch.linspace(-1, 1, n).expand(*states.shape[:2], n)[..., None]

    def sample_with_log_prob(self, states, n, rng, clip=False):
        return self.sample(states, n, rng), self.log_prob.expand(*states.shape[:2], n)


def test_without_a_candidate_in_support_it_takes_the_one_that_the_policy_takes():
    shown = widget(log_epsilon=5.0, state_index=2)
    q, _, _, log_prob = torched(shown)
    policy = ImplicitPolicy(
        Drawn(log_prob), lambda s, a: q.expand(a.shape[:3]), 10.0, N, shown.log_epsilon
    )
    act = policy.act(torch.zeros(1, 50, 1), Streams([0])).squeeze()
    place = shown.probabilities().argmax()
    assert shown.probabilities()[place] == 1 and torch.allclose(
        act, torch.linspace(-1, 1, N)[place]
    )
    assert (
        "0 of 12 candidates are in support" in shown.finding()
        and "takes the first, a plain draw" in shown.finding()
    )


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda q, p, d, e: (q[:3], p, d, e), "shapes"),
        (lambda q, p, d, e: (q * np.nan, p, d, e), "q: saw 72 of 72 values that are not finite"),
        (lambda q, p, d, e: (q, np.where(p < -5, -np.inf, p), d, e), "log_prob: saw"),
        (lambda q, p, d, e: (q[:, :0], p[:, :0], d, e), "no values"),
    ],
)
def test_candidates_that_cannot_be_shown_are_named_in_the_frame(spoil, told):
    assert told in widget(*spoil(*numbers())).sentence()


def test_k_beyond_the_candidates_is_refused():
    with pytest.raises(traitlets.TraitError, match="K: saw 13, expected a number from 1 to 12"):
        widget().k = 13


def test_thousands_of_candidates_are_thinned_and_it_says_so():
    shown = widget(*numbers(n=5000))
    assert (
        shown.arrays["q"].shape == (U, MAX_POINTS)
        and "2,000 of 5,000 candidates" in shown.words["note"]
        and shown.controls["k"].high == MAX_POINTS
    )
