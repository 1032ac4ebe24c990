"""The grid: what a step depends on, what a change does again, what a failure leaves, and a real
cell from end to end.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from grids import ROOT, grid, scratch, steps_done, with_python
from problems import chain, streams, tiny

from arq_core.__main__ import arq
from arq_core.algorithm.policies import HEADS
from arq_core.config import files, settings, tasks
from arq_core.config import hyper as hyper_of
from arq_core.config.hyper import Budget, Hyper
from arq_core.config.labels import PROFILES
from arq_core.engine.store import NoStore
from arq_core.experiments import methods
from arq_core.grid import costs, driver, plan
from arq_core.grid import run as run_of
from arq_core.grid.plan import Cell
from arq_core.grid.publish import publish
from arq_core.results import rows as results

FOUR = "s_psi q_beta+s_psi arq+pi arq+s_psi"


def test_every_method_has_its_steps_here():
    assert set(plan.METHODS) == set(methods.METHODS)


def test_a_cell_has_the_steps_of_its_method():
    assert Cell("maze", "arq+pi", "toy").steps() == [
        "dataset",
        "behavior",
        "support",
        "q",
        "policy",
        "evaluate",
    ]
    assert Cell("maze", "q_beta+s_psi", "toy").steps() == [
        "dataset",
        "behavior",
        "support",
        "q_beta",
        "evaluate",
    ]
    assert Cell("maze", "bc", "toy").steps() == ["dataset", "policy", "evaluate"]


def _watched(cls, record, seen):
    """A copy of a Hyper or Budget that notes which of its fields are read."""
    names = {f.name for f in fields(cls)}

    class Watched(cls):
        def __getattribute__(self, name):
            if name in names:
                seen.add(name)
            return super().__getattribute__(name)

    return Watched(**vars(record))


# dataclasses.replace reads every field
COPIES_ALL = {"unconstrained", "arq+s_psi unfiltered"}


@pytest.mark.parametrize("method", [m for m in plan.METHODS if m not in COPIES_ALL])
def test_what_training_reads_is_declared(method):
    """A field that a method's training reads is declared by one of its steps: a change of it cannot
    go unnoticed.
    """
    data, (hyper, budget) = chain(), tiny()
    hyper = replace(hyper, warm_start=2)
    of_hyper, of_budget = set(), set()
    trained = methods.METHODS[method](
        data,
        _watched(Hyper, hyper, of_hyper),
        _watched(Budget, budget, of_budget),
        streams(),
        NoStore(),
    )
    states = data.states.expand(2, -1, -1)[:, :3]
    trained.policy.reset(3)
    trained.policy.act(states, streams())
    declared = [plan.step_of(s, method) for s in Cell("maze", method, "toy").steps()]
    assert of_hyper <= {f for s in declared for f in s.hyper}, of_hyper
    assert of_budget <= {f for s in declared for f in s.budget}, of_budget


def test_what_is_declared_exists():
    steps = [
        *plan.SHARED.values(),
        *(s for m in plan.METHODS.values() for s in (m.policy, m.evaluate) if s),
    ]
    assert {f for s in steps for f in s.hyper} <= {f.name for f in fields(Hyper)} and {
        f for s in steps for f in s.budget
    } <= {f.name for f in fields(Budget)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A scratch checkout whose four cells of the maze are finished, by stand-ins."""
    root = scratch(tmp_path_factory.mktemp("grid"))
    run = grid(root, "--profile", "toy", "--tasks", "maze", "--methods", FOUR, "--no-book")
    assert run.returncode == 0, run.stderr
    assert steps_done(root) == sorted(
        [
            "dataset maze",
            "behavior maze",
            "support maze",
            "q maze",
            "q_beta maze",
            "policy maze arq+pi",
            *(f"evaluate maze {m}" for m in FOUR.split()),
        ]
    )
    return root


def _again(root, change):
    """The steps that would be done again after `change` (file, old, new), and a file that is
    written again as it was.
    """
    (root / "arq_core/algorithm/qlearning.py").touch()
    path, old, new = root / change[0], *change[1:]
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    plan_ = grid(root, "--plan", "--list", "--profile", "toy", "--tasks", "maze", "--methods", FOUR)
    path.write_text(text, encoding="utf-8")
    assert plan_.returncode == 0, plan_.stderr
    return sorted(line for line in plan_.stdout.splitlines() if line.split(" ")[0] in plan.ORDER)


