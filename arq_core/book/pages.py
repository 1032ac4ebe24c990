"""`arq book` and `arq row`: run the notebooks whose inputs changed, then build the pages.

book/notebooks.toml lists the notebooks. A run is kept in book/executed/, pages are built beside the
last good book and take its place only when the build was clean.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from arq_core.book import board, links, notebook, side_by_side
from arq_core.book.notebook import Job, RunError
from arq_core.config import lock, paths, settings, surroundings
from arq_core.config.files import files_in, read_text, read_toml, sha256_of
from arq_core.config.tasks import tasks

MISSING = "_build/missing.json"
COSTS = "data/benchmarks/book_costs.json"  # seconds of each page at profile ci
LOCK = "_build/book.lock"
ENTRY = {"source", "page", "parameters", "profiles", "inputs", "row", "collect", "after"}
PAGE_INPUTS = (
    "_config.yml",
    "book",
    "data",
    "constraints.txt",
    # of arq_core: what the pages show, and what draws them
    "arq_core/algorithm",
    "arq_core/book",
    "arq_core/config",
    "arq_core/datasets",
    "arq_core/densities",
    "arq_core/engine",
    "arq_core/experiments",
    "arq_core/figures",
    "arq_core/results",
    "arq_core/widgets",
)
FAILED = "_build/grid/failed.json"  # they show it where it is there


def manifest(root: Path) -> list[dict]:
    """A notebook for each executed page of book/_toc.yml, those without an entry first.

    A page `executed/name` without an entry in book/notebooks.toml is notebooks/name.ipynb, or that
    name after a number (notebooks/01_name.ipynb). Entries are checked: known keys, a page in toc,
    and `after` names pages that come before, so that none waits for ever.
    """
    entries = read_toml(root / "book/notebooks.toml").get("notebook", [])
    toc = read_text(root / "book/_toc.yml").split()
    for entry in entries:
        if unknown := sorted(entry.keys() - ENTRY):
            raise RunError(
                f"book/notebooks.toml: saw key {unknown[0]!r}, expected only "
                f"{', '.join(sorted(ENTRY))}."
            )
        if f"executed/{entry['page']}" not in toc:
            raise RunError(
                f"book/_toc.yml: page executed/{entry['page']} is missing, expected every "
                "page of book/notebooks.toml; add it."
            )
    listed = {entry["page"] for entry in entries}
    pages = [word.removeprefix("executed/") for word in toc if word.startswith("executed/")]
    every = [_plain_entry(root, page) for page in pages if page not in listed] + entries
    for i, entry in enumerate(every):
        if late := set(entry.get("after", ())) - {earlier["page"] for earlier in every[:i]}:
            raise RunError(
                f"book/notebooks.toml: {entry['page']}: saw after = {sorted(late)}, expected pages "
                "that stand before it or have no entry; move it down, or correct the name."
            )
    return every


def _plain_entry(root: Path, page: str) -> dict:
    """The entry of a page that needs no more than its notebook."""
    folder = root / "notebooks"
    found = [
        p for p in files_in(folder, "*.ipynb") if re.fullmatch(rf"(\d+_)?{re.escape(page)}", p.stem)
    ]
    if len(found) != 1:
        raise RunError(
            f"book/_toc.yml: executed/{page}: saw {len(found)} notebooks of that name in "
            "notebooks/, expected one (a number may stand before it), or an entry in "
            "book/notebooks.toml."
        )
    return {"source": found[0].relative_to(root).as_posix(), "page": page}


def make_job(root: Path, entry: dict, profile: str, target: Path | None = None, **more) -> Job:
    """The job of an entry: its parameters, those of the profile and `more`; `profile` is passed
    where the notebook takes it.
    """
    source = root / entry["source"]
    notebook.code_cells(source)
    parameters = entry.get("parameters", {}) | entry.get("profiles", {}).get(profile, {}) | more
    if "profile" in notebook.declared_parameters(source):
        parameters = {"profile": profile} | parameters
    inputs = [p for p in files_in(root / "data") if p.suffix in (".csv", ".toml")] + [
        root / p for p in entry.get("inputs", [])
    ]
    return Job(
        source,
        target or root / "book/executed" / f"{entry['page']}.ipynb",
        parameters,
        inputs,
        entry.get("after", ()),
    )


def note_missing(root: Path) -> None:
    """Write _build/missing.json: why a task cannot be run here, "" where it can (pages depend on
    it).

    What is small is fetched: the source of a rebuilt dataset. What is large is neither fetched nor
    collected for a book, but taken where it is at hand; except for a page whose entry in
    book/notebooks.toml says collect = true.
    """
    from arq_core.config.files import write_atomic
    from arq_core.datasets import at_hand
    from arq_core.experiments import experiment

    collected = {entry["parameters"]["task"] for entry in manifest(root) if entry.get("collect")}
    missing = {}
    for name, row in tasks().items():
        large = row.fidelity == "official" or row.made == "collect" and name not in collected
        missing[name] = at_hand.why_not(row) if large else experiment.missing(name)
        if missing[name] and not large:
            print(f"  {name} cannot be run here, its pages show committed rows: {missing[name]}")
    text, path = json.dumps(missing, indent=1).encode(), root / MISSING
    if not path.exists() or path.read_bytes() != text:
        write_atomic(path, text)


def run_notebooks(root: Path, profile: str, workers: int = 0) -> None:
    """Run, in the manifest's order, each notebook whose key is not that of its executed copy,
    `workers` at a time (0: as many as this machine can).

    All are checked before the first runs. None reads what another writes, but for finished steps,
    which are found or else made.
    """
    settings.pick("profile", profile, dict.fromkeys(settings.profiles()))
    jobs = [make_job(root, entry, profile) for entry in manifest(root)]
    for job in jobs:
        notebook.refuse_unknown(job.source, job.parameters)
    todo = []
    with board.said_meanwhile("looks for what has changed"):
        for job in jobs:
            if notebook.is_done(job, key := notebook.job_key(root, job)):
                print(f"  kept  {job.source.name}")
            else:
                todo.append((job, key))
    if todo:
        if note := surroundings.no_compiler():
            print(f"  {note}", file=sys.stderr, flush=True)
        workers = min(workers or side_by_side.here(), len(todo))
        costs = board.measured(root / COSTS)
        side_by_side.run(root, todo, workers, root / "_build/notebooks", costs)


def _page_key(root: Path) -> str:
    h = hashlib.sha256()
    for top in (*PAGE_INPUTS, FAILED):
        path = root / top
        if top != FAILED and not path.exists():
            raise RunError(
                f"{path}: saw nothing there, expected what pages are made from; correct "
                "PAGE_INPUTS of arq_core/book/pages.py."
            )
        for p in files_in(path, deep=True) if path.is_dir() else [path]:
            if p.is_file() and not {"cache", "__pycache__"} & set(p.parts):
                h.update(f"{p.relative_to(root)}\0{sha256_of(p)}\n".encode())
    return h.hexdigest()


def name_first_page(path: Path) -> None:
    """Give the page that leads to the first one a title, and words for who is not led on."""
    leads = re.search(r"url=([^ \"]+)", path.read_text(encoding="utf-8"))
    if leads is None:
        return
    first = leads[1]
    title = re.search(r"<title>(.*?)</title>", (path.parent / first).read_text("utf-8"), re.S)[1]
    title = title.strip().removesuffix(" &#8212; The ARQ Book")
    path.write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Refresh" content="0; url={first}"></head><body><p><a href="{first}">'
        f"{title}</a></p></body></html>\n",
        encoding="utf-8",
    )


def jupyter_book(source: str | Path, settings: str | Path, out: str | Path) -> list[str]:
    """The command that builds the pages of the book in a folder, warnings being errors, into
    `out`/_build/html."""
    start = "import arq_core.config.lean; from jupyter_book.cli.main import main; main()"
    paths = [str(source), "--config", str(settings), "--path-output", str(out)]
    return [sys.executable, "-c", start, "build", *paths, "-n", "-W", "--keep-going"]


def build_pages(root: Path, held: Sequence[int] = ()) -> Path:
    """Build all pages anew, warnings being errors, unless nothing changed since the last clean
    build. Returns the first page.

    The builder inherits the descriptors of locks that are `held`: who kills this process leaves it
    at work, and no other may begin meanwhile.
    """
    html, new, stamp, log = (
        root / "_build/html",
        root / "_build/new",
        root / "_build/pages.key",
        root / "_build/pages.log",
    )
    key = _page_key(root)
    if (
        stamp.exists()
        and stamp.read_text(encoding="utf-8") == key
        and (html / "index.html").exists()
    ):
        print("  kept  pages")
        return html / "index.html"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    command = [*jupyter_book("book", "_config.yml", new), "--all"]
    with open(log, "w", encoding="utf-8") as f, board.said_meanwhile("builds pages"):
        code = subprocess.run(
            command,
            cwd=root,
            stdout=f,
            stderr=subprocess.STDOUT,
            pass_fds=held,
            env=surroundings.ours(root) | {"MPLBACKEND": "agg", "NO_COLOR": "1"},
        ).returncode
    if code or not (new / "_build/html/index.html").exists():
        lines = log.read_text(errors="replace", encoding="utf-8").splitlines()
        told = [line for line in lines if re.search(r"WARNING: |ERROR: |Error: ", line)] or lines[
            -40:
        ]
        raise RunError(
            "pages: saw these, expected a build without warnings (all of it in "
            "_build/pages.log):\n" + "\n".join(told)
        )
    with board.said_meanwhile("follows the links of the pages"):
        broken = links.problems(new / "_build/html")
    if broken:
        raise RunError(
            "pages: saw links that lead nowhere, expected none (page:line: address):\n"
            + "\n".join(broken)
        )
    name_first_page(new / "_build/html/index.html")
    stamp.unlink(missing_ok=True)
    shutil.rmtree(html, ignore_errors=True)
    os.replace(new / "_build/html", html)
    shutil.rmtree(new)
    stamp.write_text(key, encoding="utf-8")
    return html / "index.html"


def row_job(
    root: Path,
    task: str,
    profile: str,
    method: str,
    group: str,
    environment: str,
    seeds: str,
    bounds: str = "",
    log: str = "",
    curve: int = 0,
    keep_snapshots: bool = False,
) -> Job:
    """The train-and-evaluate notebook for one row, written to data/results.

    `task` is a name of data/tasks.csv, or data of the user's own: an HDF5 file (D4RL's or
    robomimic's layout), a folder of Minari's, or "minari:" and an id. Then `group` names its
    hyperparameters, and `environment` the task in whose simulator its policies are scored, or
    "gymnasium:" and an id ("": they are trained only); `bounds` is the box in which their actions
    were recorded, "low:high" or "normalized" ("": the simulator's). `method` may be
    "module:function", of the user's own. `log` is a folder for loss curves, seconds and
    values, `curve` how many snapshots of the last training are scored for it; they are removed
    then, unless `keep_snapshots`.
    """
    from arq_core.datasets.find import find
    from arq_core.datasets.own import no_such_path
    from arq_core.experiments.own_method import find_method
    from arq_core.experiments.own_task import check_simulator

    settings.pick("profile", profile, dict.fromkeys(settings.profiles()))
    if not task:
        raise RunError(
            "task: saw none, expected a name of data/tasks.csv, or a file or folder of yours."
        )
    source = find(task)
    more: dict = {"results": "data/results"}
    if source.task:
        more["task"] = task
        for kind, name in (("group", group), ("environment", environment), ("bounds", bounds)):
            if name:
                raise RunError(
                    f"{kind}: saw {name!r} with task {task!r}, expected none: data/tasks.csv "
                    "says it."
                )
    else:
        if not source.exists():
            raise RunError(
                f"task: saw {task!r}, expected a file that exists (or the name of a task): "
                f"{no_such_path(str(source.own))}"
            )
        if (shown := str(source.own).encode(errors="replace").decode()) != str(source.own):
            raise RunError(
                f"task: saw {shown!r}, with bytes that are no text in UTF-8 (each a ? here), "
                "expected a name that a notebook can hold; rename the file, or give a link to it."
            )
        settings.pick(
            "group (whose hyperparameters your data take)", group, dict.fromkeys(settings.groups())
        )
        more |= {"task": source.own, "group": group}
        if environment:
            check_simulator(environment)
            more["environment"] = environment
        if bounds:
            more["bounds"] = bounds
    named = ""
    if method:
        named = find_method(method)[0]
        more["method"] = method
    if seeds:
        if not all(s.strip().isdecimal() for s in seeds.split(",")):
            raise RunError(
                f"seeds: saw {seeds!r}, expected integers >= 0 separated by commas, such as 0,1,2."
            )
        more["seeds"] = [int(s) for s in seeds.split(",")]
    if curve < 0 or curve and not log:
        raise RunError(
            f"curve: saw {curve}{'' if log else ' without a folder'}, expected a number of "
            "snapshots, and --log FOLDER, where their scores go."
        )
    if curve and not source.task and not environment:
        raise RunError("curve: saw no simulator, expected --environment, to score snapshots in.")
    if log:
        more["log"] = str(paths.given(log).absolute())
    if curve:
        more["curve"] = curve
    if keep_snapshots:
        if not curve:
            raise RunError("keep-snapshots: saw no --curve, expected one, which makes them.")
        more["keep_snapshots"] = True
    entry = next((e for e in manifest(root) if e.get("row")), None)
    if entry is None:
        raise RunError(
            "book/notebooks.toml: no entry has row = true, expected one: the notebook "
            "that trains and evaluates."
        )
    # the page's own parameters say which committed rows it shows
    entry = {key: value for key, value in entry.items() if key != "parameters"}
    title = source.title
    if not source.task:  # two files of one name have two notebooks
        title += f"-{hashlib.sha256(str(source.own).encode()).hexdigest()[:8]}"
    name = ".".join(filter(None, [title, profile, named or "all"])).replace(" ", "-")
    return make_job(root, entry, profile, root / "_build/rows" / f"{name}.ipynb", **more)


def build(root: Path, profile: str, jobs: int = 0, wait: bool = False) -> None:
    """All of `arq book`: note what cannot be run here, run the notebooks, build the pages.

    One at a time in a checkout; with `wait`, another one's end is waited for, else this is refused.
    """
    with lock.only_one(root, LOCK, RunError, wait) as held:
        with board.said_meanwhile("looks at what can be run here"):
            note_missing(root)
        run_notebooks(root, profile, jobs)
        print(f"The book is at {build_pages(root, [held]).as_uri()}")


def run_row(root: Path, **asked: str) -> None:
    """All of `arq row`; `asked` is what `row_job` takes. Other rows may be run at the same time."""
    job = row_job(root, **asked)
    with lock.only_one(root, job.target.relative_to(root).with_suffix(".lock"), RunError):
        seconds = notebook.run(root, job, notebook.job_key(root, job))
    print(f"  done in {seconds:.0f} s: {job.target}")
