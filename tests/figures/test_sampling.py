"""The formulas behind the findings: shares of normals above epsilon, the mean of a Langevin step,
and what the benchmark counts.
"""

import math
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from scipy.stats import chi2

from arq_core.algorithm.likelihood import exact_divergence, hutchinson_divergence, rademacher
from arq_core.algorithm.samplers import predictor_corrector
from arq_core.algorithm.sde import VPSDE, uniform_grid
from arq_core.densities.normal import normal_entropy, normal_share, quantile_log_epsilon
from arq_core.engine.streams import Streams

matplotlib.use("svg")
import matplotlib.pyplot as plt

from arq_core.figures import sampling as pages

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import findings

SDE = VPSDE()


def t(value):
    return torch.tensor(value, dtype=torch.float64)


# ---- epsilon


def test_share_of_a_normal_is_known_in_one_and_two_dimensions():
    assert normal_share(-5.0, 1, 1.0) == pytest.approx(
        math.erf(math.sqrt(5 - 0.5 * math.log(2 * math.pi)))
    )
    assert normal_share(-5.0, 2, 0.5) == pytest.approx(1 - math.exp(-5) * 2 * math.pi * 0.5**2)


@pytest.mark.parametrize("dim, width", [(1, 2.0), (3, 1.0), (4, 1.0), (12, 0.4)])
def test_share_of_a_normal_is_that_of_its_samples(dim, width):
    z = Streams([0]).randn(100_000, dim, dtype=torch.float64)[0]
    drawn = (SDE.prior_log_prob(z) - dim * math.log(width) >= -5).double().mean().item()
    share = normal_share(-5.0, dim, width)
    assert 0.01 < share < 0.995 and drawn == pytest.approx(
        share, abs=4 * (share * (1 - share) / 100_000) ** 0.5
    )


def test_quantile_epsilon_keeps_its_share_at_every_dimension():
    dims = np.array([1, 2, 6, 24, 100])
    assert normal_share(quantile_log_epsilon(0.9, dims, 0.3), dims, 0.3) == pytest.approx(
        np.full(5, 0.9)
    )
    assert quantile_log_epsilon(0.9, 10_000, 0.3) / 10_000 == pytest.approx(
        -normal_entropy(0.3), abs=0.02
    )


@pytest.mark.parametrize("width", [0.1, 1.0, 3.0])
def test_per_dimension_epsilon_keeps_all_or_nothing_in_the_limit_by_the_entropy(width):
    above, below = -normal_entropy(width) - 0.1, -normal_entropy(width) + 0.1
    assert (
        normal_share(above * 4000, 4000, width) > 0.999
        and normal_share(below * 4000, 4000, width) < 0.001
    )
    assert normal_entropy(1.0) == pytest.approx(1.4189385)


# ---- the Langevin step


def test_mean_of_the_step_is_that_of_an_inverse_chi_square():
    for dim in (3, 4, 8, 24):
        x = np.geomspace(1e-12, 400, 200_000)
        assert findings.mean_squared_ratio(dim) == pytest.approx(
            dim * np.trapezoid(chi2.pdf(x, dim) / x, x), rel=1e-3
        )
    assert findings.mean_squared_ratio(1) == findings.mean_squared_ratio(2) == math.inf


def test_a_step_in_proportion_to_its_noise_inflates_the_noise():
    z = Streams([0]).randn(200_000, 3)[0]
    noise = {
        f: (2 * f(z, z, t(0.3)).expand_as(z)).sqrt() * z
        for f in (findings.expected_score_norm, findings.expected_norms)
    }
    inflated, plain = (n.square().mean().item() for n in noise.values())
    assert inflated / plain == pytest.approx(findings.noise_excess(3), rel=0.02)


