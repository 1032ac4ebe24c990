"""The tables as files: each number leads to its rows, LaTeX is escaped and compiles, and nothing
half-written is left.
"""

import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from example_rows import rows

from arq_core.__main__ import arq
from arq_core.results import records, tables
from arq_core.results.export import CAPTIONS, COLUMNS, export, to_latex, to_markdown
from arq_core.results.rows import file_name, read_rows, write_rows

NAME = file_name("door-human", "lite", "arq+s_psi", "released")
OWN = file_name("lift-ph-recollected", "lite", "arq+s_psi", "released")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder of the files, folder of the results) of two jobs, one of them of our own data, and
    one cell that failed.
    """
    folder = tmp_path_factory.mktemp("tables")
    results = folder / "results"
    write_rows(results / NAME, rows([[10.0, 12.0], [8.0, 6.0]], profile="lite"))
    write_rows(
        results / OWN,
        rows(
            [[50.0], [70.0]],
            task="lift-ph-recollected",
            profile="lite",
            fidelity="recollected",
            dataset_sha256="1" * 64,
        ),
    )
    failed = dict(
        task="door-human",
        profile="lite",
        method="s_psi",
        variant="released",
        step="q",
        notebook="n",
        error="a_b & c%",
        log="q.log",
    )
    export(folder / "out", results, read_rows(results), {}, [failed])
    return folder / "out", results


def lines(folder, name):
    return list(csv.DictReader(io.StringIO((folder / f"{name}.csv").read_text(encoding="utf-8"))))


def test_a_number_in_the_csv_leads_to_its_rows(exported):
    folder, results = exported
    found = [line for name in CAPTIONS for line in lines(folder, name) if line["state"] == "value"]
    assert {line["job_file"] for line in found} == {NAME, OWN} and all(
        tuple(line) == COLUMNS for line in found
    )
    for line in found:
        path = results / line["job_file"]
        written = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
        assert line["rows_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (
            line["dataset_sha256"] == written[0]["dataset_sha256"]
            and line["commits"] == "abc"
            and line["std_ddof"] == "1"
        )
        assert float(line["mean"]) == pytest.approx(sum(r["score"] for r in written) / len(written))
        assert (
            (line["seeds"], line["episodes"]) == ("2", str(len(written) // 2))
            and line["verdict"] == "not comparable"
            and line["reason"]
        )
    door = next(line for line in found if line["task"] == "door-human")
    assert (door["paper_mean"], door["paper_std"], door["paper_state"]) == (
        "10",
        "4.9",
        "value",
    ) and float(door["difference"]) < 0


def test_every_cell_of_ours_is_in_the_csv_and_only_a_value_has_a_number(exported):
    found = lines(exported[0], "table_a4")
    assert {line["dataset"] for line in found} == set(tables.task_names().values())
    assert (
        {line["state"] for line in found}
        == {"value", "not run", "failed"}
        == {line["state"] for line in found if not line["mean"]} | {"value"}
    )
    assert next(line for line in found if line["state"] == "failed")["verdict"] == "failed"


def test_markdown_has_one_width_and_names_the_files(exported):
    for name in CAPTIONS:
        text = (exported[0] / f"{name}.md").read_text(encoding="utf-8")
        assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    text = re.sub(
        " +", " ", (exported[0] / "table_a4.md").read_text(encoding="utf-8")
    )  # all fill their columns
    assert (
        "9.0 ± 2.8 (c)" in text
        and "| failed |" in text
        and f"- {NAME}: SHA-256 " in text
        and "relocate-human-v0: ours" not in text
    )


def test_latex_has_one_width_and_nothing_unescaped(exported):
    for name in CAPTIONS:
        text = (exported[0] / f"{name}.tex").read_text(encoding="utf-8")
        body = [line for line in text.splitlines() if not line.startswith("%")]
        assert (
            len(
                {
                    re.sub(r"\\&", "", line).count("&")
                    for line in body
                    if line.endswith(r"\\") and " & " in line
                }
            )
            == 1
        )
        plain = re.sub(r"\$[^$]*\$|\\[&%$#_{}]", "", "\n".join(body))
        assert not re.search(r"[%#_^~±×−–ψβϕπ]", plain), name
    assert "% " + NAME in (exported[0] / "table_a4.tex").read_text(
        encoding="utf-8"
    ) and "tool\\_hang-ph" in (exported[0] / "table_a4.tex").read_text(encoding="utf-8")
    assert r"\textit{D4RL Adroit} & " in (exported[0] / "table_a4.tex").read_text(encoding="utf-8")
    assert r"9.0 $\pm$ 2.8\textsuperscript{c}" in (exported[0] / "table_a4.tex").read_text(
        encoding="utf-8"
    )


def test_latex_shows_a_name_as_it_is():
    cell = SimpleNamespace(method="bc", state="value", line="paper", mean=-1.0, std=0.5, verdict="")
    text = to_latex("table_a4", ["bc"], [("", r"a_b & 5% \x {~^} $ #", [cell])], [])
    name = r"a\_b \& 5\% \textbackslash x \{\textasciitilde \textasciicircum \} \$ \#"
    assert name + r" & $-$1 $\pm$ 0.5 \\" in text.splitlines()


@pytest.mark.parametrize("shown", [[], ["bc"]])
def test_a_table_without_lines_says_so(shown):
    assert "| nothing was run |" in to_markdown("own_datasets", shown, [], [])
    assert "\nnothing was run " in to_latex("own_datasets", shown, [], [])


@pytest.mark.skipif(
    shutil.which("pdflatex") is None,
    reason="LATEX NOT COMPILED: saw no pdflatex; install it (Debian: texlive-latex-recommended)",
)
def test_latex_compiles_by_itself(exported, tmp_path):
    run = subprocess.run(
        [
            "pdflatex",
            "-interaction=nonstopmode",
            "-halt-on-error",
            f"-output-directory={tmp_path}",
            "tables.tex",
        ],
        cwd=exported[0],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    assert run.returncode == 0 and (tmp_path / "tables.pdf").stat().st_size > 10_000, run.stdout[
        -2000:
    ]


def test_the_command_writes_all_files(exported, tmp_path):
    run = CliRunner().invoke(arq, ["export", str(tmp_path / "a/b"), "--results", str(exported[1])])
    assert run.exit_code == 0, run.output
    names = sorted(p.name for p in (tmp_path / "a/b").iterdir())
    assert names == sorted(
        [*(f"{name}.{kind}" for name in CAPTIONS for kind in ("csv", "md", "tex")), "tables.tex"]
    )
    assert sorted(run.stdout.split()) == [str(tmp_path / "a/b" / name) for name in names]


def test_the_command_refuses_an_edited_row_and_writes_nothing(exported, tmp_path):
    results = shutil.copytree(exported[1], tmp_path / "results")
    records.write_run(results / NAME, {})
    (results / NAME).write_text(
        (results / NAME).read_text(encoding="utf-8").replace('"score": 12.0', '"score": 99.0'),
        encoding="utf-8",
    )
    run = CliRunner().invoke(arq, ["export", str(tmp_path / "out"), "--results", str(results)])
    said = f"{NAME}:2: saw a line that is not the one its run wrote"
    assert run.exit_code == 1 and said in run.stderr and not (tmp_path / "out").exists()
