"""benchmarks/neighbours.py: a step that is compared is the training's; what it found is kept."""

import sys
from pathlib import Path

import by_hand
import pytest
import torch

from arq_core.baselines.neighbours import EDGE
from arq_core.config import settings
from arq_core.results.measured import measured

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import fqe_beside_d3rlpy  # noqa: E402
import neighbours  # noqa: E402
from neighbours import (  # noqa: E402
    CASES,
    SEEDS,
    batch_of,
    difference,
    one_step,
    settings_of,
    start_of,
)


def test_a_difference_is_relative_to_the_largest_entry_of_a_members_tensor():
    """Of rows (1, 8) and (2, 4): 1/8 and 1/4."""
    ours, other = torch.tensor([[1.0, 7.0], [3.0, 4.0]]), torch.tensor([[1.0, 8.0], [2.0, 4.0]])
    assert difference(ours, other) == 0.25


@pytest.mark.parametrize("name", ["iql", "td3+bc"])
def test_a_step_that_is_compared_has_the_losses_and_gradients_of_autograd(name):
    """The critics' loss by hand, of each seed."""
    case, data = CASES[name], neighbours.episodes()
    own = settings_of(case) | dict(width=8, batch=16)
    weights = start_of(case, own, data)
    step = one_step(case, own, data, weights)
    rows, *draws = step.draws
    assert len(draws) == len(case.draws)
    seen, gamma = batch_of(case, data, rows), settings.hyper(neighbours.GROUP).gamma
    for e in range(len(SEEDS)):
        w, b = by_hand.member(weights, e), {k: v[e] for k, v in seen.items()}
        if name == "iql":
            after = by_hand.mlp(w, "value", b["next_states"])[:, 0]
        else:
            noise = (own["noise"] * draws[0][e]).clamp(-own["noise_clip"], own["noise_clip"])
            late = by_hand.mlp(w, "late_actor.net", b["next_states"]).tanh()
            a = (late + noise).clamp(-1, 1)
            after = by_hand.twins(w, "late_critic", b["next_states"], a).amin(0)
        y = b["rewards"] + gamma * b["going_on"] * after.detach()
        q = by_hand.twins(w, "critic", b["states"], b["actions"])
        loss = (q - y).square().mean(1).sum()
        torch.testing.assert_close(step.losses["critic"][e], loss.detach(), rtol=1e-5, atol=0)
        names = [k for k in step.gradients if k.startswith("critic.")]
        assert len(names) == 6
        for k, g in zip(names, torch.autograd.grad(loss, [w[k] for k in names]), strict=True):
            found = step.gradients[k][2 * e : 2 * e + 2]
            torch.testing.assert_close(found, g, rtol=1e-4, atol=1e-6, msg=lambda m, k=k: k + m)


def test_a_batch_that_is_compared_keeps_actions_as_its_method_sees_them():
    """IQL's stay 1e-5 inside the box; ReBRAC draws only rows whose next action is known."""
    data = neighbours.episodes()
    edge = data.actions.clone()
    edge[0] = 1.0
    data = type(data)(**{**vars(data), "actions": edge})
    m = torch.zeros(2, 1, dtype=torch.long)
    assert batch_of(CASES["iql"], data, m)["actions"].max().item() == pytest.approx(1 - EDGE)
    assert batch_of(CASES["td3+bc"], data, m)["actions"].max().item() == 1.0
    last = torch.full((2, 1), neighbours.LENGTH * 2 - 1)  # of an episode that a time limit ended
    cut = batch_of(CASES["td3+bc"], data, last)["states"]
    assert not torch.equal(cut, batch_of(CASES["rebrac"], data, last)["states"])


def test_every_case_was_compared_and_agrees():
    found = measured("neighbours")
    assert list(found["lines"]) == list(CASES)
    for name, line in found["lines"].items():
        assert line["method"] == CASES[name].method and len(line["parts"]) >= 2
        for part in line["parts"].values():
            assert part["tensors"] and part["loss_ours"][0] != 0
            assert max(part["loss_difference"], part["nearest"]) <= found["limit"] <= 1e-5


def test_a_step_of_fitted_q_evaluation_was_compared_and_agrees():
    """What ours finds today is what was compared."""
    found = measured("fqe_beside_d3rlpy")
    _, now = fqe_beside_d3rlpy.ours()
    assert now["loss"].tolist() == pytest.approx(found["loss_ours"], rel=1e-4)
    assert set(found["gradient_differences"]) == set(now) - {"loss"}
    assert len(set(found["loss_ours"])) == found["members"] == 4
    assert found["loss_ours"] == pytest.approx(found["loss_theirs"], rel=1e-5)
    assert max(found["gradient_differences"].values()) <= found["largest"] <= found["limit"] <= 1e-5
