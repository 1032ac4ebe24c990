"""The package as `pip install .` leaves it, without a checkout around it."""

import os
import shutil
import subprocess
import sys

import pytest

from arq_core.config import paths

ROOT = paths.root()
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
TRAIN = """
import numpy as np
from arq_core.config import paths
from arq_core.datasets.own import from_arrays
from arq_core.experiments.experiment import prepare, train
from arq_core.results.provenance import commit
rng = np.random.default_rng(0)
data = from_arrays(
    rng.normal(size=(400, 3)), rng.uniform(-1, 1, (400, 2)), rng.normal(size=400),
    np.arange(400) % 20 == 19, np.zeros(400),
)
train(prepare(data, "toy", group="adroit", device="cpu"), "bc")
print(paths.cache_folder(), paths.DATA, commit(), sep=chr(10))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package alone, as pip unpacked it."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    shutil.copytree(
        ROOT / "arq_core", source / "arq_core", ignore=shutil.ignore_patterns("__pycache__")
    )
    (source / "data").mkdir()
    for path in (*ROOT.glob("data/*.csv"), *ROOT.glob("data/*.toml")):
        shutil.copy(path, source / "data")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [*PIP, "install", "--no-deps", "--no-build-isolation", "--target", folder / "site", source],
        check=True,
    )
    shutil.rmtree(source)
    return folder


def ran(installed, *arguments, cwd, **variables):
    variables = os.environ | {"PYTHONPATH": str(installed / "site"), "HOME": str(cwd)} | variables
    for name in ("ARQ_CACHE", "ARQ_ROOT", "ARQ_LOCAL_DATA", "XDG_CACHE_HOME"):
        variables.pop(name, None) if not variables.get(name) else None
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=variables, capture_output=True, encoding="utf-8"
    )


def test_an_installed_package_trains_on_arrays_with_the_settings_it_brought(installed, tmp_path):
    run = ran(installed, "-c", TRAIN, cwd=tmp_path, ARQ_CACHE="", ARQ_ROOT="")
    assert not run.returncode, run.stderr
    cache, data, commit = run.stdout.splitlines()
    assert cache == str(tmp_path / ".cache/arq")
    assert data == str(installed / "site/share/arq-core/data")
    assert commit.startswith("arq-core ")


def test_an_installed_package_works_in_the_checkout_around_it(installed, tmp_path):
    ask = "from arq_core.config import paths; print(paths.root()); print(paths.__file__)"
    for folder in ("notebooks", "data/results"):
        run = ran(installed, "-c", ask, cwd=ROOT / folder, ARQ_ROOT="")
        assert run.stdout.splitlines() == [
            str(ROOT),
            str(installed / "site/arq_core/config/paths.py"),
        ]


@pytest.mark.parametrize("task", ["maze", "lift-ph"])
def test_what_is_known_of_a_task_is_shown_without_a_checkout(installed, tmp_path, task):
    run = ran(installed, "-m", "arq_core", "task", task, cwd=tmp_path, ARQ_ROOT="", ARQ_CACHE="")
    assert not run.returncode and "licence" in run.stdout, run.stderr


def test_a_command_that_needs_a_checkout_says_how_to_name_one(installed, tmp_path):
    run = ran(installed, "-m", "arq_core", "row", "maze", cwd=tmp_path, ARQ_ROOT="")
    assert run.returncode == 1 and run.stderr.count("\n") == 1
    assert "expected a checkout of The ARQ Book" in run.stderr and "ARQ_ROOT" in run.stderr
