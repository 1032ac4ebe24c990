"""A film of an episode: what is written under its pictures is what the policy then does."""

import io
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from problems import chain, streams, tiny

from arq_core.algorithm.types import DataError, in_support
from arq_core.datasets.boxes import unit
from arq_core.engine.store import NoStore
from arq_core.engine.streams import Streams
from arq_core.envs import picture
from arq_core.envs.vector import EnvError
from arq_core.experiments import film
from arq_core.experiments.film import Asked, Episode, Film, believed, captioned, encoded, episode
from arq_core.experiments.kept import KeptPolicy
from arq_core.experiments.methods import METHODS
from arq_core.results import films
from arq_core.results.records import ResultsError


def alone(method, state_dim=3):
    """A policy of one seed."""
    rng = Streams(streams().seeds[:1])
    acting = METHODS[method](chain(state_dim=state_dim), *tiny(), rng, NoStore()).policy
    return KeptPolicy(acting, unit(2), state_dim, dict(task="chain"))


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
        lasting = []
        for i in range(4):
            found.seek(i)
            lasting.append(found.info["duration"])
            assert np.asarray(found.convert("RGB"))[0, 0].tolist() == [60 * i] * 3
        assert lasting == [40, 40, 40, 1000 * film.HELD]


def test_what_stays_as_it_was_is_not_written_again():
    """The ground that does not move costs a film once, whatever its texture."""
    ground = np.random.default_rng(0).integers(0, 256, (90, 90, 1)).repeat(3, 2).astype(np.uint8)
    frames = []
    for i in range(20):
        frames.append(ground.copy())
        frames[-1][4 * i : 4 * i + 4, :4] = 255
    one, all_of_them = (len(encoded(x, ".gif")) for x in (frames[:1], frames))
    assert all_of_them < 2 * one


class Counting:
    """A simulator that says in its state [t, seed] how far it is: 3 a step, success from 5 on, an
    end after 50."""

    state_dim = action_dim = 2

    def reset(self, seeds):
        self.t, self.seed = 0, seeds[0]
        return np.array([[0.0, self.seed]], np.float32)

    def step(self, actions):
        self.t += 1
        state = np.array([[self.t, self.seed]], np.float32)
        told = [np.array([x]) for x in (self.t == 50, self.t >= 5)]
        return state, np.array([3.0 + actions[0, 0] / 1e6]), *told


@pytest.mark.parametrize("steps, played", [(0, 40), (7, 7), (3, 3), (10**6, 40)])
def test_an_episode_ends_at_the_horizon_whatever_more_is_asked_for(steps, played):
    policy, seen = alone("bc", 2), []
    asked = Asked("maze", "", "", steps=steps)  # its horizon is 40
    look = lambda t, total, state: seen.append((t, total, state.tolist()))
    found = episode(asked, Counting(), policy, 9, look)
    assert found == episode(asked, Counting(), policy, 9)
    assert (found.seed, found.steps, found.success) == (9, played, 5 if played >= 5 else None)
    assert found.return_ == pytest.approx(3 * played, abs=1e-3)
    assert [(t, s) for t, _, s in seen] == [(t, [t, 9]) for t in range(played)]
    assert seen[-1][1] == pytest.approx(3 * (played - 1), abs=1e-3)


def test_what_came_of_it_is_said_in_words():
    bad, good = Episode(4, 200, -51.83, None), Episode(5, 200, 1134.5, 148)
    alone_said = str(Film("a.gif", bad, (bad,)))
    assert alone_said == "The film is at a.gif: episode 4, 200 steps, return -51.8."
    said = str(Film("a.gif", good, (bad, good, bad)))
    assert "episode 5, 200 steps, return 1134, success at step 148." in said
    assert said.endswith("It has the highest return of 3; 1 had success.")


