"""Does fitted Q evaluation compute what another implementation computes? Loss and gradients of one
step, ours and d3rlpy's, at the same weights, on the same batch, with the same next actions.

    python benchmarks/fqe_beside_d3rlpy.py

Ours is the training itself, for one step at a learning rate of 0 from a checkpoint with random
weights (as in neighbours.py); d3rlpy's is fqe_peer.py in .venv-bench. Two policies, two heads each.
Prints and writes data/benchmarks/fqe_beside_d3rlpy.json. Differences are relative: of a loss to
d3rlpy's, of a gradient to the largest entry of its tensor. Fails where one is above LIMIT.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from unittest.mock import patch

import torch
from neighbours import LIMIT, MOVED, PEER_PYTHON, Checkpoints, Start, Watched, difference, episodes
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from arq_core.baselines.fqe import Episodes, Fitting, fit_fqe
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.engine import train
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/fqe_beside_d3rlpy.json"
PEER = Path(__file__).resolve().parent / "fqe_peer.py"
POLICIES, HEADS, DRAWS, GAMMA, WIDTH = 2, 2, 3, 0.99, 64
STILL = Fitting(warm_steps=0, steps=1, lr=0.0, width=WIDTH, polyak=1.0, heads=HEADS, draws=DRAWS)


class OfTheBellmanError(Checkpoints):
    """Checkpoints of that training alone: the regression on returns begins anew."""

    def load(self, name, key):
        return super().load(name, key) if name.startswith("fqe.") else None


def fitted(data, actions, steps: int, store) -> Watched:
    """Run it; the streams, which remember what was drawn."""
    heads = Watched(range(HEADS))
    how = Fitting(**{**vars(STILL), "steps": steps})
    with patch.object(train, "CHECKPOINT_SECONDS", 0.0):
        fit_fqe(data, actions, GAMMA, how, heads, store)
    return heads


def ours() -> tuple[dict, dict]:
    """What our step was given, and what it found."""
    data, g = episodes(), torch.Generator().manual_seed(1)
    actions = torch.rand(POLICIES, len(data.states), DRAWS, data.actions.shape[1], generator=g)
    actions = 2 * actions - 1
    first = OfTheBellmanError()
    fitted(data, actions, 0, first)
    weights = {
        k: x + MOVED * torch.randn(x.shape, generator=g)
        for k, x in first.done.items()
        if k.startswith(("q.", "target."))
    }
    store = OfTheBellmanError(Start(weights, step=torch.tensor(0)))
    u, which = fitted(data, actions, 1, store).log[-2:]
    if moved := [k for k, v in weights.items() if not torch.equal(v, store.partial[k])]:
        raise RuntimeError(f"saw {', '.join(moved)} move at a learning rate of 0.")
    m = Episodes.of(data, Watched(range(HEADS))).rows(u).repeat(POLICIES, 1)
    policy = torch.arange(POLICIES).repeat_interleave(HEADS)[:, None]
    states = (data.states - data.states.mean(0)) / data.states.std(0, correction=0)
    scale = float(scale_of(data))
    given = {f"weights.{k}": v for k, v in weights.items()} | dict(
        states=states[data.state[m]],
        actions=data.actions[m],
        rewards=data.rewards[m] / scale,
        terminals=data.terminals[m].float(),
        next_states=states[data.next_state[m]],
        next_actions=actions[policy, data.next_state[m], which.repeat(POLICIES, 1)],
    )
    names = [k for k in weights if k.startswith("q.")]
    found = {k: 10 * store.partial[f"adam.{i}.exp_avg"] for i, k in enumerate(names)}
    return given, found | dict(loss=store.partial["window"])


def scale_of(data) -> float:
    """The root mean square of the recorded returns, which a critic's values are measured in."""
    from arq_core.baselines.returns import monte_carlo

    return float(monte_carlo(data, GAMMA).square().mean().sqrt())


def theirs(given: dict) -> tuple[dict, dict]:
    """What d3rlpy finds, and its versions."""
    if not PEER_PYTHON.exists():
        raise SystemExit(f"{PEER_PYTHON}: not there; `make .venv-bench/.installed`.")
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{name}.safetensors") for name in ("given", "found")]
        how = dict(gamma=json.dumps(GAMMA), width=json.dumps(WIDTH))
        save_file({k: v.contiguous() for k, v in given.items()}, files[0], metadata=how)
        alone = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        command = [str(PEER_PYTHON), str(PEER), *files]
        run = subprocess.run(command, env=alone, capture_output=True)
        if run.returncode:
            raise RuntimeError(f"d3rlpy's side failed.\n{run.stderr.decode()}")
        with safe_open(files[1], "pt") as file:
            about = {k: json.loads(v) for k, v in file.metadata().items()}
        return load_file(files[1]), about


def main() -> None:
    """Compare, and write it down."""
    given, found = ours()
    other, about = theirs(given)
    compared = {k: difference(found[k], other[k]) for k in found}
    record = dict(
        limit=LIMIT,
        dtype="float32",
        members=POLICIES * HEADS,
        batch=STILL.batch,
        loss_ours=found["loss"].tolist(),
        loss_theirs=other["loss"].tolist(),
        loss_difference=compared.pop("loss"),
        gradient_differences=compared,
        largest=max(difference(found[k], other[k]) for k in found),
        peer_versions=about["versions"],
        **provenance(own=FILE),
    )
    write_atomic(FILE, (json.dumps(record, indent=1) + "\n").encode())
    print(json.dumps({k: record[k] for k in ("loss_ours", "loss_theirs", "largest")}, indent=1))
    if record["largest"] > LIMIT:
        raise SystemExit(f"differs by more than {LIMIT:g}")


if __name__ == "__main__":
    main()
