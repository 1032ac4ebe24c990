"""Where a step's time goes on a CUDA device: its kernels, how long each takes, and how long the
device waits between them.

    python benchmarks/profile_cuda.py [--write]

Loops of ours.py, compiled, under torch's profiler (CUPTI): for each, the kernels a step launches
and their microseconds, and the wall time of a step measured before, without the profiler. A
hand-written kernel can save at most the kernels that it replaces and the waits between them.
"""

import argparse
import json
import time

import ours
import torch
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/profile_cuda.json"
SIZES = dict(state_dim=11, action_dim=3, device="cuda")
LOOPS = {  # steps in a call: (loop, arguments)
    "score step, 3 seeds, bfloat16, 64 times": ("score_step", dict(seeds=3, chunk=1000)),
    "score step, 3 seeds, float32, 512 times": (
        "score_step",
        dict(seeds=3, chunk=1000, times=512, precision="float32"),
    ),
    "ARQ step, 3 seeds, bfloat16": ("arq_step", dict(seeds=3, chunk=1000)),
    "ARQ step, 3 seeds, float32": ("arq_step", dict(seeds=3, chunk=1000, precision="float32")),
    "Q_beta step, 3 seeds, bfloat16": ("q_beta_step", dict(seeds=3, chunk=1000)),
    "policy step, 3 seeds, bfloat16": ("policy_step", dict(seeds=3, chunk=1000)),
    "ResNet policy step, 3 seeds, bfloat16": (
        "policy_step",
        dict(seeds=3, chunk=1000, head="resnet"),
    ),
    "65,536 states x 30, 20 evaluations with density": ("density", dict(states=65_536)),
    "300 states x 30 of 3 seeds, 20 evaluations with density": (
        "density",
        dict(states=100, seeds=3),
    ),
}


def measured(name: str, arguments: dict) -> dict:
    """Kernels of a step by time, and its wall microseconds."""
    step, chunk = getattr(ours, name)(**SIZES | arguments), arguments.get("chunk", 1)
    step()  # compiles
    torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    torch.cuda.synchronize()
    wall = (time.perf_counter() - start) / chunk
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
        step()
        torch.cuda.synchronize()
    kernels = [
        e
        for e in seen.key_averages()
        if e.self_device_time_total > 0 and e.device_type.name == "CUDA"
    ]
    kernels.sort(key=lambda e: -e.self_device_time_total)
    total = sum(e.self_device_time_total for e in kernels) / chunk
    return dict(
        wall_us=1e6 * wall,
        kernels_us=total,
        kernels=sum(e.count for e in kernels) / chunk,
        longest=[
            dict(kernel=e.key[:120], a_step=e.count / chunk, us=e.self_device_time_total / chunk)
            for e in kernels[:25]
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", help="loops whose title holds this text")
    given, record = parser.parse_args(), provenance(torch.cuda.get_device_name(), own=FILE)
    for title, (name, arguments) in LOOPS.items():
        if given.only not in title:
            continue
        record[title] = found = measured(name, arguments)
        tqdm.write(
            f"{title}: {found['wall_us']:.0f} us, of it {found['kernels_us']:.0f} in "
            f"{found['kernels']:.0f} kernels"
        )
        for line in found["longest"]:
            tqdm.write(f"    {line['us']:9.2f} us  {line['a_step']:6.2f} x  {line['kernel']}")
    if given.write:
        write_atomic(FILE, json.dumps(record, indent=1).encode())


if __name__ == "__main__":
    main()
