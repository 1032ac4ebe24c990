"""A kept policy as a graph: it acts as the policy does, for any number of observations."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from problems import chain, streams, tiny

from arq_core.__main__ import arq as command
from arq_core.algorithm.behavior import with_budget
from arq_core.algorithm.types import DataError
from arq_core.datasets.boxes import Box
from arq_core.engine.store import NoStore
from arq_core.engine.streams import Streams
from arq_core.experiments import exported, kept
from arq_core.experiments.methods import METHODS

BOX = Box((-2.0, 0.0), (0.0, 2.0))  # as wide as [-1, 1], so that 1e-5 means the same
X = np.random.default_rng(0).normal(size=(1_000, 3)).astype(np.float32)
CARD = dict(method="m", task="chain", profile="toy", commit="c")


def policy(method, evaluations=2):
    """A kept policy of one seed, trained a little."""
    h, b = tiny(sampler_steps=evaluations)
    made = METHODS[method](chain(), h, b, streams(0), NoStore()).policy
    card = dict(CARD, method=method, in_support=0.5)
    states = chain().states[:4]
    probe = dict(states=states.tolist(), actions=kept._acts(made, states).tolist())
    return kept.KeptPolicy(made, BOX, 3, dict(card, probe=probe))


@pytest.fixture(scope="module", params=["bc", "arq+s_psi"])
def both(request, tmp_path_factory):
    """(a policy, its file, its graph as ONNX) of an explicit and of an implicit one."""
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    mine = policy(request.param)
    folder = tmp_path_factory.mktemp("exported")
    path = mine.save(folder / "mine")
    made = exported.traced(mine)
    exported.write(made, folder / "mine.pt2")
    return mine, path, exported.write(made, folder / "mine.onnx")


def ran(path, inputs):
    """(outputs by name, the card) of an ONNX file in onnxruntime."""
    runtime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(path, options)
    names = [x.name for x in session.get_outputs()]
    card = json.loads(session.get_modelmeta().custom_metadata_map["arq"])
    named = dict(zip([x.name for x in session.get_inputs()], inputs, strict=True))
    return dict(zip(names, session.run(None, named), strict=True)), card


def test_onnx_acts_as_the_policy_at_a_thousand_states(both):
    mine, path, graph = both
    for n, seed in ((1_000, 7), (1, 8)):
        draws = drawn_by(path, n, seed)
        for one, other in zip(draws, exported.draws(mine, n, seed), strict=True):
            assert np.array_equal(one, other)
        outputs, card = ran(graph, [X[:n], *draws])
        assert [x["name"] for x in card["draws"]] == names_of(mine)
        np.testing.assert_allclose(outputs["action"], mine.predict(X[:n], seed), rtol=0, atol=1e-5)


def drawn_by(path, n, seed):
    """The numbers that a policy draws for n observations, from the streams themselves."""
    acting, drawn = kept.load(path), []

    class Noting(Streams):
        def _draw(self, *args, **kw):
            drawn.append(super()._draw(*args, **kw)[0].numpy())
            return torch.from_numpy(drawn[-1])[None]

    acting.policy.act(torch.from_numpy(X[None, :n]), Noting([seed]))
    return drawn


def names_of(mine):
    implicit = mine.card["method"] != "bc"
    return ["normal_0", "integer_1", "uniform_2"] if implicit else []


def test_candidates_and_their_probabilities_are_those_of_equation_6(both):
    mine, path, graph = both
    outputs, _ = ran(graph, [X, *drawn_by(path, len(X), 7)])
    if mine.card["method"] == "bc":
        assert list(outputs) == ["action"]
        return
    action, candidates, p = outputs.values()
    assert candidates.shape == (1_000, 6, 2) and p.shape == (1_000, 6)
    np.testing.assert_allclose(p.sum(1), 1, rtol=0, atol=1e-5)
    assert (p < 1).any() and (p == 0).any()
    # the action is a candidate whose turn it may be (several may lie in one corner of the box)
    it = np.abs(candidates - action[:, None]).max(-1) < 1e-5
    assert (it & (p > 0)).any(1).all()
    # at equal noise the mean action over these probabilities is that of the library's own solve
    acting, states = kept.load(path).policy, torch.from_numpy(X[None])
    rng = exported.Draws(7)
    own, log_prob = acting.behavior.sample_with_log_prob(states, 6, rng, True)
    mask = log_prob >= acting.log_epsilon
    mask[..., 0] |= ~mask.any(-1)
    values = acting.q(states, own).masked_fill(~mask, -torch.inf)
    own_p = (acting.alpha * values).softmax(-1)
    mean = (own_p[..., None] * own).sum(2)[0].numpy() + [-1, 1]  # as BOX moves it
    np.testing.assert_allclose((p[..., None] * candidates).sum(1), mean, rtol=0, atol=1e-5)


def test_torch_export_acts_as_the_policy(both):
    mine, path, _ = both
    files = {"arq.json": ""}
    program = torch.export.load(path.with_suffix(".pt2"), extra_files=files).module()
    card = json.loads(files["arq.json"])
    assert card["method"] == mine.card["method"] and card["actions_in"] == dict(
        low=[-2.0, 0.0], high=[0.0, 2.0]
    )
    for n in (1_000, 2):
        got = program(torch.from_numpy(X[:n]), *map(torch.from_numpy, drawn_by(path, n, 3)))
        np.testing.assert_allclose(got[0], mine.predict(X[:n], 3), rtol=0, atol=1e-6)


def test_the_metadata_say_what_it_is(both):
    mine, path, graph = both
    _, card = ran(graph, [X[:2], *drawn_by(path, 2, 0)])
    assert {k: card[k] for k in CARD} == {k: mine.card[k] for k in CARD}
    assert card["state_dim"] == 3 and card["actions_in"]["low"] == [-2, 0] and "probe" not in card
    shapes = [x["shape"] for x in card["draws"]]
    probes = [1, "n", 6, 2]  # one for each candidate
    assert shapes == ([] if mine.card["method"] == "bc" else [["n", 6, 2], probes, ["n"]])


def test_weights_are_in_the_file_once_however_often_a_network_is_called(both):
    onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
    held = onnx.load(both[2]).graph.initializer
    seen = [(x.data_type, tuple(x.dims), x.raw_data) for x in held]
    assert len(seen) == len(set(seen)) > 0


def test_the_command_writes_a_graph_and_refuses_other_names(tmp_path):
    path = policy("bc").save(tmp_path / "mine")
    run = CliRunner().invoke(command, ["export", str(path), str(tmp_path / "a.pt2")])
    assert run.exit_code == 0 and run.output.endswith(f"The graph is at {tmp_path / 'a.pt2'}\n")
    assert (tmp_path / "a.pt2").stat().st_size > 1_000
    run = CliRunner().invoke(command, ["export", str(path), str(tmp_path / "a.onyx")])
    assert run.exit_code == 1 and "expected a name that ends in .onnx or .pt2" in run.stderr
    run = CliRunner().invoke(command, ["export", str(path)])
    assert run.exit_code == 2 and "Expected OUT" in run.stderr


def test_without_the_packages_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(DataError, match=r"\.\[export\]"):
        exported.export(tmp_path / "no.arq", tmp_path / "no.onnx")


@pytest.mark.parametrize("method, message", [("dt", "a memory"), ("ibc-small", "an energy")])
def test_what_cannot_be_a_graph_is_refused(method, message):
    with pytest.raises(DataError, match=message):
        exported.traced(policy(method))


def test_an_adaptive_solver_is_refused_and_a_walk_of_known_times_is_not(both):
    mine, _, _ = both
    if mine.card["method"] == "bc":
        return
    adaptive = with_budget(mine.policy.behavior, density="rk45")
    with pytest.raises(DataError, match="RK45, which chooses its steps"):
        exported.traced(replace(mine, policy=replace(mine.policy, behavior=adaptive)))


def test_known_numbers_enter_a_graph_as_numbers():
    t = torch.tensor([1.0, 0.25], dtype=torch.float64).as_subclass(exported.Known)

    class Times(torch.nn.Module):
        def forward(self, x):
            assert float(t[1].sqrt()) == 0.5  # read while tracing
            return x * t[1].sqrt() + t[0]

    program = torch.export.export(Times(), (torch.ones(2),), strict=False)
    numbers = [n.args[1] for n in program.graph.nodes if n.op == "call_function"]
    assert numbers == [0.5, 1.0]
    assert torch.equal(program.module()(torch.ones(2)), torch.full((2,), 1.5))


@pytest.mark.slow(reason="exporting takes seconds a method")
@pytest.mark.parametrize("method", sorted(set(METHODS) - {"dt", "ibc", "ibc-small"}))
def test_every_other_method_is_a_graph(method, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    mine = policy(method, evaluations=5)  # two are so few that rounding shows
    path = mine.save(tmp_path / "mine")
    outputs, _ = ran(exported.export(path, tmp_path / "m.onnx"), [X, *drawn_by(path, 1_000, 7)])
    np.testing.assert_allclose(outputs["action"], mine.predict(X, 7), rtol=0, atol=1e-5)
