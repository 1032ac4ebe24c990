"""One notebook, run once: what it depends on, whether that changed, and a file that holds a
clean run or the previous one.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arq_core.book import kernel
from arq_core.config.files import files_in, read_text, sha256_of


class RunError(RuntimeError):
    """A notebook that cannot be run, or that failed.

    The message names the notebook, what was seen, and what to do.
    """


@dataclass(frozen=True)
class Job:
    """A notebook with its parameters.

    `inputs` are files or folders that it reads, besides the modules of arq_core it imports;
    `after` are stems of targets whose finished steps it takes from the store.
    """

    source: Path
    target: Path
    parameters: dict = field(default_factory=dict)
    inputs: Sequence[Path] = ()
    after: Sequence[str] = ()


def code_cells(notebook: Path) -> list[str]:
    """The Python of a notebook's code cells, without lines of IPython's own."""
    try:
        cells = json.loads(read_text(notebook))["cells"]
    except FileNotFoundError:
        raise RunError(
            f"{notebook}: saw no such file, expected a notebook; correct book/notebooks.toml."
        ) from None
    except (json.JSONDecodeError, KeyError) as e:
        raise RunError(
            f"{notebook}: saw a file that is not a notebook ({e!r}); restore it."
        ) from None
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [kernel.python(cell) for cell in code]


# the notebooks of a book reach the same modules
@functools.cache
def _mentioned(text: str, python: bool) -> frozenset[str]:
    """Dotted names under arq_core that a text mentions; imports of Python code are resolved, so
    `from arq_core import x` counts.
    """
    names = set(re.findall(r"arq_core(?:\.\w+)+", text))
    for node in ast.walk(ast.parse(text)) if python else ():
        if isinstance(node, ast.ImportFrom) and node.level:
            raise RunError("saw a relative import, expected `from arq_core.module import name`.")
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "arq_core":
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def _modules(root: Path, name: str) -> tuple[set[Path], set[Path]]:
    """The longest module that a dotted name begins with, and the folders of the packages around
    it.
    """
    parts, packages = name.split("."), set()
    for i in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:i])
        if base.is_dir():
            packages.add(base)
        elif base.with_suffix(".py").is_file():
            return {base.with_suffix(".py")}, packages
    return set(), packages


def dependencies(root: Path, job: Job) -> list[Path]:
    """Every file whose change makes the job run again: modules reached from the notebook by
    import or by name, and its inputs.
    """
    found: set[Path] = set()
    for path in job.inputs:
        found |= (
            set(files_in(path, deep=True)) if path.is_dir() else {path} if path.is_file() else set()
        )
    cells = code_cells(job.source)
    names = {n for cell in cells for n in _mentioned(cell, True)}
    spoken = set(re.findall(r"[\w+-]+", " ".join([*cells, json.dumps(job.parameters)])))
    for path in found:
        # tasks.csv names modules that are imported by name: those of the tasks that are spoken of
        if path.suffix == ".csv":
            names |= _mentioned(
                "\n".join(
                    row for row in read_text(path).splitlines() if row.split(",", 1)[0] in spoken
                ),
                False,
            )
        elif path.suffix == ".toml":
            names |= _mentioned(read_text(path), False)
    seen: set[str] = set()
    packages: set[Path] = set()
    while names:
        seen |= (new := names - seen)
        names = set()
        for modules, around in (_modules(root, n) for n in new):
            inits = {p for a in around - packages if (p := a / "__init__.py").is_file()}
            packages |= around
            for path in (modules | inits) - found:
                found.add(path)
                names |= _mentioned(path.read_text(encoding="utf-8"), True)
    # what packages hold besides modules
    found |= {p for a in packages for p in files_in(a) if p.suffix not in (".py", ".pyc")}
    return sorted(found | {p for p in (job.source, root / "constraints.txt") if p.is_file()})


def job_key(root: Path, job: Job) -> str:
    """SHA-256 over the parameters, the Python version and the names and bytes of all
    dependencies.
    """
    h = hashlib.sha256(json.dumps([job.parameters, sys.version_info[:2]], sort_keys=True).encode())
    for path in dependencies(root, job):
        h.update(str(path.relative_to(root) if path.is_relative_to(root) else path.name).encode())
        h.update(bytes.fromhex(sha256_of(path)))
    return h.hexdigest()


def is_done(job: Job, key: str) -> bool:
    """Whether the target holds a clean run for that key, with all figures that its code shows."""
    try:
        run = json.loads(job.target.read_text(encoding="utf-8"))
        return run["metadata"]["arq"]["key"] == key and not kernel.figures_missing(
            [cell | {"source": "".join(cell["source"])} for cell in run["cells"]]
        )
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return False


def notebook_format():
    """nbformat, without four seconds of every process: jsonschema would build a grammar of
    international addresses, which no notebook's format asks for.
    """
    sys.modules.setdefault("rfc3987_syntax", None)
    import nbformat

    return nbformat


def _papermill():
    notebook_format()  # first: papermill brings it too
    import papermill

    return papermill


def _as_it_is(path: Path) -> str:
    """A path for papermill, which fills parameters into braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def declared_parameters(source: Path) -> dict:
    """Parameters of the notebook's cell tagged `parameters`."""
    return _papermill().inspect_notebook(_as_it_is(source))


