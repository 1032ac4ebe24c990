"""The policy that runs in a page is the one that Python runs: the same numbers from the same noise,
as many walkers across, and nothing drawn that is not so.
"""

import re
import time
from dataclasses import replace

import browser
import numpy as np
import pytest
import torch
import walk_pages
from walkers import briefly_trained, opening

from arq_core.engine.streams import Streams
from arq_core.envs.bridge import PLANKS, BridgeEnvs
from arq_core.experiments.in_page import bridge_walk
from arq_core.widgets.noise import Noise
from arq_core.widgets.walking import choose

SEEDS = range(1, 6)  # five walks of ten steps
CLOSE = 1e-4
CROWD = 150
# (log epsilon, alpha, N): off, loose, the paper's, strict; greedier, indifferent; fewer, more
SETTINGS = [(-np.inf, 30, 6), (-8, 30, 6), (-5, 30, 6), (-2, 30, 6), (-5, 300, 12), (-5, 0, 3)]

HOW = """(at) => ({ of: "score", critic: 0, ...at, epsilon: at.epsilon ?? -Infinity })"""


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory):
    with walk_pages.empty_page(chromium, tmp_path_factory.mktemp("page")) as page:
        yield page


def walked_there(page, ours, settings):
    return walk_pages.walked(page, ours, "bridgeOf", HOW, settings)


def settings(seed, log_epsilon, alpha, n):
    epsilon = None if np.isinf(log_epsilon) else log_epsilon
    return dict(seed=seed, epsilon=epsilon, alpha=alpha, n=n)


def test_fifty_steps_of_every_walker_are_those_of_python(page):
    ours = bridge_walk(*briefly_trained(), walkers=30, **opening())
    policy = ours.trained.policy
    theirs = walked_there(page, ours, [settings(s, -5, policy.alpha, policy.n) for s in SEEDS])
    for seed, seen in zip(SEEDS, theirs):
        ours.seed = seed
        walked = ours.walked()
        assert seen["steps"] == walked.steps.tolist() and seen["empty"] == walked.empty
        assert [e == 1 for e in seen["end"]] == walked.arrived.tolist()
        np.testing.assert_allclose(
            seen["states"], walked.states.reshape(PLANKS + 1, -1), atol=CLOSE
        )
        assert seen["earned"] == pytest.approx(walked.earned, abs=CLOSE)
        assert seen["believed"] == pytest.approx(walked.believed, abs=CLOSE)
    assert max(s["steps"][0] for s in theirs) > 3


def test_candidates_their_densities_and_their_values_are_those_of_python(page):
    """At every plank, on the bridge and off it, for as many candidates as one, some and all. Terms
    of tens cancel in the log-densities of a model that was hardly trained: their float32 has fewer
    digits.
    """
    ours = bridge_walk(*briefly_trained(), walkers=1, **opening())
    states = [(p, s) for p in range(PLANKS) for s in (-0.7, 0.0, 0.3)]
    for n in (1, 7, 60):
        jobs = [
            dict(
                of="score", critic=0, seed=3, step=p, walker=i, n=n, state=[p, float(np.float32(s))]
            )
            for i, (p, s) in enumerate(states)
        ]
        drawn = walk_pages.drawn(page, ours, jobs)
        for i, ((p, s), theirs) in enumerate(zip(states, drawn)):
            at = replace(ours.trained.policy, n=n)
            here = choose(at, np.array([[p, s]], np.float32), Noise(3, p, [i]))
            for seen, x, close in zip(
                theirs, (here.actions, here.log_prob, here.q), (1e-5, 1e-3, 1e-5)
            ):
                np.testing.assert_allclose(seen, x.ravel(), rtol=1e-5, atol=close)


def crossing(policy, seed):
    """The share of CROWD walkers that cross, by the project's own noise and starts."""
    envs, rng = BridgeEnvs(CROWD), Streams([seed])
    states, alive, across = envs.reset(range(CROWD)), np.ones(CROWD, bool), 0
    while alive.any():
        states, _, ended, success = envs.step(
            policy.act(torch.tensor(states)[None], rng)[0].numpy()
        )
        across += int((alive & success).sum())
        alive &= ~ended
    return across / CROWD


