"""What a profile's grid has as a smoke test runs at profile toy, is called so, and is watched by
nothing; the book after a run is at the profile whose steps are there.
"""

import numpy as np
import pytest
from example_rows import rows as made_rows
from grids import ROOT

from arq_core.config import settings
from arq_core.config.tasks import task, tasks
from arq_core.experiments import experiment
from arq_core.grid import costs, driver, plan, run
from arq_core.grid.plan import Cell
from arq_core.grid.publish import lost, scores
from arq_core.results import regressions
from arq_core.results import rows as results

SMOKE = driver.defaults(ROOT, "ci", "smoke")


def test_tasks_of_a_grid_that_are_smoke_tests_come_at_profile_toy_and_no_others():
    request = run.read_request(ROOT, profile="ci")
    profiles = {c.task: c.profile for c in request.cells}
    assert SMOKE and {t for t, p in profiles.items() if p == "toy"} == set(SMOKE)
    ranked = [t for t, p in profiles.items() if p == "ci"]
    assert {"maze", "bridge"} <= set(ranked)
    assert not any(settings.smoke_test("ci", task(t).group) for t in ranked)
    assert all(settings.smoke_test("toy", task(t).group) for t in SMOKE)
    asked = run.read_request(ROOT, profile="ci", tasks=SMOKE[0], methods="bc")
    assert asked.cells == (Cell(SMOKE[0], "bc", "ci"),)
    assert f"smoke tests, whose scores say nothing: {', '.join(SMOKE)}" in run._counted(request)


def test_every_step_of_both_profiles_is_planned_once():
    cells = plan.cells({"ci": ["maze"], "toy": ["door-human"]}, ["bc", "s_psi"])
    assert [(c.task, c.profile) for c in cells] == [("maze", "ci")] * 2 + [
        ("door-human", "toy")
    ] * 2
    request = driver.Request(tuple(cells), "ci", "released")
    said = "profile=toy, variant=released, task=door-human"
    assert driver._cell(request, "dataset", said) == cells[2]
    assert driver._cell(request, "evaluate", f"{said}, method=s_psi") == cells[3]
    with pytest.raises(settings.UnknownName, match="each once"):
        plan.cells({"ci": ["maze"], "toy": ["maze"]}, ["bc"])


@pytest.mark.parametrize("finished, profile", [(True, "ci"), (False, "page")])
def test_the_book_after_a_run_has_the_profile_whose_steps_are_there(monkeypatch, finished, profile):
    asked = []
    monkeypatch.setattr(plan, "finished", lambda root, cell: asked.append(cell) or finished)
    assert run.book_profile(ROOT) == profile
    own = {name for name, row in tasks().items() if row.suite == "ours"}
    assert finished is False or {c.task for c in asked} == own


def test_the_page_shares_the_steps_of_ci_where_it_has_no_budget_of_its_own():
    for group in settings.groups():
        same = settings.budget("page", group) == settings.budget("ci", group)
        assert same is (group not in ("maze", "bridge", "adroit", "figure-a1"))


def write(root, folder, method, at, **job):
    """The same rows as stored ones and as new ones: `at` and noise, three seeds of ten episodes."""
    noise = np.random.default_rng(len(method)).normal(0, 1, (3, 10))
    job = dict(fidelity="recollected", profile="ci") | job | dict(method=method)
    found = made_rows(at + noise, **job)
    cell = Cell(job["task"], method, job["profile"])
    results.write_rows(root / plan.rows(cell), found)
    results.write_rows(folder / f"{cell.job}.jsonl", found)
    return cell


def test_smoke_tests_are_not_watched_and_that_is_said(tmp_path):
    folder = tmp_path / "results"
    cells = [write(tmp_path, folder, m, at, task="bridge") for m, at in (("bc", 0), ("arq+pi", 90))]
    for profile in ("ci", "toy"):
        cells += [
            write(tmp_path, folder, m, at, task="door-human", profile=profile)
            for m, at in (("bc", 0), ("arq+pi", 90))
        ]
    gone, said = lost(tmp_path, cells, folder)
    assert gone == [] and "1 of 1 cells are watched" in said and "KEPT        bridge arq+pi" in said
    assert said.count("not watched, smoke tests whose scores say nothing: door-human") == 2
    shown = scores(tmp_path, cells)
    assert shown.count("smoke test") == 4 and "smoke test" not in shown.split("door-human")[0]


def test_what_is_not_watched_is_listed_with_its_reason(tmp_path):
    stored = [
        row
        for method, at in (("bc", 0.0), ("s_psi", 0.1), ("arq+pi", 90.0))
        for row in made_rows(at + np.random.default_rng(1).normal(0, 1, (3, 9)), task="maze",
                             method=method, profile="lite")
    ]  # fmt: skip
    one = made_rows([[50.0, 51.0]], task="maze", method="arq+s_psi", profile="lite")
    said = regressions.report(regressions.compare(stored + one, stored + one, "lite"))
    assert "1 of 3 cells are watched" in said
    assert (
        "not watched, one seed in the stored rows says nothing of another: maze arq+s_psi" in said
    )
    assert "not watched, the stored rows do not beat bc clearly: maze s_psi (p " in said


@pytest.mark.parametrize("name", ["maze", "bridge"])
def test_the_size_of_our_own_data_is_what_is_planned_with(name):
    s, data = costs.size(name, "ci"), experiment.prepare(name, "ci", device="cpu").data
    assert s.transitions == len(data.actions) and costs.units(s, "dataset", "") == 0
