"""Choosing without a simulator: what is tried, what is held out, how it is ranked and refused."""

import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import arq_core as arq
from arq_core.__main__ import arq as command
from arq_core.algorithm.types import DataError
from arq_core.baselines.fqe import Fitting, first_rows
from arq_core.config.settings import UnknownName
from arq_core.experiments import choosing
from arq_core.experiments.choosing import Candidate, Judge, Judged, behind
from arq_core.results import measured
from arq_core.results.calibration import half_width
from arq_core.results.records import ResultsError

SMALL = dict(width=16, batch=16, n=3, acting_n=4)
STEPS = 5  # of six a clock cut the last, whose next state is unknown
QUICK = Fitting(warm_steps=20, steps=20, batch=32, width=16, heads=3, draws=2)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARQ_CACHE", str(tmp_path_factory.mktemp("choosing") / "cache"))
        yield


def recorded(episodes=30, length=6, pay=1.0):
    """Random episodes that a clock cut, of my own."""
    g, n = np.random.default_rng(0), episodes * length
    ends = np.arange(n) % length == length - 1
    observations, actions = g.normal(size=(n, 3)), g.uniform(-0.9, 0.9, (n, 2))
    rewards = pay * g.normal(size=n)
    none = np.zeros(n, bool)
    return arq.from_arrays(observations, actions, rewards, none, ends, bounds="normalized")


def prepared(**how):
    return arq.prepare(recorded(**how), "toy", [0, 1], group="maze", changes=SMALL)


def test_the_grid_has_every_choice_that_a_method_has_and_no_other():
    e = prepared()
    found = choosing.grid(e, ["bc", "q_beta+s_psi", "arq+s_psi"], [-5.0, -math.inf], [0.5, 2], [1])
    assert [c.method for c in found] == ["bc"] + ["q_beta+s_psi"] * 4 + ["arq+s_psi"] * 4
    assert found[0].changes == {}
    assert {c.changes["alpha_arq"] for c in found[5:]} == {0.5 * e.hyper.alpha_arq, 60.0}
    assert all(c.changes["k"] == 1 for c in found[5:]) and "k" not in found[1].changes
    assert len({c.name for c in found}) == len(found)
    assert found[-1].name == "ARQ + s_ψ, ε off, K 1, α 60"


@pytest.mark.parametrize(
    "words, said",
    [
        (
            dict(methods="arq+s_psi", epsilons="small"),
            "epsilons: saw 'small', expected numbers, or",
        ),
        (dict(methods="arq+s_psi", ks="1.5"), "ks: saw '1.5', expected whole numbers"),
        (dict(methods="arq+s_psi", ks="99"), "k: saw 99, expected 1 to n = 3"),
        (dict(methods="sarsa"), "method: saw 'sarsa'"),
        (dict(methods=" "), "choose: saw no method"),
        (dict(methods="arq+s_psi", epsilons="nan"), "epsilons: saw nan, expected logs in nats"),
        (dict(methods="arq+s_psi", epsilons="inf"), "epsilons: saw inf, expected logs in nats"),
        (dict(methods="arq+s_psi", alphas="-1"), "alphas: saw -1, expected 0 or more"),
    ],
)
def test_a_choice_that_is_not_understood_is_named(words, said):
    with pytest.raises(UnknownName, match=said):
        choosing.asked(prepared(), **words)


def test_what_is_asked_for_twice_is_judged_once():
    once = choosing.asked(prepared(), "bc arq+s_psi", alphas="1,2")
    assert choosing.asked(prepared(), "bc,arq+s_psi,bc", alphas="1,2,1") == once


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY\x01\x00"])
def test_a_file_of_starts_that_is_none_is_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "starts.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"starts.npy: saw .*expected states \[N, S\]"):
        choosing.read_starts(path)


def test_whole_episodes_are_held_out_and_none_is_learned_from():
    e = prepared()
    learned, held = choosing.hold_out(e)
    rows = lambda data: {tuple(a) for a in data.actions.numpy().round(5).tolist()}
    all_of = rows(e.recorded.transitions)
    assert len(first_rows(held.transitions)) == round(choosing.SHARE * 30)
    assert len(held.transitions.actions) == STEPS * round(choosing.SHARE * 30)
    assert not rows(learned.recorded.transitions) & rows(held.transitions)
    assert rows(learned.recorded.transitions) | rows(held.transitions) == all_of
    assert torch.equal(choosing.hold_out(e)[1].transitions.actions, held.transitions.actions)


def test_too_few_episodes_and_no_rewards_are_one_clear_error():
    few = arq.prepare(recorded(episodes=19), "toy", [0], group="maze")
    with pytest.raises(DataError, match="saw 19 episodes, expected 20 or more.*record more"):
        choosing.choose(few, [Candidate("bc")], QUICK)
    with pytest.raises(DataError, match="saw rewards of 0 in all 45 transitions"):
        choosing.choose(prepared(pay=0.0), [Candidate("bc")], QUICK)


