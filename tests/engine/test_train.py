"""Averaging, checkpoints and resumption."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from problems import chain, streams, tiny
from torch import nn

from arq_core.algorithm.behavior import fit_behavior
from arq_core.algorithm.qlearning import fit_q_beta
from arq_core.engine import train as train_module
from arq_core.engine import updates as updates_module
from arq_core.engine.filestore import FileStore
from arq_core.engine.store import NoStore
from arq_core.engine.updates import Update, ema_, warmed_up


def test_ema_keeps_the_average_and_moves_it_towards_the_model():
    average, model = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        average.weight.fill_(1.0)
        model.weight.fill_(3.0)
    ema_(average, model, 0.999)
    assert average.weight.item() == pytest.approx(0.999 * 1.0 + 0.001 * 3.0)
    assert model.weight.item() == 3.0


def test_the_average_of_a_short_training_forgets_its_start_and_that_of_a_long_one_is_the_papers():
    def share_of_the_first_weights(steps, decay):
        left = 1.0
        for t in range(steps):
            left *= warmed_up(t, decay)
        return left

    assert share_of_the_first_weights(600, 0.999) < 1e-12 < 0.5 < 0.999**600
    assert (
        warmed_up(8_990, 0.999) == warmed_up(10**6, 0.999) == 0.999
        and warmed_up(8_000, 0.999) < 0.999
    )


def test_the_score_model_that_is_used_is_the_warmed_up_average():
    """After two steps: w1 is forgotten to 1/10 and 2/11, as the rule says, whatever the group's
    decay."""
    data, kept = chain(), {}

    class Keep(NoStore):
        def save(self, name, key, tensors):
            kept[key["steps"]] = {k: v.clone() for k, v in tensors.items()}

    for steps in (0, 1, 2):
        h, b = tiny(score_steps=steps)
        fit_behavior(data, h, b, streams(), Keep())
    name = next(
        k.removeprefix("net.") for k in kept[0] if k.startswith("net.") and kept[0][k].ndim == 3
    )
    w0, w1, w2 = (kept[s][f"net.{name}"] for s in (0, 1, 2))
    one = w0 + (1 - 1 / 10) * (w1 - w0)
    torch.testing.assert_close(kept[2][f"average.{name}"], one + (1 - 2 / 11) * (w2 - one))


def test_target_network_follows_the_critic_slowly():
    """After one step the polyak target has moved by (1 - polyak) of the critic's movement."""
    data, (h, b) = chain(), tiny(q_beta_steps=1)
    saved = {}

    class Keep(NoStore):
        def save(self, name, key, tensors):
            saved.update({k: v.clone() for k, v in tensors.items()})

    fit_q_beta(data, h, b, streams(), Keep())
    after = {k: saved[f"q.{k}"] for k in ("hidden.weight",)}
    fit_q_beta(data, h, tiny(q_beta_steps=0)[1], streams(), Keep())
    start = saved["q.hidden.weight"]
    fit_q_beta(data, h, b, streams(), Keep())
    moved = saved["target.hidden.weight"] - start
    torch.testing.assert_close(
        moved, (1 - h.polyak) * (after["hidden.weight"] - start), rtol=1e-3, atol=1e-8
    )


SCRIPT = """
    import sys
    sys.path.insert(0, {tests!r})
    from problems import chain, streams, tiny
    from arq_core.engine import train
    from arq_core.engine.filestore import FileStore
    from arq_core.algorithm.behavior import fit_behavior
    train.CHECKPOINT_SECONDS = 0.1
    h, b = tiny(score_steps=800)
    fit_behavior(chain(), h, b, streams(), FileStore({folder!r}))
"""


