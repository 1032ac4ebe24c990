"""Diffusion in one picture: the points go as S1 and S4 say, by the exact score, in Python and in
the page alike.
"""

from datetime import datetime

import numpy as np
import pytest
import torch

from arq_core.algorithm.sde import VPSDE, uniform_grid
from arq_core.experiments.diffusion import PLACES, WEIGHTS, diffusion, forwards, two_kinds, ways

SDE = VPSDE()
UP = uniform_grid(SDE, 60, 1e-3).flip(0)
# The paths of a page, and density and score at some actions and times.
ASKED = """([spec, xs, ts]) => {
  %s
  const { start, noise } = spec.arrays, rows = unpacked("noise", noise);
  const process = diffused(spec.words);
  const paths = process.paths(unpacked("start", start).values, (k) => rows.row(k));
  const there = ts.map((t) => xs.map((x) => process.at(x, t)));
  return [paths.map((row) => Array.from(row)),
    there.map((row) => row.map((one) => one.density)),
    there.map((row) => row.map((one) => one.score))];
}"""


def test_the_way_forwards_keeps_what_s2_says_of_an_action():
    m, _ = SDE.marginal(UP)
    x = forwards(SDE, UP, np.ones(1), np.zeros((60, 1)))
    np.testing.assert_allclose(np.ravel(x), m / m[0], rtol=1e-12)


def test_the_way_forwards_adds_the_noise_that_s2_says():
    m, _ = SDE.marginal(UP)
    x = forwards(SDE, UP, np.zeros(60), np.eye(60))  # point j has noise at step j alone
    np.testing.assert_allclose(np.square(x).sum(1), 1 - (m / m[0]) ** 2, rtol=1e-9)


def test_actions_have_the_mean_and_the_spread_of_standardised_ones():
    x = two_kinds(SDE).sample(200_000, torch.zeros(()).double(), torch.Generator().manual_seed(0))
    assert abs(x.mean()) < 0.01 and abs(x.std() - 1) < 0.01


def test_the_way_back_ends_in_the_two_kinds_with_their_shares():
    gone = ways(points=1000)
    ends = torch.as_tensor(gone.x[-1])[None, :, None]
    off = two_kinds(SDE).off_support(ends, torch.tensor(gone.times[-1]))
    share = (gone.x[-1] < gone.middle).mean()
    assert off.double().mean() < 0.01
    assert abs(share - WEIGHTS[0]) < 4 * np.sqrt(WEIGHTS[0] * (1 - WEIGHTS[0]) / 1000)
    assert abs(gone.x[PLACES].mean()) < 0.15 and abs(gone.x[PLACES].std() - 1) < 0.1


def test_the_handle_goes_evenly_through_the_angle_and_back_the_same_way():
    times = torch.as_tensor(ways().times[ways().at])
    assert torch.equal(times, times.flip(0)) and len(times) == 2 * PLACES + 1
    assert (SDE.angle(times[: PLACES + 1]).diff() > 0).all()
    assert SDE.angle(times[: PLACES + 1]).diff().max() < 2.1 * np.pi / 2 / PLACES


def test_the_sentence_counts_the_points_and_says_which_way_they_go():
    shown = diffusion(time=0)
    low = round(WEIGHTS[0] * 20)
    assert f"{low} of 20 points lie below the middle, {20 - low} above;" in shown.finding()
    assert shown.finding().startswith("Forwards, t = 0.00: a point is 1.00 of its recorded action")
    shown.time = 2 * PLACES
    moved = int((shown.ways.x[-1] < shown.ways.middle).sum())
    assert shown.finding().startswith("Back, t = 0.00: the points follow the arrows")
    assert f"{moved} of 20 points lie below" in shown.finding() and moved not in (0, 20)


def test_the_page_computes_the_same_paths_densities_and_scores(chromium):
    ours, page = diffusion(), chromium.new_page()
    xs, ts = np.linspace(-3, 3, 25), [1e-3, 0.05, 0.3, 1.0]
    asked = [ours._spec(), xs.tolist(), ts]
    paths, density, score = page.evaluate(ASKED % ours.code(), asked)
    page.close()
    np.testing.assert_allclose(paths, ours.ways.x, atol=1e-9)
    mixture, x = two_kinds(SDE), torch.as_tensor(xs)[None, :, None]
    for t, p, s in zip(torch.tensor(ts, dtype=torch.float64), density, score):
        np.testing.assert_allclose(p, mixture.log_prob(x, t)[0].exp(), rtol=1e-9)
        np.testing.assert_allclose(s, mixture(x, t)[0, :, 0], rtol=1e-9, atol=1e-12)


@pytest.fixture
def played(chromium):
    """The widget in a page whose clock the test moves."""
    page = chromium.new_page()
    page.clock.install(time=datetime(2026, 1, 1))
    page.set_content(f"<!doctype html><html lang='en'><title>t</title>{diffusion().to_html()}")
    page.locator(".arq-widget[data-ready]").wait_for()
    page.clock.pause_at(datetime(2026, 1, 1, 1))  # now it stands still but for the test
    yield page
    page.close()


def test_play_goes_from_the_recorded_actions_to_the_new_ones(played):
    button, finding = played.get_by_role("button"), played.locator(".arq-finding")
    slider, at_end = played.locator("[name=time]"), finding.text_content()
    button.click()  # at the end: from the beginning
    played.clock.run_for(500)
    assert finding.text_content() == "Noise is added." and 5 < int(slider.input_value()) < 15
    for first, told in ((PLACES - 1, "The way back."), (2 * PLACES - 1, at_end)):
        slider.fill(str(first))
        played.clock.run_for(50)  # until it is drawn
        button.click()
        played.clock.run_for(500)
        assert finding.text_content() == told and int(slider.input_value()) > first
    assert slider.input_value() == str(2 * PLACES) and button.text_content() == "▶ Play"


def test_a_hand_at_the_handle_ends_the_play(played):
    played.get_by_role("button").click()
    played.clock.run_for(2000)
    played.locator("[name=time]").press("Home")
    played.clock.run_for(1000)
    assert played.locator("[name=time]").input_value() == "0"
    assert played.locator(".arq-finding").text_content() == diffusion(time=0).finding()


def test_who_wants_no_motion_goes_from_station_to_station(played):
    played.emulate_media(reduced_motion="reduce")
    for stands in (0, PLACES, 2 * PLACES):
        played.get_by_role("button").click()
        played.clock.run_for(100)
        assert played.locator("[name=time]").input_value() == str(stands)
        assert played.locator(".arq-finding").text_content() == diffusion(time=stands).finding()
    played.emulate_media(reduced_motion="no-preference")