def test_starts_of_another_size_are_refused():
    for wrong in (np.zeros((4, 2)), np.zeros(3), np.full((2, 3), np.nan), np.array(["a"])):
        with pytest.raises(DataError, match=r"starts: saw .*expected finite numbers \[N, 3\]"):
            choosing.choose(prepared(), [Candidate("bc")], QUICK, wrong)


def test_choices_come_ranked_and_each_has_what_its_method_can_say():
    e = prepared()
    asked = choosing.asked(e, "bc s_psi arq+pi arq+s_psi")
    found = choosing.choose(e, asked, QUICK)
    assert sorted(c.name for c in asked) == sorted(j.candidate.name for j in found)
    values = [j.value for j in found]
    assert values == sorted(values, reverse=True)
    assert all(j.fqe.shape == (2, 3) and np.isfinite(j.fqe).all() for j in found)
    has_critic = {j.candidate.method: j.own is not None for j in found}
    assert has_critic == {"bc": False, "s_psi": False, "arq+pi": True, "arq+s_psi": True}
    text = choosing.table(found).to_string()
    assert all(j.candidate.name in text for j in found) and text.count("the first") == 1 + 1


def test_a_clone_alone_is_worth_its_episodes_by_importance_and_a_head_has_no_density():
    learned, held = choosing.hold_out(prepared())
    judge = Judge(learned, held.transitions, QUICK)
    clone = judge.judge(Candidate("s_psi"), sampled=True)
    data, gamma = held.transitions, learned.hyper.gamma
    first = first_rows(data)
    g = [sum(gamma**t * data.rewards[i + t].item() for t in range(STEPS)) for i in first.tolist()]
    assert clone.weighted == pytest.approx([np.mean(g)] * 2, abs=1e-4)
    assert clone.episodes == pytest.approx([len(g)] * 2)
    assert judge.judge(Candidate("bc"), sampled=True).weighted is None


def test_a_difference_is_taken_head_by_head():
    a, b = np.array([[1.0, 2.0, 3.0]]), np.array([[0.5, 1.5, 2.5]])
    first, other = Judged(Candidate("bc"), a), Judged(Candidate("s_psi"), b)
    assert behind(first, other) == pytest.approx((0.5, 0.0))
    assert half_width(a[0]) == pytest.approx(4.302653, rel=1e-5)  # t of 2 at 97.5%, times 1
    assert math.isnan(half_width(a[0, :1]))


def test_the_command_ends_in_one_line_for_data_without_episodes_to_spare(tmp_path):
    run = CliRunner().invoke(
        command, ["choose", "maze", "--profile", "toy", "--starts", str(tmp_path / "none.npy")]
    )
    assert run.exit_code == 1 and run.output.count("\n") == 1 and "error: " in run.output
    assert "expected states [N, S] in a file that numpy.save wrote" in run.output


WHOLE = dict(
    rank_correlation=0.5, rank_correlation_interval=[0, 1], policies=12, regret_at_1=2, range=9
)


@pytest.mark.parametrize(
    "content, said",
    [
        (dict(tasks=dict(maze=dict(lines={}))), "saw maze without its calibration"),
        (
            dict(tasks=dict(maze=dict(calibration=dict(fqe=WHOLE)), bridge={}, x={})),
            "saw bridge, x without its calibration",
        ),
        (
            dict(tasks=dict(maze=dict(calibration=dict(fqe=dict(policies=12))))),
            "saw maze without its calibration",
        ),
        (dict(tasks={}), "saw no task with its calibration"),
        (dict(), "saw no task with its calibration"),
        ([], "saw list, expected an object"),
        ("{half", "saw Expecting property name .*restore the file"),
        (None, "saw .*No such file.*expected what benchmarks/choosing_blind.py wrote"),
    ],
)
def test_a_calibration_that_is_not_there_is_said_and_takes_no_ranking_with_it(
    tmp_path, monkeypatch, content, said
):
    (tmp_path / "benchmarks").mkdir()
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "benchmarks/choosing_blind.json").write_text(text, "utf-8")
    monkeypatch.setattr(measured, "DATA", tmp_path)
    with pytest.raises(ResultsError, match=f"choosing_blind.json: {said}"):
        choosing.trust()
    ranked = [Judged(Candidate("bc"), np.array([[1.0, 2.0]]))]
    assert choosing.said(ranked).startswith(choosing.table(ranked).to_string())
    assert "is not known here: " in choosing.said(ranked)


def test_what_is_known_of_such_choices_is_a_line_a_task():
    known, tasks = choosing.trust().splitlines(), measured.measured("choosing_blind")["tasks"]
    assert [x.split(":")[0].strip() for x in known[1:]] == list(tasks)
