"""A method of the user's own: found, refused with a reason, held to the contract, in rows."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from sphinx_books import ROOT

import arq_core as arq
from arq_core.algorithm.types import Policy
from arq_core.config.settings import UnknownName
from arq_core.experiments.experiment import measure_and_write, prepare
from arq_core.experiments.methods import METHODS
from arq_core.experiments.own_method import MethodError, find_method
from arq_core.results.rows import read_rows


@dataclass
class Linear:
    """Acts by a weight a seed."""

    weights: torch.Tensor  # [E, S + 1, A]

    def reset(self, n):
        pass

    def act(self, states, rng):
        return _with_one(states).bmm(self.weights).clamp(-1, 1)


def _with_one(states):
    return torch.cat([states, torch.ones_like(states[..., :1])], -1)


def least_squares(data, hyper, budget, rng, store):
    """Actions by least squares on the state, the same for all seeds."""
    states = _with_one(data.states[data.state])
    weights = torch.linalg.lstsq(states, data.actions).solution
    return Linear(weights.expand(len(rng), -1, -1))


def unlearned(data, hyper, budget, rng, store):
    return METHODS["random"](data, hyper, budget, rng, store)


def forgetful(data, hyper, budget, rng, store):
    """Draws from torch's own generator."""
    found = least_squares(data, hyper, budget, rng, store)
    return Linear(found.weights + 1e-3 * torch.randn(found.weights.shape))


def wide(data, hyper, budget, rng, store):
    found = least_squares(data, hyper, budget, rng, store)
    found.act = lambda states, rng: 2 + _with_one(states).bmm(found.weights)
    return found


def for_one_state(data, hyper, budget, rng, store):
    found = least_squares(data, hyper, budget, rng, store)
    found.act = lambda states, rng: _with_one(states).bmm(found.weights)[:, :1]
    return found


def unsaved(data, hyper, budget, rng, store):
    """Goes on from a file that lacks what it learned."""
    if store.load("mine", {}) is None:
        store.save("mine", {}, {"there": torch.ones(1)})
        return least_squares(data, hyper, budget, rng, store)
    return Linear(torch.zeros(len(rng), data.states.shape[1] + 1, data.actions.shape[1]))


def nothing(data, hyper, budget, rng, store):
    return None


def two_of_them(data, hyper):
    return None


def test_a_method_that_keeps_the_contract_is_called_by_its_name():
    assert arq.check_method(least_squares) == "least_squares"
    assert arq.check_method("test_own_method:least_squares") == "least_squares"


NETWORKS = pytest.mark.slow(reason="four networks of width 64, twice")


@pytest.mark.parametrize("method", ["bc", pytest.param("iql", marks=NETWORKS)])
def test_built_in_methods_keep_it_too(method):
    assert arq.check_method(method) == method


@pytest.mark.parametrize(
    "method, why",
    [
        (unlearned, r"saw it earn -\d.* expected more than halfway"),
        (forgetful, "saw other actions after a second training; take all randomness from `rng`"),
        (unsaved, "saw other actions after the finished training of the store"),
        (wide, r"saw an action of \d.*expected the box"),
        (for_one_state, r"saw actions of shape \(2, 1, 2\), expected finite ones of \(2, 240, 2\)"),
        (nothing, "saw it return a NoneType, expected a policy"),
    ],
)
def test_a_promise_that_is_not_kept_is_named(method, why):
    with pytest.raises(MethodError, match=f"method {method.__name__}: {why}"):
        arq.check_method(method)


def dt(data, hyper, budget, rng, store):
    """Its name is built in."""


@pytest.mark.parametrize(
    "method, why",
    [
        ("no_such_module_of_mine:fit", "no module 'no_such_module_of_mine'.*PYTHONPATH"),
        ("test_own_method:fit", "no function 'fit' in test_own_method.*least_squares"),
        (two_of_them, r"saw the parameters \(data, hyper\), expected \(data, hyper, budget, rng"),
        (dt, "saw the name 'dt' .*built in, expected another one"),
        (lambda data, hyper, budget, rng, store: None, "'<lambda>'.*expected letters"),
        ("arq+s_psy", "expected one of .*Did you mean 'arq\\+s_psi'"),
    ],
)
def test_what_cannot_be_a_method_is_refused_with_the_reason(method, why):
    with pytest.raises(UnknownName, match=why):
        find_method(method)


def test_a_module_that_needs_what_is_not_there_is_not_called_missing_itself(tmp_path, monkeypatch):
    (tmp_path / "needing.py").write_text("import no_such_package_of_mine\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package_of_mine"):
        find_method("needing:fit")


def test_its_rows_are_in_a_file_of_its_name(tmp_path):
    setup = prepare("bridge", "toy", seeds=[0, 1], device="cpu")
    measure_and_write(setup, "test_own_method:least_squares", tmp_path)
    assert [p.name for p in tmp_path.glob("*.jsonl")] == ["bridge.toy.least_squares.released.jsonl"]
    assert {row["method"] for row in read_rows(tmp_path)} == {"least_squares"}
    assert isinstance(arq.train(setup, least_squares).policy, Policy)


def test_the_method_of_the_books_page_keeps_the_contract_and_has_rows():
    text = (ROOT / "book/own_data.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import torch.*?)```", text, re.S)
    made = {}
    exec(code, made)
    assert {row["method"] for row in made["rows"]} == {"best_half"}


INSTALLED = """
from arq_core.experiments.own_method import check_method, find_method
from arq_core.grid import plan, run
from arq_core.config.paths import root
print(check_method("mine"))
cell = plan.Cell("maze", "mine", "toy")
print(cell.steps(), "mine" in plan.ALL)
print("test_own_method:least_squares of mine 1.0" in plan.depends(root(), cell, "policy", 1))
print(run.read_request(root(), profile="toy", tasks="maze", methods="mine").cells[0].method)
try:
    find_method("bc")
except ValueError as error:
    print(error)
"""


def test_a_package_registers_methods_for_rows_and_table_and_may_not_take_a_built_in_name(tmp_path):
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n", "utf-8")
    entries = "mine = test_own_method:least_squares\nbc = test_own_method:least_squares\n"
    (info / "entry_points.txt").write_text(f"[arq_core.methods]\n{entries}", "utf-8")
    path = [str(tmp_path), str(ROOT), str(ROOT / "tests/experiments"), str(ROOT / "tests/helpers")]
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    first, steps, own, asked, refused = done.stdout.splitlines()
    assert (first, own, asked) == ("mine", "True", "mine")
    assert steps == "['dataset', 'policy', 'evaluate'] True"
    assert "entry point test_own_method:least_squares of mine 1.0" in refused
