"""The command `arq`: help with examples, near misses, exit statuses, what it needs."""

import errno
import os
import pkgutil
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from arq_core.__main__ import arq
from arq_core.book import pages
from arq_core.book.notebook import RunError
from arq_core.config import command, paths
from arq_core.config.files import write_atomic
from arq_core.datasets.fetch import FetchError
from arq_core.results import regressions

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "numpy", "pandas", "scipy", "matplotlib", "papermill", "sphinx", "h5py"}
TABLE = ["table", "--plan"]


def ran(*arguments, **environment):
    return CliRunner().invoke(arq, list(map(str, arguments)), env=environment)


def started(*arguments, folder=ROOT, **environment):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "arq_core", *arguments],
        cwd=folder,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
    )


def fails(monkeypatch, error):
    """`arq book` raises this, wherever it would."""

    def build(*_):
        raise error

    monkeypatch.setattr(pages, "build", build)


@pytest.mark.parametrize("name", [None, *arq.commands])
def test_every_command_has_a_purpose_explained_options_and_an_example(name):
    run = ran(*filter(None, [name]), "--help")
    one = arq.commands[name] if name else arq
    assert run.exit_code == 0 and f"Example: arq {name or ''}" in run.stdout
    assert re.match(r"[A-Z][^\n]*[.?]$", one.help.splitlines()[0])
    assert all(option.help for option in one.params if option.param_type_name == "option")


@pytest.mark.parametrize("name", arq.commands)
def test_an_example_is_read_without_complaint(name):
    words = re.findall(r'"[^"]*"|\S+', arq.commands[name].epilog.removeprefix("Example: arq "))
    assert words[0] == name
    arq.commands[name].make_context(name, [word.strip('"') for word in words[1:]])


def test_help_lists_every_command_in_whole_sentences():
    lines = started("--help").stdout.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines] == sorted(arq.commands)
    assert all(line.endswith((".", "?")) and not line.endswith("...") for line in lines)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom arq_core.__main__ import arq\n"
        "arq.main(['--help'], standalone_mode=False)\nprint(*sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert "Commands:" in run.stdout and not HEAVY & set(run.stdout.split()), run.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["tabel"], "No such command 'tabel'. Did you mean 'table'?"),
        (["table", "--taks", "maze"], "--tasks"),
        (["book", "--job", "2"], "Did you mean '--jobs'?"),
        (["row"], "Missing argument 'TASK'"),
        (["collect"], "Missing argument 'TASK...'"),
        (["book", "--jobs", "two"], "'two' is not a valid integer"),
        (["table", "--plan", "--configure"], "not both"),
        (["table", "--list"], "--list with --plan"),
    ],
)
def test_what_cannot_be_read_ends_with_2_and_with_what_comes_near(arguments, message):
    run = ran(*arguments)
    assert run.exit_code == 2 and message in run.stderr, run.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["row", "door-humna"], "task .*saw 'door-humna'.*Did you mean 'door-human'"),
        (["row", "maze", "--method", "arq+spsi"], r"method: saw .*Did you mean 'arq\+s_psi'"),
        (["row", "maze", "--profile", "lit"], "profile: saw 'lit'.*Did you mean 'lite'"),
        (["row", ""], "task: saw none, expected a name"),
        (["table", "--plan", "--tasks", "mase"], "task: saw 'mase'.*Did you mean 'maze'"),
        (
            ["collect", "hopper-recollected"],
            "task: saw 'hopper-recollected'.*Did you mean 'hopper-",
        ),
        (["collect", "maze"], "task: saw 'maze', expected one of 'pointmaze-umaze-recollected'"),
        (["task", "hopper-medium-v3"], "task: saw .*Did you mean 'hopper-medium-v2'"),
    ],
)
def test_an_unknown_name_ends_with_1_and_with_what_comes_near(arguments, message):
    run = ran(*arguments)
    assert run.exit_code == 1 and re.search(f"^error: {message}", run.stderr, re.M), run.output


