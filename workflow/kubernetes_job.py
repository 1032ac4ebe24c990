#!/usr/bin/env python3
"""A step as a Kubernetes Job, for Snakemake: each job script becomes the command of
profiles/kubernetes/job.yaml. Needs kubectl.

    kubernetes_job.py submit --cpus 1 --mem-mb 2000 --minutes 60 --gpus 0 SCRIPT      prints the
        name of the Job
    kubernetes_job.py status NAME                                                    prints running,
        success or failed
    kubernetes_job.py NAME...                                                        cancels them
        (Snakemake gives no more than names)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

TEMPLATE = Path(__file__).resolve().parent / "profiles/kubernetes/job.yaml"
GPU = "nvidia.com/gpu"  # amd.com/gpu for AMD's
# of the environment; paths in the shared folder
PASSED_ON = ("PYTHONPATH", "XDG_CACHE_HOME", "ARQ_CACHE")


def kubectl(*arguments: str, manifest: str | None = None) -> str:
    try:
        run = subprocess.run(
            ["kubectl", *arguments], input=manifest, capture_output=True, encoding="utf-8"
        )
    except FileNotFoundError:
        sys.exit(
            "kubernetes_job: saw no kubectl, expected it installed and pointing at your cluster."
        )
    if run.returncode:
        sys.exit(f"kubernetes_job: kubectl {' '.join(arguments)}: {run.stderr.strip()}")
    return run.stdout.strip()


def manifest(script: Path, cpus: int, mem_mb: int, minutes: int, gpus: int) -> dict:
    """The Job of one script: job.yaml with a name, the command, and what is asked for.

    Memory and GPUs are limits as well as requests.
    """
    job = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    job["metadata"]["generateName"] = "arq-"
    job["spec"]["activeDeadlineSeconds"] = 60 * minutes
    container = job["spec"]["template"]["spec"]["containers"][0]
    limits = {"memory": f"{mem_mb}M"} | ({GPU: gpus} if gpus else {})
    container |= dict(
        command=["/bin/sh", str(script)],
        workingDir=str(Path.cwd()),
        resources=dict(requests=limits | {"cpu": cpus}, limits=limits),
    )
    container["env"] = [
        *container.get("env", []),
        *(dict(name=k, value=os.environ[k]) for k in PASSED_ON if k in os.environ),
    ]
    return job


def submit(arguments: list[str]) -> str:
    parser = argparse.ArgumentParser(prog="kubernetes_job.py submit")
    for number in ("cpus", "mem-mb", "minutes", "gpus"):
        parser.add_argument(f"--{number}", type=int, required=True)
    parser.add_argument("script", type=lambda text: Path(text).resolve())
    return kubectl(
        "create",
        "--filename=-",
        "--output=name",
        manifest=json.dumps(manifest(**vars(parser.parse_args(arguments)))),
    )


def status(name: str) -> str:
    """A Job that is gone (its day is over, or somebody deleted it) has failed: Snakemake then looks
    for the files itself.
    """
    seen = kubectl("get", name, "--ignore-not-found", "--output=json")
    if not seen:
        return "failed"
    conditions = {
        c["type"]
        for c in json.loads(seen).get("status", {}).get("conditions", [])
        if c["status"] == "True"
    }
    return (
        "success" if "Complete" in conditions else "failed" if "Failed" in conditions else "running"
    )


def main(arguments: list[str]) -> None:
    if not arguments:
        sys.exit(__doc__)
    if arguments[0] == "submit":
        print(submit(arguments[1:]))
    elif arguments[0] == "status":
        print(status(arguments[1]))
    else:
        kubectl("delete", *arguments, "--ignore-not-found", "--wait=false")


if __name__ == "__main__":
    main(sys.argv[1:])
