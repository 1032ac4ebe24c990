"""The random policy's returns: the file says what a run gives, and what it says about D4RL's
reference minima. Needs the simulators.
"""

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="the simulators are not installed")
pytest.importorskip("gymnasium_robotics", reason="the simulators are not installed")

from arq_core.config.tasks import tasks  # noqa: E402
from arq_core.experiments import random_scores  # noqa: E402
from arq_core.experiments.random_scores import (  # noqa: E402
    D4RL_EPISODES,
    REFERENCES,
    difference,
    make,
    measure,
    random_returns,
    verdict,
)
from arq_core.results.measured import measured  # noqa: E402

# episodes of a short test; 12 elsewhere
FEW = {"kitchen": 2, "antmaze": 2, "halfcheetah": 4, "pointmaze": 6}
# 1 fixed draw in 100,000 would be beyond
SIGMAS = 4.5


@pytest.fixture(scope="module")
def rows():
    return {r["environment"]: r for r in measured("random_scores")["rows"]}


class Payday:
    """Episode i pays i + 1 a step and ends after i + 1 steps; the horizon is 3."""

    state_dim, action_dim, horizon = 1, 2, 3

    def reset(self, seeds):
        self.left, self.pay, self.seeds = (
            np.arange(len(seeds)) + 1,
            np.arange(len(seeds)) + 1.0,
            seeds,
        )
        return np.zeros((len(seeds), 1))

    def step(self, actions):
        assert actions.shape == (len(self.left), 2) and np.abs(actions).max() <= 1
        self.left = self.left - 1
        return (
            np.zeros((len(self.left), 1)),
            self.pay,
            self.left <= 0,
            np.zeros(len(self.left), bool),
        )


def test_returns_stop_at_the_end_of_each_episode_and_at_the_horizon():
    returns, lengths = random_returns(Payday(), 5, 0)
    assert returns.tolist() == [1, 4, 9, 12, 15] and lengths.tolist() == [1, 2, 3, 3, 3]


def test_difference_counts_combined_standard_errors():
    row = dict(environment="door", mean=REFERENCES["door"].minimum + 3.0, std=10.0, episodes=100)
    assert difference(row) == pytest.approx(3 / np.hypot(10 / 100**0.5, 10 / D4RL_EPISODES**0.5))
    assert (
        verdict(row) == "comparable"
        and verdict(row | dict(mean=row["mean"] + 2)) == "not comparable"
    )
    nothing = dict(environment="kitchen-mixed", mean=0.0, std=0.0, episodes=100)
    assert difference(nothing) == 0 and verdict(nothing) == "not shown"
    assert (
        difference(nothing | dict(mean=1.0)) == np.inf
        and verdict(nothing | dict(mean=1.0)) == "not comparable"
    )


def test_minima_are_those_that_scores_are_computed_with():
    """Every D4RL task of the table is of one of these environments, with its minimum."""
    seen = {}
    for task in tasks().values():
        if task.suite.startswith("d4rl"):
            name = max((n for n in REFERENCES if task.task.startswith(n)), key=len)
            assert task.score_min == REFERENCES[name].minimum, task.task
            assert make_of(task.environment) == make_of(REFERENCES[name].environment), task.task
            seen[name] = True
    assert {n for n in REFERENCES if not n.startswith("pointmaze")} == set(seen)


def make_of(path):
    return path.replace("envs.door:", "envs.adroit:")


def test_every_environment_was_measured(rows):
    assert list(rows) == list(REFERENCES)
    sparse = ("kitchen", "antmaze")
    assert min(r["episodes"] for name, r in rows.items() if not name.startswith(sparse)) >= 100
    shown = random_scores.table()
    assert list(shown.index) == list(REFERENCES) and set(shown["verdict"]) <= {
        "comparable",
        "not comparable",
        "not shown",
    }


def test_what_is_not_comparable_says_why(rows):
    assert {
        name
        for name, r in rows.items()
        if verdict(r) != "comparable" and not REFERENCES[name].known
    } == set()
    assert {name for name, r in rows.items() if verdict(r) == "comparable"} >= {
        "door",
        "hammer",
        "relocate",
    }


# one of each simulator; what the others add is another maze or another goal in the same one
ONE_OF_EACH = {name.split("-")[0]: name for name in reversed(REFERENCES)}.values()
OTHERS = pytest.mark.slow(reason="another maze or goal of a simulator that is asked already")


@pytest.mark.parametrize(
    "name",
    [n if n in ONE_OF_EACH else pytest.param(n, marks=OTHERS) for n in REFERENCES],
)
def test_a_few_episodes_agree_with_the_file(rows, name):
    """Tolerance: 4.5 standard errors of the difference of the two means, from the file's spread;
    none where nothing is earned.
    """
    episodes = FEW.get(name.split("-")[0], 12)
    returns, _ = random_returns(make(name, episodes), episodes, seed=10_000)
    row = rows[name]
    assert abs(returns.mean() - row["mean"]) <= SIGMAS * row["std"] * np.sqrt(
        1 / episodes + 1 / row["episodes"]
    )


@pytest.mark.slow(reason="plays all episodes of every reference again")
@pytest.mark.parametrize("name", REFERENCES)
def test_all_episodes_anew_agree_with_the_file_and_give_its_verdict(rows, name):
    row = rows[name]
    again = measure(name, row["episodes"], seed=20_000)
    assert abs(again["mean"] - row["mean"]) <= SIGMAS * max(again["std"], row["std"]) * np.sqrt(
        2 / row["episodes"]
    )
    if abs(abs(difference(row)) - 3) > 1:
        assert verdict(again) == verdict(row)