@pytest.mark.parametrize("name", [b"caf\xe9.hdf5", b"\xff \xfe.h5"])
def test_a_file_whose_name_is_no_text_is_refused_before_anything_is_run(tmp_path, name):
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    try:
        open(path, "wb").close()
    except OSError:
        pytest.skip("no file system that takes such a name")
    run = ran("row", path, "--group", "adroit")
    assert run.exit_code == 1 and run.stderr.count("\n") == 1
    assert "no text in UTF-8" in run.stderr and "rename the file" in run.stderr


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("named", ["/a/_build", None])
def test_a_place_that_cannot_be_written_is_named_in_one_line(monkeypatch, number, named):
    fails(monkeypatch, OSError(number, os.strerror(number), named))
    run = ran("book")
    assert run.exit_code == 1 and run.stderr.count("\n") == 1 and not run.stdout
    told = f"error: {named or 'a file'}: saw '{os.strerror(number)}', expected a place"
    assert run.stderr.startswith(told) and "ARQ_CACHE" in run.stderr


@pytest.mark.parametrize("out, told", [("mine", "mine: saw a folder"), ("a/b/c", "a: saw a file")])
def test_an_output_that_is_no_file_is_said_in_one_line_and_nothing_is_left(tmp_path, out, told):
    (tmp_path / "mine").mkdir()
    (tmp_path / "a").write_text("", encoding="utf-8")
    with pytest.raises(OSError) as seen:
        write_atomic(tmp_path / out, "text")
    with pytest.MonkeyPatch.context() as patch:
        fails(patch, seen.value)
        run = ran("book")
    assert run.exit_code == 1 and run.stderr.count("\n") == 1
    assert f"/{told}, expected a f" in run.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "mine"]


def test_names_of_errors_are_those_of_the_classes():
    """They are compared as texts, so that no module is imported to name them."""
    for name in command.ERRORS:
        cls = pkgutil.resolve_name(name)
        assert f"{cls.__module__}.{cls.__qualname__}" == name and issubclass(cls, Exception)


@pytest.mark.parametrize("error", [RunError("saw a, expected b"), FetchError("saw a, expected b")])
def test_an_error_of_ours_is_one_line(monkeypatch, error):
    fails(monkeypatch, error)
    run = ran("book")
    assert run.exit_code == 1 and run.stderr == "error: saw a, expected b\n" and not run.stdout


@pytest.mark.parametrize("error", [ValueError("a"), KeyError("a"), OSError("a"), EOFError("a")])
def test_no_other_error_is_hidden(monkeypatch, error):
    fails(monkeypatch, error)
    run = ran("book")
    assert run.exception is error or run.exception.__cause__ is error


def test_the_status_of_a_comparison_that_cannot_be_made_is_2(monkeypatch):
    def check(**_):
        raise regressions.RegressionError("saw none")

    monkeypatch.setattr(regressions, "check", check)
    run = ran("compare", "a", "b")
    assert run.exit_code == 2 and run.stderr == "error: saw none\n"


def test_an_interrupt_says_what_is_kept_and_ends_with_130(monkeypatch):
    fails(monkeypatch, KeyboardInterrupt())
    run = ran("book")
    assert run.exit_code == 130
    assert run.stderr == "stopped; what was finished is kept, the same command goes on from there\n"


