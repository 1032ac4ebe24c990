"""Names and order of methods, groups, suites, fidelities and profiles, as the book shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# why a method has a column that Table A.4 has not, as its head says
OURS = "not in the paper"
TODAY = "of today, not in the paper"
YOURS = "yours, not in the paper"


@dataclass(frozen=True)
class Label:
    """How a method is written. One without a label goes by its name, and its lines are grey."""

    head: str = ""  # of its column in Table A.4, HTML; "": it has none
    figure: str = ""  # in figures, mathtext
    color: str = ""  # a name of figures.style.COLORS; "": grey, told apart by dashes
    apart: str = ""  # OURS or TODAY, where the paper's table has no such column


LABELS = {  # in the order of Table A.4; those after DT learn or use a value function
    "random": Label("", "random", "grey"),
    "bc": Label("BC", "BC", "black"),
    "bc-mse": Label("BC-MSE", "BC-MSE", apart=OURS),
    "bc-gmm": Label("BC-GMM", "BC-GMM", apart=OURS),
    "ibc": Label("Implicit BC", "Implicit BC"),
    # never in the column of Implicit BC: a smaller network, fewer and shorter chains
    "ibc-small": Label("Implicit BC, small", "Implicit BC, small", apart=OURS),
    "s_psi": Label("<i>s</i><sub>ψ</sub>", r"$s_\psi$", "sky"),
    "one_step": Label("One-step", "One-step"),
    "q_beta+s_psi": Label(
        "<i>Q</i><sup>β</sup> + <i>s</i><sub>ψ</sub>", r"$Q^\beta + s_\psi$", "pink"
    ),
    "dt": Label("DT", "DT"),
    "awac": Label("AWAC", "AWAC"),
    "td3+bc": Label("TD3+BC", "TD3+BC"),
    "bcq": Label("BCQ", "BCQ"),
    "cql": Label("CQL", "CQL"),
    "iql": Label("IQL", "IQL"),
    "arq+pi": Label("ARQ + <i>π</i><sub>ϕ</sub>", r"ARQ + $\pi_\phi$", "green"),
    "arq+s_psi": Label("ARQ + <i>s</i><sub>ψ</sub>", r"ARQ + $s_\psi$", "blue"),
    "arq+s_psi unfiltered": Label("", r"ARQ + $s_\psi$, no filter", "orange"),
    "unconstrained": Label("", "unconstrained Q", "amber"),
    "idql": Label("IDQL", "IDQL", apart=TODAY),
    "rebrac": Label("ReBRAC", "ReBRAC", apart=TODAY),
    # of Table 1, and without a column: they go by their names
    **{
        f"dqp {row}": Label()
        for row in ("none", "brac-kl", "brac-mmd", "td3+bc", "anti-exploration", "ploff", "mopo")
    },
}
GREEK = {r"\psi": "ψ", r"\pi": "π", r"\phi": "ϕ", r"\beta": "β"}


def in_words(method: str) -> str:
    """A method's name in a table of text: `ARQ + s_ψ`; without a label, its name."""
    written = LABELS[method].figure.replace("$", "") if method in LABELS else ""
    for sign, letter in GREEK.items():
        written = written.replace(sign, letter)
    return written or method


def _head(label: Label) -> str:
    return f"{label.head} <small>{label.apart}</small>" if label.apart else label.head


# heads of columns, HTML: those of Table A.4 (PUBLISHED), and of further methods
METHODS = {method: _head(label) for method, label in LABELS.items() if label.head}
PUBLISHED = tuple(m for m, label in LABELS.items() if label.head and not label.apart)


def columns(methods: Iterable[str]) -> dict[str, str]:
    """Heads of the tables' columns, HTML: METHODS, and each of `methods` that has no label, which
    is a user's own, by its name."""
    own = sorted({m for m in methods if m not in LABELS})
    return METHODS | {m: f"{m} <small>{YOURS}</small>" for m in own}


METHOD_LABELS = {method: label.figure for method, label in LABELS.items() if label.figure}
GROUPS = {
    "d4rl-locomotion": "D4RL locomotion",
    "d4rl-adroit": "D4RL Adroit",
    "d4rl-kitchen": "D4RL kitchen",
    "d4rl-antmaze": "D4RL AntMaze",
    "robomimic": "Robomimic",
}
OWN_SUITES = {
    "recollected-locomotion": "Locomotion, published policies",
    "recollected-adroit": "Adroit hand, our own clone",
    "recollected-pointmaze": "Point mazes, planner and controller",
    "recollected-antmaze": "Ant mazes, planner and controller",
    "recollected-robomimic": "Robot arm, scripted controllers",
    "ogbench": "OGBench, single tasks; the score is the success rate",
    "minari": "Minari, D4RL's demonstrations recorded again",
    "ours": "Two small problems of this book; the score is the return",
}  # suite in tasks.csv: the group's head in `table_own`
# our lines of a dataset, the largest budget first
PROFILES = ("paper", "full", "fast", "lite", "ci", "toy")
VARIANTS = ("released", "paper")  # of the algorithm (qlearning.BOOTSTRAPS), ours first
SUITES = GROUPS | {
    "ogbench": "OGBench, single tasks",
    "minari": "Minari",
    "ours": "Our own problems",
    "recollected": "Collected by us",
}
FIDELITIES = {
    "official": "the published file itself",
    "rebuilt": "made again from the original source by the original recipe",
    "recollected": "collected by us; never set beside a published number as a reproduction",
    "own": "a user's own data",
}