def refuse_unknown(source: Path, parameters: Iterable[str]) -> None:
    """Raise RunError where a parameter is not in the notebook's parameters cell (papermill
    itself would only warn).
    """
    known = declared_parameters(source)
    if unknown := sorted(set(parameters) - set(known)):
        raise RunError(
            f"{source}: parameter {unknown[0]!r}: saw a name the notebook does not "
            "have, expected one of "
            f"{', '.join(sorted(known)) or '(none: no cell is tagged parameters)'}."
        )


@dataclass(frozen=True)
class Cell:
    """A cell that begins: its number among those of code, from 1, and the heading above it."""

    number: int
    count: int
    heading: str

    def __str__(self) -> str:
        return f"cell {self.number} of {self.count}, {self.heading}".removesuffix(", ")


def _watched(source: Path, watch: Callable[[Cell], object]) -> Callable:
    """What nbclient calls when a cell begins. Cells are known by their ids: papermill adds one."""
    cells = json.loads(read_text(source))["cells"]
    count, known, heading = sum(cell["cell_type"] == "code" for cell in cells), {}, ""
    for cell in cells:
        if cell["cell_type"] == "markdown":
            found = re.findall(r"^#+ +(.+)$", "".join(cell["source"]), re.M)
            heading = re.sub(r"[`*$]|\{\w+\}", "", found[-1])[:50] if found else heading
        elif cell["cell_type"] == "code":
            known[cell.get("id")] = Cell(len(known) + 1, count, heading)

    def begins(cell, **_):
        if found := known.get(cell.get("id")):
            watch(found)

    return begins


def run(root: Path, job: Job, key: str, watch: Callable[[Cell], object] = lambda _: None) -> float:
    """Run the notebook; only a clean return replaces the target.

    Returns seconds. What the notebook prints is shown as it runs; `watch` is told of each cell of
    code that begins.
    """
    papermill = _papermill()
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    from arq_core.results.provenance import provenance

    refuse_unknown(job.source, job.parameters)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    partial = job.target.with_name(f".{job.target.stem}.{os.getpid()}.ipynb")
    start, before = time.time(), _processor_seconds()
    try:
        notebook = papermill.execute_notebook(
            _as_it_is(job.source),
            _as_it_is(partial),
            parameters=job.parameters,
            kernel_name="python3",
            kernel_manager_class=kernel.manager(root),
            cwd=str(root),
            start_timeout=180,
            progress_bar=False,
            store_widget_state=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            # of the kernel itself: its warnings are about transports
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            on_cell_start=_watched(job.source, watch),
        )
        seconds = time.time() - start
        if missing := kernel.figures_missing(notebook.cells):
            raise RunError(
                f"{job.source}: {'; '.join(missing)}. Let the notebook show them with "
                "matplotlib's inline backend: no matplotlib.use(...), in it or in what it imports, "
                "and no figure closed before plt.show()."
            )
        fill_in(notebook.cells, job.parameters)
        notebook.metadata["arq"] = {
            "key": key,
            "source": job.source.name,
            "parameters": job.parameters,
            "wall_s": round(seconds, 1),
            "processor_s": round(_processor_seconds() - before, 1),
            **provenance(),
        }
        # it holds this machine's paths
        notebook.metadata.pop("papermill", None)
        partial.write_text(json.dumps(notebook, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, job.target)
    except papermill.PapermillExecutionError as e:
        raise RunError(
            f"{job.source}: cell {e.cell_index} raised {e.ename}: {e.evalue}\n{_traceback(e)}"
        ) from None
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as e:
        # papermill calls these notebooks "completed"
        raise RunError(
            f"{job.source}: saw {type(e).__name__} ({e}), expected a clean run; is "
            "there enough memory?"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return seconds


def _processor_seconds() -> float:
    """Seconds that processors spent on the children of this process which have ended, as a
    notebook's kernel has, and on theirs.
    """
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def fill_in(cells: Iterable, parameters: dict) -> None:
    """Write the parameters' values where markdown cells say {{ name }}: one source makes several
    pages, and each needs its own heading.
    """
    for cell in cells:
        if cell["cell_type"] == "markdown":
            for name, value in parameters.items():
                cell["source"] = cell["source"].replace(f"{{{{ {name} }}}}", str(value))


def _traceback(error) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