@pytest.mark.parametrize("dim, radius", [(1, 100.0), (2, 20.0), (3, 16.0)])
def test_one_released_step_throws_samples_as_far_as_predicted(dim, radius):
    x, z = Streams([0]).randn(2, 1_000_000, dim)[0]
    step = findings.released(-x, z, t(1.0))
    beyond = ((x - step * x + (2 * step).sqrt() * z).norm(dim=-1) > radius).double().mean().item()
    assert (
        beyond == pytest.approx(findings.jump_share(radius, dim, findings.SNR), rel=0.2)
        and beyond > 1e-4
    )


def test_corrected_with_the_released_step_is_the_released_sampler():
    law, times = findings.fidelity.problem(4, t([0.5])), uniform_grid(SDE, 20, 1e-3)
    x = Streams([0]).randn(1, 50, 4)
    ours = findings.corrected(law, SDE, x, times, Streams([1]), findings.released)
    assert torch.equal(ours, predictor_corrector(law, SDE, x, times, Streams([1])))


def test_batch_norms_couple_states_and_expected_norms_do_not():
    """The same noise at a narrow state, beside wide states and beside narrower ones."""

    def narrow(name, beside):
        rng = Streams([0])
        x = rng.randn(4, 50, 1)
        return findings.COMPARED[name](
            findings.widths(t([0.05] + 3 * [beside]), 1), SDE, x, uniform_grid(SDE, 40, 1e-3), rng
        )[:, 0]

    assert torch.equal(narrow("expected_norms", 1.0), narrow("expected_norms", 0.3))
    assert not torch.allclose(
        narrow("predictor_corrector_batch", 1.0),
        narrow("predictor_corrector_batch", 0.3),
        atol=1e-3,
    )


@pytest.mark.parametrize("time", [1e-3, 0.1, 0.6])
def test_mean_squared_score_is_at_most_that_of_a_point_mass(time):
    """What makes the repaired step safe: its |s|^2 = A / sigma^2 is never below the true mean."""
    law, sigma = findings.fidelity.problem(3, t([0.2, 0.8])), SDE.marginal(t(time))[1]
    x = law.sample(4000, t(time), torch.Generator().manual_seed(0))
    assert law(x, t(time)).square().sum(-1).mean() <= 3 / sigma**2


def test_laws_of_given_widths_are_normals():
    law, x = findings.widths(t([1.0, 0.5]), 3), torch.randn(2, 6, 3, dtype=torch.float64)
    assert (
        torch.allclose(law.at(slice(1))(x[:1], t(0.3)), -x[:1]) and law(x, t(1e-3)).isfinite().all()
    )
    assert torch.allclose(law.log_prob(x, t(0.3))[:1], SDE.prior_log_prob(x[:1]))
    assert law.sample(20_000, t(1e-5), torch.Generator().manual_seed(0))[
        1
    ].std().item() == pytest.approx(0.5, rel=0.02)


# ---- the divergence


def test_sign_probes_are_exact_where_axes_do_not_interact_and_not_elsewhere():
    x = Streams([0]).randn(2, 30, 3)
    probe = hutchinson_divergence(rademacher(Streams([1]), x, 1))
    errors = [
        (probe(law, x, torch.tensor(0.1))[1] - exact_divergence(law, x, torch.tensor(0.1))[1])
        .abs()
        .max()
        for law in (findings.normal(3, t([0.2, 0.8])), findings.fidelity.problem(3, t([0.2, 0.8])))
    ]
    assert errors[0] < 1e-4 and errors[1] > 0.1


# ---- what is counted


def test_shares_of_three_rules_are_counted_by_seed():
    log_prob = t([[[-4.0, -6.0, -9.0, -20.0]], [[-1.0, -2.0, -3.0, -4.0]]])
    off = torch.tensor([[[False, False, True, True]], [[True, False, False, False]]])
    found = findings.shares(log_prob, off, 2)
    # 1/4 and 4/4
    assert found["density"]["kept"] == dict(mean=0.625, error=0.375)
    # 1/2 and 0
    assert found["density"]["dropped_on_support"]["mean"] == 0.25
    # 1/2 and 1
    assert found["per_dimension"]["kept_off_support"]["mean"] == 0.75
    # all but the lowest
    assert found["quantile"]["kept"]["mean"] == 0.75
    assert (
        findings.shares(log_prob, torch.zeros_like(off), 2)["density"]["kept_off_support"] is None
    )


