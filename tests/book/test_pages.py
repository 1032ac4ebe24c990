"""The book's machinery: what runs again and what is kept, what a failure leaves behind, and
pages that need no other host.
"""

import json
import os
import re
import time
import tomllib
from pathlib import Path

import nbformat
import pytest
from PIL import Image
from sphinx_books import file, sphinx

from arq_core.book import notebook as runner
from arq_core.book import offline
from arq_core.book import pages as book
from arq_core.book.notebook import Job, RunError
from arq_core.config.settings import UnknownName

ROOT = Path(__file__).resolve().parents[2]


def notebook(path, *code, parameters=None):
    cells = [nbformat.v4.new_code_cell(c) for c in code]
    if parameters is not None:
        cells.insert(0, nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    nb = nbformat.v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, path)
    return path


@pytest.fixture
def project(tmp_path):
    """A project with two modules of which the notebook reaches one, a loader named in a table,
    and a manifest.
    """
    for name, text in {
        "__init__": "",
        "used": "import arq_core.deep\nX = 1\n",
        "deep": "",
        "unused": "",
        "loader": "",
        "other": "",
    }.items():
        file(tmp_path / f"arq_core/{name}.py", text)
    file(tmp_path / "constraints.txt", "a==1\n")
    file(
        tmp_path / "data/tasks.csv",
        "task,loader\ndoor,arq_core.loader:load\nhopper,arq_core.other:load\n",
    )
    file(tmp_path / "data/profiles.toml", "[toy]\n[ci]\n")
    file(tmp_path / "data/hyperparameters.toml", "[default]\n[adroit]\n")
    file(tmp_path / "book/_toc.yml", "root: a\nchapters:\n- file: executed/page\n")
    file(
        tmp_path / "book/notebooks.toml",
        '[[notebook]]\nsource = "n.ipynb"\npage = "page"\nrow = true\n',
    )
    notebook(
        tmp_path / "n.ipynb",
        "from arq_core import used\nprint(profile)",
        parameters='profile = "x"\ntask = "door"\nmethod = ""\ngroup = ""\nseeds = []',
    )
    return tmp_path


@pytest.mark.parametrize(
    "changed, again",
    [
        ("n.ipynb", True),
        ("arq_core/used.py", True),
        ("arq_core/deep.py", True),
        ("arq_core/loader.py", True),
        ("arq_core/unused.py", False),
        ("arq_core/other.py", False),
        ("arq_core/__init__.py", True),
        ("data/tasks.csv", True),
        ("constraints.txt", True),
        ("README.md", False),
    ],
)
def test_a_key_changes_with_what_the_notebook_reaches_and_nothing_else(project, changed, again):
    job = book.make_job(project, book.manifest(project)[0], "ci")
    before = runner.job_key(project, job)
    path = project / changed
    if path.suffix == ".ipynb":
        notebook(path, "from arq_core import used\nprint(1)", parameters='profile = "x"')
    else:
        file(path, (path.read_text(encoding="utf-8") if path.exists() else "") + "\n# changed\n")
    assert (runner.job_key(project, job) != before) is again


def test_a_key_changes_with_a_parameter_and_an_input_folder(project):
    results = project / "data/results"
    file(results / "a.jsonl", "{}")
    keys = {
        runner.job_key(project, Job(project / "n.ipynb", project / "o.ipynb", p, i))
        for p in ({}, {"a": 1})
        for i in ((), (results,))
    }
    file(results / "b.jsonl", "{}")
    keys.add(runner.job_key(project, Job(project / "n.ipynb", project / "o.ipynb", {}, (results,))))
    assert len(keys) == 5


def test_what_is_large_is_neither_fetched_nor_collected_for_a_book(tmp_path, monkeypatch):
    from arq_core.config import tasks
    from arq_core.experiments import experiment

    asked = []
    monkeypatch.setattr(experiment, "missing", lambda name: asked.append(name) or "")
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    file(tmp_path / "book/_toc.yml", "root: a\nchapters:\n- file: executed/page\n")
    entry = (
        '[[notebook]]\nsource = "n.ipynb"\npage = "page"\nparameters = { task = '
        '"hopper-medium-recollected" }\ncollect = '
    )
    for collect in ("false", "true"):
        asked.clear()
        file(tmp_path / "book/notebooks.toml", entry + collect)
        book.note_missing(tmp_path)
        assert ("hopper-medium-recollected" in asked) is (
            collect == "true"
        ) and "door-human" in asked
        assert not [
            name
            for name in asked
            if tasks.task(name).fidelity == "official" or name == "hopper-expert-recollected"
        ]
        said = json.loads((tmp_path / "_build/missing.json").read_text(encoding="utf-8"))
        assert (
            said.keys() == tasks.tasks().keys()
            and "collects it" in said["hopper-expert-recollected"]
            and "cache" in said["hopper-medium-v2"]
        )