def test_a_film_says_itself_what_it_shows(tmp_path):
    frames, shown = [np.zeros((8, 8, 3), np.uint8)] * 2, Episode(4, 200, -51.8, None)
    told = film._about(Asked("maze", "", ""), alone("bc").card, shown, [shown, shown])
    (tmp_path / "a.gif").write_bytes(encoded(frames, ".gif", json.dumps(told)))
    found = films.about(tmp_path / "a.gif")
    assert found == told and found["shown"] == asdict(shown)
    assert (found["trained_on"], found["played"], found["succeeded"]) == ("chain", 2, 0)
    Image.new("RGB", (2, 2)).save(tmp_path / "b.gif", comment=b"holidays")
    (tmp_path / "c.gif").write_bytes(b"text")
    for name in ("b.gif", "c.gif", "gone.gif"):
        with pytest.raises(ResultsError, match=f"{name}: saw no film that says what it shows"):
            films.about(tmp_path / name)


WORLD = """<mujoco><worldbody>
<geom type="box" size="5 5 .1"/>
<body pos="0 0 1">{}<geom size=".2"/></body>
</worldbody></mujoco>"""


@pytest.mark.parametrize(
    "joint, walks",
    [
        ('<joint type="slide" axis="1 0 0"/>', True),
        ('<joint type="slide" axis="1 0 0" limited="true" range="-1 1"/>', False),
        ('<joint type="free"/>', True),
        ('<joint type="hinge" axis="0 1 0"/>', False),
        ("", False),
    ],
)
def test_who_may_leave_the_picture_is_followed_and_others_are_looked_at_from_near(joint, walks):
    mujoco = pytest.importorskip("mujoco", reason="needs the simulators: pip install '.[sim]'")
    model = mujoco.MjModel.from_xml_string(WORLD.format(joint))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert film.walks(model) is walks
    if joint:
        far, near = (picture.camera(model, data, moving=x).distance for x in (False, True))
        assert near == pytest.approx(picture.NEAR * 0.2 * 3**0.5) and far > 10 * near


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(out="a.avi"), "out: saw 'a.avi', expected a name that ends in .gif or .mp4"),
        (dict(out="there.gif"), "out: saw the folder there.gif, expected a name that ends in .gif"),
        (dict(every=0), "every: saw 0, expected 1 or more"),
        (dict(size=8), "size: saw 8, expected 64 or more"),
        (dict(size=100_000), "size: saw 100000, expected 64 or more, 2048 at most"),
        (dict(tries=0), "tries: saw 0, expected 1 or more"),
        (dict(policy="gone.arq"), "gone.arq: saw no file"),
    ],
)
def test_what_cannot_be_filmed_is_refused(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    asked = dict(task="maze", policy="p.arq", out="a.gif") | changes
    alone("bc").save("p.arq")
    (tmp_path / "there.gif").mkdir()
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
    try:
        picture.first_frame("arq_core.envs.locomotion:hopper_envs", 64, 64)
    except EnvError as error:
        pytest.skip(f"no picture can be drawn here: {error}")
    states, rng = torch.randn(1, 4, 11), Streams([0])
    acting = METHODS["random"](chain(state_dim=11, action_dim=3), *tiny(), rng, NoStore()).policy
    probe = dict(states=states[0].tolist(), actions=acting.act(states, Streams([0]))[0].tolist())
    path = KeptPolicy(acting, unit(3), 11, dict(task="hopper", probe=probe)).save(tmp_path / "p")
    out = tmp_path / "a.gif"
    # larger than what MuJoCo draws into if it is not told
    asked = Asked("hopper-medium-v2", str(path), str(out), steps=10, size=700, tries=2)
    made = film.film(asked)
    assert made.path == out and [e.seed for e in made.played] == [0, 1]
    assert made.shown == max(made.played, key=lambda e: e.return_)
    with Image.open(out) as found:  # five, and the end
        assert found.n_frames == 6 and found.size == (700, 700 + film.BAR)
    said = films.about(out)
    assert (said["shown"], said["played"]) == (asdict(made.shown), 2)