TOML, PROSE = "data/hyperparameters.toml", "notebooks/grid/q.ipynb"
BELOW_Q = ["evaluate maze arq+pi", "evaluate maze arq+s_psi", "policy maze arq+pi", "q maze"]


MORE = pytest.mark.slow(reason="plans the whole grid for one change more of a kind that is tried")


@pytest.mark.parametrize(
    "change, again",
    [
        (
            (TOML, "alpha_pi = 50.0\n# chosen", "alpha_pi = 51.0\n# chosen"),
            ["evaluate maze arq+pi", "policy maze arq+pi"],
        ),
        pytest.param(
            (TOML, "alpha_arq = 30.0", "alpha_arq = 31.0"), ["evaluate maze arq+s_psi"], marks=MORE
        ),
        pytest.param(
            (TOML, "log_epsilon = -5.0", "log_epsilon = -6.0"),
            [*BELOW_Q[:2], "evaluate maze q_beta+s_psi", *BELOW_Q[2:]],
            marks=MORE,
        ),
        pytest.param(
            (TOML, "n = 16 ", "n = 17 "),
            [*BELOW_Q[:2], "evaluate maze q_beta+s_psi", *BELOW_Q[2:], "support maze"],
            marks=MORE,
        ),
        ((PROSE, "settle?", "come to rest?"), []),
        ((PROSE, "len(curve) // 8", "len(curve) // 9"), BELOW_Q),
        (
            ("data/profiles.toml", "q_beta_steps = 30", "q_beta_steps = 31"),
            ["evaluate maze q_beta+s_psi", "q_beta maze"],
        ),
    ],
    ids=[
        "alpha of pi",
        "alpha of s_psi",
        "epsilon",
        "N",
        "prose",
        "code of a notebook",
        "steps of Q_beta",
    ],
)
def test_a_change_does_again_what_depends_on_it_and_nothing_else(finished, change, again):
    assert _again(finished, change) == sorted(again)


def test_a_second_run_does_nothing(finished):
    run = grid(finished, "--profile", "toy", "--tasks", "maze", "--methods", FOUR, "--no-book")
    assert run.returncode == 0 and steps_done(finished) == [] and "nothing to do" in run.stdout


def test_what_finished_cells_have_lost_is_made_again_and_published(finished):
    """A receipt that an evaluation reads (not that of the step just before it), an executed
    notebook, a provenance: what needs them is done again, and no more.
    """
    at, published = finished / plan.folder("toy", "released"), finished / "data/results"
    rows = {m: plan.rows(Cell("maze", m, "toy")) for m in FOUR.split()}
    lost = [
        at / "maze/q.json",
        at / "rows" / rows["arq+pi"].name,
        at / "maze/q_beta.ipynb",
        (at / "rows" / rows["s_psi"].name).with_suffix(".run.json"),
    ]
    for path in [*lost, *(published / path.name for path in rows.values())]:
        path.unlink()
    run = grid(finished, "--profile", "toy", "--tasks", "maze", "--methods", FOUR, "--no-book")
    assert run.returncode == 0, run.stderr + run.stdout
    assert all(path.exists() for path in lost) and all(
        results.read_file(published / path.name) for path in rows.values()
    )
    assert steps_done(finished) == sorted(
        ["q_beta maze", "evaluate maze q_beta+s_psi", "evaluate maze s_psi", *BELOW_Q]
    )


def test_a_cell_that_lacks_a_notebook_is_not_finished_and_not_published(finished, tmp_path):
    path, cell = (
        finished / plan.notebook(Cell("maze", "arq+pi", "toy"), "q"),
        Cell("maze", "arq+pi", "toy"),
    )
    text = path.read_bytes()
    path.unlink()
    assert publish(finished, [cell], tmp_path)["written"] == [] and [
        f["step"] for f in driver.failures(finished, [cell])
    ] == ["q"]
    path.write_bytes(text)
    assert (
        publish(finished, [cell], tmp_path)["written"] == [cell.job]
        and driver.failures(finished, [cell]) == []
    )


