"""How the tests are shared out to workers; fixtures of the tests in a browser, and one for all:
compiled programs are not checked.

Those of the browser skip with a reason where a program is missing; the summary of pytest shows it
(-rs).
"""

import functools
import gc
import json
import os
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path

import arq_core.config.lean  # noqa: F401  before what imports slowly  # isort: skip
import browser
import jaxtyping
import npm
import pytest

from arq_core.config import lock, processes, surroundings
from arq_core.engine import machine

surroundings.settle()
# a third of the time of importing the tests; until all are imported
gc.disable()

# as a shell starts what runs behind it: the programs under test would never see Ctrl-C
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# bytes that a worker may take, with the browser or the simulators that its tests start
WORKER = 2_000_000_000


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """-n auto: a worker for each core that this process may use, or fewer where memory would not
    hold them; none, but this process, where there is one core, or memory for one. Browsers, kernels
    and steps run beside them: with two workers more than cores all took a quarter longer.
    """
    workers = min(processes.cores(), processes.available_memory() // WORKER)
    return workers if workers > 1 else 0


def pytest_collection_finish(session):
    """What was imported stays: from here on only what the tests make is looked through."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_configure(config):
    """Workers share the cores: each inherits how many threads it may use."""
    if workers := getattr(config.option, "numprocesses", None):
        os.environ[surroundings.THREADS] = surroundings.threads_of_each(workers)


# begun first, the longest first: else one worker is left alone with one of them at the end
LONGEST = (
    "grid/test_grid.py",
    "widgets/test_widgets_browser.py",
    "widgets/test_walk_browser.py",
    "book/test_any_rows.py",
    "widgets/test_widgets_live.py",
    "book/test_kernel.py",
    "book/test_ready.py",
    "book/test_tables_browser.py",
    "datasets/test_fuzz_readers.py",
    "grid/test_folders.py",
)


def pytest_collection_modifyitems(items):
    """The files of LONGEST before all others (make test: --no-loadscope-reorder)."""
    home = Path(__file__).parent
    rank = {home / name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session", autouse=True)
def compiled_programs_are_not_checked():
    """Shapes are checked (pyproject, --jaxtyping-packages) where lines run one by one: a compiler
    cannot trace the checks, so they are off while a compiled program is traced or runs."""
    program = machine._program

    @functools.cache
    def unchecked(f):
        compiled = program(f)

        @functools.wraps(f)
        def run(*args, **kwargs):
            before = jaxtyping.config.jaxtyping_disable
            jaxtyping.config.update("jaxtyping_disable", True)
            try:
                return compiled(*args, **kwargs)
            finally:
                jaxtyping.config.update("jaxtyping_disable", before)

        return run

    machine._program = unchecked
    yield
    machine._program = program


@pytest.fixture(scope="session", autouse=True)
def nothing_is_compiled_but_where_a_test_asks_for_it():
    """A toy's training is small, but its candidates' densities reach the size from which compiling
    pays; here it would be 20 s of a core for each problem."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "PAYS_FROM_UNITS", float("inf"))
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk():
    """Thousands of small files are written, which need not outlive the machine's power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


# not the session: while it runs, other tests of this thread could not run asyncio
@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium with a fresh profile and no way to any other host."""
    path = next(
        filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None
    )
    if path is None:
        pytest.skip(
            "BROWSER TEST NOT RUN: saw no chromium, google-chrome or chromium-browser; "
            "install one (Debian: apt-get install chromium)"
        )
    sync_playwright = pytest.importorskip(
        "playwright.sync_api",
        reason="BROWSER TEST NOT RUN: saw no playwright; install the extra `dev`",
    ).sync_playwright
    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=path, args=browser.FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def widget_book(tmp_path_factory):
    """The pages of a small book that shows every widget of browser.WIDGETS."""
    return browser.build_book(tmp_path_factory.mktemp("widgets"))


@pytest.fixture(scope="module")
def reused(chromium):
    return browser.Reused(chromium)


@pytest.fixture
def offline_page(reused, widget_book):
    """offline_page(scheme, folder, **context): a browser.Watched over the pages of a folder, in a
    page that an earlier test may have had; scheme is "file" or "http".
    """
    with ExitStack() as stack:

        def make(scheme="file", folder=widget_book, **context):
            home = stack.enter_context(browser.served(folder, scheme))
            watched = browser.Watched(stack.enter_context(reused.page(**context)), home)
            stack.callback(watched.leave)
            return watched

        yield make


@pytest.fixture(scope="session")
def axe_source():
    """The text of axe-core, fetched once by npm at the version of tests/browser/package.json."""
    wanted = json.loads((browser.TOOLS / "package.json").read_text(encoding="utf-8"))[
        "dependencies"
    ]["axe-core"]
    folder = browser.TOOLS / "node_modules/axe-core"
    # another worker may be fetching it
    with lock.only_one(browser.ROOT, "_build/axe.lock", RuntimeError, wait=True):
        if (
            not (folder / "package.json").exists()
            or json.loads((folder / "package.json").read_text(encoding="utf-8"))["version"]
            != wanted
        ):
            npm.fetch(browser.TOOLS, "axe-core", "BROWSER TEST NOT RUN")
    return (folder / "axe.min.js").read_text(encoding="utf-8")
