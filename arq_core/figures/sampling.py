"""What `benchmarks/findings.py` measured, as sentences, tables and pictures:
data/benchmarks/findings.json, nothing computed anew.

Every table of the file is a list of lines; a measured value is {"mean", "error"}, its mean and
standard error over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from arq_core.figures.style import COLORS

SAMPLER_LABELS = {
    "truth": "true samples",
    "predictor_corrector": "PC, per-sample norms (released)",
    "predictor_corrector_batch": "PC, batch norms (Song)",
    "euler_maruyama": "no corrector",
    "dpmpp_2m": "DPM++(2M)",
    "expected_score_norm": "PC, expected |s|",
    "expected_norms": "PC, expected |s| and |z|",
    "clipped": "PC, clipped step",
}
SAMPLER_COLORS = dict(
    zip(
        SAMPLER_LABELS,
        (COLORS[c] for c in ("black", "orange", "blue", "grey", "green", "amber", "sky", "pink")),
        strict=True,
    )
)
RULES = {
    "density": ("density, e⁻⁵", COLORS["orange"]),
    "quantile": ("quantile", COLORS["blue"]),
    "per_dimension": ("per dimension, e⁻⁵ᴬ", COLORS["green"]),
}
LEAST_OFF = 5  # candidates off support that a share of them is taken of
PROBE_COLORS = {
    1: COLORS["orange"],
    2: COLORS["amber"],
    10: COLORS["sky"],
    100: COLORS["blue"],
}


def lines(findings: dict, table: str, **wanted) -> list[dict]:
    """The lines of a table of the file with these values; an error if there is none."""
    found = [line for line in findings[table] if wanted.items() <= line.items()]
    if not found:
        raise KeyError(
            f"findings.json: saw no line of {table} with {wanted}, expected one; run "
            "benchmarks/findings.py."
        )
    return found


def said(value: dict | None, unit: str = "", figures: int = 2) -> str:
    """mean ± standard error, in percent (to hundredths at most) or plainly, to that many digits of
    the error; an error below 1e-6 is rounding. "" where undefined.
    """
    if value is None:
        return ""
    mean, error = (100 * value[k] if unit == "%" else value[k] for k in ("mean", "error"))
    digits = max(0, figures - 1 - math.floor(math.log10(error))) if error > 1e-6 else 2
    if unit == "%":
        digits = min(digits, 2)  # nobody reads thousandths of a percent
    return f"{mean:,.{digits}f}{unit} ± {error:,.{digits}f}{unit}"


def kept_off_support(findings: dict, line: dict, rule: str) -> dict | None:
    """The share of off-support candidates that a rule keeps; None where a seed has fewer than
    LEAST_OFF of them on average.
    """
    count = line["off"]["mean"] * findings["size"]["states"] * findings["size"]["candidates"]
    return line[rule]["kept_off_support"] if count >= LEAST_OFF else None


def langevin_headlines(findings: dict) -> str:
    """What per-sample norms do, why, and what repairs them; Markdown, every number read from the
    file.
    """

    def off(name: str, a: int, law: str = "mixture") -> str:
        return said(
            lines(findings, "langevin_samples", law=law, A=a, sampler=name)[0]["off_support"], "%"
        )

    def norms(a: int) -> dict:
        return lines(findings, "langevin_norms", A=a)[0]

    worst = max(
        lines(findings, "langevin_samples", sampler="expected_norms"),
        key=lambda line: line["off_support"]["mean"],
    )
    sharp = {
        (n, s): lines(findings, "langevin_coupling", A=3, sampler=n, states=s)[0]
        for n, s in (
            ("predictor_corrector_batch", 1),
            ("predictor_corrector_batch", 16),
            ("expected_norms", 16),
        )
    }
    size = findings["size"]
    return "\n".join(
        [
            "- With exact scores of a mixture, the released step leaves "
            f"{off('predictor_corrector', 1)} of the samples off support at A = 1, "
            f"{off('predictor_corrector', 3)} at 3 and {off('predictor_corrector', 24)} "
            f"at 24; batch norms {off('predictor_corrector_batch', 1)}, "
            f"{off('predictor_corrector_batch', 3)} and "
            f"{off('predictor_corrector_batch', 24)} ({size['seeds']} seeds of "
            f"{size['samples']} samples a state, of which 0% is none; off support is "
            f"what {findings['off_support']:.2%} of true samples are).",
            "- The mean of |z|²/|s|², and with it of the step, is A/(A - 2): "
            f"{norms(3)['closed']:.3g} at A = 3, {norms(6)['closed']:.3g} at 6 "
            f"(measured {said(norms(6)['mean'])}), {norms(24)['closed']:.3g} at 24 "
            f"({said(norms(24)['mean'])}), and infinite up to 2: at A = 1, "
            f"{size['seeds']} means of {size['norms']:,} draws average "
            f"{norms(1)['mean']['mean']:,.0f}, and more draws do not settle it. Its "
            "variance is infinite up to 4, so no error bar is due there.",
            "- A single released step from true samples of a standard normal already "
            f"puts {said(norms(1)['off_after_one_step'], '%')} off support at A = 1, "
            f"{said(norms(3)['off_after_one_step'], '%')} at 3 and "
            f"{said(norms(24)['off_after_one_step'], '%')} at 24.",
            "- With both norms replaced by their expected values, the step is 2(snr "
            "σ)² and no sample depends on another: at most "
            f"{said(worst['off_support'], '%')} off support, at A = {worst['A']} "
            f"({worst['law']}). Clipping the released step at σ² leaves "
            f"{off('clipped', 1, 'normal')} of a standard normal off support at A = 1; "
            f"true samples {off('truth', 1, 'normal')}.",
            "- Batch norms couple states: at A = 3 a state of std "
            f"{sharp['expected_norms', 16]['true']:.3g} comes out with "
            f"{said(sharp['predictor_corrector_batch', 1]['std'])} alone and with "
            f"{said(sharp['predictor_corrector_batch', 16]['std'])} beside 15 states of "
            f"std 1; by expected norms with {said(sharp['expected_norms', 16]['std'])}.",
        ]
    )


def epsilon_headlines(findings: dict) -> str:
    """What a threshold on a density keeps as A grows, and what two other rules do; Markdown, every
    number read from the file.
    """

    def normal(a: int, width: float = 1.0) -> dict:
        return lines(findings, "epsilon_normal", A=a, width=width)[0]

    def network(a: int, law: str = "mixture") -> dict:
        return lines(findings, "epsilon_trained", law=law, A=a, source="network")[0]

    high, one, size = network(24), normal(1), findings["size"]
    return "\n".join(
        [
            f"- A standard normal keeps {one['share']:.1%} of itself above "
            f"{power(findings['log_epsilon'])} at A = 1, {normal(3)['share']:.1%} at 3 "
            f"and {normal(6)['share']:.2%} at 6; networks trained on it kept "
            f"{said(network(1, 'normal')['density']['kept'], '%')}, "
            f"{said(network(3, 'normal')['density']['kept'], '%')} and "
            f"{said(network(6, 'normal')['density']['kept'], '%')} of their own samples.",
            f"- A normal of width 0.2 keeps {normal(24, 0.2)['share']:.1%} at A = 24: "
            f"its entropy is {one_entropy(normal(24, 0.2))} nats per dimension, below "
            "zero, and the same threshold that drops all of a wide behaviour lets "
            "through nearly all of a narrow one.",
            f"- Per dimension, {power(findings['log_epsilon'])}ᴬ keeps everything in "
            f"the limit, since {-findings['log_epsilon']:.0f} nats are more than the "
            f"{one_entropy(one)} that a standardised coordinate can have: "
            f"{normal(6)['share_per_dimension']:.1%} at A = 6. It hardly filters: of "
            f"the samples of small networks of the mixture at A = 24 ({size['width']} "
            f"units, {size['training']:,} steps) {said(high['off'], '%')} were off "
            "support, and it kept "
            f"{said(kept_off_support(findings, high, 'per_dimension'), '%')} of those.",
            f"- A quantile keeps its {findings['kept']:.0%} at every A by construction, "
            "and so drops real behaviour even from a perfect model. Of these networks' "
            "samples at A = 24 it dropped "
            f"{said(high['quantile']['dropped_on_support'], '%')} of what was on "
            "support and kept "
            f"{said(kept_off_support(findings, high, 'quantile'), '%')} of what was "
            f"off; {power(findings['log_epsilon'])} dropped "
            f"{said(high['density']['dropped_on_support'], '%')} and kept "
            f"{said(kept_off_support(findings, high, 'density'), '%')}.",
        ]
    )


def one_entropy(line: dict) -> str:
    return f"{line['entropy']:.3g}".replace("-", "−")


def power(exponent: float) -> str:
    """e to a whole power, in letters of a sentence: e⁻⁵."""
    return "e" + f"{exponent:.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def headlines(findings: dict) -> str:
    """All sentences."""
    return "\n".join(part(findings) for part in (langevin_headlines, epsilon_headlines))


def _by_dimension(rows: dict[str, list[dict]], cell) -> pd.DataFrame:
    """A row each, a column for each action dimension."""
    return pd.DataFrame(
        {
            f"A = {a}": {
                name: next((cell(line) for line in some if line["A"] == a), "")
                for name, some in rows.items()
            }
            for a in sorted({line["A"] for some in rows.values() for line in some})
        }
    )


def langevin_table(findings: dict, law: str, value: str = "off_support") -> pd.DataFrame:
    """Samplers by action dimension: `value` is off_support, below_epsilon (shares) or ratio
    (distance, 1 is that between true samples).
    """
    rows = {
        label: lines(findings, "langevin_samples", law=law, sampler=name)
        for name, label in SAMPLER_LABELS.items()
    }
    return _by_dimension(
        rows, lambda line: said(line[value], "" if value == "ratio" else "%")
    ).rename_axis("sampler")


def rules_table(findings: dict, law: str, source: str, value: str) -> pd.DataFrame:
    """Rules by action dimension: `value` is kept, dropped_on_support, kept_on_support or
    kept_off_support; `source` is network or truth.
    """
    some = lines(findings, "epsilon_trained", law=law, source=source)
    return _by_dimension(
        {
            label: [dict(A=line["A"], value=_of_rule(findings, line, rule, value)) for line in some]
            for rule, (label, _) in RULES.items()
        },
        lambda line: said(line["value"], "%"),
    ).rename_axis("rule")


def divergence_summary(findings: dict, dimensions: Sequence[int] = (3, 24)) -> pd.DataFrame:
    """What Hutchinson's estimate costs, a row for each way to get the trace: the error of the
    log-density in nats (on an exact score against the closed form, else against the walk with the
    exact trace), and the share of decisions that change.
    """
    one, most = min(findings["size"]["probes"]), max(findings["size"]["probes"])

    def row(value: str, unit: str, kind: str, probes: int | None) -> list[str]:
        asked = ((a, a if probes is None else probes) for a in dimensions)
        found = (lines(findings, "divergence", score=kind, A=a, probes=p)[0] for a, p in asked)
        return [said(line[value], unit, 1) for line in found]

    nats, changed = ("mean_abs", ""), ("flips", "%")
    rows = {
        "exact trace, exact score": row(*nats, "exact", 0),
        "10 probes, exact score": row(*nats, "exact", 10),
        "10 probes, network": row(*nats, "network", 10),
        "A probes, network": row(*nats, "network", None),
        f"{most} probes, network": row(*nats, "network", most),
    }
    flips = {
        "10 probes, network": row(*changed, "network", 10),
        f"{one} probe, network": row(*changed, "network", one),
    }
    index = [("error, nats", name) for name in rows] + [("decisions changed", n) for n in flips]
    return pd.DataFrame(
        [*rows.values(), *flips.values()],
        index=pd.MultiIndex.from_tuples(index),
        columns=[f"A = {a}" for a in dimensions],
    )


def divergence_table(findings: dict, score: str) -> pd.DataFrame:
    """Probes by action dimension: error in nats, and the share of decisions at e^-5 that change."""
    rows = {
        f"{p} probes": lines(findings, "divergence", score=score, probes=p)
        for p in findings["size"]["probes"]
    }
    return _by_dimension(
        rows, lambda line: f"{said(line['mean_abs'])} nats, {line['flips']['mean']:.2%}"
    ).rename_axis("divergence")


def _of_rule(findings: dict, line: dict, rule: str, value: str) -> dict | None:
    if value == "kept_on_support":
        dropped = line[rule]["dropped_on_support"]
        return dropped | dict(mean=1 - dropped["mean"])
    return (
        kept_off_support(findings, line, rule) if value == "kept_off_support" else line[rule][value]
    )


def _errors(ax: Axes, some: list[dict], values: list[dict], **style) -> None:
    ax.errorbar(
        [line["A"] for line in some],
        [v["mean"] for v in values],
        [v["error"] for v in values],
        **dict(marker="o", ms=4, capsize=2) | style,
    )


def draw_langevin(ax: Axes, findings: dict, law: str, value: str = "off_support") -> None:
    """`value` (see langevin_table) of each sampler by action dimension, with standard errors;
    shares on a scale that shows zero.
    """
    for name, label in SAMPLER_LABELS.items():
        some = lines(findings, "langevin_samples", law=law, sampler=name)
        _errors(
            ax,
            some,
            [line[value] for line in some],
            label=label,
            color=SAMPLER_COLORS[name],
            lw=2.2 if name == "predictor_corrector" else 1.2,
        )
    ax.set(
        xscale="log",
        xlabel="action dimension $A$",
        ylabel={
            "off_support": "off support",
            "below_epsilon": "below $e^{-5}$",
            "ratio": "distance / true",
        }[value],
    )
    if value == "ratio":
        ax.set_yscale("log")
    else:
        ax.set_yscale("symlog", linthresh=findings["off_support"])
        ax.set_ylim(-0.2 * findings["off_support"], 1)
    _dimensions(ax, [line["A"] for line in some])


def draw_shares(ax: Axes, findings: dict) -> None:
    """The share above e^-5 of normals of four widths: closed form as lines; networks trained on the
    standard normal as points.
    """
    for width, color in zip((1.0, 0.5, 0.2, 0.05), ("orange", "amber", "sky", "blue"), strict=True):
        some = lines(findings, "epsilon_normal", width=width)
        ax.plot(
            [line["A"] for line in some],
            [line["share"] for line in some],
            ".-",
            color=COLORS[color],
            label=f"std {width:g}",
        )
    ax.plot(
        [line["A"] for line in some],
        [line["share_per_dimension"] for line in lines(findings, "epsilon_normal", width=1.0)],
        "--",
        color=COLORS["green"],
        label="std 1, $e^{-5A}$",
    )
    networks = lines(findings, "epsilon_trained", law="normal", source="network")
    _errors(
        ax,
        networks,
        [line["density"]["kept"] for line in networks],
        ls="",
        color=COLORS["black"],
        label="networks, std 1",
    )
    ax.set(
        xscale="log",
        xlabel="action dimension $A$",
        ylabel="share in the support",
        ylim=(-0.03, 1.03),
    )
    _dimensions(ax, [line["A"] for line in networks])


def draw_rules(ax: Axes, findings: dict, value: str, law: str = "mixture") -> None:
    """What each rule does to candidates of trained networks, by action dimension: `value` is
    kept_on_support or kept_off_support.
    """
    some = lines(findings, "epsilon_trained", law=law, source="network")
    for rule, (label, color) in RULES.items():
        known = [
            (line, v) for line in some if (v := _of_rule(findings, line, rule, value)) is not None
        ]
        _errors(ax, [line for line, _ in known], [v for _, v in known], label=label, color=color)
    ax.set(
        xscale="log",
        xlabel="action dimension $A$",
        ylabel={
            "kept_on_support": "kept, of on support",
            "kept_off_support": "kept, of off support",
        }[value],
        ylim=(-0.03, 1.03),
    )
    _dimensions(ax, [line["A"] for line in some])


def draw_divergence(ax: Axes, findings: dict, score: str, value: str = "mean_abs") -> None:
    """Errors (nats) or flips of Hutchinson's estimate by action dimension, a line for each number
    of probes. A = 1 has none: v² = 1.
    """
    for probes, color in PROBE_COLORS.items():
        some = [
            line
            for line in lines(findings, "divergence", score=score, probes=probes)
            if line["A"] > 1
        ]
        _errors(
            ax,
            some,
            [line[value] for line in some],
            label=f"{probes} probe{'s' * (probes > 1)}",
            color=color,
        )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="action dimension $A$",
        ylabel={"mean_abs": "mean |error|, nats", "flips": "decisions changed"}[value],
    )
    _dimensions(ax, [line["A"] for line in some])


def _dimensions(ax: Axes, dims: list[int]) -> None:
    # 24 beside 28 has no room
    ax.set_xticks(
        dims,
        [str(a) if b > 1.25 * a else "" for a, b in zip(dims, [*dims[1:], math.inf], strict=True)],
    )
    ax.minorticks_off()
