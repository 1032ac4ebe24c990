"""Tables of the split-conformal epsilon (data/benchmarks/conformal.json)."""

from __future__ import annotations

import pandas as pd

RULES = ("conformal", "training quantile", "fixed", "per dimension")
LABELS = {
    "conformal": "held-out actions",
    "training quantile": "training actions",
    "fixed": "e⁻⁵",
    "per dimension": "e⁻⁵ᴬ",
}


def found(measured: dict, rule: str, delta: float, density: str = "exact") -> list[dict]:
    """The lines of a rule in the order of A; those of rules without a delta have none."""
    return [
        line
        for line in measured["dropped"]
        if (line["rule"], line["density"]) == (rule, density) and line.get("delta", delta) == delta
    ]


def farthest(measured: dict, rule: str, delta: float, density: str = "exact") -> float:
    """How far the mean over seeds of the dropped share is from delta where it is farthest, over
    the numbers of dimensions."""
    some = found(measured, rule, delta, density)
    return max(abs(line["dropped"]["mean"] - delta) for line in some)


def dropped_table(measured: dict, delta: float) -> pd.DataFrame:
    """The share of fresh recorded actions that each rule drops, by action dimension: the mean over
    seeds, and the least and the largest; the first column once more where one probe decides.
    """

    def column(rule: str, density: str = "exact") -> dict[int, str]:
        return {
            line["A"]: f"{line['dropped']['mean']:.1%} ({100 * line['dropped']['least']:.1f} to "
            f"{100 * line['dropped']['most']:.1f})"
            for line in found(measured, rule, delta, density)
        }

    columns = {LABELS[rule]: column(rule) for rule in RULES}
    columns[f"{LABELS['conformal']}, one probe"] = column("conformal", "one probe")
    return pd.DataFrame(columns).rename_axis("A").fillna("")


def splits_table(measured: dict) -> pd.DataFrame:
    """Of each task and delta: mean and spread of the dropped share over splits of whole episodes,
    over splits of single actions, and the spread that the Beta law says."""
    rows = {
        (task, f"{split['delta']:.0%}"): {
            "episodes apart": f"{split['episodes']['mean']:.2%} ± {split['episodes']['std']:.2%}",
            "actions apart": f"{split['actions']['mean']:.2%} ± {split['actions']['std']:.2%}",
            "Beta law": f"{split['beta']['mean']:.2%} ± {split['beta']['std']:.2%}",
        }
        for task, of_task in measured["tasks"].items()
        for split in of_task["splits"]
    }
    return pd.DataFrame(rows).T.rename_axis(["task", "δ"])


def returns_table(measured: dict) -> pd.DataFrame:
    """Of each task and line: log epsilon, the share of recorded actions and of candidates that it
    drops, the mean score over seeds and how many episodes succeed."""

    def named(rule: str) -> str:
        if rule.startswith("delta"):
            return f"δ = {float(rule.split()[1]):.1%}"
        return {"e^-5": "e⁻⁵"}.get(rule, rule)

    rows = {}
    for task, of_task in measured["tasks"].items():
        for rule, line in of_task["lines"].items():
            log_epsilon = line["log_epsilon"]
            rows[task, named(rule)] = {
                "log ε": "" if log_epsilon is None else f"{log_epsilon['mean']:.2f}",
                "recorded dropped": f"{line['dropped_of_learned']['mean']:.1%}",
                "candidates dropped": f"{1 - line['candidates_kept']['mean']:.1%}",
                "score": f"{line['score']['mean']:.2f}",
                "success": f"{line['success']:.0%}",
            }
    return pd.DataFrame(rows).T.rename_axis(["task", "line"])