def test_a_notebook_runs_once_and_holds_where_it_was_run(project, capfd):
    for _ in range(2):
        book.run_notebooks(project, "ci")
    told = capfd.readouterr().out
    assert told.count("  runs  n.ipynb") == 1 and told.count("  kept  n.ipynb") == 1
    text = (project / "book/executed/page.ipynb").read_text(encoding="utf-8")
    arq = json.loads(text)["metadata"]["arq"]
    assert (
        arq["parameters"] == {"profile": "ci"}
        and arq["source"] == "n.ipynb"
        and arq["versions"]["python"]
        and arq["wall_s"] > 0
        and 0 < arq["processor_s"]
    )
    assert str(project) not in text


def test_a_failing_notebook_leaves_the_earlier_run_and_names_the_error(project):
    target = file(project / "book/executed/page.ipynb", "the earlier run")
    notebook(project / "n.ipynb", "print(1)", "raise ValueError('no such door')")
    with pytest.raises(RunError, match=r"(?s)n\.ipynb: cell .* raised ValueError: no such door"):
        book.run_notebooks(project, "ci")
    assert (
        target.read_text(encoding="utf-8") == "the earlier run"
        and len(list(target.parent.iterdir())) == 1
    )


def test_a_kernel_that_dies_is_a_failure(project):
    notebook(project / "n.ipynb", "import os; os._exit(1)")
    with pytest.raises(RunError, match="DeadKernelError"):
        book.run_notebooks(project, "ci")
    assert not list((project / "book/executed").iterdir())


@pytest.mark.parametrize(
    "manifest, message",
    [
        (
            '[[notebook]]\nsource = "n.ipynb"\npage = "page"\nparameters = {sedes = 3}\n',
            "'sedes'.*expected one of group, method, profile, seeds, task",
        ),
        ('[[notebook]]\nsource = "m.ipynb"\npage = "page"\n', "m.ipynb: saw no such file"),
        ('[[notebook]]\nsource = "n.ipynb"\npage = "page"\nparams = 1\n', "saw key 'params'"),
        ('[[notebook]]\nsource = "n.ipynb"\npage = "other"\n', "executed/other is missing"),
        (
            '[[notebook]]\nsource = "n.ipynb"\npage = "page"\nafter = ["page"]\n',
            r"page: saw after = \['page'\], expected pages that stand before it",
        ),
    ],
)
def test_a_wrong_manifest_is_refused_before_anything_runs(project, manifest, message):
    file(project / "book/notebooks.toml", manifest)
    with pytest.raises(RunError, match=message):
        book.run_notebooks(project, "ci")
    assert not (project / "book/executed").exists()


def test_an_unknown_profile_is_refused(project):
    with pytest.raises(
        UnknownName,
        match="profile: saw 'cheap', expected one of 'toy', 'ci', 'page', 'lite', 'fast', "
        "'full', 'paper'",
    ):
        book.run_notebooks(project, "cheap")


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(task="window"), "task.*saw 'window', expected one of 'maze'"),
        (dict(profile="cheap"), "profile: saw 'cheap'"),
        (dict(method="best"), "method: saw 'best'.*arq.s_psi"),
        (dict(seeds="0,x"), "seeds: saw '0,x'"),
        (dict(group="adroit"), "expected none"),
        (dict(environment="door-human"), "expected none"),
        (dict(bounds="-2:2"), "bounds: saw '-2:2' with task 'door-human', expected none"),
        (dict(task="missing.hdf5", group="adroit"), "expected a file that exists"),
        (dict(task="own.hdf5"), "group .*saw '', expected one of .*'adroit'"),
    ],
)
def test_a_wrong_row_is_refused_before_training(project, monkeypatch, given, message):
    monkeypatch.chdir(project)
    file(project / "own.hdf5")
    with pytest.raises((RunError, UnknownName), match=message):
        book.row_job(
            project,
            **dict(task="door-human", profile="ci", method="", group="", environment="", seeds="")
            | given,
        )


