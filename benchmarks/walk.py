"""The policies that walk in a page (arq_core.widgets.walk, maze_walk): frames a second while they
are computed, their bytes, and whether they walk as Python's do.

    python benchmarks/walk.py [bridge | maze]

The policies are the pages': bridge and maze at profile page. A headless Chromium opens the widget
as a file and moves its handles. Writes data/benchmarks/walk.json, a part for each problem (the
other one is kept): of one walk that was not known, frames a second (`frames_per_second`) and the
longest wait for one, until the last walker stood, with the load that the machine had before
(processes that others ran make frames fewer); for each setting the share of walkers that arrived in
the page, that of the project's own episodes, and the largest difference of a position from
Python's. Episodes are of weights that were not rounded, but for snapshots and for policies that are
read from a file.
"""

import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from arq_core.algorithm.arq import arq
from arq_core.config.files import read_text, write_atomic
from arq_core.config.paths import DATA
from arq_core.experiments import experiment
from arq_core.experiments.episodes import evaluate
from arq_core.experiments.in_page import bridge_walk
from arq_core.experiments.maze_page import SNAPSHOTS, maze_walk
from arq_core.experiments.methods import METHODS
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/walk.json"
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
    const chosen = control.type !== "radio" ? control
      : document.querySelector(`[name=${name}][value="${v}"]`);
    if (chosen.type === "radio") chosen.checked = true; else chosen.value = v;
    const kind = chosen.type === "radio" ? "change" : "input";
    chosen.dispatchEvent(new Event(kind, { bubbles: true }));
  }
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
}"""
DONE = "!document.querySelector('.arq-widget[data-busy]')"
STANDS = f"{DONE} && document.querySelector('.arq-widget button').textContent.includes('Walk')"


@dataclass(frozen=True)
class Case:
    """Where the handles stand, what that means, and the policy whose episodes are beside it."""

    places: dict[str, int]
    meaning: dict[str, Any]
    own: Any


@dataclass(frozen=True)
class Problem:
    """A widget, the experiment whose simulator its policies walk in, and what is tried."""

    widget: Any
    experiment: experiment.Experiment
    cases: list[Case]


def bridge() -> Problem:
    """The bridge at lines, alphas and N."""
    e = experiment.prepare("bridge", "page")
    result = arq(e.data, e.hyper, e.budget, e.rng, e.store(), False)
    policy = result.implicit(e.hyper, e.hyper.log_epsilon)
    widget, cases = bridge_walk(policy, e.hyper), []
    for line, alpha, n in SETTINGS:
        places = dict(epsilon_at=widget.lines.index(line), alpha_at=widget.alphas.index(alpha), n=n)
        meaning = dict(log_epsilon=line if math.isfinite(line) else None, alpha=alpha, n=n)
        own = replace(policy, log_epsilon=line, alpha=float(alpha), n=n)
        cases.append(Case(places, meaning, own))
    return Problem(widget, e, cases)


def maze() -> Problem:
    """The maze with each of its policies, and with the snapshots of ARQ's critic."""
    e = replace(experiment.prepare("maze", "page"), snapshots=SNAPSHOTS)
    widget, cases = maze_walk(e), []
    trained = {
        label: METHODS[method](e.data, e.hyper, e.budget, e.rng, e.store()).policy
        for label, method in {"Qᵝ": "q_beta+s_psi", "ARQ": "arq+s_psi", "clone": "s_psi"}.items()
    }
    for at, button in enumerate(widget.policies.buttons):
        for snapshot, policy in enumerate(button.policies):
            last = snapshot == len(button.policies) - 1
            places = dict(policy=at, trained_at=snapshot)
            meaning = dict(policy=button.label)
            if len(button.policies) > 1:
                meaning["steps"] = widget.policies.steps[snapshot]
            own = trained.get(button.label, policy) if last else policy
            cases.append(Case(places, meaning, own))
    # the first is the walk that is watched: the clone's is the longest
    return Problem(widget, e, cases)


PROBLEMS: dict[str, Callable[[], Problem]] = dict(bridge=bridge, maze=maze)


def put(page, widget, case: Case, seed: int) -> None:
    """Move the handles of the page and of its twin."""
    places = dict(case.places, seed=seed)
    for name, value in places.items():
        setattr(widget, name, value)
    page.evaluate(MOVE, places)


def measure(page, problem: Problem) -> dict:
    """What is written, without where it was measured."""
    widget, e, load = problem.widget, problem.experiment, os.getloadavg()[0]
    page.evaluate(WATCH)
    start = time.monotonic()
    put(page, widget, problem.cases[0], SEEDS[0])
    page.wait_for_function(DONE, timeout=600_000)
    computed = time.monotonic() - start
    page.wait_for_function(STANDS, timeout=600_000)
    stood, seen = time.monotonic() - start, page.evaluate("seen")
    walks = []
    for case in problem.cases:
        arrived, off = 0, []
        for seed in SEEDS:
            put(page, widget, case, seed)
            page.wait_for_function(DONE, timeout=600_000)
            positions = np.array(page.evaluate("seen.positions"))
            assert page.locator(".arq-finding").text_content() == widget.finding()
            arrived += int(widget.walked().arrived.sum())
            off.append(float(np.abs(positions - widget.walked().positions()).max()))
        envs = e.task.environments(EPISODES)
        success = evaluate(case.own, envs, EPISODES, e.rng, e.task.horizon)["success"]
        walks.append(
            dict(
                case.meaning,
                arrived=arrived,
                walkers=widget.walkers * len(SEEDS),
                episodes_arrived=int(success.sum()),
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


def main(*wanted: str) -> None:
    from playwright.sync_api import sync_playwright

    found = json.loads(read_text(FILE)) if FILE.exists() else {}
    for name in wanted or PROBLEMS:
        problem = PROBLEMS[name]()
        html = f"<!doctype html><title>walk</title>{problem.widget.to_html()}"
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
            file = Path(folder) / "walk.html"
            file.write_text(html, encoding="utf-8")
            program = shutil.which("chromium") or shutil.which("google-chrome")
            browser = play.chromium.launch(executable_path=program, args=FLAGS)
            page = browser.new_page()
            page.goto(file.as_uri())
            page.wait_for_selector(".arq-widget[data-ready]")
            found[name] = dict(provenance(own=FILE), **measure(page, problem))
            browser.close()
        write_atomic(FILE, json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
