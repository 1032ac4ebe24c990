"""Names and order of methods, groups, suites, fidelities and profiles, as tables and figures show them."""
from __future__ import annotations

METHODS = {                                # column heads of Table A.4, in its order; those after DT learn or use a value function
    "bc": "BC", "ibc": "Implicit BC", "s_psi": "<i>s</i><sub>ψ</sub>",
    "one_step": "One-step", "q_beta+s_psi": "<i>Q</i><sup>β</sup> + <i>s</i><sub>ψ</sub>",
    "dt": "DT", "awac": "AWAC", "td3+bc": "TD3+BC", "bcq": "BCQ", "cql": "CQL", "iql": "IQL",
    "arq+pi": "ARQ + <i>π</i><sub>ϕ</sub>", "arq+s_psi": "ARQ + <i>s</i><sub>ψ</sub>",
}
GROUPS = {"d4rl-locomotion": "D4RL locomotion", "d4rl-adroit": "D4RL Adroit", "d4rl-kitchen": "D4RL kitchen",
          "d4rl-antmaze": "D4RL AntMaze", "robomimic": "Robomimic"}
OWN_SUITES = {"recollected-locomotion": "Locomotion, our own policies", "recollected-adroit": "Adroit hand, our own clone",
              "recollected-pointmaze": "Point mazes, planner and controller", "recollected-antmaze": "Ant mazes, planner and controller",
              "recollected-robomimic": "Robot arm, scripted controllers",
              "ours": "Two small problems of this book; the score is the return"}      # suite in tasks.csv: the group's head in `table_own`
PROFILES = ("paper", "lite", "ci", "toy")                                      # our lines of a dataset, the largest budget first
SUITES = GROUPS | {"ours": "Our own problems", "recollected": "Collected by us"}
FIDELITIES = {
    "official": "the published file itself",
    "rebuilt": "made again from the original source by the original recipe",
    "recollected": "collected by us; never set beside a published number as a reproduction",
    "own": "a user's own data",
}
METHOD_LABELS = {"random": "random", "bc": "BC", "unconstrained": "unconstrained Q", "s_psi": r"$s_\psi$",
                 "q_beta+s_psi": r"$Q^\beta + s_\psi$", "arq+pi": r"ARQ + $\pi_\phi$", "arq+s_psi": r"ARQ + $s_\psi$",
                 "arq+s_psi unfiltered": r"ARQ + $s_\psi$, no filter"}
