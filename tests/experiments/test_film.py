"""A film of an episode: what is written under its pictures is what the policy then does."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from problems import chain, streams, tiny

from arq_core.algorithm.types import DataError, in_support
from arq_core.datasets.boxes import unit
from arq_core.engine.store import NoStore
from arq_core.engine.streams import Streams
from arq_core.envs.vector import EnvError
from arq_core.experiments import film
from arq_core.experiments.film import Asked, believed, captioned, encoded
from arq_core.experiments.kept import KeptPolicy
from arq_core.experiments.methods import METHODS


def alone(method):
    """A policy of one seed."""
    rng = Streams(streams().seeds[:1])
    acting = METHODS[method](chain(), *tiny(), rng, NoStore()).policy
    return KeptPolicy(acting, unit(2), 3, dict(task="chain"))


def test_what_is_said_is_of_the_candidates_that_are_drawn_then():
    """The action that follows is one of them, and the draws go on as if nothing had been said."""
    policy, state = alone("q_beta+s_psi"), torch.randn(3).numpy()
    policy.reset()
    said = believed(policy, state, policy.rng[0])
    acted = policy.predict(state)
    policy.reset()
    assert np.array_equal(acted, policy.predict(state))
    states = torch.as_tensor(state)[None, None]
    inner = policy.policy
    candidates, log_prob = inner.behavior.sample_with_log_prob(states, inner.n, Streams([0]), True)
    inside = in_support(log_prob, inner.log_epsilon)
    assert (candidates[0, 0].numpy() == acted).all(1).any()
    assert said.startswith(f"{int(inside.sum())} of {inner.n} in support")
    if inside.any():
        values = inner.q(states, candidates)[inside]
        assert f"{float(values.max()):.3g}" in said


def test_a_policy_without_candidates_says_nothing():
    policy = alone("bc")
    policy.reset()
    assert believed(policy, torch.randn(3).numpy(), policy.rng[0]) == ""


def test_words_are_written_under_the_picture_which_stays_as_it_is():
    frame = np.full((40, 200, 3), 100, np.uint8)
    plain, said = captioned(frame), captioned(frame, "step 3", "5 of 6 in support")
    assert np.array_equal(said[:40], frame) and (plain[40:] == 255).all()
    assert (said[40:] < 128).any(-1).sum() > 50


def test_a_gif_holds_its_pictures():
    frames = [np.full((8, 8, 3), 60 * i, np.uint8) for i in range(4)]
    with Image.open(io.BytesIO(encoded(frames, ".gif"))) as found:
        assert found.n_frames == 4
        found.seek(2)
        assert np.asarray(found.convert("RGB"))[0, 0].tolist() == [120] * 3


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(out="a.avi"), "out: saw 'a.avi', expected a name that ends in .gif or .mp4"),
        (dict(every=0), "every: saw 0, expected 1 or more"),
        (dict(size=8), "size: saw 8, expected 64 or more"),
        (dict(policy="gone.arq"), "gone.arq: saw no file"),
    ],
)
def test_what_cannot_be_filmed_is_refused(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    asked = dict(task="maze", policy="p.arq", out="a.gif") | changes
    alone("bc").save("p.arq")
    with pytest.raises(DataError, match=message):
        film.film(Asked(**asked))


def test_a_policy_for_other_states_is_refused_before_anything_is_drawn(tmp_path):
    card = dict(alone("bc").card, probe=dict(states=[[0.0] * 3], actions=[[0.0] * 2]))
    policy = alone("bc")
    acted = policy.predict(np.zeros((1, 3)), seed=0)
    card["probe"]["actions"] = acted.tolist()
    path = KeptPolicy(policy.policy, policy.box, 3, card).save(tmp_path / "p")
    with pytest.raises(DataError, match="environment: saw states of dimension"):
        film.film(Asked("maze", str(path), str(tmp_path / "a.gif")))


@pytest.mark.slow(reason="a simulator and a renderer in a process of its own")
def test_a_hopper_is_filmed(tmp_path):
    pytest.importorskip("gymnasium")
    states, rng = torch.randn(1, 4, 11), Streams([0])
    acting = METHODS["random"](chain(state_dim=11, action_dim=3), *tiny(), rng, NoStore()).policy
    probe = dict(states=states[0].tolist(), actions=acting.act(states, Streams([0]))[0].tolist())
    path = KeptPolicy(acting, unit(3), 11, dict(task="hopper", probe=probe)).save(tmp_path / "p")
    out = tmp_path / "a.gif"
    try:
        film.film(Asked("hopper-medium-v2", str(path), str(out), steps=10, size=64))
    except EnvError as error:
        pytest.skip(f"no picture can be drawn here: {error}")
    with Image.open(out) as found:
        assert found.n_frames == 5 and found.size == (64, 64 + film.BAR)
