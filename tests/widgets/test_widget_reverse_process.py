"""The widget of the reverse process says what was measured at the level that it stands at, and
sends samples as counts and a few paths.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import traitlets

from arq_core.widgets.base import fixed, percent
from arq_core.widgets.reverse_process import EDGES, FARTHEST, PATHS, ReverseProcess, Truth, Walk

T, C, N = 9, 2, 200
NORMS = ("batch means", "own")


def walk(name, steps, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    x = spread * rng.standard_normal((T, C, N))
    at = np.round(np.linspace(0, steps, T))
    return Walk(
        name, 1 - at / steps * 0.999, at * 2, x, rng.random((T, C)), (np.abs(x) > 2).mean(-1)
    )


def truth():
    rng = np.random.default_rng(9)
    mass = np.full((T, C, len(EDGES) - 1), 1 / (len(EDGES) - 1))
    return Truth(
        np.linspace(1, 1e-3, T),
        mass,
        np.tile([-2.0, math.inf], (T, C, 1)),
        np.tile([2.0, -math.inf], (T, C, 1)),
        rng.random((T, C)),
    )


def walks(**changes):
    return {
        "network": [
            walk("PC, batch norms", 500, 1),
            walk("PC, own norms", 500, 2, 1e4),
            walk("DPM", 10, 3),
        ],
        "exact": [
            walk("PC, batch norms", 500, 4),
            walk("PC, own norms", 500, 5),
            walk("DPM", 10, 6),
        ],
    } | changes


def make(**position):
    return ReverseProcess(["Fork", "Arcs"], walks(), truth(), NORMS, **position)


@pytest.mark.parametrize(
    "position",
    [
        dict(),
        dict(time=8, behaviour=1, norm=1),
        dict(time=4, score=1),
        dict(time=7, score=1, norm=1, behaviour=1),
    ],
)
def test_the_sentence_says_evaluations_distance_and_share_of_the_solvers_shown(position):
    shown = make(**position)
    k, c, i = ("network", "exact")[shown.score], shown.behaviour, shown.time
    for place, one in enumerate(walks()[k]):
        told = (
            f"{one.name}, after {one.used[i]:.0f} of {one.used[-1]:.0f} evaluations, "
            f"lies {fixed(np.float32(one.distance[i, c]), 3)} from the true law with "
            f"{percent(np.float32((np.abs(one.x[i, c]) > 2).mean()), 1)} off its support"
        )
        assert (told in shown.finding()) == (place == 2 or place == shown.norm)
    assert shown.finding().startswith(
        f"{('Fork', 'Arcs')[c]}, {k}, t = {fixed(truth().times[i], 3)}: "
    )
    assert (
        f"200 true samples lie {fixed(np.float32(truth().distance[i, c]), 3)} from "
        "it" in shown.finding()
    )


def test_bars_count_all_samples_and_few_paths_are_sent_to_a_thousandth():
    arrays, sent = make().arrays, walks()["exact"][2].x
    assert arrays["paths"].shape == (2, 3, T, C, PATHS) and {
        arrays[k].dtype for k in ("paths", "counts", "mass", "held")
    } == {np.dtype(np.int16)}
    np.testing.assert_allclose(arrays["paths"][1, 2] / 1000, sent[..., :PATHS], atol=6e-4)
    assert np.array_equal(arrays["counts"][1, 2, 3, 1], np.histogram(sent[3, 1], EDGES)[0])
    assert "18 of 200 paths are drawn" in make().words["note"]


def test_a_solver_is_drawn_with_the_law_of_the_level_that_it_stands_at():
    few = replace(walk("DPM", 10, 3), times=np.repeat(truth().times[::2], 2)[:T])
    held = ReverseProcess(["Fork", "Arcs"], {"exact": [few]}, truth()).arrays["held"][0]
    assert held.tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8]


def test_samples_that_divided_by_zero_are_drawn_far_out():
    x = walk("DPM", 10, 3).x
    x[3, 0, :3] = math.nan, math.inf, -math.inf
    paths = ReverseProcess(
        ["Fork", "Arcs"], {"exact": [replace(walk("DPM", 10, 3), x=x)]}, truth()
    ).arrays["paths"]
    assert paths[0, 0, 3, 0, :3].tolist() == [1000 * FARTHEST, 1000 * FARTHEST, -1000 * FARTHEST]


def test_data_that_cannot_be_shown_are_named_in_the_frame():
    some = walk("DPM", 10, 3)
    assert "saw none" in ReverseProcess(["Fork"], {}, truth()).sentence()
    assert (
        "[T, C, n] = [9, 1, n]" in ReverseProcess(["Fork"], {"exact": [some]}, truth()).sentence()
    )
    assert (
        "same solvers for every score"
        in ReverseProcess(["Fork", "Arcs"], walks(exact=[some]), truth()).sentence()
    )
    assert (
        "saw 40,000 samples"
        in ReverseProcess(
            ["a", "b"], {"exact": [replace(some, x=np.zeros((T, C, 40_000)))]}, truth()
        ).sentence()
    )
    assert (
        "not finite"
        in ReverseProcess(
            ["a", "b"], {"exact": [replace(some, distance=np.full((T, C), math.nan))]}, truth()
        ).sentence()
    )


def test_controls_outside_their_range_are_said_or_refused():
    assert "Time: saw 9" in make(time=9).sentence()
    with pytest.raises(traitlets.TraitError, match="Langevin norms: saw 2"):
        make().norm = 2
    assert (
        "norm"
        not in ReverseProcess(["Fork", "Arcs"], {"exact": [walk("DPM", 10, 3)]}, truth()).controls
    )