@pytest.fixture(scope="module")
def straight():
    """What training in one go ends with."""
    return fit_behavior(chain(), *tiny(score_steps=800), streams(), NoStore())


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_training_ends_with_the_weights_of_an_uninterrupted_run(
    tmp_path, straight, kill
):
    data, (h, b) = chain(), tiny(score_steps=800)
    folder = tmp_path / "steps"
    code = textwrap.dedent(
        SCRIPT.format(
            tests=os.path.join(os.path.dirname(__file__), "../helpers"), folder=str(folder)
        )
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(folder.glob("*.partial-*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(kill)
    process.wait(60)
    assert process.returncode != 0, "the run was over before it was interrupted; give it more steps"
    assert [p.name for p in folder.glob("behavior-*.safetensors")] == []
    resumed = fit_behavior(data, h, b, streams(), FileStore(folder))
    for a, e in zip(
        resumed.net.state_dict().values(), straight.net.state_dict().values(), strict=True
    ):
        assert torch.equal(a, e)
    assert torch.equal(resumed.loss, straight.loss)
    assert not [
        p for p in folder.glob("*.partial-*") if p.suffix != ".tmp"
    ]  # what a kill cuts short stays as .tmp, which nothing reads


def test_finished_step_is_loaded_and_not_trained_again(tmp_path, monkeypatch):
    data, (h, b) = chain(), tiny()
    first = fit_behavior(data, h, b, streams(), FileStore(tmp_path))
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: pytest.fail("trained again"))
    again = fit_behavior(data, h, b, streams(), FileStore(tmp_path))
    assert torch.equal(first.net.out.weight, again.net.out.weight)


def test_damaged_step_file_is_reported_by_name(tmp_path):
    data, (h, b) = chain(), tiny()
    fit_behavior(data, h, b, streams(), FileStore(tmp_path))
    (file,) = tmp_path.glob("behavior-*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{file.name}.*damaged.*delete it"):
        fit_behavior(data, h, b, streams(), FileStore(tmp_path))


def test_diverging_training_stops_with_its_name_and_step():
    data, (h, b) = chain(), tiny(q_beta_steps=100)
    with pytest.raises(
        FloatingPointError,
        match="q_beta: the loss became .* by step 50, expected finite.*"
        "No checkpoint was written yet.*rewards",
    ):
        fit_q_beta(replace(data, rewards=data.rewards * 1e30), h, b, streams(), NoStore())


def test_training_that_turns_nan_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    data, (h, b) = chain(), tiny(q_beta_steps=400)
    monkeypatch.setattr(train_module, "CHECKPOINT_SECONDS", 0.0)  # a checkpoint after each step
    store, steps = FileStore(tmp_path), []
    save = store.save

    def poison(name, key, tensors):
        steps.append(int(tensors["step"]))
        save(name, key, tensors)
        if steps[-1] == 20:
            tensors["q.hidden.weight"].fill_(torch.nan)

    monkeypatch.setattr(store, "save", poison)
    with pytest.raises(
        FloatingPointError,
        match="by step 21, .*weights that are not finite: .*"
        "last good checkpoint, of step 20, is kept",
    ):
        fit_q_beta(data, h, b, streams(), store)
    assert steps[-1] == 20
    (file,) = tmp_path.glob("q_beta.partial-*.safetensors")
    assert all(
        torch.isfinite(x).all()
        for x in safetensors.torch.load_file(file).values()
        if x.is_floating_point()
    )


@pytest.mark.parametrize("write, checkpoints", [(0.1, [31, 62, 93]), (5.0, [31]), (100.0, [31])])
def test_a_checkpoint_that_is_slow_to_write_is_written_less_often(monkeypatch, write, checkpoints):
    """A step takes one second of this clock. 5 s of writing are 5% of 100 s; more than 600 s is
    never waited for."""
    data, (h, b) = chain(), tiny(q_beta_steps=100)
    clock, kept = SimpleNamespace(now=0.0), []

    class Slow(NoStore):
        def save(self, name, key, tensors):
            if name.endswith(".partial"):
                clock.now += write
                kept.append(int(tensors["step"]))

    monkeypatch.setattr(train_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(
        updates_module, "adam", lambda *a, **k: setattr(clock, "now", clock.now + 1)
    )
    fit_q_beta(data, h, b, streams(), Slow())
    assert kept == checkpoints
    if write == 100.0:
        kept.clear()
        fit_q_beta(data, h, tiny(q_beta_steps=700)[1], streams(), Slow())
        assert kept == [31, 632]


def test_loss_curve_is_a_mean_over_equal_windows():
    data, (h, b) = chain(), tiny(score_steps=120)
    loss = fit_behavior(data, h, b, streams(), NoStore()).loss
    assert loss.shape == (4, 120 // train_module.LOSS_EVERY)


class Folded(nn.Module):
    """Two maps used as one product: what it says of their gradients is not how they lie in
    memory."""

    def __init__(self):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.a, self.b = (nn.Parameter(torch.randn(1, 4, 6, generator=g)) for _ in range(2))

    def forward(self, x):
        return x @ torch.cat([self.a, self.b], -1)


def test_gradients_that_lie_otherwise_in_memory_than_their_weights_are_read_rightly():
    """Against torch.optim.Adam, whose plain loop reads any layout."""
    x, goal = torch.randn(1, 8, 4, generator=torch.Generator().manual_seed(1)), torch.ones(1, 8, 12)
    ours, theirs = Folded(), Folded()
    assert not torch.autograd.grad((ours(x) - goal).square().sum(), ours.a)[0].is_contiguous()
    train_module.train(
        "folded",
        {},
        dict(net=ours),
        [Update("net", lambda: (ours(x) - goal).square().mean((1, 2)), 0.1)],
        steps=3,
        rng=streams(0),
        store=NoStore(),
    )
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.1, foreach=False, fused=False)
    for _ in range(3):
        optimizer.zero_grad()
        (theirs(x) - goal).square().mean().backward()
        optimizer.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q)
