"""Every widget in JupyterLab: hand and keys move the trait in Python, and Python moves the slider
and the sentence.
"""

import os
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

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
FOLDERS = ("CONFIG", "DATA", "RUNTIME")
SHOW = (
    "import sys\nsys.path.insert(0, {tests!r})\nimport browser\nshown = "
    "browser.widget({name!r})\nshown"
)


def slider_of(name):
    """(trait, a value to set it to) of the first control of that widget that is a slider."""
    ours, traits = (
        browser.widget(name),
        next(traits for one, _, traits in browser.WIDGETS if one == name),
    )
    return next(
        (trait, values[7 % len(values)])
        for trait, values in traits
        if ours.controls[trait].kind == "slider"
    )


def write_notebook(folder, name):
    """A notebook that shows the widget, says its trait, and sets it."""
    trait, goal = slider_of(name)
    cells = (
        SHOW.format(tests=str(browser.ROOT / "tests/helpers"), name=name),
        f"shown.{trait}",
        f"shown.{trait} = {goal!r}",
    )
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata={"kernelspec": KERNEL}
        ),
        folder / f"{name}.ipynb",
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


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    """The address of a JupyterLab with one notebook for each widget."""
    pytest.importorskip(
        "jupyterlab", reason="BROWSER TEST NOT RUN: saw no jupyterlab; install the extra `dev`"
    )
    folder = tmp_path_factory.mktemp("live")
    for name, _, _ in browser.WIDGETS:
        write_notebook(folder, name)
    with jupyterlab(folder) as address:
        yield address


# one of them shows what all have in common; what each computes is tested in a page of its own
FIRST, *OTHERS = [name for name, _, _ in browser.WIDGETS]
SLOW = pytest.mark.slow(reason="a kernel for each widget, whose code in JupyterLab is the same")


@pytest.mark.parametrize("name", [FIRST, *(pytest.param(name, marks=SLOW) for name in OTHERS)])
def test_in_jupyterlab_slider_and_trait_move_each_other(chromium, notebooks, name):
    from playwright.sync_api import expect

    ours, (trait, goal) = browser.widget(name), slider_of(name)
    control = ours.controls[trait]
    with chromium.new_context(viewport={"width": 1280, "height": 1400}) as context:
        page = context.new_page()
        expect.set_options(timeout=30_000)
        # a workspace of its own: nothing else is open in it
        page.goto(f"{notebooks}{name}/tree/{name}.ipynb")

        # before that a key may be lost
        expect(page.get_by_text("(ipykernel) | Idle")).to_be_visible(timeout=120_000)

        def run(i):
            cell = page.locator(".jp-CodeCell").nth(i)
            cell.locator(".jp-InputArea-editor").click()
            expect(page.get_by_text("Mode: Edit")).to_be_visible()
            page.keyboard.press("Shift+Enter")
            expect(cell.locator(".jp-InputPrompt").first).not_to_have_text("[ ]:")

        def said():
            setattr(ours, trait, type(getattr(ours, trait))(float(slider.input_value())))
            return ours.finding()

        run(0)
        sentence, slider = (
            page.locator(".arq-widget .arq-finding"),
            page.locator(f".arq-widget input[name={trait}]"),
        )
        # a kernel starts, and imports
        expect(sentence).to_have_text(ours.finding(), timeout=120_000)
        slider.focus()
        for key, at in {
            "Home": control.low,
            "ArrowRight": control.low + control.step,
            "ArrowUp": control.low + 2 * control.step,
        }.items():
            slider.press(key)
            # JupyterLab leaves the keys to the slider
            expect(slider).to_have_value(f"{at:g}")
            expect(sentence).to_have_text(said())
        box = slider.bounding_box()
        page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + box["height"] / 2)
        expect(slider).not_to_have_value(f"{at:g}")
        expect(sentence).to_have_text(said())
        # a slider's messages wait for each other, not for a cell
        page.wait_for_timeout(500)
        run(1)
        expect(page.locator(".jp-OutputArea-output pre")).to_have_text(str(getattr(ours, trait)))
        run(2)
        setattr(ours, trait, goal)
        expect(sentence).to_have_text(ours.finding())
        expect(slider).to_have_value(f"{goal:g}")