def test_a_broken_dataset_leaves_all_other_cells_done_and_is_named(finished):
    (finished / "broken.txt").write_text("bridge", encoding="utf-8")
    run = grid(
        finished, "--profile", "toy", "--tasks", "maze bridge", "--methods", "bc", "--no-book"
    )
    assert run.returncode == 1 and "evaluate maze bc" in steps_done(finished)
    assert (
        "bridge, bc (toy): step dataset of notebooks/grid/dataset.ipynb failed: "
        "dataset.ipynb: saw a broken file" in run.stderr
    )
    log = "_build/grid/toy.released/bridge/dataset.log"
    assert (
        f"log: {log}" in run.stderr
        and (finished / log).exists()
        and "1 of 2 cells finished" in run.stdout
    )
    failed = json.loads((finished / "_build/grid/failed.json").read_text(encoding="utf-8"))
    assert [(f["task"], f["method"], f["step"]) for f in failed] == [("bridge", "bc", "dataset")]
    (finished / "broken.txt").unlink()
    run = grid(
        finished, "--profile", "toy", "--tasks", "maze bridge", "--methods", "bc", "--no-book"
    )
    assert (
        run.returncode == 0
        and json.loads((finished / "_build/grid/failed.json").read_text(encoding="utf-8")) == []
    )
    steps_done(finished)


def test_a_second_run_at_the_same_time_is_told_of_the_first(finished):
    with open(finished / "_build/grid/lock", "a", encoding="utf-8") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        run = grid(finished, "--profile", "toy", "--tasks", "maze", "--methods", "bc", "--no-book")
    assert (
        run.returncode == 1
        and "saw a run that is going on (process " in run.stderr
        and "expected one at a time in this folder" in run.stderr
    )


def test_a_step_stops_when_the_run_it_belongs_to_has_ended():
    """As by Ctrl-C, and soon: a process that waits for an hour is interrupted when its head,
    another process, is killed.
    """
    waits = (
        "import time\nfrom arq_core.book import side_by_side\n"
        "side_by_side.LOOK_EVERY = 0.1\nside_by_side.stop_with({head})\nprint('waits', "
        "flush=True)\ntime.sleep(3600)"
    )
    head = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    step = subprocess.Popen(
        [sys.executable, "-c", waits.format(head=head.pid)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert step.stdout.readline() == "waits\n" and step.poll() is None
    head.kill()
    head.wait()
    assert "KeyboardInterrupt" in step.communicate(timeout=60)[1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--tasks", "door-humna"],
            "task: saw 'door-humna', expected one of .* Did you mean 'door-human'",
        ),
        (["--methods", "arq+spsi"], "method: saw 'arq\\+spsi', .*Did you mean 'arq\\+s_psi'"),
        (["--profile", "papr"], "profile: saw 'papr', expected one of .* Did you mean 'paper'"),
        (["--variant", "other"], "variant: saw 'other', expected 'released' or 'paper'"),
        (["--engine", "slrum"], "engine: saw 'slrum', .*Did you mean 'slurm'"),
        (["--seeds", "0,a"], "seeds: saw '0,a', expected integers"),
        (["--tasks", "maze maze"], "tasks: saw .*, expected at least one, each once"),
    ],
)
def test_unknown_names_are_refused_with_what_comes_near(arguments, message):
    run = CliRunner().invoke(arq, ["table", "--plan", *arguments])
    assert run.exit_code == 1 and re.search(message, run.stderr), run.stderr


def test_a_row_edited_by_hand_stops_publishing_and_is_named(finished):
    path = finished / "data/results/maze.toy.bc.released.jsonl"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace('"length": 1', '"length": 0', 1), encoding="utf-8")
    rows = finished / "_build/grid/toy.released/rows/maze.toy.bc.released.jsonl"
    rows.write_text(
        rows.read_text(encoding="utf-8").replace('"wall_s": 1.0', '"wall_s": 2.0'), encoding="utf-8"
    )
    rows.with_suffix(".run.json").touch()
    run = grid(finished, "--profile", "toy", "--tasks", "maze", "--methods", "bc", "--no-book")
    assert run.returncode == 1 and f"{path}:1: field 'length': saw 0" in run.stderr
    path.write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    "engine, asked, cores", [("laptop", 0, "3"), ("laptop", 5, "5"), ("slurm", 0, None)]
)
def test_steps_share_the_cores_of_this_process_not_the_machines(monkeypatch, engine, asked, cores):
    monkeypatch.setattr(driver.processes, "cores", lambda: 3)
    request = driver.Request((), "toy", "released", engine=engine, cores=asked)
    command = driver.command(ROOT, request)
    given = command[command.index("--cores") + 1] if "--cores" in command else None
    assert given == cores and ("--resources" in command) is (engine == "laptop")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_of_rows_has_a_grid(profile):
    named, methods_ = (driver.defaults(ROOT, profile, what) for what in ("tasks", "methods"))
    assert plan.cells({profile: named}, methods_)


