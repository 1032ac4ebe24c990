"""One loop of ours.py, straightforward.py, peers.py or jax_loops.py as a process that runs it on
request, in whatever environment has its packages.

    python benchmarks/peer_server.py straightforward.score_step '{"state_dim": 39, "action_dim": 28,
        "threads": 1}'

Arguments besides the loop's own: threads (1), warmup (2 steps or batches), seed (0). One JSON line
on stdout when it is ready, then one for each line "run 20" on stdin: wall seconds, CPU seconds of
the process, calls counted in training steps or batches (JAX loops round up to whole scans), and the
mean of each result of the last call. Ends with its stdin. Errors are {"error": ...}; what packages
print goes to stderr.
"""

import importlib
import json
import math
import os
import sys
import time
from importlib.metadata import version

PACKAGES = {
    "ours": ("torch", "numpy"),
    "straightforward": ("torch", "numpy", "scipy"),
    "peers": ("torch", "numpy", "d3rlpy", "diffusers", "k-diffusion", "torchdiffeq"),
    "jax_loops": ("jax", "jaxlib", "optax"),
}


def limit_threads(threads: int) -> None:
    """Before torch or JAX is imported: both read these once. XLA sizes its pool by NPROC."""
    # as the Makefile sets it, for every competitor
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    os.environ.update(
        OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), NPROC=str(threads)
    )
    if threads == 1:
        os.environ["XLA_FLAGS"] = (
            os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
        )


def load(name: str, seed: int, threads: int, arguments: dict):
    """The loop's `step`, with its random numbers seeded."""
    module, _, function = name.partition(".")
    if module not in PACKAGES:
        raise ValueError(
            f"loop: saw {name!r}, expected <module>.<function> with a module of "
            f"{', '.join(PACKAGES)}."
        )
    limit_threads(threads)
    loops = importlib.import_module(module)
    if function not in loops.SERVED:
        raise ValueError(
            f"loop: saw {name!r}, expected one of "
            f"{', '.join(f'{module}.{f}' for f in loops.SERVED)}."
        )
    if module == "jax_loops":
        return getattr(loops, function)(**arguments, seed=seed)
    import numpy
    import torch

    # d3rlpy draws its batches from it
    numpy.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    return getattr(loops, function)(**arguments)


def mean(value) -> float:
    return float(value.mean()) if hasattr(value, "mean") else float(value)


def run(step, wanted: int) -> dict:
    """Calls `step` until `wanted` training steps or batches are done.

    A step that does several at once returns their "count".
    """
    done, wall, cpu = 0, time.perf_counter(), time.process_time()
    while done < wanted:
        result = step()
        done += result.pop("count", 1)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    last = {k: mean(v) for k, v in result.items()}
    if not all(map(math.isfinite, last.values())):
        raise FloatingPointError(f"saw {last}, expected finite numbers.")
    return {"seconds": wall, "cpu_seconds": cpu, "count": done, "last": last}


def main(name: str, arguments: str = "{}") -> None:
    answers = os.fdopen(os.dup(1), "w")
    # prints of packages must not reach the reader
    os.dup2(2, 1)

    def answer(**message):
        print(json.dumps(message), file=answers, flush=True)

    try:
        given = {"threads": 1, "warmup": 2, "seed": 0} | json.loads(arguments)
        threads, warmup = given.pop("threads"), given.pop("warmup")
        step = load(name, given.pop("seed"), threads, given)
        warm = run(step, warmup) if warmup else {}
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}")
        raise
    answer(
        ready=True,
        name=name,
        threads=threads,
        version={p: version(p) for p in PACKAGES[name.partition(".")[0]]},
        warmup=warm,
    )
    for line in sys.stdin:
        try:
            command, count = line.split()
            if command != "run":
                raise ValueError(f"saw {line!r}, expected 'run <count>'.")
            answer(**run(step, int(count)))
        except Exception as error:
            answer(error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
