"""The widget of Table 1 says the penalties of arq_core.theory.penalties, and the policies with
which soft policy iteration ends.
"""

import math
from dataclasses import replace

import browser
import numpy as np
import pytest
import torch
import traitlets

from arq_core.theory import penalties, penalty_study
from arq_core.theory.bandits import rare
from arq_core.widgets.base import fixed
from arq_core.widgets.penalty import BANDWIDTH, ROWS, VERDICTS, Penalty

PLACES = [
    dict(log_rarity=r, log_alpha=a, log_epsilon=e)
    for r, a, e in [
        (-2.0, 0.5, -7.0),
        (-4.0, -2.0, -14.0),
        (-0.3, 2.0, -5.0),
        (-3.0, 1.0, 0.0),
        (-1.0, 1.5, -1.5),
    ]
]
SHOWN = {name: x for name, x in browser.penalty().arrays.items()}


def widget(arrays=SHOWN, **position):
    return Penalty(**arrays, **position)


def expected(shown, name):
    """p of a row by the library, float64, at the policy that the widget ends with."""
    a, q, noise, reward = (
        torch.tensor(shown.arrays[k]).double() for k in ("actions", "q", "noise", "reward")
    )
    beta, pi, alpha = (
        torch.tensor(shown.beta()),
        torch.tensor(shown.policy(ROWS.index(name))),
        10.0**shown.log_alpha,
    )
    away = (a[:, None] - a[torch.tensor(shown.inside())]).abs().amin(-1)
    kernel = penalties.gaussian_kernel(a[:, None], a[:, None], BANDWIDTH)
    return {
        "no penalty": lambda: torch.zeros_like(q),
        "support of Eq. 4": lambda: penalties.support(beta.log(), shown.log_epsilon),
        "BRAC-KL": lambda: penalties.brac_kl(beta.log(), alpha),
        "BRAC-MMD²": lambda: penalties.mmd_witness_of_masses(kernel, pi, beta, alpha),
        "TD3+BC": lambda: penalties.td3_bc(
            a[:, None], (beta * a).sum()[None], alpha, printed=False
        ),
        "anti-exploration": lambda: penalties.anti_exploration(away.square(), alpha),
        "PLOFF": lambda: penalties.ploff(q, away, 1.0, alpha, printed=False),
        "MOPO": lambda: penalties.mopo(noise, alpha),
        # a policy that tries every action at least a little
        "CQL": lambda: penalties.cql(pi.clamp(min=1e-300), beta, alpha),
        "oracle": lambda: penalties.oracle(q, reward),
    }[name]()


@pytest.mark.parametrize("name", ROWS)
def test_each_penalty_is_the_formula_of_table_1_and_its_policy_is_where_iteration_ends(name):
    for place in PLACES:
        shown = widget(**place)
        p = torch.tensor(shown.penalty(ROWS.index(name)))
        # at ε = 1 Eq. 4 is empty, and has no policy
        if name != "support of Eq. 4" or place["log_epsilon"] < 0:
            torch.testing.assert_close(p, expected(shown, name).double(), atol=1e-9, rtol=1e-9)
        policy = penalties.induced_policy(p - torch.tensor(shown.arrays["q"]).double())
        np.testing.assert_allclose(shown.policy(ROWS.index(name)), policy, atol=1e-8)


@pytest.mark.parametrize(("name", "row"), [("BRAC-MMD²", "brac-mmd"), ("CQL", "cql")])
def test_fixed_points_are_those_of_the_study(name, row):
    for place in PLACES[:3]:
        shown = widget(**place)
        q, beta, a = (
            torch.tensor(shown.arrays["q"]).double(),
            torch.tensor(shown.beta()),
            torch.tensor(shown.arrays["actions"]).double(),
        )
        # the other fields are not asked for
        evidence = replace(penalty_study.of_bandit(rare(0.01)), actions=a, mass=beta)
        np.testing.assert_allclose(
            shown.policy(ROWS.index(name)),
            penalty_study.policy(row, evidence, q, 10.0**shown.log_alpha),
            atol=1e-8,
        )


def test_the_rarity_is_the_best_actions_and_leaves_the_proportions_of_the_others():
    shown, others = widget(log_rarity=-3.0), np.arange(7) != 5
    assert (
        shown.best == 5
        and shown.beta()[5] == pytest.approx(1e-3)
        and shown.beta().sum() == pytest.approx(1)
    )
    np.testing.assert_allclose(
        shown.beta()[others] / shown.beta()[1],
        SHOWN["behavior"][others] / SHOWN["behavior"][1],
        rtol=1e-6,
    )


def test_brac_kl_with_alpha_1_induces_the_behavior_and_eq_4_a_uniform_policy_on_the_support():
    shown = widget(log_alpha=0.0)
    induced = [
        penalties.induced_policy(torch.tensor(shown.penalty(ROWS.index(name))))
        for name in ("BRAC-KL", "support of Eq. 4")
    ]
    np.testing.assert_allclose(induced[0], shown.beta(), atol=1e-12)
    np.testing.assert_allclose(induced[1], shown.inside() / shown.inside().sum(), atol=1e-12)


def test_the_support_is_indifferent_to_rarity_until_it_passes_epsilon():
    policy = lambda r: widget(log_rarity=r, log_epsilon=-7.0).policy(ROWS.index("support of Eq. 4"))
    assert math.log(10**-3.0) > -7 > math.log(10**-3.1)
    np.testing.assert_allclose(policy(-0.3), policy(-3.0), atol=1e-12)
    assert policy(-3.1)[5] == 0


def test_verdicts_split_policies_by_where_their_mass_lies():
    shown = widget()
    pure = np.eye(7)
    assert [shown.verdict(pure[k]) for k in (5, 1, 3, 4)] == ["keeps", "drowns", "falls", "falls"]
    assert shown.verdict(0.5 * pure[5] + 0.5 * pure[3]) == "keeps" and set(VERDICTS) == {
        "keeps",
        "drowns",
        "falls",
    }


def test_the_sentence_names_every_penalty_once_and_says_the_value_of_the_chosen():
    for row, name in enumerate(ROWS):
        shown = widget(row=row)
        said, counts = shown.finding(), shown.finding().partition("penalties ")[2]
        assert (
            f"{name} takes it with" in said
            and f"a true value of {fixed(shown.value(shown.policy(row)), 2)}" in said
        )
        assert all(counts.count(one) == 1 for one in ROWS)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (dict(q=SHOWN["q"] * np.nan), "q: saw 7 of 7 values that are not finite"),
        (dict(reward=[1, 2]), "saw shapes"),
        (dict(behavior=SHOWN["behavior"] * 2), "behavior: saw entries from 0 and the sum 2"),
        (dict(behavior=np.eye(7)[5]), "no probability besides that of the best action"),
        (
            dict(behavior=SHOWN["behavior"] - [0.1, -0.1, 0, 0.1, -0.1, 0, 0]),
            "behavior: saw entries from -0.1",
        ),
        (dict(noise=-SHOWN["noise"]), "noise: saw -2"),
        ({name: [] for name in SHOWN}, "actions: saw no values"),
        (dict(actions=["left"] * 7), "actions: saw"),
        (dict(row=10), "Penalty: saw 10"),
    ],
)
def test_a_problem_that_cannot_be_shown_is_named_in_the_frame(wrong, told):
    shown = widget({**SHOWN, **wrong})
    assert told in shown.sentence() and "cannot be shown" in shown.to_html()


def test_controls_outside_their_range_are_refused():
    with pytest.raises(traitlets.TraitError, match="Best action in the data: saw 0"):
        widget().log_rarity = 0.0