def test_estimates_grow_with_the_work():
    toy, paper = (
        costs.estimate(
            ROOT,
            [
                (Cell("hopper-medium-v2", "arq+pi", p), s)
                for s in Cell("hopper-medium-v2", "arq+pi", p).steps()
            ],
        )
        for p in ("toy", "paper")
    )
    assert (
        paper.hours > 100 * toy.hours > 0
        and paper.gigabytes > 10 * toy.gigabytes
        and paper.gpu_hours > 1
    )
    s = costs.size("hopper-medium-v2", "paper")
    assert (
        costs.disk("hopper-medium-v2", "paper", "support", "")
        == s.seeds * s.transitions * 30 * (3 + 1) * 4
    )


NEIGHBOURS = [m for m in plan.METHODS if m in hyper_of.NEIGHBOURS]


@pytest.mark.parametrize("method", NEIGHBOURS)
def test_a_neighbour_costs_what_its_own_steps_and_settings_make_it_cost(method):
    s, gpu = costs.size("hopper-medium-v2", "paper"), costs.gpu_rates(ROOT)
    field = hyper_of.NEIGHBOURS[method]
    time = lambda s: (costs.units(s, "policy", method), costs.gpu_time(gpu, s, "policy", method))
    steps = {f"{field}_steps": 2 * getattr(s.budget, f"{field}_steps")}
    twice = replace(s, budget=replace(s.budget, **steps))
    assert time(twice) == pytest.approx([2 * x for x in time(s)])
    # whatever an explicit policy of the paper's takes is no part of it
    assert time(replace(s, budget=replace(s.budget, policy_steps=1))) == time(s)
    wide = dict(getattr(s.hyper, field)) | dict(width=4_096, batch=4_096)
    assert time(replace(s, hyper=replace(s.hyper, **{field: wide}))) > time(s)
    assert costs.disk("hopper-medium-v2", "paper", "policy", method) > 0


def test_a_step_of_iql_is_sixteen_passes_of_its_rows():
    s = replace(costs.size("maze", "ci"), seeds=1)
    # 2,000 steps of 256 rows at a quarter of the width: a sixteenth; a step in passes forward is 3
    assert costs.units(s, "policy", "iql") == pytest.approx(2_000 * 256 * 16 / 3 / 16)


def test_all_stands_for_the_methods_that_have_a_column():
    request = run_of.read_request(ROOT, profile="ci", tasks="maze", methods="all")
    asked = {cell.method for cell in request.cells}
    assert {"bc", "s_psi", "q_beta+s_psi", "arq+pi", "arq+s_psi", *NEIGHBOURS} == asked
    assert not asked & {"random", "unconstrained", "arq+s_psi unfiltered"}


def _on_record(file):
    return json.loads((ROOT / "data/benchmarks" / file).read_text(encoding="utf-8"))


def _in(precision, s, **changes):
    """A size, in that arithmetic and with other fields."""
    return replace(s, budget=replace(s.budget, precision=precision), **changes)


@pytest.mark.parametrize(
    "step, precision, title, networks",
    [
        ("behavior", "bfloat16", "score step, 3 seeds, bfloat16, 64 times", 3),
        ("behavior", "float32", "3 seeds", 3),
        ("behavior", "float32", "9 seeds", 9),
        ("q", "bfloat16", "ARQ step, 3 seeds, bfloat16", 3),
        ("q", "float32", "ARQ step, 3 seeds, float32", 3),
        ("q_beta", "bfloat16", "Q_beta step, 3 seeds, bfloat16", 3),
        ("support", "bfloat16", "65,536 states x 30, 20 evaluations with density", 1),
        (
            "evaluate",
            "bfloat16",
            "300 states x 30 of 3 seeds, 20 evaluations with density",
            3,
        ),
    ],
)
def test_on_a_gpu_a_step_of_the_measured_size_takes_what_was_measured(
    step, precision, title, networks
):
    profile, speed = _on_record("profile_cuda.json"), _on_record("speed_cuda.json")["gpu_steps"]
    points = next(x for x in speed if x["title"] == "behavior, float32")["competitors"]
    line = (profile["before"] | profile["after"]).get(title)
    took = line["wall_us"] / 1e6 if line else points[title]["milliseconds"] / 1e3
    s = _in(precision, costs.measured(step), seeds=networks)
    assert costs.gpu_time(costs.gpu_rates(ROOT), s, step, "arq+s_psi") == pytest.approx(took)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize("step", ["behavior", "support", "q", "q_beta", "policy", "evaluate"])
