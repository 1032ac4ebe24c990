"""What the programs that we start see of the user's own settings: nothing.

A notebook, a step of the grid or the builder of the pages does the same for everybody: no
configuration of Python, Jupyter, IPython, papermill, matplotlib, docutils or Snakemake reaches it.
Their folders are ours, below `_build` of the checkout. Where packages are found (PYTHONPATH), how
many threads are used and all that is not a setting of these programs stays as it is.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from arq_core.config import paths

FOLDER = "_build/settings"  # below the root of the checkout
BACKEND = "module://matplotlib_inline.backend_inline"
# what finds packages, and says how text and bytecode are kept: no settings of a session
KEPT = {
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONNOUSERSITE",
    "PYTHONUSERBASE",
    "PYTHONPLATLIBDIR",
    "PYTHONUNBUFFERED",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPYCACHEPREFIX",
    "PYTHONIOENCODING",
    "PYTHONUTF8",
    "PYTHONCOERCECLOCALE",
}
LEFT_OUT = re.compile(
    r"PYTHON[A-Z]*|(JUPYTER|JPY|IPYTHON|IPY|PAPERMILL|NBCLIENT|MPL|MATPLOTLIB|SPHINX"
    r"|DOCUTILS|TQDM|PYDEVD|TRAITLETS)[A-Z0-9_]*"
    # `--profile` says which
    r"|SNAKEMAKE_(WORKFLOW_)?PROFILE"
    # of a terminal: tables and progress bars are as wide as it says
    r"|COLUMNS|LINES|FORCE_COLOR|CLICOLOR|CLICOLOR_FORCE"
)


def ours(root: Path) -> dict[str, str]:
    """This process's environment for a program that we start; makes the folders it names.

    ARQ_* folders that were given from where the command was typed are made absolute: the program
    works in the root of the checkout.
    """
    folder = root.resolve() / FOLDER
    own = {
        "IPYTHONDIR": folder / "ipython",
        "MPLCONFIGDIR": folder / "matplotlib",
        "JUPYTER_CONFIG_DIR": folder / "jupyter/config",
        "JUPYTER_DATA_DIR": folder / "jupyter/data",
        "JUPYTER_RUNTIME_DIR": folder / "jupyter/runtime",
    }
    for path in own.values():
        path.mkdir(parents=True, exist_ok=True)
    # readable by their owner alone: they hold the keys of running kernels
    own["JUPYTER_RUNTIME_DIR"].chmod(0o700)
    given = {
        "ARQ_ROOT": paths.root,
        "ARQ_CACHE": paths.cache_folder,
        "ARQ_LOCAL_DATA": paths.local_folder,
    }
    return (
        {
            name: value
            for name, value in os.environ.items()
            if name in KEPT or not LEFT_OUT.fullmatch(name)
        }
        | {name: str(path) for name, path in own.items()}
        | {name: str(find().absolute()) for name, find in given.items() if os.environ.get(name)}
        | {"MPLBACKEND": BACKEND, "DOCUTILSCONFIG": os.devnull}
    )