def test_a_process_that_is_interrupted_ends_with_130():
    """As a shell starts it: one in the background would ignore the signal."""
    code = (
        "import time\nfrom arq_core import __main__ as command\nfrom arq_core.book import pages\n"
        "pages.build = lambda *_: (print('began', flush=True), time.sleep(300))\n"
        "command.main(['book'])"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert run.stdout.readline() == "began\n"
    time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130 and said.startswith("stopped; ") and "Traceback" not in said


def test_outside_a_checkout_one_error_says_what_was_expected(tmp_path):
    """The package alone, as a wheel installs it: what needs a checkout says how to name one."""
    shutil.copytree(
        ROOT / "arq_core", tmp_path / "arq_core", ignore=shutil.ignore_patterns("__pycache__")
    )
    there = dict(folder=tmp_path, PYTHONPATH=str(tmp_path))
    for name, *more in (
        ["book"],
        TABLE,
        ["row", "maze"],
        ["collect", "maze"],
        ["links"],
        ["task", "maze"],
        ["costs"],
        ["export", "out", "--results", "rows"],
    ):
        run = started(name, *more, **there)
        said = f"error: {tmp_path}: saw no data/tasks.csv and no book, expected a checkout of "
        assert run.returncode == 1 and run.stderr.startswith(said) and "ARQ_ROOT" in run.stderr
        assert run.stderr.count("\n") == 1
    assert started("book", "--help", **there).returncode == 0
    run = started("where", **there)
    assert run.returncode == 0 and f"checkout    none ({tmp_path}: saw no data" in run.stdout


def test_the_checkout_is_the_one_that_is_named(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/tasks.csv").touch()
    assert "saw no book," in ran("book", ARQ_ROOT=str(tmp_path)).stderr
    (tmp_path / "book").mkdir()
    asked = []
    monkeypatch.setattr(pages, "build", lambda *given: asked.append(given))
    assert ran("book", "--jobs", "3", ARQ_ROOT=str(tmp_path)).exit_code == 0
    assert ran("book", "--profile", "toy").exit_code == 0
    assert asked == [(tmp_path, "page", 3), (ROOT, "toy", 0)]


def test_where_names_folders_and_variables_and_what_is_not_ours(tmp_path):
    run = ran("where", ARQ_CACHE=str(tmp_path), ARQ_LOCAL_DATA=str(tmp_path / "l"), ARQ_CAHCE="x")
    assert run.exit_code == 0
    for line in (
        f"checkout    {ROOT}",
        f"cache       {tmp_path}",
        f"local data  {tmp_path / 'l'}",
        f"ARQ_CACHE = {tmp_path}",
        "ARQ_CAHCE = x\n    not one of ours",
    ):
        assert f"{line}\n" in run.stdout


def test_where_knows_every_variable_that_is_read():
    files = [ROOT / "Makefile", *(ROOT / "workflow").glob("*.*")]
    files += (ROOT / "arq_core").rglob("*.py")
    read = {
        name
        for path in files
        for name in re.findall(r"\bARQ_[A-Z0-9_]+", path.read_text(encoding="utf-8"))
    }
    assert read == set(paths.VARIABLES)


def test_a_passport_says_whether_the_data_are_here_and_how_to_get_them(tmp_path):
    away = dict(ARQ_CACHE=str(tmp_path), ARQ_LOCAL_DATA=str(tmp_path))
    assert "It is here: computed when it is loaded" in ran("task", "maze", **away).stdout
    said = ran("task", "hopper-medium-v2", **away).stdout
    assert "licence" in said and "not in the cache" in said
    assert "`make collect TASK=hopper-medium-recollected`" in said
    name = "lift-ph-recollected"
    assert f"`make collect TASK={name}` collects it" in ran("task", name, **away).stdout
    path = tmp_path / f"collected/{name}-0.hdf5"
    path.parent.mkdir()
    path.touch()
    assert f"It is here: {path}\n" in ran("task", name, **away).stdout


def test_collecting_shows_cards_and_copies_them(tmp_path, monkeypatch):
    from arq_core.collectors import pointmaze, run

    (tmp_path / "a.json").write_text('{"key": 1, "episodes": 2}', encoding="utf-8")
    monkeypatch.setattr(pointmaze, "recipe", lambda name: name)
    monkeypatch.setattr(run, "record", lambda recipe: tmp_path / "a.hdf5")
    name = "pointmaze-umaze-recollected"
    ended = ran("collect", name, "--cards", tmp_path / "b/c")
    shown = f'{tmp_path / "a.hdf5"}\n{{\n "episodes": 2\n}}\n'
    assert ended.exit_code == 0 and ended.stdout == shown
    assert (tmp_path / f"b/c/{name}.json").read_text(encoding="utf-8") == (
        tmp_path / "a.json"
    ).read_text(encoding="utf-8")
    (tmp_path / "a.json").unlink()
    ended = ran("collect", name)
    assert ended.exit_code == 1 and "No such file" in ended.stderr


def test_costs_are_those_on_record():
    run, kept = ran("costs"), ROOT / "data/benchmarks/grid_costs.json"
    assert run.exit_code == 0 and run.stdout == kept.read_text(encoding="utf-8")


def test_costs_are_not_taken_from_nothing(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/tasks.csv").touch()
    (tmp_path / "book").mkdir()
    run = ran("costs", "--calibrate", ARQ_ROOT=str(tmp_path))
    assert run.exit_code == 1 and "saw no finished step dataset" in run.stderr


def _last_command(target):
    """The last that make would run, on one line."""
    run = subprocess.run(
        ["make", "--no-print-directory", "-n", *target],
        cwd=ROOT,
        encoding="utf-8",
        capture_output=True,
        check=True,
        env={"PATH": os.environ["PATH"]},  # not what the make around these tests was told
    )
    return " ".join(re.sub(r"\\\n", " ", run.stdout).strip().splitlines()[-1].split())


@pytest.mark.parametrize(
    "target, wanted",
    [
        (["book"], 'book --profile "page" --jobs "0"'),
        (
            ["row", "TASK=my data.hdf5", "GROUP=adroit"],
            'row --profile "ci" --method "" --seeds "" --group "adroit" --environment "" '
            '-- "my data.hdf5"',
        ),
        (
            ["table", "TASKS=maze bridge", "DRY=1"],
            'table --profile "ci" --tasks "maze bridge" --methods "" --seeds "" --engine "laptop" '
            '--variant "released" --threads "1" --gpus "0" --cores "0" --plan',
        ),
        (["table", "BOOK=0"], '--cores "0" --no-book'),
        (["collect", "TASK=a b"], "collect a b"),
    ],
)
def test_make_calls_the_command_with_todays_variables(target, wanted):
    said = _last_command(target)
    assert "-m arq_core " in said and said.endswith(wanted)


@pytest.mark.parametrize(
    "target, wanted",
    [
        (["test"], "-m pytest -n auto --dist loadfile --no-loadscope-reorder"),
        (["test", "ARGS=tests/theory -k 'a or b'"], "-m pytest tests/theory -k 'a or b'"),
        (["test-slow"], "-m pytest -m slow"),
    ],
)
def test_make_tests_on_all_cores_or_as_it_is_told(target, wanted):
    assert _last_command(target).endswith(f".venv/bin/python {wanted}")


def test_make_help_names_the_command():
    run = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    )
    assert ".venv/bin/arq --help" in run.stdout


def test_the_old_ways_to_call_it_are_named_nowhere():
    """`python -m arq_core.x` of the modules that had a parser of their own."""
    old = re.compile(r"-m arq_core\.(book|grid|collectors|tables|regressions|links)(?![.\w])")
    texts = [ROOT / "README.md", ROOT / "Makefile", ROOT / "data/tasks.csv"]
    for top, kinds in (
        ("arq_core", "*.py"),
        ("book", "*.md"),
        ("notebooks", "*.ipynb"),
        ("workflow", "*"),
        (".github", "*.yml"),
        ("benchmarks", "*.*"),
    ):
        texts += [path for path in (ROOT / top).rglob(kinds) if path.is_file()]
    for path in texts:
        assert not old.search(path.read_text(errors="replace", encoding="utf-8")), path.name
