"""A widget in JupyterLab: hand and keys move the trait in Python, and Python moves the slider and the sentence."""
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
SHOW = "import sys\nsys.path.insert(0, {tests!r})\nimport browser\nshown = browser.widget({name!r})\nshown"


@contextmanager
def jupyterlab(folder, *cells):
    """The address of a notebook of these code cells in a JupyterLab of its own: its files, settings and port are nobody else's."""
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata={"kernelspec": KERNEL}), folder / "live.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {f"JUPYTER_{k}_DIR": str(folder / k) for k in FOLDERS} | {f"JUPYTERLAB_{k}_DIR": str(folder / k) for k in ("SETTINGS", "WORKSPACES")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
               "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True,
                                  env=os.environ | own | {"IPYTHONDIR": str(folder / "ipython"), "OMP_NUM_THREADS": "1"})
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).close()
                break
            except urllib.error.URLError:
                assert server.poll() is None, (folder / "log").read_text()[-2000:]
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/lab/tree/live.ipynb"
    finally:
        os.killpg(server.pid, signal.SIGTERM)                             # its kernels go with it
        server.wait(30)


def test_in_jupyterlab_slider_and_trait_move_each_other(tmp_path, chromium):
    pytest.importorskip("jupyterlab", reason="BROWSER TEST NOT RUN: saw no jupyterlab; install the extra `dev`")
    from playwright.sync_api import expect
    name, _, [(trait, values), *_] = browser.WIDGETS[0]
    ours = browser.widget(name)
    control, goal = ours.controls[trait], values[7]
    cells = SHOW.format(tests=str(browser.ROOT / "tests"), name=name), f"shown.{trait}", f"shown.{trait} = {goal!r}"
    with jupyterlab(tmp_path, *cells) as address:
        page = chromium.new_page(viewport={"width": 1280, "height": 1400})
        expect.set_options(timeout=30_000)
        page.goto(address)

        def run(i):
            page.locator(".jp-CodeCell").nth(i).locator(".jp-InputArea-editor").click()
            page.keyboard.press("Shift+Enter")

        def said():
            setattr(ours, trait, type(getattr(ours, trait))(float(slider.input_value())))
            return ours.finding()

        run(0)
        sentence, slider = page.locator(".arq-widget .arq-finding"), page.locator(f".arq-widget input[name={trait}]")
        expect(sentence).to_have_text(ours.finding())
        slider.focus()
        for key, at in {"Home": control.low, "ArrowRight": control.low + control.step, "ArrowUp": control.low + 2 * control.step}.items():
            slider.press(key)
            expect(slider).to_have_value(f"{at:g}")                       # JupyterLab leaves the keys to the slider
            expect(sentence).to_have_text(said())
        box = slider.bounding_box()
        page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + box["height"] / 2)
        expect(slider).not_to_have_value(f"{at:g}")
        expect(sentence).to_have_text(said())
        page.wait_for_timeout(500)                                        # a slider's messages wait for each other, not for a cell
        run(1)
        expect(page.locator(".jp-OutputArea-output pre")).to_have_text(str(getattr(ours, trait)))
        run(2)
        setattr(ours, trait, goal)
        expect(sentence).to_have_text(ours.finding())
        expect(slider).to_have_value(f"{goal:g}")
