"""The maze's policies that run in a page are those that Python runs: the same numbers from the same
noise, as many walkers at the goal, and nothing drawn that is not so.
"""

import re
from dataclasses import replace

import browser
import numpy as np
import pytest
import torch
import walk_pages
from walkers import maze_walkers

from arq_core.engine.streams import Streams
from arq_core.envs.maze import MazeEnvs
from arq_core.widgets.maze_walk import GOAL, MazeWalk
from arq_core.widgets.noise import Noise
from arq_core.widgets.walking import MAZE, choose

CLOSE = 1e-4
CROWD = 150
CLONE, BETA, FREE, ARQ, KL, MOPO = 1, 2, 3, 4, 5, 10
# (button, snapshot, log epsilon)
SETTINGS = [
    (CLONE, 0, 0),
    (BETA, 0, -5.0),
    (FREE, 0, 0),
    (ARQ, 5, -8.0),
    (ARQ, 2, -12.0),
    (ARQ, 5, 0.0),
]

HOW = """(at) => {
    const own = data.words.policies[at.policy], critic = own.critics[at.trained_at] ?? -1;
    const epsilon = own.filtered ? at.epsilon : -Infinity;
    return { ...own, ...at, critic, alpha: own.alpha ?? Infinity, epsilon };
  }"""


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory):
    with walk_pages.empty_page(chromium, tmp_path_factory.mktemp("page")) as page:
        yield page


@pytest.fixture(scope="module")
def ours():
    return MazeWalk(maze_walkers()[0], walkers=30)


def walked_there(page, ours, settings):
    return walk_pages.walked(page, ours, "mazeOf", HOW, settings)


def settings(policy, trained_at, epsilon, seed):
    return dict(policy=policy, trained_at=trained_at, epsilon=epsilon, seed=seed)


def test_every_policys_steps_are_those_of_python(page, ours):
    """Fifty steps and more of each policy that goes far enough; all of those that do not."""
    asked_for = [(p, t, e, s) for p, t, e in (*SETTINGS, (KL, 0, 0), (MOPO, 0, 0)) for s in (1, 2)]
    theirs = walked_there(page, ours, [settings(*one) for one in asked_for])
    for (policy, at, epsilon, seed), seen in zip(asked_for, theirs):
        ours.policy, ours.trained_at, ours.seed = policy, at, seed
        ours.epsilon_at = ours.lines.index(epsilon)
        walked = ours.walked()
        assert seen["steps"] == walked.steps.tolist() and seen["empty"] == walked.empty
        assert [e == GOAL for e in seen["end"]] == walked.arrived.tolist()
        np.testing.assert_allclose(
            seen["states"], walked.states.reshape(MAZE.steps + 1, -1), atol=CLOSE
        )
        assert seen["earned"] == pytest.approx(walked.earned, abs=CLOSE)
        assert seen["believed"] == pytest.approx(walked.believed, rel=CLOSE, abs=CLOSE)
    assert sum(sum(seen["steps"]) for seen in theirs) > 50 * len(SETTINGS)


@pytest.mark.parametrize("button", [CLONE, BETA, FREE, ARQ, KL, MOPO])
def test_candidates_their_densities_and_their_values_are_those_of_python(page, ours, button):
    b = ours.policies.buttons[button]
    states = np.random.default_rng(0).uniform(-0.4, 4, (6, 2)).astype(np.float32)
    policy = replace(b.policies[0], log_epsilon=-np.inf)
    here = choose(policy, states, Noise(3, 7, range(6)))
    jobs = [
        dict(of=b.of, critic=b.critics[0], seed=3, step=7, walker=i, n=policy.n, state=s.tolist())
        for i, s in enumerate(states)
    ]
    for i, theirs in enumerate(walk_pages.drawn(page, ours, jobs)):
        for seen, x, close in zip(
            theirs, (here.actions[i], here.log_prob[i], here.q[i]), (1e-5, 1e-3, 1e-5)
        ):
            np.testing.assert_allclose(seen, x.ravel(), rtol=1e-5, atol=close)