@pytest.mark.slow(reason="its equality with Python, step by step, is tested above")
def test_as_many_cross_at_six_settings_as_by_the_projects_own_policy(page):
    """Its own random streams, and weights that were not rounded: within four standard errors."""
    policy, hyper = briefly_trained()
    ours = bridge_walk(policy, hyper, walkers=CROWD, **opening())
    theirs = walked_there(page, ours, [settings(7, *one) for one in SETTINGS])
    shares = []
    for (log_epsilon, alpha, n), seen in zip(SETTINGS, theirs):
        share = seen["end"].count(1) / CROWD
        own = crossing(replace(policy, log_epsilon=log_epsilon, alpha=float(alpha), n=n), 5)
        both = (share + own) / 2
        assert abs(share - own) <= 4 * np.sqrt(2 * both * (1 - both) / CROWD) + 1e-9, (own, share)
        shares.append(share)
    assert max(shares) - min(shares) > 0.1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda spec: spec["arrays"].pop("weights"), "weights: saw none"),
        (lambda spec: spec["words"]["layout"].pop(), "weights: saw"),
        (
            lambda spec: spec["arrays"].update(units=walk_pages.huge_units("walk")),
            "is not a number at plank",
        ),
        (lambda spec: spec["arrays"]["weights"].update(i2="AAAA"), "weights: saw 3 bytes"),
    ],
)
def test_damaged_or_missing_weights_are_named_and_nothing_is_drawn(chromium, change, told):
    html = walk_pages.spoilt("walk", change)
    assert told in walk_pages.told_and_nothing_drawn(chromium, html)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the widget in a file of its own."""
    folder = tmp_path_factory.mktemp("walk")
    html = browser.widget("walk").to_html()
    page = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>t</title>{html}</html>"
    (folder / "walk.html").write_text(page, encoding="utf-8")
    return folder


@pytest.fixture
def opened(reused, folder):
    with walk_pages.opener(reused, folder, "walk.html") as opened:
        yield opened


def counts(watched):
    said = watched.figure.locator(".arq-counts").text_content()
    return [int(x) for x in re.findall(r"(\d+) (?:of|fell|on)", said)]


# Lets them walk for two frames, then stand: what the button says and the counter, before and after.
STROLL = """async () => {
  const button = document.querySelector(".arq-widget button"), told = [];
  const look = () => told.push([button.textContent,
    document.querySelector(".arq-counts").textContent]);
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  button.click();
  await frame();
  await frame();
  look();
  button.click();
  look();
  for (let i = 0; i < 20; i++) await frame();
  look();
  button.click();
  return told;
}"""


def test_they_walk_stand_and_go_on_and_the_counter_ends_with_the_sentence(opened):
    watched, ours = opened(reduced_motion="no-preference"), browser.widget("walk")
    while ours.walked().steps.max() < PLANKS:  # somebody is long on the way
        ours.seed += 1
    browser.put(watched.figure, "seed", [ours.seed])
    assert watched.sentence() == ours.finding()
    stands = "document.querySelector('.arq-widget button').textContent === '▶ Walk'"
    watched.page.wait_for_function(stands, timeout=60_000)
    crossed = int(ours.walked().arrived.sum())
    assert counts(watched) == [crossed, 4 - crossed, 0]
    (walks, way), (waits, there), (still, same) = watched.page.evaluate(STROLL)
    assert (walks, waits, still) == ("❚❚ Pause", "▶ Walk", "▶ Walk")
    assert there == same and "0 on the bridge" not in way
    until = time.monotonic() + 60
    while counts(watched)[2] and time.monotonic() < until:
        watched.page.wait_for_timeout(100)
    assert counts(watched) == [crossed, 4 - crossed, 0] and watched.errors == []


def test_whoever_wants_less_motion_sees_the_whole_walk_at_once(opened):
    watched = opened(reduced_motion="reduce")
    watched.figure.locator("[name=epsilon_at]").press("Home")
    watched.page.evaluate(browser.DRAWN)
    assert counts(watched)[2] == 0
    assert watched.figure.locator("button").text_content() == "▶ Walk"


def test_a_click_on_a_plank_looks_at_it_and_draws_every_candidate(opened):
    watched = opened()
    plot = watched.figure.locator("svg.arq-pick")
    box = plot.bounding_box()
    watched.page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2)
    watched.page.evaluate(browser.DRAWN)
    ours = browser.widget("walk")
    ours.plank = int(watched.figure.locator("[name=plank]").input_value())
    assert ours.plank in (7, 8) and watched.sentence() == ours.finding()
    choice = ours.looked()
    kept = int((choice.log_prob >= ours.lines[ours.epsilon_at]).sum())
    svg = watched.figure.locator("svg").nth(1)
    assert svg.locator(".arq-hollow").count() == ours.n - kept
    assert svg.locator("[style*='stroke-width: 4'], [style*='stroke-width:4']").count() == 1
    assert f"{kept} are in support" in svg.get_attribute("aria-label")


def test_where_nothing_is_in_support_every_candidate_is_hollow(opened):
    watched = opened()
    watched.figure.locator("[name=epsilon_at]").press("End")
    watched.page.evaluate(browser.DRAWN)
    assert "none of 6 candidates is in support" in watched.sentence()
    assert watched.figure.locator("svg").nth(1).locator(".arq-hollow").count() == 6


def test_a_page_that_may_have_no_workers_walks_by_itself(opened):
    watched = opened(before="window.Worker = undefined;")
    watched.figure.locator("[name=epsilon_at]").press("Home")
    watched.page.evaluate(browser.DRAWN)
    ours = browser.widget("walk")
    ours.epsilon_at = 0
    assert watched.sentence() == ours.finding() and watched.errors == []


def test_without_javascript_the_sentence_and_the_walks_are_there(opened):
    watched = opened(scripts=False, java_script_enabled=False)
    picture = watched.figure.locator("svg")
    assert picture.is_visible() and picture.locator("path").count() == 2
    assert watched.sentence() == browser.widget("walk").finding()


def test_it_is_a_widget_with_a_handle_for_each_setting():
    assert list(browser.widget("walk").controls) == [
        *("epsilon_at", "alpha_at", "n", "k", "plank", "seed")
    ]
