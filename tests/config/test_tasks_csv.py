"""data/tasks.csv: every dataset of Table A.4 has its row, and what a row copies from elsewhere is
what stands there.

Where d4rl's infos.py (version 1.1) and robomimic's dataset registry (0.1, 0.3) can be had, each
reference score and address is compared with them: set ARQ_D4RL_INFOS and ARQ_ROBOMIMIC_REGISTRY to
those files (d4rl/infos.py and robomimic/__init__.py), or install the packages.
"""

import ast
import csv
import importlib.util
import os
import re
from importlib import metadata
from pathlib import Path

import pytest

from arq_core.config import settings, tasks
from arq_core.config.labels import FIDELITIES
from arq_core.config.paths import DATA
from arq_core.config.tasks import for_own_data

OFFICIAL = {name: row for name, row in tasks.tasks().items() if row.fidelity == "official"}
D4RL_GROUPS = ("locomotion", "adroit", "antmaze", "kitchen")


def paper_names():
    with open(DATA / "published.csv", newline="", encoding="utf-8") as f:
        return list(dict.fromkeys(r["dataset"] for r in csv.DictReader(f) if r["table"] == "a4"))


def load(variable, distribution, file):
    """The module in the file that the variable names, or in an installed distribution; the test is
    skipped where there is neither.
    """
    try:
        path = os.environ.get(variable) or metadata.distribution(distribution).locate_file(file)
    except metadata.PackageNotFoundError:
        pytest.skip(
            f"NOT COMPARED with {file}: {variable} is not set and {distribution} is not installed"
        )
    spec = importlib.util.spec_from_file_location(f"{distribution}_facts", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def infos():
    return load("ARQ_D4RL_INFOS", "d4rl", "d4rl/infos.py")


@pytest.fixture(scope="module")
def registry():
    return load("ARQ_ROBOMIMIC_REGISTRY", "robomimic", "robomimic/__init__.py")


def test_every_dataset_of_table_a4_has_one_row_and_other_rows_claim_none_of_its_names():
    rows = tasks.tasks()
    published = [row.published_name for row in rows.values() if row.published_name]
    assert sorted(published) == sorted(paper_names()) and len(published) == 40
    assert {
        name for name, row in rows.items() if row.published_name != name and row.published_name
    } == {"door-human"}
    assert all(row.published_name in (name, "") for name, row in OFFICIAL.items())


def test_every_cell_that_decides_something_is_filled():
    for row in tasks.tasks().values():
        assert (
            row.task
            and row.group
            and row.loader
            and row.simulator
            and row.termination
            and row.reward
            and row.source
            and row.score_source
        )
        assert (
            row.fidelity in FIDELITIES
            and row.horizon > 0
            and row.state_dim > 0
            and row.action_dim > 0
            and row.score_min < row.score_max
        )
        settings.hyper(row.group)
        assert re.fullmatch(r"arq_core(\.\w+)+:\w+", row.loader) and re.fullmatch(
            r"arq_core(\.\w+)+:\w+|", row.environment
        )
        assert re.fullmatch(r"[0-9a-f]{64}|", row.sha256)


def test_no_two_rows_share_a_file_or_a_hash():
    addresses = [
        a
        for row in tasks.tasks().values()
        for a in [*row.source.split(), *(o.split("=")[1] for o in row.other_versions.split())]
        if "://" in a
    ]
    hashes = [row.sha256 for row in tasks.tasks().values() if row.sha256]
    with open(DATA / "known_files.csv", newline="", encoding="utf-8") as f:
        hashes += [r["sha256"] for r in csv.DictReader(f)]
    assert len(set(addresses)) == len(addresses) and len(set(hashes)) == len(hashes)


def test_every_file_known_by_hash_is_another_version_of_some_row():
    named = {o.split("=")[0] for row in tasks.tasks().values() for o in row.other_versions.split()}
    with open(DATA / "known_files.csv", newline="", encoding="utf-8") as f:
        for r in csv.DictReader(f):
            assert (
                r["name"] in named
                and re.fullmatch(r"[0-9a-f]{64}", r["sha256"])
                and int(r["bytes"]) > 0
            )
            assert bool(r["steps"]) == bool(r["steps_source"]) and r["timeouts"] in (
                "yes",
                "no",
                "",
            )


def test_reference_scores_and_addresses_are_d4rl_s(infos):
    rows = {row.published_name: row for row in tasks.tasks().values() if row.group in D4RL_GROUPS}
    assert sum(name in infos.REF_MIN_SCORE for name in rows) == 29
    for name, row in rows.items():
        if name:
            assert (row.score_min, row.score_max) == (
                infos.REF_MIN_SCORE[name],
                infos.REF_MAX_SCORE[name],
            ), name
            address = infos.DATASET_URLS[name]
            assert address in (
                row.source.split()[0],
                *(o.partition("=")[2] for o in row.other_versions.split()),
            ), name
            for other, _, where in (o.partition("=") for o in row.other_versions.split()):
                assert infos.DATASET_URLS[other] == where


def test_horizons_and_addresses_are_robomimic_s(registry):
    """Whichever version the registry is of: its file is the row's or one of the other versions that
    the row names.
    """
    rows = [row for row in OFFICIAL.values() if row.suite == "robomimic"]
    assert len(rows) == 11
    for row in rows:
        robot, kind = row.task.split("-")
        files = registry.DATASET_REGISTRY[robot][kind]
        entry = files.get("low_dim") or files["low_dim_sparse"]
        known = [row.source.split()[0], *(o.partition("=")[2] for o in row.other_versions.split())]
        assert row.horizon == entry["horizon"] and any(
            address.endswith(entry["url"]) for address in known
        )


def test_a_mirror_holds_a_file_of_the_same_name():
    for row in OFFICIAL.values():
        assert len({Path(a).name for a in row.source.split()}) == 1


def test_a_task_for_own_data_claims_nothing_of_the_dataset_it_borrows_the_simulator_from():
    lent = tasks.task("hopper-medium-v2")
    row = for_own_data("mine", "locomotion", "hopper-medium-v2")
    assert (row.task, row.fidelity, row.loader, row.environment, row.horizon) == (
        "mine",
        "own",
        "",
        lent.environment,
        lent.horizon,
    )
    assert not any(
        (
            row.sha256,
            row.source,
            row.licence,
            row.cuts,
            row.version,
            row.transitions,
            row.published_name,
        )
    )
    assert row.score_max == lent.score_max and for_own_data("mine", "locomotion").environment == ""


def test_nothing_is_decided_by_a_part_of_a_name():
    """No module asks whether a task's name contains, begins with or ends in something."""
    asked = re.compile(
        r"""["'][\w-]+["'] in (?:\w+\.)?(?:task|name|published_name)\b"""
        r"""|\.(?:task|published_name)\.(?:startswith|endswith|split)\("""
    )
    for path in sorted((DATA.parent / "arq_core/datasets").rglob("*.py")):
        assert not asked.search(path.read_text(encoding="utf-8")), path


def defined(place):
    """Whether "module:name" is there, by the module's text: importing a simulator's module would
    need the simulator.
    """
    module, name = place.split(":")
    tree = ast.parse((DATA.parent / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
    imported = {
        alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    return name in imported | {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def test_every_loader_and_environment_of_the_table_exists():
    for row in tasks.tasks().values():
        assert defined(row.loader), row.loader
        assert not row.environment or defined(row.environment), row.environment
