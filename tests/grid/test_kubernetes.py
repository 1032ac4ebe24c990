"""The Kubernetes profile against a stand-in for kubectl that runs the pods' commands here: no
cluster has seen it.
"""

import json
import os
import shlex
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest
import yaml
from clusters import Checkout, until
from grids import ROOT, grid, scratch, steps_done

sys.path.insert(0, str(ROOT / "workflow"))
import kubernetes_job  # noqa: E402

KUBECTL = """#!/bin/sh
'''exec' {python} "$0" "$@"
' '''
import json, os, pathlib, subprocess, sys
here, verb = pathlib.Path(__file__).parent / "jobs", sys.argv[1]
here.mkdir(exist_ok=True)
if verb == "create":
    pod = json.load(sys.stdin)["spec"]["template"]["spec"]["containers"][0]
    job = here / f"arq-{{len(list(here.iterdir()))}}"
    job.mkdir()
    waits = f"while [ -e {{here.parent}}/hold ]; do sleep 0.1; done; "
    waits += '"$@"; echo $? >' + f"{{job}}/part; mv {{job}}/part {{job}}/status"
    with open(job / "log", "w") as log:
        environment = {{"PATH": "/usr/bin:/bin"}} | {{e["name"]: e["value"] for e in pod["env"]}}
        subprocess.Popen(["sh", "-c", waits, "pod", *pod["command"]], cwd=pod["workingDir"],
                         stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                         start_new_session=True, env=environment)
    print(f"job.batch/{{job.name}}")
elif verb == "get":
    status = here / sys.argv[2].split("/")[1] / "status"
    ended = []
    if status.exists():
        ended = [dict(type="Failed" if int(status.read_text()) else "Complete", status="True")]
    print(json.dumps(dict(status=dict(conditions=ended))))
"""
CELLS = [
    "--profile",
    "toy",
    "--tasks",
    "maze",
    "--methods",
    "bc s_psi",
    "--no-book",
    "--engine",
    "kubernetes",
]
STEPS = sorted(
    ["dataset maze", "behavior maze", "policy maze bc", "evaluate maze bc", "evaluate maze s_psi"]
)


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """The stand-in, first in PATH; its folder."""
    (tmp_path / "kubectl").write_text(
        KUBECTL.format(python=shlex.quote(sys.executable)), encoding="utf-8"
    )
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def test_a_step_asks_for_its_memory_time_and_gpus_and_keeps_what_the_template_says(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("ARQ_CACHE", "/shared/cache")
    template = yaml.safe_load(kubernetes_job.TEMPLATE.read_text(encoding="utf-8"))
    made = kubernetes_job.manifest(tmp_path / "job.sh", 2, 5000, 30, 1)
    pod, before = (x["spec"]["template"]["spec"]["containers"][0] for x in (made, template))
    assert made["spec"]["activeDeadlineSeconds"] == 30 * 60 and pod["command"] == [
        "/bin/sh",
        str(tmp_path / "job.sh"),
    ]
    assert pod["resources"] == {
        "requests": {"cpu": 2, "memory": "5000M", "nvidia.com/gpu": 1},
        "limits": {"memory": "5000M", "nvidia.com/gpu": 1},
    }
    assert {"name": "ARQ_CACHE", "value": "/shared/cache"} in pod["env"]
    assert (
        before.items() <= pod.items()
        and made["spec"]["template"]["spec"]["volumes"]
        == template["spec"]["template"]["spec"]["volumes"]
    )
    assert "nvidia.com/gpu" not in str(kubernetes_job.manifest(tmp_path / "job.sh", 2, 5000, 30, 0))


@pytest.mark.parametrize(
    "seen, word",
    [
        ({}, "running"),
        ({"active": 1, "conditions": []}, "running"),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, "success"),
        ({"conditions": [{"type": "Failed", "status": "True"}]}, "failed"),
        ({"conditions": [{"type": "Failed", "status": "False"}]}, "running"),
        (None, "failed"),
    ],
    ids=["new", "active", "complete", "failed", "not failed", "gone"],
)
def test_the_state_of_a_job_is_one_of_snakemakes_words(seen, word, monkeypatch):
    monkeypatch.setattr(
        kubernetes_job, "kubectl", lambda *_: "" if seen is None else json.dumps({"status": seen})
    )
    assert kubernetes_job.status("job.batch/arq-1") == word


def test_without_kubectl_the_error_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        SystemExit, match="saw no kubectl, expected it installed and pointing at your cluster"
    ):
        kubernetes_job.main(["job.batch/arq-1"])


needs_plugin = pytest.mark.skipif(
    util.find_spec("snakemake_executor_plugin_cluster_generic") is None,
    reason="KUBERNETES TEST NOT RUN: saw no plugin cluster-generic; install the extra `kubernetes`",
)


def environment(root: Path) -> dict[str, str]:
    """For grids.grid: the copy first, and what this Python was told to find besides."""
    return {
        "PYTHONPATH": os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    }


@pytest.mark.slow(reason="every step is a job whose end is asked for at intervals")
@needs_plugin
def test_the_profile_runs_every_step_as_a_job_of_its_own(kubectl, tmp_path):
    root = scratch(tmp_path / "copy")
    run = grid(root, *CELLS, **environment(root))
    assert run.returncode == 0, run.stdout + run.stderr
    assert steps_done(root) == STEPS and len(list((kubectl / "jobs").iterdir())) == len(STEPS)


@pytest.mark.slow(reason="every step is a job whose end is asked for at intervals")
@needs_plugin
def test_after_a_kill_of_the_head_its_jobs_are_taken_up_again(kubectl, tmp_path):
    root = scratch(tmp_path / "copy")
    (kubectl / "hold").touch()
    head = subprocess.Popen(
        [sys.executable, "-m", "arq_core", "table", *CELLS],
        cwd=root,
        env=os.environ | environment(root),
    )
    until(
        "a job whose name was noted",
        lambda: any(
            p.read_text(encoding="utf-8")
            for p in (root / ".snakemake/incomplete").glob("*")
            if p.is_file()
        ),
    )
    Checkout(root).kill_head(head)
    (kubectl / "hold").unlink()
    run = grid(root, *CELLS, **environment(root))
    assert run.returncode == 0, run.stdout + run.stderr
    assert steps_done(root) == STEPS and len(list((kubectl / "jobs").iterdir())) == len(STEPS)
