"""Tables A.1 to A.3 as data, and profiles that can set a budget only."""

import csv
from dataclasses import asdict

import pytest

from arq_core.config import paths, settings
from arq_core.config.settings import UnknownName

COLUMNS = ["locomotion", "kitchen", "adroit", "antmaze", "robomimic-mg", "robomimic-ph-mh"]
PAPER = {  # row of the paper's tables -> how our field is read
    ("A.1", "score training iterations"): lambda h, b: b.score_steps,
    ("A.1", "score ensemble size"): lambda h, b: h.ensemble,
    ("A.2", "Q learning rate"): lambda h, b: h.q_lr,
    ("A.2", "K of the K-th operator"): lambda h, b: h.k,
    ("A.3", "alpha for Q_beta + s_psi"): lambda h, b: h.alpha_q_beta,
    ("A.3", "alpha for ARQ + s_psi"): lambda h, b: h.alpha_arq,
    ("A.3", "pi_phi training iterations"): lambda h, b: b.policy_steps,
    ("A.3", "alpha for ARQ + pi_phi"): lambda h, b: h.alpha_pi,
}


def test_hyperparameters_are_those_of_tables_a1_to_a3():
    with open(paths.DATA / "hyperparameters_published.csv", newline="", encoding="utf-8") as f:
        rows = {(r["table"], r["parameter"]): r for r in csv.DictReader(f)}
    for name, read in PAPER.items():
        for group in COLUMNS:
            ours = read(settings.hyper(group), settings.budget("paper", group))
            assert ours == float(rows[name][group]), (name, group)


@pytest.mark.parametrize("profile", ["toy", "ci", "lite", "full", "paper"])
@pytest.mark.parametrize("group", [*COLUMNS, "maze", "bridge"])
def test_every_profile_gives_every_group_a_whole_budget(profile, group):
    for name, value in asdict(settings.budget(profile, group)).items():
        assert isinstance(value, (int, str)) and value not in ("paper", None), name


@pytest.mark.parametrize("group", [*COLUMNS, "maze", "bridge", "figure-a1", "figure-a1-paper"])
def test_full_is_the_papers_training_with_the_solvers_of_lite(group):
    full, lite, paper = (asdict(settings.budget(p, group)) for p in ("full", "lite", "paper"))
    papers = ("score_steps", "q_steps", "q_beta_steps", "policy_steps", "target_every")
    expected = lite | {name: paper[name] for name in papers} | dict(first_seed=10)
    assert full == expected and not settings.smoke_test("full", group)


def test_a_profile_that_sets_more_than_a_budget_is_refused(tmp_path, monkeypatch):
    for file in ("profiles.toml", "hyperparameters.toml"):
        (tmp_path / file).write_text(
            (paths.DATA / file).read_text(encoding="utf-8"), encoding="utf-8"
        )
    with open(tmp_path / "profiles.toml", "a", encoding="utf-8") as f:
        f.write("alpha_arq = 3.0\n")
    monkeypatch.setattr(settings, "DATA", tmp_path)
    with pytest.raises(UnknownName, match=r"profiles.toml \[paper\]: saw alpha_arq, expected only"):
        settings.budget("paper", "bridge")  # the last table of the file


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: settings.hyper("walking"), "group: saw 'walking', expected one of 'locomotion'"),
        (lambda: settings.budget("huge", "adroit"), "profile: saw 'huge', expected one of 'toy'"),
        (
            lambda: settings.with_changes(settings.hyper("maze"), dict(alfa=1.0), "hyper"),
            "hyper: saw 'alfa', expected one of 'variant'",
        ),
        (
            lambda: settings.with_changes(settings.hyper("maze"), dict(k="3"), "hyper"),
            "hyper.k: saw '3', expected a int",
        ),
    ],
)
def test_unknown_names_end_in_an_error_that_lists_the_known(call, message):
    with pytest.raises(UnknownName, match=message):
        call()