def test_on_a_gpu_more_members_or_states_take_longer_and_few_are_not_free(step, precision):
    gpu, s = costs.gpu_rates(ROOT), _in(precision, costs.measured(step))
    method = "arq+pi" if step == "policy" else "arq+s_psi"
    least, time = s, lambda s: costs.gpu_time(gpu, s, step, method)
    grown = [replace(s, seeds=100 * s.seeds)]
    if step in ("behavior", "support", "evaluate"):
        grown.append(replace(s, seeds=30 * s.seeds, hyper=replace(s.hyper, ensemble=3)))
    if step == "support":
        grown.append(replace(s, transitions=3 * s.transitions))
        least = replace(s, transitions=1)
        assert time(least) == pytest.approx(gpu.launch * s.budget.sampler_steps)
    elif step != "evaluate":
        assert time(replace(s, seeds=1)) == time(s)
    assert all(time(more) > time(s) >= time(least) > 0 for more in grown)
    assert time(_in("float32", s)) >= time(_in("bfloat16", s))


def test_on_a_gpu_a_method_pays_for_the_critic_that_it_trains_itself():
    gpu, s = costs.gpu_rates(ROOT), costs.measured("policy")
    bc, both = (costs.gpu_time(gpu, s, "policy", m) for m in ("bc", "dqp none"))
    assert both == pytest.approx(bc + costs.gpu_time(gpu, s, "q", ""))


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_residual_policys_step_is_slower_than_plain_products_and_than_a_perceptrons(precision):
    gpu, s = costs.gpu_rates(ROOT), _in(precision, costs.measured("policy"))
    large = replace(s, hyper=replace(s.hyper, head="resnet"))
    plain = max(
        c["product_gflops"] * 1e9
        for line in _on_record("speed_cuda.json")["cuda"]
        for c in line["competitors"].values()
        if "product_gflops" in c
    )
    products = 2 * costs.RESNET * costs.HIDDEN_STEP * s.seeds * s.hyper.batch / plain
    took = costs.gpu_step(gpu, large, "policy")
    assert took > 2 * products and took > costs.gpu_step(gpu, s, "policy")
    assert costs.gpu_step(gpu, replace(large, seeds=6), "policy") == pytest.approx(2 * took)


def test_the_papers_steps_with_our_solvers_are_a_day_of_a_gpu_for_all_datasets():
    """Our five columns of the paper's forty datasets; its own solvers take many times as long."""
    tasks_of, columns = (driver.defaults(ROOT, "full", what) for what in ("tasks", "methods"))
    hours = {}
    for profile in ("full", "paper"):
        cells_ = plan.cells({profile: tasks_of}, columns)
        steps = [(c, s) for c in cells_ for s in c.steps()]
        once = {(c.task, s, "" if s in plan.SHARED else c.method): (c, s) for c, s in steps}
        hours[profile] = costs.estimate(ROOT, once.values()).gpu_hours
    assert len(tasks_of) == 40 and columns == ["bc", *FOUR.split()]
    assert 0 < hours["full"] < 24 < hours["paper"] / 10


@pytest.mark.parametrize("name", ["lift-ph", "hopper-medium-v2"])
def test_a_policys_cost_follows_its_weights(name):
    s = costs.size(name, "paper")
    head = HEADS[s.hyper.head](s.state_dim, s.action_dim, streams(0))
    weights = sum(p.numel() for p in head.parameters())
    assert costs.units(s, "policy", "bc") == pytest.approx(
        s.seeds * s.budget.policy_steps * s.hyper.batch * weights / costs.PERCEPTRON, rel=0.1
    )
    assert costs.disk(name, "paper", "policy", "bc") >= 0.9 * s.seeds * weights * 4
    assert costs.memory_mb(name, "paper", "policy", "bc") > 4 * s.seeds * weights * 4 / 1e6


def test_a_disk_that_cannot_hold_the_steps_is_said_before_the_first(tmp_path, monkeypatch):
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(driver.shutil, "disk_usage", lambda path: SimpleNamespace(free=3e9))
    with pytest.raises(
        driver.GridError,
        match=r"saw 3.0 GB free, expected room for 4.5 GB of finished steps; make room, "
        r"set ARQ_CACHE",
    ):
        driver.room(ROOT, costs.Estimate(steps=1, hours=1, gpu_hours=1, gigabytes=4.5))
    driver.room(ROOT, costs.Estimate(steps=1, hours=1, gpu_hours=1, gigabytes=2.5))


