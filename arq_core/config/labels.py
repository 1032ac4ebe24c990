"""Names and order of methods, groups, suites, fidelities and profiles, as the book shows them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Label:
    """How a method is written. One without a label goes by its name, and its lines are grey."""

    head: str = ""  # of its column in Table A.4, HTML; "": it has none
    figure: str = ""  # in figures, mathtext
    color: str = ""  # a name of figures.style.COLORS; "": grey, told apart by dashes


LABELS = {  # in the order of Table A.4; those after DT learn or use a value function
    "random": Label("", "random", "grey"),
    "bc": Label("BC", "BC", "black"),
    "ibc": Label("Implicit BC"),
    "s_psi": Label("<i>s</i><sub>ψ</sub>", r"$s_\psi$", "sky"),
    "one_step": Label("One-step"),
    "q_beta+s_psi": Label(
        "<i>Q</i><sup>β</sup> + <i>s</i><sub>ψ</sub>", r"$Q^\beta + s_\psi$", "pink"
    ),
    "dt": Label("DT"),
    "awac": Label("AWAC"),
    "td3+bc": Label("TD3+BC"),
    "bcq": Label("BCQ"),
    "cql": Label("CQL"),
    "iql": Label("IQL"),
    "arq+pi": Label("ARQ + <i>π</i><sub>ϕ</sub>", r"ARQ + $\pi_\phi$", "green"),
    "arq+s_psi": Label("ARQ + <i>s</i><sub>ψ</sub>", r"ARQ + $s_\psi$", "blue"),
    "arq+s_psi unfiltered": Label("", r"ARQ + $s_\psi$, no filter", "orange"),
    "unconstrained": Label("", "unconstrained Q", "amber"),
}
GREEK = {r"\psi": "ψ", r"\pi": "π", r"\phi": "ϕ", r"\beta": "β"}


def in_words(method: str) -> str:
    """A method's name in a table of text: `ARQ + s_ψ`; without a label, its name."""
    written = LABELS[method].figure.replace("$", "") if method in LABELS else ""
    for sign, letter in GREEK.items():
        written = written.replace(sign, letter)
    return written or method


METHODS = {method: label.head for method, label in LABELS.items() if label.head}
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
    "ours": "Two small problems of this book; the score is the return",
}  # suite in tasks.csv: the group's head in `table_own`
# our lines of a dataset, the largest budget first
PROFILES = ("paper", "full", "fast", "lite", "ci", "toy")
VARIANTS = ("released", "paper")  # of the algorithm (qlearning.BOOTSTRAPS), ours first
SUITES = GROUPS | {"ours": "Our own problems", "recollected": "Collected by us"}
FIDELITIES = {
    "official": "the published file itself",
    "rebuilt": "made again from the original source by the original recipe",
    "recollected": "collected by us; never set beside a published number as a reproduction",
    "own": "a user's own data",
}
