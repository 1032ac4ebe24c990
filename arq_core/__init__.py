"""Action-restricted Q-learning (ARQ): offline reinforcement learning within the data's support.

ARQ clones the behaviour policy explicitly, with a score-based generative model; it drops actions
whose density under the clone is below epsilon, and learns Q only over what is left.

    import arq_core as arq

    data = arq.from_arrays(observations, actions, rewards, terminals, timeouts)
    setup = arq.prepare(data, "ci", group="adroit", environment="gymnasium:Hopper-v4")
    print(arq.summary(arq.measure(setup, "arq+s_psi"))[["score", "score_std"]])

The paper is ten files of `algorithm`, to be read in this order: types, nets, sde, samplers,
likelihood, behavior, support, qlearning, policies, arq. The rooms, each on top of those below it:

    grid          Table A.4 as a workflow, on a laptop or a cluster
    book          the pages: notebooks run, then what Sphinx is taught
    experiments   one row of a table, from a name to rows: prepare, train, measure
    baselines     what ARQ is compared with        collectors  recipes of datasets of our own
    figures       the book's figures, by chapter   widgets     those that one can handle
    theory        Theorem 1 and Table 1, exact     datasets    readers, each source to a Dataset
    densities     behaviours known in closed form, and how near a model of them is
    algorithm     the paper
    engine        how it is computed: streams, machine, training, stores
    results       rows, and what they say          envs        simulators as vectors of episodes
    config        what is chosen, what it is called, where it lies

The command `arq` (`arq --help`) makes the book, a row, the table. Importing this package is cheap:
a name loads what it needs when it is first used.

W. Goo and S. Niekum, Know Your Boundaries: The Necessity of Explicit Behavioral Cloning in
Offline RL, 2022.
"""

from __future__ import annotations

import sys
from importlib import import_module

# Where the public names live, by room and module. They are not written as whole module names: the
# runner of the book's notebooks would take each page to depend on all of them.
_HOMES = {
    "algorithm.arq": ("ARQ", "arq"),
    "algorithm.behavior": ("fit_behavior",),
    "algorithm.policies": ("fit_awr",),
    "algorithm.qlearning": ("fit_q",),
    "algorithm.samplers": ("SAMPLERS",),
    "algorithm.sde": ("VPSDE",),
    "algorithm.support": ("sample_support",),
    "algorithm.types": ("Behavior", "DataError", "Policy", "SupportSet", "Transitions"),
    "config.hyper": ("Budget", "Hyper"),
    "config.settings": ("budget", "hyper"),
    "config.tasks": ("tasks",),
    "datasets.own": ("from_arrays", "read_own"),
    "engine.filestore": ("FileStore",),
    "engine.streams": ("Streams",),
    "experiments.experiment": ("measure", "prepare", "train"),
    "experiments.kept": ("KeptPolicy", "load", "policy"),
    "experiments.methods": ("METHODS", "Trained"),
    "experiments.own_method": ("check_method",),
    "results.rows": ("summary",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    """The public names, each imported from its home when it is first used."""
    if name not in _HOME:
        said = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(said, name=name, obj=sys.modules[__name__])
    globals()[name] = found = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
