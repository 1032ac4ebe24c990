"""Every widget in JupyterLab: hand and keys move the trait in Python, and Python moves the slider
and the sentence.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import browser
import nbformat
import pytest

expect = pytest.importorskip(
    "playwright.sync_api", reason="BROWSER TEST NOT RUN: saw no playwright; install the extra `dev`"
).expect
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
FOLDERS = ("CONFIG", "DATA", "RUNTIME")
NAMES = [name for name, _, _ in browser.WIDGETS]
# what each widget's cells show, say and set
CELLS = (
    "shown = browser.widget({name!r})\nshown",
    "shown.position()",
    "setattr(shown, *browser.slider({name!r}, shown))",
)


def write_notebook(path):
    """A notebook whose first cell imports; three for each widget show it, say where its controls
    stand, and set its slider.
    """
    cells = [
        f"import sys\nsys.path.insert(0, {str(browser.ROOT / 'tests/helpers')!r})\nimport browser"
    ]
    cells += [cell.format(name=name) for name in NAMES for cell in CELLS]
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata={"kernelspec": KERNEL}
        ),
        path,
    )


@contextmanager
def jupyterlab(folder):
    """The address of the notebooks of a folder in a JupyterLab of its own: its files, settings and
    port are nobody else's.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {f"JUPYTER_{k}_DIR": str(folder / k) for k in FOLDERS} | {
        f"JUPYTERLAB_{k}_DIR": str(folder / k) for k in ("SETTINGS", "WORKSPACES")
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    with open(folder / "log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | own | {"IPYTHONDIR": str(folder / "ipython"), "OMP_NUM_THREADS": "1"},
        )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).close()
                break
            except urllib.error.URLError:
                assert server.poll() is None, (folder / "log").read_text(encoding="utf-8")[-2000:]
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/lab/workspaces/"
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # its kernels go with it
        server.wait(30)


class Lab:
    """A notebook that is open in JupyterLab, its cells by number."""

    def __init__(self, page):
        self.page = page

    def cell(self, i):
        return self.page.locator(".jp-CodeCell").nth(i)

    def run(self, i):
        """Run a cell by its key, and wait until it has been run."""
        cell = self.cell(i)
        cell.locator(".jp-InputArea-editor").click()
        expect(self.page.get_by_text("Mode: Edit")).to_be_visible()
        self.page.keyboard.press("Shift+Enter")
        # "[ ]:", "[*]:", "[1]:"
        expect(cell.locator(".jp-InputPrompt").first).to_have_text(re.compile(r"\d"))
        return cell


@pytest.fixture(scope="module")
def lab(chromium, tmp_path_factory):
    """One JupyterLab with one notebook and one kernel for all widgets."""
    pytest.importorskip(
        "jupyterlab", reason="BROWSER TEST NOT RUN: saw no jupyterlab; install the extra `dev`"
    )
    folder = tmp_path_factory.mktemp("live")
    write_notebook(folder / "widgets.ipynb")
    with (
        jupyterlab(folder) as address,
        chromium.new_context(viewport={"width": 1280, "height": 1400}) as context,
    ):
        page = context.new_page()
        expect.set_options(timeout=30_000)
        page.goto(f"{address}widgets/tree/widgets.ipynb")
        # before that a key may be lost
        expect(page.get_by_text("(ipykernel) | Idle")).to_be_visible(timeout=120_000)
        (opened := Lab(page)).run(0)
        yield opened


# one of them shows what all have in common; what each computes is tested in a page of its own
SLOW = pytest.mark.slow(reason="starts JupyterLab, and takes seconds for each widget")


@SLOW
@pytest.mark.parametrize("name", NAMES)
def test_in_jupyterlab_page_and_kernel_move_each_other(lab, name):
    ours, first = browser.widget(name), 1 + len(CELLS) * NAMES.index(name)
    trait, goal = browser.slider(name, ours)
    control, figure = ours.controls[trait], lab.run(first).locator(".arq-widget")
    sentence, slider = figure.locator(".arq-finding"), figure.locator(f"input[name={trait}]")
    # the kernel makes it
    expect(sentence).to_have_text(ours.finding(), timeout=120_000)
    assert figure.locator("svg").count() and not figure.locator("[role=alert]:visible").count()

    def stands(trait, at):
        setattr(ours, trait, type(getattr(ours, trait))(at))
        expect(sentence).to_have_text(ours.finding())

    slider.focus()
    for key, at in {
        "Home": control.low,
        "ArrowRight": control.low + control.step,
        "ArrowUp": control.low + 2 * control.step,
    }.items():
        slider.press(key)
        # JupyterLab leaves the keys to the slider
        expect(slider).to_have_value(f"{at:g}")
        stands(trait, at)
    before = figure.locator(".arq-plots").inner_html()
    box = slider.bounding_box()
    lab.page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + box["height"] / 2)
    expect(slider).not_to_have_value(f"{at:g}")
    stands(trait, float(slider.input_value()))
    assert figure.locator(".arq-plots").inner_html() != before
    for other, values in browser.traits(name).items():
        if other != trait:
            ((at, _),) = browser.put(figure, other, values[1:2])
            stands(other, at)
    # messages of a control wait for each other, not for a cell
    lab.page.wait_for_timeout(500)
    said = lab.run(first + 1).locator(".jp-OutputArea-output pre")
    expect(said).to_have_text(str(ours.position()))
    lab.run(first + 2)
    stands(trait, goal)
    expect(slider).to_have_value(f"{goal:g}")