def test_candidates_of_the_cells_are_those_that_the_page_would_draw(page, ours):
    cells = ours.arrays["cells"].tolist()
    jobs = [
        dict(of="score", critic=-1, seed=1, step=0, walker=65535 - c, n=6, state=state)
        for c, state in enumerate(cells)
    ]
    for c, (actions, log_prob, _) in enumerate(walk_pages.drawn(page, ours, jobs)):
        np.testing.assert_allclose(actions, ours.arrays["cell_actions"][c].ravel(), atol=1e-5)
        np.testing.assert_allclose(log_prob, ours.arrays["cell_log_prob"][c], rtol=1e-5, atol=1e-3)


def arriving(policy, seed):
    """Shares of CROWD walkers that reach the goal, and that end in lava, by the project's own noise
    and starts.
    """
    envs, rng = MazeEnvs(CROWD), Streams([seed])
    states, alive, ends = envs.reset(range(CROWD)), np.ones(CROWD, bool), np.zeros(2)
    for _ in range(MAZE.steps):
        actions = policy.act(torch.tensor(states)[None], rng)[0].numpy()
        states, rewards, ended, success = envs.step(actions)
        ends += (alive & success).sum(), (alive & (rewards < 0)).sum()
        alive &= ~ended
    return ends / CROWD


@pytest.mark.slow(reason="its equality with Python, step by step, is tested above")
def test_as_many_arrive_at_six_settings_as_by_the_projects_own_policy(page):
    """Its own random streams; those that reach the goal and those in lava, each within four
    standard errors. The models are trained longer, so that somebody arrives.
    """
    policies, trained = maze_walkers(evaluations=16, steps=2400, n=12, episodes=1600)
    crowd, shares = MazeWalk(policies, walkers=CROWD), []
    theirs = walked_there(page, crowd, [settings(*one, 7) for one in SETTINGS])
    for (button, at, epsilon), seen in zip(SETTINGS, theirs):
        b = policies.buttons[button]
        # where nothing is filtered too, candidates are those of the solve that gives densities
        policy = replace(b.policies[at], log_epsilon=epsilon if b.filtered else -np.inf)
        if (button, at) == (ARQ, 5):  # weights that were not rounded
            policy = replace(trained, log_epsilon=epsilon)
        own = arriving(policy, 5)
        page_shares = np.array([seen["end"].count(1), seen["end"].count(2)]) / CROWD
        both = (own + page_shares) / 2
        error = np.sqrt(2 * both * (1 - both) / CROWD)
        assert (np.abs(own - page_shares) <= 4 * error + 1e-9).all(), (button, own, page_shares)
        shares.append(page_shares[0])
    assert max(shares) - min(shares) > 0.1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda spec: spec["arrays"].pop("weights"), "weights: saw none"),
        (lambda spec: spec["arrays"].pop("recorded"), "recorded: saw none"),
        (lambda spec: spec["arrays"].pop("bytes"), "weights: saw"),
        (lambda spec: spec["words"]["layout"].pop(), "weights: saw"),
        (lambda spec: spec["arrays"]["bytes"].update(i1="AAAA"), "bytes: saw 3 values"),
    ],
)
def test_damaged_or_missing_weights_are_named_and_nothing_is_drawn(chromium, change, told):
    html = walk_pages.spoilt("maze_walk", change)
    assert told in walk_pages.told_and_nothing_drawn(chromium, html)