def test_errors_are_standard_errors_of_the_mean():
    assert findings.over_seeds(t([1.0, 2.0, 3.0, 4.0])) == dict(mean=2.5, error=0.6455)


def test_a_finished_part_is_not_computed_again_unless_its_size_changes(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        yield dict(A=1, value=len(calls))

    first = findings.kept_part(tmp_path, "part", (1,), compute, findings.QUICK)
    again = findings.kept_part(tmp_path, "part", (1,), compute, findings.QUICK)
    assert list(first) == list(again) and len(calls) == 1
    findings.kept_part(tmp_path, "part", (1,), compute, findings.Size())
    findings.kept_part(None, "part", (1,), compute, findings.QUICK)
    assert len(calls) == 3


# ---- what pages show


def value(mean, error=0.01):
    return dict(mean=mean, error=error)


@pytest.fixture(scope="module")
def measured():
    """A file of the same form as the benchmark's, in which a value says where it stands."""
    dims = (1, 3, 6, 24)
    rules = {
        rule: dict(kept=value(0.5), dropped_on_support=value(a), kept_off_support=value(a))
        for a, rule in enumerate(pages.RULES)
    }
    return dict(
        log_epsilon=-5.0,
        off_support=1e-4,
        kept=0.95,
        size=dict(
            seeds=10,
            samples=800,
            norms=1000,
            members=5,
            states=20,
            points=100,
            candidates=250,
            probes=(1, 2, 10, 100),
            width=48,
            training=3000,
        ),
        langevin_norms=[
            dict(
                A=a,
                closed=a / (a - 2) if a > 2 else None,
                mean=value(a),
                off_after_one_step=value(0.1),
            )
            for a in dims
        ],
        langevin_samples=[
            dict(
                law=law,
                A=a,
                sampler=s,
                off_support=value(a / 100),
                below_epsilon=value(0.2),
                ratio=value(1.5),
            )
            for law in ("normal", "mixture")
            for a in dims
            for s in pages.SAMPLER_LABELS
        ],
        langevin_coupling=[
            dict(A=3, sampler=s, states=n, true=0.0511, std=value(0.05, 0.001))
            for s in ("predictor_corrector_batch", "expected_norms")
            for n in (1, 16)
        ],
        epsilon_normal=[
            dict(
                A=a,
                width=w,
                entropy=float(normal_entropy(w)),
                share=normal_share(-5.0, a, w),
                share_per_dimension=1.0,
            )
            for a in dims
            for w in (1.0, 0.5, 0.2, 0.05)
        ],
        epsilon_trained=[
            dict(law=law, A=a, source="network", off=value(0.2)) | rules
            for law in ("normal", "mixture")
            for a in dims
        ],
        divergence=[
            dict(
                score=kind,
                A=a,
                probes=p,
                mean_abs=value(a / (p + 1)),
                flips=value(0.02),
                tangents=p,
            )
            for kind in ("exact", "network")
            for a in dims
            for p in (0, 1, 2, 3, 6, 10, 24, 100)
        ],
    )


def test_a_value_is_said_to_the_second_digit_of_its_error():
    assert (
        pages.said(value(0.71412, 0.0086)) == "0.7141 ± 0.0086"
        and pages.said(value(0.0512, 0.0031), "%") == "5.12% ± 0.31%"
    )
    assert (
        pages.said(value(1063000.0, 1062000.0)) == "1,063,000 ± 1,062,000"
        and pages.said(value(0.0, 0.0)) == "0.00 ± 0.00"
    )
    assert pages.said(value(0.95, 8e-17), "%") == "95.00% ± 0.00%" and pages.said(None) == ""


def test_a_share_of_next_to_nothing_is_not_said(measured):
    # 4 and 10 of 5,000
    few, many = (
        dict(off=value(share), quantile=dict(kept_off_support=value(0.3)))
        for share in (0.0008, 0.002)
    )
    assert pages.kept_off_support(measured, few, "quantile") is None
    assert pages.kept_off_support(measured, many, "quantile") == value(0.3)


def test_headlines_read_their_numbers_from_the_file(measured):
    text = pages.headlines(measured)
    assert all(line.startswith("- ") for line in text.splitlines()) and "$" not in text
    assert (
        "1.0% ± 1.0% of the samples off support at A = 1, 3.0% ± 1.0% at 3 and "
        "24.0% ± 1.0% at 24" in text
    )
    assert (
        "A/(A - 2): 3 at A = 3, 1.5 at 6" in text
        and "keeps 99.6% of itself above e⁻⁵ at A = 1, 78.6% at 3" in text
    )
    # rules 1 and 0 of the file
    assert (
        "it dropped 100.0% ± 1.0% of what was on support" in text
        and "e⁻⁵ dropped 0.0% ± 1.0%" in text
    )


def test_the_cost_of_an_estimated_trace_is_a_row_for_each_way_to_it(measured):
    table = pages.divergence_summary(measured, (3, 24))
    of = lambda kind, a, probes: pages.lines(
        measured, "divergence", score=kind, A=a, probes=probes
    )[0]
    nats = table.loc["error, nats"]
    assert nats.loc["A probes, network"].tolist() == [
        pages.said(of("network", a, a)["mean_abs"], figures=1) for a in (3, 24)
    ]
    assert nats.loc["exact trace, exact score", "A = 24"] == pages.said(
        of("exact", 24, 0)["mean_abs"], figures=1
    )
    changed = table.loc["decisions changed"]
    assert changed.loc["10 probes, network", "A = 3"] == pages.said(
        of("network", 3, 10)["flips"], "%", 1
    )
    assert len(table) == 7 and (table != "").all(axis=None)
    with pytest.raises(KeyError, match="saw no line of divergence"):
        pages.divergence_summary(measured, (5,))
    assert pages.said(dict(mean=0.3168, error=0.0044), figures=1) == "0.317 ± 0.004"


def test_tables_have_a_column_per_action_dimension(measured):
    table = pages.langevin_table(measured, "mixture")
    assert (
        list(table.columns) == ["A = 1", "A = 3", "A = 6", "A = 24"]
        and table.loc["true samples", "A = 6"] == "6.0% ± 1.0%"
    )
    assert (
        pages.divergence_table(measured, "network").loc["2 probes", "A = 3"]
        == "1.000 ± 0.010 nats, 2.00%"
    )
    assert (
        pages.rules_table(measured, "mixture", "network", "kept").loc["quantile", "A = 1"]
        == "50.0% ± 1.0%"
    )
    on = {
        what: pages.rules_table(measured, "mixture", "network", f"{what}_on_support")
        for what in ("dropped", "kept")
    }
    first = {what: table.iloc[0, 0] for what, table in on.items()}
    assert first == {"dropped": "0.0% ± 1.0%", "kept": "100.0% ± 1.0%"}
    with pytest.raises(KeyError, match="no line of divergence"):
        pages.lines(measured, "divergence", A=77)


def test_pictures_show_what_the_file_says(measured):
    _, ax = plt.subplots(1, 4)
    pages.draw_langevin(ax[0], measured, "normal")
    pages.draw_shares(ax[1], measured)
    pages.draw_rules(ax[2], measured, "kept_off_support")
    pages.draw_divergence(ax[3], measured, "network")
    assert [c.lines[0].get_ydata().tolist() for c in ax[0].containers] == [
        [0.01, 0.03, 0.06, 0.24]
    ] * len(pages.SAMPLER_LABELS)
    assert ax[1].lines[0].get_ydata() == pytest.approx(
        [normal_share(-5.0, a, 1.0) for a in (1, 3, 6, 24)]
    )
    assert [c.lines[0].get_ydata()[0] for c in ax[2].containers] == [0, 1, 2]
    # none at A = 1
    assert ax[3].containers[0].lines[0].get_ydata().tolist() == [1.5, 3, 12]
    plt.close()