def test_a_row_passes_task_profile_method_and_seeds(project, monkeypatch):
    monkeypatch.chdir(project)
    job = book.row_job(project, "door-human", "ci", "arq+s_psi", "", "", "3,4")
    assert job.parameters == {
        "results": "data/results",
        "profile": "ci",
        "task": "door-human",
        "method": "arq+s_psi",
        "seeds": [3, 4],
    }
    own = book.row_job(
        project, str(file(project / "own.hdf5")), "ci", "", "adroit", "door-human", ""
    )
    assert own.parameters == {
        "results": "data/results",
        "profile": "ci",
        "task": str(project / "own.hdf5"),
        "group": "adroit",
        "environment": "door-human",
    }
    assert own.target != job.target
    boxed = book.row_job(project, own.parameters["task"], "ci", "", "adroit", "", "", "-2:2")
    assert boxed.parameters["bounds"] == "-2:2"


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//cdn.example/x.css">',
        '<img alt="a" src="http://example.org/x.png">',
        '<img alt="a" srcset="a.png 1x, https://example.org/b.png 2x">',
        '<iframe src="https://example.org"></iframe>',
        '<link rel="preload stylesheet" href="https://example.org/f.woff2">',
        '<style>@import "https://example.org/a.css";</style>',
        "<style>p { background: url(https://example.org/a.png) }</style>",
        '<p style="background: url(//example.org/a.png)">',
        '<script type="module">import x from "https://example.org/x.js"</script>',
        '<img src="a.svg">',
        '<img src="_images/ab.svg" alt="../_images/ab.svg">',
    ],
)
def test_a_page_that_loads_from_another_host_or_lacks_a_text_alternative_is_found(tmp_path, page):
    file(tmp_path / "a.html", page)
    assert len(offline.problems(tmp_path)) == 1


def test_a_style_sheet_that_loads_from_another_host_is_found(tmp_path):
    file(tmp_path / "a.css", "@font-face { src: url('https://example.org/f.woff2') }")
    assert len(offline.problems(tmp_path)) == 1


def test_links_and_local_files_are_no_problem(tmp_path):
    file(
        tmp_path / "a.html",
        '<a href="https://example.org">x</a><script '
        'src="_static/a.js"></script><link rel="canonical" href="https://a.b"><img '
        'src="data:image/png;base64,aa" alt="a curve"><img src="b.svg" '
        'alt=""><script>let u = "https://example.org"</script>',
    )
    assert offline.problems(tmp_path) == []


@pytest.fixture
def pages(tmp_path):
    file(tmp_path / "book/conf.py", "extensions = ['arq_core.book.values']\nhtml_theme = 'basic'\n")
    file(
        tmp_path / "book/index.rst",
        "Title\n=====\n\nIt took :value:`costs.json#book.minutes .1f` minutes.\n"
        "Shown are :value:`a.gif#shown.steps` steps.\n",
    )
    file(tmp_path / "data/costs.json", '{"book": {"minutes": 1.25}}')
    about = b'{"shown": {"steps": 200}, "played": 1}'  # as `arq film` writes it
    Image.new("RGB", (2, 2)).save(tmp_path / "data/a.gif", comment=about)
    return tmp_path


def test_an_edited_value_changes_the_page(pages):
    assert sphinx(pages) == (0, "")
    page = (pages / "out/index.html").read_text(encoding="utf-8")
    assert "It took 1.2 minutes" in page and "Shown are 200 steps" in page
    file(pages / "data/costs.json", '{"book": {"minutes": -7}}')
    os.utime(pages / "data/costs.json", (time.time() + 5,) * 2)
    assert sphinx(pages) == (0, "")
    assert "It took −7.0 minutes" in (pages / "out/index.html").read_text(encoding="utf-8")


ABSENT = [
    ":value:`costs.json#book.hours`",
    ":value:`missing.json#a`",
    ":value:`costs.json`",
    ":value:`costs.json#book .1f`",
    ":value:`a.gif#shown.score`",
    ":value:`none.gif#shown`",
    ":score:`door-humane lite arq+s_psi`",
    ".. table-a4:: t\n   :datasets: nothing",
]


def test_a_value_that_does_not_exist_fails_the_build(pages):
    listed = "".join(f"   p{i}\n" for i in range(len(ABSENT)))
    file(pages / "book/index.rst", f"Title\n=====\n\n.. toctree::\n\n{listed}")
    for i, text in enumerate(ABSENT):
        file(pages / f"book/p{i}.rst", f"Title\n=====\n\n{text}\n")
    for name in ("published.csv", "tasks.csv", "profiles.toml"):
        file(pages / "data" / name, (ROOT / "data" / name).read_text(encoding="utf-8"))
    status, told = sphinx(pages)
    assert status != 0
    for i, text in enumerate(ABSENT):
        assert re.search(rf"p{i}\.rst\b.*saw", told), (text, told)


