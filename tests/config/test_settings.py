"""Tables A.1 to A.3 as data, and profiles that can set a budget only."""

import csv
from dataclasses import asdict

import pytest

from arq_core.config import paths, settings
from arq_core.config.files import read_settings, read_toml
from arq_core.config.hyper import NEIGHBOURS, RECIPE
from arq_core.config.settings import UnknownName
from arq_core.config.tasks import tasks

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


def scratch(tmp_path, monkeypatch, **more):
    """Settings that are read from copies of their files, with something written behind them."""
    for file in ("profiles.toml", "hyperparameters.toml", "recipes.toml", "neighbours.toml"):
        text = (paths.DATA / file).read_text(encoding="utf-8")
        added = more.get(file.removesuffix(".toml"), "")
        (tmp_path / file).write_text(text + added, encoding="utf-8")
    monkeypatch.setattr(settings, "DATA", tmp_path)


def test_what_is_asked_for_often_is_read_once_and_nobody_can_change_it(tmp_path):
    (path := tmp_path / "x.toml").write_text("[a]\nb = {c = [1, 2]}\n", encoding="utf-8")
    first = read_settings(path)
    assert read_settings(path) is first
    for table in (first, first["a"], first["a"]["b"]):
        with pytest.raises(TypeError):
            table["c"] = 3
    assert read_toml(path) == {"a": {"b": {"c": [1, 2]}}}
    path.write_text("[a]\nb = 2\n", encoding="utf-8")  # a file that changes is seen
    assert read_settings(path)["a"]["b"] == 2 and first["a"]["b"]["c"] == (1, 2)


def test_a_record_has_tables_of_its_own():
    one, other = settings.hyper("maze"), settings.hyper("maze")
    one.dqp["temperature"] = -1.0
    assert other.dqp["temperature"] > 0 and settings.hyper("maze").dqp == other.dqp


@pytest.mark.parametrize("group", settings.groups())
def test_a_recipe_replaces_how_something_is_optimised_and_nothing_else(group):
    for profile in settings.profiles():
        own, by_recipe = settings.hyper(group), settings.hyper(group, profile)
        changed = {k for k, v in asdict(own).items() if v != getattr(by_recipe, k)}
        assert changed <= RECIPE, profile
        assert bool(changed) == bool(settings.recipe(profile, group)), profile
        share = by_recipe.k / by_recipe.n - own.k / own.n  # K/N, to the nearest K
        assert abs(share) <= 0.7 / by_recipe.n, profile


def test_a_recipe_that_changes_a_formula_or_does_not_exist_is_refused(tmp_path, monkeypatch):
    scratch(
        tmp_path, monkeypatch, recipes="\nalpha_arq = 3.0\n", profiles="\n[other]\nrecipe='fst'"
    )
    with pytest.raises(UnknownName, match=r"recipes.toml \[fast\]: saw alpha_arq, expected only"):
        settings.hyper("bridge", "fast")  # the last table of the file
    with pytest.raises(UnknownName, match=r"recipe: saw 'fst', .* Did you mean 'fast'\?"):
        settings.hyper("maze", "other")


@pytest.mark.parametrize("profile", settings.profiles())
@pytest.mark.parametrize("group", [*COLUMNS, "maze", "bridge"])
def test_every_profile_gives_every_group_a_whole_budget(profile, group):
    for name, value in asdict(settings.budget(profile, group)).items():
        assert isinstance(value, (int, str)) and value not in ("paper", None), name


@pytest.mark.parametrize("group", [*COLUMNS, "maze", "bridge", "figure-a1", "figure-a1-paper"])
def test_full_is_the_papers_training_with_the_solvers_of_lite(group):
    full, lite, paper = (asdict(settings.budget(p, group)) for p in ("full", "lite", "paper"))
    neighbours = [f"{name}_steps" for name in NEIGHBOURS.values()]
    papers = ["score_steps", "q_steps", "q_beta_steps", "policy_steps", "target_every", *neighbours]
    expected = lite | {name: paper[name] for name in papers} | dict(first_seed=10)
    assert full == expected and not settings.smoke_test("full", group)


def test_a_profile_that_sets_more_than_a_budget_is_refused(tmp_path, monkeypatch):
    scratch(tmp_path, monkeypatch, profiles="alpha_arq = 3.0\n")
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


def test_a_neighbour_may_have_settings_of_an_environment():
    hopper = "arq_core.envs.locomotion:hopper_envs"
    own, group = settings.hyper("locomotion", "", hopper).dt, settings.hyper("locomotion").dt
    assert own == group | dict(target=3600.0) and group["target"] == "best"


def test_what_neighbours_toml_refines_is_a_group_or_an_environment_of_a_task():
    known = {*settings.groups(), *(row.environment for row in tasks().values())}
    for name, table in read_toml(paths.DATA / "neighbours.toml").items():
        assert {k for k, v in table.items() if isinstance(v, dict)} <= known, name
    for row in tasks().values():
        if row.group == "locomotion":
            target = settings.hyper(row.group, "", row.environment).dt["target"]
            assert isinstance(target, float), row.task