def test_what_a_killed_write_left_is_removed_after_a_day_and_nothing_else(tmp_path, monkeypatch):
    """A write that is ended by force leaves its temporary file; one that may still go on, and
    finished files, stay.
    """
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path))
    write = (
        "import os, sys; from pathlib import Path; from arq_core.config.files "
        "import replacing\nwith replacing(Path(sys.argv[1])) as f: "
        "f.write_bytes(b'half'); os._exit(9)"
    )
    for name in ("old", "fresh"):
        assert (
            subprocess.run(
                [sys.executable, "-c", write, tmp_path / "steps" / name], cwd=ROOT
            ).returncode
            == 9
        )
    old, fresh = (next((tmp_path / "steps").glob(f"{name}.*.tmp")) for name in ("old", "fresh"))
    files.write_atomic(tmp_path / "steps/finished", b"whole")
    (other := tmp_path / "steps/notes.tmp").write_text("somebody else's", encoding="utf-8")
    for path in (old, other, tmp_path / "steps/finished"):
        os.utime(path, times=(0, time.time() - files.ABANDONED - 1))
    driver.room(ROOT, costs.Estimate(steps=1, hours=0, gpu_hours=0, gigabytes=0))
    assert sorted((tmp_path / "steps").iterdir()) == sorted(
        [tmp_path / "steps/finished", fresh, other]
    )


@pytest.mark.slow(reason="thousands of steps are planned")
def test_forty_datasets_thirteen_methods_and_three_seeds_are_planned_with_their_cost(tmp_path):
    root = scratch(tmp_path)
    published = [t for t, row in tasks.tasks().items() if row.published_name]
    names = [m.replace(" ", "-") for m in list(plan.METHODS)[:13]]
    run = grid(
        root,
        "--plan",
        "--profile",
        "paper",
        "--tasks",
        " ".join(published),
        "--methods",
        " ".join(names),
        "--seeds",
        "0,1,2",
    )
    cells_ = plan.cells({"paper": published}, [plan.SLUGS[m] for m in names])
    steps = {(c.task, s, "" if s in plan.SHARED else c.method) for c in cells_ for s in c.steps()}
    told = f"520 cells of profile paper. {len(steps)} steps: about"
    assert len(cells_) == 40 * 13 and told in run.stdout, run.stdout + run.stderr


@pytest.mark.slow(reason="trains and plays by papermill and kernels, as `make table` does weekly")
def test_a_real_cell_from_data_to_rows_with_its_evidence(tmp_path):
    """Through papermill and a kernel, in a folder of any name; again as a row, from the store
    alone: the same numbers.
    """
    root = scratch(tmp_path / "it's {a} $b;&%d ünï", stand_ins=False)
    asked = ["--profile", "toy", "--seeds", "3"]
    own = dict(python=with_python(root), ARQ_CACHE=str(tmp_path / "cache"))
    run = grid(root, *asked, "--tasks", "maze", "--methods", "s_psi", "--no-book", **own)
    assert run.returncode == 0, run.stderr + run.stdout
    path = root / "data/results/maze.toy.s_psi.released.jsonl"
    rows, record = (
        results.read_file(path),
        json.loads(path.with_suffix(".run.json").read_text(encoding="utf-8")),
    )
    assert [r["seed"] for r in rows] == [3] * settings.budget("toy", "maze").episodes
    assert (
        record["seeds"] == [3]
        and record["hyper"]["width"] == settings.hyper("maze").width
        and record["dataset"]["sha256"] == rows[0]["dataset_sha256"]
    )
    assert [s["step"] for s in record["steps"]] == ["dataset", "behavior", "evaluate"] and record[
        "steps"
    ][1]["files"][0]["seconds"] > 0
    for step in record["steps"]:
        kept = json.loads((path.parent / step["notebook"]).read_text(encoding="utf-8"))
        assert any(cell.get("outputs") for cell in kept["cells"]) and str(
            tmp_path
        ) not in json.dumps(kept)
    same = ("seed", "episode", "return_", "length", "score")
    for made in [path, *(root / "_build/grid/toy.released/maze").rglob("*.json")]:
        made.unlink()
    row = grid(root, *asked, "--method", "s_psi", "maze", command="row", **own)
    assert row.returncode == 0, row.stderr + row.stdout
    assert [[r[k] for k in same] for r in results.read_file(path)] == [
        [r[k] for k in same] for r in rows
    ]
