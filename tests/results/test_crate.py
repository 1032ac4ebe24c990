"""A folder of rows as an RO-Crate 1.1: the structure that its specification asks for, and what the
records say.
"""

import json
import shutil
from urllib.parse import unquote

import pytest
from click.testing import CliRunner

from arq_core.__main__ import arq as command
from arq_core.config.paths import DATA
from arq_core.results import crate, records
from arq_core.results.records import ResultsError

JOB = "hopper-medium-expert-recollected.fast.{}.released"
METHODS = ("bc", "arq+s_psi")


@pytest.fixture
def folder(tmp_path):
    """Two jobs of the project, with evidence beside them, and what is none of a crate."""
    results = tmp_path / "results"
    (results / "evidence/a set").mkdir(parents=True)
    for method in METHODS:
        for ending in (".jsonl", ".run.json"):
            shutil.copy(DATA / "results" / (JOB.format(method) + ending), results)
    (results / "evidence/a set/q.ipynb").write_text("{}", encoding="utf-8")
    for name in ("notes.txt", ".DS_Store", "x.jsonl~"):
        (results / name).touch()
    return results


def entities(folder):
    made = json.loads((folder / crate.FILE).read_text(encoding="utf-8"))
    assert made["@context"] == "https://w3id.org/ro/crate/1.1/context"
    by_id = {x["@id"]: x for x in made["@graph"]}
    assert len(by_id) == len(made["@graph"])  # one entity a name
    return by_id


def references(value):
    """Every {"@id": ...} within an entity."""
    if isinstance(value, dict):
        yield from [value["@id"]] if value.keys() == {"@id"} else ()
        value = [] if value.keys() == {"@id"} else list(value.values())
    if isinstance(value, list):
        for x in value:
            yield from references(x)


def test_it_has_the_structure_of_the_specification(folder):
    run = CliRunner().invoke(command, ["crate", str(folder)])
    assert run.exit_code == 0 and str(folder / crate.FILE) in run.output
    by_id = entities(folder)
    descriptor, root = by_id["ro-crate-metadata.json"], by_id["./"]
    assert descriptor["@type"] == "CreativeWork" and descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert root["@type"] == "Dataset"
    assert {"name", "description", "datePublished", "license", "hasPart"} <= root.keys()
    outside = {"https://w3id.org/ro/crate/1.1"}
    for entity in by_id.values():
        assert entity["@type"]
        assert set(references({**entity, "@id": 0})) <= by_id.keys() | outside
    files = {x["@id"] for x in by_id.values() if x["@type"] == "File"}
    assert files == {x["@id"] for x in root["hasPart"]} and len(files) == 5
    for name in files:
        path = folder / unquote(name)
        assert " " not in name and str(path.stat().st_size) == by_id[name]["contentSize"]


def test_a_run_says_by_what_of_what_it_made_which_rows(folder):
    crate.write(folder)
    by_id = entities(folder)
    actions = [x for x in by_id.values() if x["@type"] == "CreateAction"]
    assert {x["@id"] for x in by_id["./"]["mentions"]} == {x["@id"] for x in actions}
    for method in METHODS:
        said = records.read_run(folder / f"{JOB.format(method)}.jsonl")
        (action,) = [x for x in actions if x["name"].startswith(f"{method} on ")]
        made = {unquote(x["@id"]) for x in action["result"]}
        assert made == {JOB.format(method) + ending for ending in (".jsonl", ".run.json")}
        assert by_id[action["instrument"]["@id"]]["softwareVersion"] == said["commit"]
        (data,) = action["object"]
        assert by_id[data["@id"]]["identifier"] == f"sha256:{said['dataset']['sha256']}"
        assert action["endTime"] == said["created"]
    first = (folder / crate.FILE).read_bytes()
    crate.write(folder)  # it does not describe itself
    assert (folder / crate.FILE).read_bytes() == first


def test_a_folder_without_rows_or_with_changed_ones_is_refused_and_nothing_is_written(
    folder, tmp_path
):
    (tmp_path / "empty").mkdir()
    for none in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(ResultsError, match="saw no rows .*arq table --results FOLDER"):
            crate.write(none)
    assert not (tmp_path / "nowhere").exists() and not list((tmp_path / "empty").iterdir())
    rows = folder / f"{JOB.format('bc')}.jsonl"
    rows.write_bytes(rows.read_bytes().replace(b'"success": false', b'"success": true', 1))
    with pytest.raises(ResultsError, match="bc.released"):
        crate.write(folder)
    assert not (folder / crate.FILE).exists()


def test_rows_of_others_have_the_licence_that_they_are_given(folder):
    address = "https://spdx.org/licenses/CC-BY-4.0"
    run = CliRunner().invoke(command, ["crate", str(folder), "--licence", address])
    assert run.exit_code == 0
    by_id = entities(folder)
    assert by_id["./"]["license"] == {"@id": address} and by_id[address]["name"] == address
    assert crate.LICENCE not in by_id
    run = CliRunner().invoke(command, ["crate", str(folder), "--licence", "CC BY 4.0"])
    assert run.exit_code == 1 and "licence: saw 'CC BY 4.0', expected the address" in run.stderr
    assert address in (folder / crate.FILE).read_text(encoding="utf-8")  # of before


@pytest.mark.parametrize("of", ["seeds", "commit", "dataset", "dataset.sha256"])
def test_a_record_that_says_too_little_is_named(folder, of):
    path = folder / f"{JOB.format('bc')}.run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    *above, name = of.split(".")
    del (run["dataset"] if above else run)[name]
    path.write_text(json.dumps(run), encoding="utf-8")
    with pytest.raises(ResultsError, match=f"bc.released.run.json: saw no .*{of}"):
        crate.write(folder)
    assert not (folder / crate.FILE).exists()