def test_the_status_page_is_read_from_the_executed_notebooks(pages):
    file(pages / "book/index.rst", "Title\n=====\n\n.. status-table::\n")
    file(
        pages / "book/conf.py",
        "extensions = ['arq_core.book.values']\nhtml_theme = "
        "'basic'\nexclude_patterns = ['executed']\n",
    )
    arq = dict(
        source="01_maze.ipynb",
        parameters={"profile": "ci"},
        wall_s=61.2,
        processor_s=70.4,
        created="2026-01-31T12:00:00+00:00",
        device="a <chip>",
        commit="abc1234",
        versions={"torch": "2.13.0"},
    )
    run = file(pages / "book/executed/maze.ipynb", json.dumps({"metadata": {"arq": arq}}))
    assert sphinx(pages) == (0, "")
    page = (pages / "out/index.html").read_text(encoding="utf-8")
    for text in (
        'href="executed/maze.html">01 maze<',
        "profile = &#34;ci&#34;",
        "61 s",
        "70 s",
        "2026-01-31 12:00:00 UTC",
        "a &lt;chip&gt;",
        "abc1234",
        "torch 2.13.0",
    ):
        assert text in page, text
    file(run, json.dumps({"metadata": {}}))
    os.utime(run, (time.time() + 5,) * 2)
    status, told = sphinx(pages)
    assert status != 0 and "maze.ipynb: saw no record of its run" in told


def test_an_external_asset_fails_the_build(pages):
    file(
        pages / "book/index.rst",
        "Title\n=====\n\n.. raw:: html\n\n   <script src='https://cdn.example/x.js'></script>\n",
    )
    status, told = sphinx(pages)
    assert status != 0 and "index.html: <script> loads https://cdn.example/x.js" in told


def test_notebook_sources_have_no_outputs():
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            assert not cell.get("outputs") and cell.get("execution_count") is None, path.name


def test_every_dependency_is_pinned():
    pinned = set(
        re.findall(
            r"^([A-Za-z0-9_.-]+)==\S+$",
            (ROOT / "constraints.txt").read_text(encoding="utf-8"),
            re.M,
        )
    )
    pinned = {p.lower().replace("_", "-") for p in pinned}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [
        d for extra in project["optional-dependencies"].values() for d in extra
    ]
    assert {re.match(r"[A-Za-z0-9-]+", d)[0].lower() for d in wanted} <= pinned
    assert "+" not in "".join(
        re.findall(r"^[^#\n]*==\S+$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    )


def test_equations_that_the_code_cites_are_on_a_page():
    pages = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "book").glob("*.md"))
    tags = set(re.findall(r"\\tag\{(\w+)\}", pages)) | {
        f"Eq. {n}" for n in re.findall(r"\(eq-(\d)\)", pages)
    }
    code = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "arq_core").rglob("*.py"))
    cited = set(re.findall(r'"""(S\d|AWR)\b', code)) | set(
        re.findall(r"(?<![\d], )\b(Eq\. [456])\b", code)
    )
    assert {"S1", "S3", "S7", "AWR", "Eq. 4", "Eq. 5", "Eq. 6"} <= cited <= tags, cited - tags


def test_a_page_needs_a_notebook_and_a_line_of_the_contents(project):
    """Without an entry in book/notebooks.toml; what has one comes after it."""
    notebook(project / "notebooks/07_walks.ipynb", "print(1)")
    toc = project / "book/_toc.yml"
    file(toc, toc.read_text(encoding="utf-8") + "- file: executed/walks\n")
    plain = {"source": "notebooks/07_walks.ipynb", "page": "walks"}
    assert book.manifest(project)[0] == plain and book.manifest(project)[1]["page"] == "page"
    job = book.make_job(project, plain, "ci")
    assert job.target == project / "book/executed/walks.ipynb" and job.parameters == {}
    notebook(project / "notebooks/walks.ipynb", "print(1)")
    with pytest.raises(RunError, match="executed/walks: saw 2 notebooks.*expected one"):
        book.manifest(project)


def test_every_notebook_of_the_book_makes_a_page():
    sources = {entry["source"] for entry in book.manifest(ROOT)}
    assert sources == {f"notebooks/{p.name}" for p in (ROOT / "notebooks").glob("*.ipynb")}
