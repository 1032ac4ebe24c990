"""How fast are the loops? Ours, the straightforward loop, and public implementations, side by side
in one run.

    python benchmarks/speed.py [--device cuda] [--only training,sampling,...] [--write]
        (or: make bench)

With --device cuda the parts are `cuda` and `gpu_steps`.

Each line alternates its competitors, every one in a process of its own: a round measures all of
them, one after the other, several rounds; the ratio is the median over rounds of (theirs / ours),
with the smallest and largest beside it. Ours runs on all cores, as it does by default; every other
loop at one thread or on all cores, whichever is faster in a trial before the rounds. Then the
arithmetic (products of the dense layers) against the rate of plain matrix products measured in the
same rounds at the same shapes, and how the cost grows. Peers come from PyPI, into .venv-bench;
without it they are left out, and said. Nothing else should be running. With --write the numbers go
to data/benchmarks/speed.json.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ours
import torch
from tqdm import tqdm

from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA, root
from arq_core.results.provenance import provenance

ROOT = root()

HERE = Path(__file__).resolve().parent
PEER_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
ROUNDS = 3
ROUND_SECONDS = 0.6  # that a competitor runs in a round, at least one call
WIDTH, BLOCKS, BATCH = 256, 3, 512


class Server:
    """A loop in its own process (peer_server.py), measured on request."""

    def __init__(self, name: str, threads: int, **arguments):
        self.name, self.threads = name, threads
        command = [
            python_of(name),
            str(HERE / "peer_server.py"),
            name,
            json.dumps(arguments | {"threads": threads}),
        ]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(
                [str(HERE), *([str(ROOT)] if python_of(name) == sys.executable else [])]
            )
        }
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env=environment,
        )
        self.arguments = arguments

    def ready(self) -> "Server":
        """Waits until the loop is compiled and has run, and chooses how much of it makes a
        round.
        """
        self.version = self._answer()["version"]
        self.count = 1  # of calls, or training steps, in a round
        while (
            self.arguments.get("warmup", 1)
            and (took := self.seconds(self.count) * self.count) < ROUND_SECONDS / 3
        ):
            self.count = max(
                self.count + 1, round(self.count * min(20, ROUND_SECONDS / 1.5 / took))
            )
        return self

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": "saw no answer, expected one line"}
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    def seconds(self, count: int) -> float:
        """Wall seconds of one step or batch, from a run of `count`."""
        print("run", count, file=self.process.stdin, flush=True)
        answer = self._answer()
        return answer["seconds"] / answer["count"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)


def python_of(name: str) -> str | None:
    """The Python that runs a loop: ours for ours, else that of .venv-bench, else ours if it has
    JAX; None where there is none.
    """
    if name.partition(".")[0] in ("ours", "straightforward"):
        return sys.executable
    if PEER_PYTHON.exists():
        return str(PEER_PYTHON)
    return (
        sys.executable
        if name.startswith("jax") and all(map(importlib.util.find_spec, ("jax", "optax")))
        else None
    )


def best_threads(name: str, arguments: dict) -> Server:
    """Ours on all cores, another loop at one thread or on all cores, whichever is faster; unless
    `arguments` say the number.
    """
    if "threads" in arguments or name.startswith("ours."):
        return Server(name, **dict(threads=torch.get_num_threads()) | arguments).ready()
    servers = [Server(name, t, **arguments).ready() for t in sorted({1, torch.get_num_threads()})]
    times = [min(s.seconds(s.count) for _ in range(2)) for s in servers]
    chosen = servers.pop(times.index(min(times)))
    for other in servers:
        other.close()
    return chosen


def compare(
    title: str,
    per: str,
    competitors: dict[str, tuple[str, dict, float]],
    rounds: int = ROUNDS,
    together: bool = False,
) -> dict:
    """One line. A competitor is (loop, arguments, how many of `per` one step of it does); the first
    is ours. All numbers are per one of `per`.

    `together`: their number of threads is given, and all of them start, and compile, at once; they
    are still measured one after another.
    """
    missing = [label for label, (name, _, _) in competitors.items() if python_of(name) is None]
    for label in missing:
        tqdm.write(
            f"{title}: {label} left out, its packages are not here (make .venv-bench/.installed)"
        )
    start = (lambda name, arguments: Server(name, **arguments)) if together else best_threads
    servers = {
        label: start(name, arguments)
        for label, (name, arguments, _) in competitors.items()
        if label not in missing
    }
    if together:
        servers = {label: server.ready() for label, server in servers.items()}
    times = {label: [] for label in servers}
    for _ in range(rounds):
        for label, server in servers.items():
            times[label].append(server.seconds(server.count) / competitors[label][2])
    line, ours = dict(title=title, per=per, rounds=rounds, competitors={}), times[next(iter(times))]
    for label, server in servers.items():
        ratios = [t / o for t, o in zip(times[label], ours)]
        line["competitors"][label] = dict(
            milliseconds=1e3 * statistics.median(times[label]),
            times_ours=statistics.median(ratios),
            smallest=min(ratios),
            largest=max(ratios),
            threads=server.threads,
            version=server.version,
            loop=server.name,
            arguments={k: v for k, v in competitors[label][1].items() if k != "weights"},
        )
        server.close()
        say(line, label)
    return line


def say(line: dict, label: str) -> None:
    c = line["competitors"][label]
    tqdm.write(
        f"{line['title']:46s} {label:30s} {c['milliseconds']:10.3f} ms a "
        f"{line['per']}  {c['times_ours']:8.2f} x ours [{c['smallest']:.2f}, "
        f"{c['largest']:.2f}]  {c.get('threads', '')}"
    )


def score_gflop(state_dim: int, action_dim: int, rows: int, times: int) -> float:
    """Twice the multiply-adds, in 1e9, of one pass of ScoreNet over `rows` rows that share `times`
    diffusion times.
    """
    return 2e-9 * (
        rows * (2 * BLOCKS * WIDTH**2 + WIDTH * (state_dim + 2 * action_dim))
        + times * (2 * BLOCKS + 1) * WIDTH**2
    )


def critic_gflop(state_dim: int, action_dim: int, states: int, candidates: int) -> float:
    """Twice the multiply-adds, in 1e9, of one pass of a Critic; candidates share the state half of
    its first layer.
    """
    return 2e-9 * states * (candidates * (WIDTH**2 + WIDTH * (action_dim + 1)) + WIDTH * state_dim)


def share(line: dict, label: str, gflop: float, product: str) -> None:
    """Adds the rate at which a competitor does `gflop` (of one of the line's units) and its share
    of the plain products' rate.
    """
    c = line["competitors"]
    rate, a = gflop / c[label]["milliseconds"] * 1e3, c[product]["arguments"]
    products = 2e-9 * a["members"] * a["rows"] * WIDTH**2 / c[product]["milliseconds"] * 1e3
    c[label] |= dict(gflops=rate, product_gflops=products, share_of_products=rate / products)
    tqdm.write(
        f"{line['title']:46s} {label:30s} {rate:.0f} of {products:.0f} GFLOP/s: "
        f"{rate / products:.0%} of plain products"
    )


def training() -> list[dict]:
    sizes = dict(state_dim=11, action_dim=3)
    score = compare(
        "score step, batch 512",
        "seed and step",
        {
            "ours": ("ours.score_step", sizes, 1),
            "ours, 3 seeds at once": ("ours.score_step", sizes | dict(seeds=3), 3),
            "ours, 3 seeds, float32": (
                "ours.score_step",
                sizes | dict(seeds=3, times=512, precision="float32"),
                3,
            ),
            "straightforward": ("straightforward.score_step", sizes, 1),
            "JAX, jit + scan": ("jax_loops.score_step", sizes, 1),
            "products, bfloat16": ("ours.matrix_product", dict(members=3, rows=BATCH), 1),
            "products, float32": (
                "ours.matrix_product",
                dict(members=3, rows=BATCH, precision="float32"),
                1,
            ),
        },
    )
    share(score, "ours, 3 seeds at once", 3 * score_gflop(11, 3, BATCH, 64), "products, bfloat16")
    share(score, "ours, 3 seeds, float32", 3 * score_gflop(11, 3, BATCH, 512), "products, float32")
    arq = compare(
        "ARQ step, 512 x 31 candidates",
        "seed and step",
        {
            "ours": ("ours.arq_step", sizes, 1),
            "ours, 3 seeds at once": ("ours.arq_step", sizes | dict(seeds=3), 3),
            "ours, 3 seeds, float32": (
                "ours.arq_step",
                sizes | dict(seeds=3, precision="float32"),
                3,
            ),
            "straightforward": ("straightforward.arq_step", sizes, 1),
            "JAX, jit + scan": ("jax_loops.arq_step", sizes, 1),
            "products, bfloat16": (
                "ours.matrix_product",
                dict(members=2, rows=BATCH * 31, repeat=5),
                1,
            ),
            "products, float32": (
                "ours.matrix_product",
                dict(members=2, rows=BATCH * 31, repeat=5, precision="float32"),
                1,
            ),
        },
    )
    # two critics: targets; forward and backward
    gflop = 2 * (critic_gflop(11, 3, BATCH, 31) + 3 * critic_gflop(11, 3, BATCH, 1))
    share(arq, "ours, 3 seeds at once", gflop, "products, bfloat16")
    share(arq, "ours, 3 seeds, float32", gflop, "products, float32")
    return [
        score,
        arq,
        compare(
            "value-and-policy step (IQL), batch 256",
            "step",
            {
                "ours, float32": ("ours.iql_step", sizes, 1),
                "ours, bfloat16": ("ours.iql_step", sizes | dict(precision="bfloat16"), 1),
                "d3rlpy": ("peers.iql", sizes, 1),
                "JAX, jit + scan": ("jax_loops.iql_step", sizes, 1),
            },
        ),
    ]


def sampling(folder: str) -> list[dict]:
    lines = []
    for action_dim, state_dim in ((3, 11), (24, 45)):
        sizes = dict(
            state_dim=state_dim,
            action_dim=action_dim,
            weights=weights(folder, state_dim, action_dim),
        )
        lines.append(
            compare(
                f"20 evaluations of DPM++(2M), 64 x 30, A = {action_dim}",
                "state",
                {
                    "ours, bfloat16": ("ours.sampling", sizes, 64),
                    "ours, float32": ("ours.sampling", sizes | dict(precision="float32"), 64),
                    "k-diffusion": ("peers.k_diffusion_2m", sizes, 64),
                    **({"diffusers": ("peers.diffusers_2m", sizes, 64)} if action_dim == 3 else {}),
                    "products, bfloat16": ("ours.matrix_product", dict(members=1, rows=1920), 1),
                },
                rounds=3,
            )
        )
        share(
            lines[-1],
            "ours, bfloat16",
            20 * score_gflop(state_dim, action_dim, 30, 0),
            "products, bfloat16",
        )
        slow = sizes | dict(states=8, warmup=0, threads=torch.get_num_threads())
        lines.append(
            compare(
                f"30 samples with log-density, A = {action_dim}",
                "state",
                {
                    "ours, exact divergence": ("ours.density", sizes, 128),
                    **(
                        {"ours, 4 probes": ("ours.density", sizes | dict(probes=4), 128)}
                        if action_dim > 3
                        else {}
                    ),
                    "predictor-corrector, 500": ("straightforward.sampling", slow, 8),
                    "RK45, 10 probes": ("straightforward.log_density", slow, 8),
                    **(
                        {"torchdiffeq dopri5, 10 probes": ("peers.torchdiffeq_dopri5", slow, 8)}
                        if action_dim == 3
                        else {}
                    ),
                },
                rounds=2,
            )
        )
        paper = [
            lines[-1]["competitors"][k] for k in ("predictor-corrector, 500", "RK45, 10 probes")
        ]
        lines[-1]["competitors"]["the paper's path, both"] = {
            k: sum(c[k] for c in paper)
            for k in ("milliseconds", "times_ours", "smallest", "largest")
        }
        say(lines[-1], "the paper's path, both")
    return lines


def weights(folder: str, state_dim: int, action_dim: int) -> str:
    """A file with a network that has learned something: solvers are measured on its field."""
    path = Path(folder) / f"{state_dim}-{action_dim}.safetensors"
    if not path.exists():
        code = (
            f"import straightforward as s; s.save_weights({str(path)!r}, {state_dim}, {action_dim})"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE)
    return str(path)


def growth(folder: str) -> list[dict]:
    """Samples with log-density, ours: seconds by states, seeds, action dimension and candidates,
    each from a base of 256 states at A = 3.
    """
    base = dict(state_dim=11, action_dim=3, states=256, candidates=30, probes=0, seeds=1)
    axes = dict(
        states=(1_000, 3_000, 10_000),
        seeds=(1, 3, 9),
        action_dim=(1, 3, 8, 24),
        candidates=(10, 30, 100),
    )
    points = []
    for axis, values in axes.items():
        for value in values:
            arguments = base | {axis: value}
            step = ours.density(**arguments, weights=weights(folder, 11, arguments["action_dim"]))
            # compiles, for this number of states a pass
            step()
            start = time.perf_counter()
            step()
            took = time.perf_counter() - start
            points.append(
                dict(
                    axis=axis,
                    value=value,
                    seconds=took,
                    milliseconds_per_state=1e3 * took / arguments["states"],
                    arguments=arguments,
                )
            )
            tqdm.write(
                f"growth by {axis:12s} {value:8,d}: {took:8.2f} s, "
                f"{points[-1]['milliseconds_per_state']:.3f} ms per state"
            )
    return points


def cuda(folder: str) -> list[dict]:
    """The GPU's lines: a step of three seeds, samples with densities and 500 steps of
    predictor-corrector, beside products, copies and JAX.
    """
    gpu, sizes, many, chunk = (
        dict(device="cuda", threads=1),
        dict(state_dim=11, action_dim=3),
        65_536,
        10_000,
    )
    lines = []
    for loop, members, rows, gflop in (
        ("score_step", 3, BATCH, 3 * score_gflop(11, 3, BATCH, 64)),
        (
            "arq_step",
            6,
            BATCH * 31,
            2 * (critic_gflop(11, 3, BATCH, 31) + 3 * critic_gflop(11, 3, BATCH, 1)),
        ),
    ):
        lines.append(
            compare(
                f"{loop}, three seeds at once",
                "step",
                {
                    "ours": (f"ours.{loop}", sizes | gpu | dict(seeds=3, chunk=chunk), 1),
                    "JAX, jit + scan, one seed": (
                        f"jax_loops.{loop}",
                        sizes | dict(chunk=chunk, threads=gpu["threads"]),
                        1,
                    ),
                    "products, bfloat16": (
                        "ours.matrix_product",
                        gpu | dict(members=members, rows=rows),
                        1,
                    ),
                    "copy of 2 GB": ("ours.memory_copy", gpu, 1),
                },
                together=True,
            )
        )
        share(lines[-1], "ours", 3 * gflop, "products, bfloat16")
        tqdm.write(
            f"{loop}: 1,000,000 steps of three seeds in "
            f"{lines[-1]['competitors']['ours']['milliseconds'] * 1e3 / 60:.2f} min"
        )
    file = sizes | gpu | dict(weights=weights(folder, 11, 3), states=many, warmup=1)
    lines.append(
        compare(
            "30 samples a state, A = 3",
            "million states",
            {
                "20 evaluations, with log-density": ("ours.density", file, many / 1e6),
                "predictor-corrector, 500 steps": (
                    "ours.sampling",
                    file | dict(sampler="predictor_corrector_batch", steps=1000),
                    many / 1e6,
                ),
                "products, bfloat16": (
                    "ours.matrix_product",
                    gpu | dict(members=1, rows=many * 30, repeat=5),
                    1,
                ),
            },
            rounds=2,
            together=True,
        )
    )
    for label, passes in (
        ("20 evaluations, with log-density", 20 * 4),
        ("predictor-corrector, 500 steps", 1000),
    ):
        share(lines[-1], label, passes * score_gflop(11, 3, 30_000_000, 0), "products, bfloat16")
    return lines


def gpu_steps(folder: str) -> list[dict]:
    """What `grid.costs` plans a GPU with: steps of every training at 3 and 9 seeds in the paper's
    arithmetic, and solves for candidates.
    """
    gpu, sizes = (
        dict(device="cuda", threads=1, precision="float32"),
        dict(state_dim=11, action_dim=3),
    )
    trainings = dict(
        behavior=("score_step", dict(times=512, chunk=4_000)),
        q=("arq_step", dict(chunk=4_000)),
        q_beta=("q_beta_step", dict(chunk=4_000)),
        policy=("policy_step", dict(chunk=4_000)),
        resnet=("policy_step", dict(chunk=400, head="resnet")),
    )
    lines = [
        compare(
            f"{step}, float32",
            "step",
            {f"{n} seeds": (f"ours.{loop}", sizes | gpu | more | dict(seeds=n), 1) for n in (3, 9)},
            rounds=2,
            together=True,
        )
        for step, (loop, more) in trainings.items()
    ]
    model = sizes | gpu | dict(weights=weights(folder, 11, 3), seeds=3, states=8192, warmup=1)
    return [
        *lines,
        compare(
            "solves of 8192 states x 30 of 3 seeds, float32",
            "solve",
            {
                "predictor-corrector, 20 steps": (
                    "ours.sampling",
                    model | dict(sampler="predictor_corrector_batch", steps=40),
                    1,
                ),
                "predictor-corrector, 60 steps": (
                    "ours.sampling",
                    model | dict(sampler="predictor_corrector_batch", steps=120),
                    1,
                ),
                "walk, 10 evaluations, 10 probes": (
                    "ours.density",
                    model | dict(steps=10, probes=10),
                    1,
                ),
                "walk, 20 evaluations, 10 probes": (
                    "ours.density",
                    model | dict(steps=20, probes=10),
                    1,
                ),
            },
            rounds=2,
            together=True,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    name, device = (
        ("speed", "") if given.device == "cpu" else ("speed_cuda", torch.cuda.get_device_name())
    )
    record, start = DATA / "benchmarks" / f"{name}.json", time.monotonic()
    measured = dict(provenance(device, own=record), rounds=ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        parts = dict(
            training=training,
            sampling=lambda: sampling(folder),
            growth=lambda: growth(folder),
            cuda=lambda: cuda(folder),
            gpu_steps=lambda: gpu_steps(folder),
        )
        default = "cuda,gpu_steps" if given.device == "cuda" else "training,sampling,growth"
        for part in (given.only or default).split(","):
            measured[part] = parts[part]()
            # a part that was measured is not lost with the next
            if given.write:
                write_atomic(record, json.dumps(measured, indent=1).encode())
    tqdm.write(f"{(time.monotonic() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
