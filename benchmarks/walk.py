"""The policy that walks in a page (arq_core.widgets.walk): frames a second while it computes, its
bytes, and whether it walks as Python's does.

    python benchmarks/walk.py

The policy is the page's: the bridge at profile page. A headless Chromium opens the widget as a file
and moves its handles. Writes data/benchmarks/walk.json: of one walk with the filter off, frames a
second (`frames_per_second`) and the longest wait for one, until the last walker stood, with the
load that the machine had before (processes that others ran make frames fewer); for each
setting the share of walkers that crossed in the page, that of the project's own episodes with
weights that were not rounded, and the largest difference of a position from Python's.
"""

import json
import math
import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from arq_core.algorithm.arq import arq
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.experiments import experiment
from arq_core.experiments.episodes import evaluate
from arq_core.experiments.in_page import bridge_walk
from arq_core.results.provenance import provenance

SEEDS, EPISODES = (1, 2, 3, 4), 120
# log epsilon, alpha, N
SETTINGS = [(-math.inf, 300, 30), (-8, 300, 30), (-6.5, 300, 30), (-5, 300, 30), (0.5, 300, 30)]
SETTINGS += [(-8, 30, 10)]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
# Counts frames from now on, and keeps where the walkers went.
WATCH = """() => {
  const seen = window.seen = { frames: 0, longest: 0, positions: null };
  let last = performance.now();
  const frame = (now) => {
    seen.frames++;
    seen.longest = Math.max(seen.longest, now - last);
    last = now;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  addEventListener("arq-positions", (e) => { seen.positions = e.detail; });
}"""
MOVE = """async (at) => {
  for (const [name, v] of Object.entries(at)) {
    const control = document.querySelector(`[name=${name}]`);
    control.value = v;
    control.dispatchEvent(new Event("input", { bubbles: true }));
  }
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
}"""
DONE = "!document.querySelector('.arq-widget[data-busy]')"
STANDS = f"{DONE} && document.querySelector('.arq-widget button').textContent.includes('Walk')"


def put(page, widget, at: tuple[float, int, int], seed: int) -> None:
    """Move the handles of the page and of its twin."""
    places = dict(
        epsilon_at=widget.lines.index(at[0]),
        alpha_at=widget.alphas.index(at[1]),
        n=at[2],
        seed=seed,
    )
    for name, value in places.items():
        setattr(widget, name, value)
    page.evaluate(MOVE, places)


def measure(page, widget, policy, bridge) -> dict:
    """What is written, without where it was measured."""
    load = os.getloadavg()[0]
    page.evaluate(WATCH)
    start = time.monotonic()
    put(page, widget, SETTINGS[0], SEEDS[0])
    page.wait_for_function(DONE, timeout=600_000)
    computed = time.monotonic() - start
    page.wait_for_function(STANDS, timeout=600_000)
    stood, seen = time.monotonic() - start, page.evaluate("seen")
    walks = []
    for line, alpha, n in SETTINGS:
        crossed, off = 0, []
        for seed in SEEDS:
            put(page, widget, (line, alpha, n), seed)
            page.wait_for_function(DONE, timeout=600_000)
            positions = np.array(page.evaluate("seen.positions"))
            assert page.locator(".arq-finding").text_content() == widget.finding()
            crossed += int(widget.walked().arrived.sum())
            off.append(float(np.abs(positions - widget.walked().positions()).max()))
        own = replace(policy, log_epsilon=line, alpha=float(alpha), n=n)
        envs = bridge.task.environments(EPISODES)
        success = evaluate(own, envs, EPISODES, bridge.rng, bridge.task.horizon)["success"]
        walks.append(
            dict(
                log_epsilon=line if math.isfinite(line) else None,
                alpha=alpha,
                n=n,
                crossed=crossed,
                walkers=widget.walkers * len(SEEDS),
                episodes_crossed=int(success.sum()),
                episodes=EPISODES,
                largest_difference=max(off),
            )
        )
        print(json.dumps(walks[-1]), flush=True)
    return dict(
        frames_per_second=round(seen["frames"] / stood, 1),
        load_before=round(load, 1),
        longest_frame_ms=round(seen["longest"]),
        seconds_to_compute=round(computed, 1),
        bytes=len(widget.to_html().encode()),
        walks=walks,
    )


def main() -> None:
    from playwright.sync_api import sync_playwright

    bridge = experiment.prepare("bridge", "page")
    result = arq(bridge.data, bridge.hyper, bridge.budget, bridge.rng, bridge.store(), False)
    policy = result.implicit(bridge.hyper, bridge.hyper.log_epsilon)
    widget = bridge_walk(policy, bridge.hyper)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        file = Path(folder) / "walk.html"
        file.write_text(f"<!doctype html><title>walk</title>{widget.to_html()}", encoding="utf-8")
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = play.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page()
        page.goto(file.as_uri())
        page.wait_for_selector(".arq-widget[data-ready]")
        found = measure(page, widget, policy, bridge)
        browser.close()
    text = json.dumps(dict(provenance(), **found), indent=1)
    write_atomic(DATA / "benchmarks" / "walk.json", text.encode())


if __name__ == "__main__":
    main()