def test_weights_that_lead_to_no_number_are_said_when_they_are_walked_with(chromium):
    page = chromium.new_page()
    huge = walk_pages.huge_units("maze_walk")
    page.set_content(walk_pages.spoilt("maze_walk", lambda x: x["arrays"].update(units=huge)))
    page.wait_for_selector(".arq-widget[data-ready]")
    page.locator("[name=seed]").press("End")
    page.wait_for_selector("[role=alert]:visible", timeout=30_000)
    assert "is not a number at place" in page.locator("[role=alert]").text_content()
    assert page.locator(".arq-plots *").count() == 0
    page.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the widget, twice, in a file of its own."""
    folder = tmp_path_factory.mktemp("maze")
    html = browser.widget("maze_walk").to_html()
    page = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>t</title>{html}{html}"
    (folder / "maze.html").write_text(page + "</html>", encoding="utf-8")
    return folder


@pytest.fixture
def opened(reused, folder):
    with walk_pages.opener(reused, folder, "maze.html") as opened:
        yield opened


def test_arrow_keys_go_through_the_policies_of_one_widget_and_not_of_its_neighbour(opened):
    watched, ours = opened(reduced_motion="reduce"), browser.widget("maze_walk")
    second = watched.page.locator(".arq-widget").nth(1)
    group = watched.page.get_by_role("radiogroup", name="Who walks").first
    assert [x.strip() for x in group.locator("label").all_text_contents()] == list(ours.labels)
    group.get_by_role("radio", name="ARQ").focus()
    for key, at in (("ArrowLeft", FREE), ("ArrowRight", ARQ), ("ArrowRight", KL)):
        watched.page.keyboard.press(key)
        watched.page.evaluate(browser.DRAWN)
        ours.policy = at
        assert watched.sentence() == ours.finding()
    watched.page.keyboard.press("Enter")  # a form, which goes nowhere
    assert browser.stands(second, "policy") == ARQ
    assert watched.page.url.endswith("maze.html") and watched.errors == []


def test_a_click_on_a_cell_looks_at_it_and_draws_every_candidate(opened):
    watched, ours = opened(reduced_motion="reduce"), browser.widget("maze_walk")
    plot = watched.figure.locator("svg.arq-pick")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    watched.page.mouse.click(box["x"] + 0.84 * box["width"], box["y"] + 0.62 * box["height"])
    watched.page.evaluate(browser.DRAWN)
    ours.cell = int(browser.stands(watched.figure, "cell"))
    assert ours.cell in (4, 5) and watched.sentence() == ours.finding()
    choice, line = ours.looked(), ours.lines[ours.epsilon_at]
    kept = int((choice.log_prob[ours.cell] >= line).sum())
    svg = watched.figure.locator("svg").nth(1)
    assert svg.locator(".arq-hollow").count() == 6 - kept
    assert svg.locator("[style*='stroke-width: 4'], [style*='stroke-width:4']").count() == 1
    assert f"{kept} in support" in svg.get_attribute("aria-label")
    watched.figure.locator("[name=epsilon_at]").press("End")
    watched.page.evaluate(browser.DRAWN)
    assert "none of 6 candidates is in support" in watched.sentence()
    assert watched.figure.locator("svg").nth(1).locator(".arq-hollow").count() == 6
    told = watched.figure.locator("svg").first.get_attribute("aria-label")
    assert told.endswith(", ".join(["nothing"] * 13) + ".")


def test_the_counter_ends_with_the_sentence_and_trait_events_are_told(opened):
    watched, ours = opened(reduced_motion="reduce"), browser.widget("maze_walk")
    watched.page.evaluate(
        "addEventListener('arq-positions', (e) => { window.seen = e.detail; }, true)"
    )
    browser.put(watched.figure, "policy", [FREE])
    ours.policy = FREE
    said = watched.figure.locator(".arq-counts").text_content()
    counts = [int(x) for x in re.findall(r"(\d+) (?:of|at the lure|at a door|in lava|on)", said)]
    assert sum(counts) == 4 and counts[3] == (ours.walked().rewards < 0).sum()
    seen = np.array(watched.page.evaluate("seen"))
    np.testing.assert_allclose(seen, ours.walked().states, atol=CLOSE)


def test_without_javascript_the_sentence_and_the_walks_are_there(opened):
    watched = opened(scripts=False, java_script_enabled=False)
    picture = watched.figure.locator("svg")
    assert picture.is_visible() and picture.locator("path").count() == 7
    assert watched.sentence() == browser.widget("maze_walk").finding()
