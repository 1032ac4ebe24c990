"""The kernel that runs a notebook: this very Python, whatever kernels are installed, without the
user's own settings; and whether every figure that a cell draws is in the notebook.
"""

from __future__ import annotations

import ast
import functools
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from arq_core.book import own_ipykernel_launcher as launcher
from arq_core.book import ready
from arq_core.config import surroundings

PYPLOT = ("matplotlib.pyplot", "pylab")
# a cell with one of these words takes figures away again, on purpose
TAKEN_AWAY = ("clear_output", "capture")
FIGURE = ("image/", "application/papermill.record/image/")


def manager(root: Path) -> type:
    """The class of kernel managers for notebooks of the checkout `root`.

    No kernelspec is looked for: one of another environment may go by any name.
    """
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    environment = surroundings.ours(root)
    runtime = Path(environment["JUPYTER_RUNTIME_DIR"])

    class Kernel(AsyncKernelManager):
        """This Python, started by a file of ours."""

        def __init__(self, **more):
            super().__init__(**more)
            self.connection_file = str(runtime / f"kernel-{uuid.uuid4()}.json")

        @property
        def kernel_spec(self) -> KernelSpec:
            command = [sys.executable, launcher.__file__, "-f", "{connection_file}"]
            return KernelSpec(
                argv=command,
                display_name="Python 3",
                language="python",
                metadata={"kernel_provisioner": {"provisioner_name": "local-provisioner"}},
            )

        async def _async_pre_start_kernel(self, **more):
            if (forked := ready.provisioner()) and not self.provisioner:
                self.provisioner = forked(
                    kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self
                )
            return await super()._async_pre_start_kernel(**{"env": environment} | more)

        pre_start_kernel = _async_pre_start_kernel

    return Kernel


def shows(cells: Sequence[str]) -> list[int]:
    """How often each cell calls `pyplot.show` whatever happens: not in a branch, loop or function,
    which may be passed by.
    """
    trees = list(map(_parsed, cells))
    plots = {"pyplot"} | {
        alias.asname or alias.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name in PYPLOT
    }
    plots |= {
        alias.asname
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "matplotlib"
        for alias in node.names
        if alias.name == "pyplot" and alias.asname
    }
    calls = {f"{name}.show" for name in plots}
    return [sum(map(functools.partial(_calls, calls), tree.body)) for tree in trees]


def _parsed(cell: str) -> ast.Module:
    """What IPython alone understands (`x?`, another language's cell) calls nothing of pyplot."""
    try:
        return ast.parse(cell)
    except SyntaxError:
        return ast.Module([], [])


def _calls(names: set[str], statement: ast.stmt) -> int:
    if isinstance(statement, ast.With):
        return sum(_calls(names, inner) for inner in statement.body)
    called = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
    return int(called and ast.unparse(statement.value.func) in names)


def figures_missing(cells: Sequence[dict]) -> list[str]:
    """What is said of each executed cell whose page would have fewer figures than its code draws.

    The kernel's own count is taken out of the cells' outputs.
    """
    code = [(i, cell) for i, cell in enumerate(cells) if cell["cell_type"] == "code"]
    least = shows([python(cell["source"]) for _, cell in code])
    missing = []
    for (i, cell), asked in zip(code, least, strict=True):
        said = [o["data"][launcher.DRAWN] for o in cell["outputs"] if _is_count(o)]
        cell["outputs"] = [o for o in cell["outputs"] if not _is_count(o)]
        seen = sum(any(k.startswith(FIGURE) for k in o.get("data", ())) for o in cell["outputs"])
        expected = max(asked, sum(s["figures"] for s in said))
        if seen < expected and not any(word in cell["source"] for word in TAKEN_AWAY):
            backend = "".join(f" (matplotlib's backend was {s['backend']})" for s in said)
            missing.append(
                f"cell {i}: saw {seen} figures, expected {expected}, which its code draws{backend}"
            )
    return missing


def python(source: str) -> str:
    """The Python of a code cell, without lines of IPython's own."""
    lines = (line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
    return "\n".join(lines)


def _is_count(output: dict) -> bool:
    return launcher.DRAWN in output.get("data", ())
