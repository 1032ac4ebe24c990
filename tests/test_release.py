"""What a release says of itself and holds: the same in every file, and a wheel that works where
nothing else is.
"""

import importlib.util
import json
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def script():
    spec = importlib.util.spec_from_file_location("wheel_script", ROOT / "workflow/wheel.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_version_title_licence_and_authors_are_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    zenodo = json.loads((ROOT / ".zenodo.json").read_text("utf-8"))
    assert project["version"] == citation["version"] == zenodo["version"]
    assert project["license"] == citation["license"] == zenodo["license"]
    assert citation["title"] == zenodo["title"] and citation["type"] == zenodo["upload_type"]
    names = [x["name"] for x in project["authors"]]
    assert names == [x["name"] for x in citation["authors"]]
    assert names == [x["name"] for x in zenodo["creators"]]
    (paper,) = citation["references"]
    (related,) = zenodo["related_identifiers"]
    assert paper["url"].endswith(related["identifier"].removeprefix("arXiv:"))


def test_a_wheel_that_lacks_a_file_is_named(tmp_path):
    tracked = [
        "arq_core/a.py",
        "arq_core/py.typed",
        "data/tasks.csv",
        "data/b.toml",
        "data/x/y.csv",
    ]
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as wheel:
        wheel.writestr("arq_core/a.py", "")
        wheel.writestr("arq_core-1.data/data/share/arq-core/data/tasks.csv", "")
    assert script().missing(tmp_path / "w.whl", tracked) == ["arq_core/py.typed", "data/b.toml"]


@pytest.mark.slow(reason="builds a wheel, makes two environments, trains in one of them: a minute")
def test_the_wheel_is_built_checked_and_acts_the_same_in_another_process(tmp_path):
    borrow = sysconfig.get_paths()["purelib"]
    run = subprocess.run(
        [sys.executable, "workflow/wheel.py", tmp_path / "dist", "--borrow", borrow],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert not run.returncode, run.stdout + run.stderr
    assert run.stdout.count("PASSED") == 2
    assert "the same to the bit in another process: (50, 2)" in run.stdout
