"""A policy that is kept: the same to the bit in another process, and nothing else is let in."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from problems import chain, streams, tiny
from torch import nn

import arq_core as arq
from arq_core.__main__ import arq as command
from arq_core.algorithm.types import DataError
from arq_core.engine import objects
from arq_core.engine.store import NoStore
from arq_core.engine.streams import Streams
from arq_core.experiments import kept
from arq_core.experiments.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
STATES = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("method", METHODS)
def test_one_seeds_part_of_a_policy_acts_as_it_did_beside_the_others(method):
    data, (h, b) = chain(), tiny()
    policy = METHODS[method](data, h, b, streams(), NoStore()).policy
    said, tensors = objects.describe(policy)
    said = json.loads(json.dumps(said))
    policy.reset(6)
    both = policy.act(STATES, streams())
    for e, seed in enumerate(streams().seeds):
        alone = objects.rebuild(said, objects.member(said, tensors, e, 2), kept.ROOMS)
        alone.reset(6)
        acted = alone.act(STATES[e : e + 1], Streams([seed]))[0]
        torch.testing.assert_close(acted, both[e], rtol=0, atol=1e-6)


def arrays(low=-1.0, high=1.0):
    g = np.random.default_rng(0)
    n = 400
    ends = np.zeros(n, bool)
    ends[19::20] = True
    actions = low + (high - low) * g.uniform(0.02, 0.98, (n, 2))
    return (
        g.normal(size=(n, 3)).astype(np.float32),
        actions.astype(np.float32),
        g.normal(size=n).astype(np.float32),
        np.zeros(n, bool),
        ends,
    )


@pytest.fixture(scope="module", params=["arq+s_psi", "bc"])
def mine(request, tmp_path_factory):
    """A policy for data of one's own whose actions fill [0, 10], and its file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        data = arq.from_arrays(*arrays(0.0, 10.0))
        setup = arq.prepare(data, "toy", group="maze", device="cpu", bounds=(0.0, 10.0))
        policy = arq.policy(setup, request.param)
    return policy, policy.save(tmp_path_factory.mktemp("kept") / "mine")


def test_another_process_acts_the_same_to_the_bit(mine, tmp_path):
    policy, path = mine
    assert path.name == "mine.arq"
    x = arrays()[0][:7]
    np.save(tmp_path / "x.npy", x)
    code = f"""
        import numpy as np, arq_core as arq
        policy = arq.load({str(path)!r})
        x = np.load({str(tmp_path / "x.npy")!r})
        one = policy.predict(x[0], seed=3)
        np.savez({str(tmp_path / "a.npz")!r}, many=policy.predict(x, seed=3), one=one,
                 first=policy.predict(x), second=policy.predict(x))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    acted = np.load(tmp_path / "a.npz")
    assert np.array_equal(acted["many"], policy.predict(x, seed=3))
    assert np.array_equal(acted["one"], policy.predict(x[0], seed=3))
    policy.reset()
    assert np.array_equal(acted["first"], policy.predict(x))
    assert np.array_equal(acted["second"], policy.predict(x))
    drawn = policy.card["method"] != "bc"
    assert np.array_equal(acted["first"], acted["second"]) != drawn


def test_actions_are_in_the_units_in_which_they_were_recorded(mine):
    policy, _ = mine
    acted = policy.predict(arrays()[0], seed=0)
    assert acted.dtype == np.float32 and acted.shape == (400, 2)
    assert 0 <= acted.min() < 4 and 6 < acted.max() <= 10
    inner = policy.policy.act(torch.as_tensor(arrays()[0])[None], Streams([0]))[0].numpy()
    assert acted == pytest.approx(5 + 5 * inner, abs=1e-5)


def test_the_card_says_what_it_is(mine):
    policy, path = mine
    said = json.loads(CliRunner().invoke(command, ["card", str(path)]).output)
    assert said["method"] == policy.card["method"] and said["dataset"]["fidelity"] == "own"
    assert said["dataset"]["transitions"] == 380 and said["profile"] == "toy"
    assert {"commit", "versions", "device", "hyper", "budget"} <= said.keys()
    assert said["actions_in"] == "[0, 10]" and said["state_dim"] == 3


def test_the_command_acts_on_a_file_of_observations(mine, tmp_path):
    policy, path = mine
    x = arrays()[0][:5]
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "a.npy"
    asked = ["act", str(path), str(tmp_path / "x.npy"), "--out", str(out), "--seed", "4"]
    assert CliRunner().invoke(command, asked).exit_code == 0
    assert np.array_equal(np.load(out), policy.predict(x, seed=4))
    np.save(tmp_path / "x.npy", np.array([dict(a=1)]), allow_pickle=True)
    refused = CliRunner().invoke(command, asked)
    assert refused.exit_code == 1 and "x.npy: saw" in refused.output
    assert np.array_equal(np.load(out), policy.predict(x, seed=4))


@pytest.mark.parametrize(
    "x, message",
    [
        (np.zeros(4), r"shape \(4,\), expected \[3\]"),
        (np.zeros((2, 2, 3)), r"shape \(2, 2, 3\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        (np.array(["a", "b", "c"]), "an array of <U1, expected numbers"),
        (np.array([0.0, np.nan, np.inf]), "2 entries that are not finite"),
        (np.array([None] * 3), "an array of object"),
    ],
)
def test_observations_that_are_none_are_refused(mine, x, message):
    with pytest.raises(DataError, match=f"observations: saw .*{message}"):
        mine[0].predict(x)


def changed(path, target, edit):
    """A copy of a kept policy with something changed in its header or tensors."""
    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["arq"])
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    edit(header, tensors)
    safetensors.torch.save_file(tensors, target, {"arq": json.dumps(header)})
    return target


def other_class(name):
    def edit(header, tensors):
        header["policy"]["record"] = name

    return edit


def rehashed(edit):
    def both(header, tensors):
        edit(header, tensors)
        header["sha256"] = kept._hash(tensors)

    return both


def first(tensors):
    """The name of a weight that a policy acts by."""
    return next(k for k in sorted(tensors) if k.endswith("weight"))


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda h, t: h.update(format=0), "saw format 0, expected 1"),
        (lambda h, t: t.pop(first(t)), "tensors that are not those it was written with"),
        (lambda h, t: t[first(t)].add_(1), "tensors that are not those it was written with"),
        (rehashed(lambda h, t: t.pop(first(t))), "saw no tensor"),
        (rehashed(lambda h, t: t[first(t)].mul_(-3)), "from those that it was kept with"),
        (other_class("subprocess.Popen"), "saw the class subprocess.Popen, expected one of arq"),
        (other_class("arq_core.engine.filestore.FileStore"), "saw the class arq_core.engine"),
        (other_class("arq_core.algorithm.policies.fit_awr"), "expected a network or a dataclass"),
        (other_class("arq_core.algorithm.policies.Gone"), "which is not there"),
        (other_class("arq_core.algorithm.nets.Normalizer"), "it is of another version"),
        (lambda h, t: h.update(policy={"call": "os.system"}), "saw \"{'call': 'os.system'}\""),
        (lambda h, t: h.pop("box"), "saw a policy that cannot be made here"),
        (lambda h, t: h.update(card=None), "cannot be made here"),
    ],
)
def test_a_file_that_was_changed_is_refused(mine, tmp_path, edit, message):
    _, path = mine
    with pytest.raises(DataError, match=message):
        arq.load(changed(path, tmp_path / "other.arq", edit))


def test_a_file_that_is_none_is_refused(mine, tmp_path):
    _, path = mine
    whole = path.read_bytes()
    for name, content in (
        ("cut", whole[:-9]),
        ("half", whole[: len(whole) // 2]),
        ("empty", b""),
        ("text", b"hello"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: saw a damaged file"):
            arq.load(tmp_path / name)
    safetensors.torch.save_file(dict(x=torch.zeros(2)), tmp_path / "plain")
    with pytest.raises(DataError, match="plain: saw tensors without a description"):
        arq.load(tmp_path / "plain")
    with pytest.raises(DataError, match="none.arq: saw no file"):
        arq.load(tmp_path / "none.arq")


def test_a_seed_that_was_not_trained_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path))
    setup = arq.prepare(arq.from_arrays(*arrays()), "toy", group="maze", device="cpu")
    with pytest.raises(DataError, match="seed: saw 9, expected one of 0, 1"):
        arq.policy(setup, "bc", 9)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.how = lambda x: x


def test_what_cannot_be_described_is_named_with_its_place():
    with pytest.raises(objects.ObjectError, match="policy.how: saw a builtins.function"):
        objects.describe(Odd())
    with pytest.raises(objects.ObjectError, match=r"policy.a.1: saw a arq_core.engine.streams"):
        objects.describe(dict(a=[1, Streams([0])]))


def test_plain_values_come_back_as_they_were():
    x = dict(a=(1, 2.5, None), b=[True, "x", float("inf")], c=dict(d=-0.1))
    said, tensors = objects.describe(x)
    assert objects.rebuild(json.loads(json.dumps(said)), tensors, []) == x and not tensors


def test_the_loop_of_the_page_runs_a_kept_policy_in_gymnasium(tmp_path, monkeypatch):
    """The second code block of "Keep the policy", as it is printed, with fewer steps."""
    pytest.importorskip("gymnasium")
    pytest.importorskip("mujoco")
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    o, a, r, terminal, timeout = arrays()
    wide = np.concatenate([o, o, o, o[:, :2]], 1), np.concatenate([a, a[:, :1]], 1)
    data = arq.from_arrays(*wide, r, terminal, timeout)
    setup = arq.prepare(data, "toy", group="maze", device="cpu")
    arq.policy(setup, "arq+pi").save("mine.arq")
    text = (ROOT / "book/own_data.md").read_text(encoding="utf-8")
    section = text.split("## Keep the policy")[1].split("\n## ")[0]
    block = section.split("```python\n")[2].split("```")[0]
    names = {}
    exec(block, names)
    assert names["over"] and names["observation"].shape == (11,)
