"""The book's exercises: each has a solution, and each solution's numbers and claims are computed
again: those of Markdown pages here, by the code that the solution shows; those of notebooks in a
hidden cell behind them.
"""

import ast
import json
import math
import re

import pytest
import torch
from sphinx_books import ROOT

from arq_core.book.changed import changed

PAGES = {
    **{path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.md")},
    **{
        path.stem: "\n\n".join(
            "".join(cell["source"])
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
            if cell["cell_type"] == "markdown"
        )
        for path in (ROOT / "notebooks").glob("*.ipynb")
    },
}
EXERCISE = re.compile(r"^:::\{exercise\} .+\n:label: (\S+)$", re.M)
SOLUTION = re.compile(
    r"^(:{3,}|`{3,})\{solution\} (\S+)\n:label: \2-solution\n:class: dropdown\n(.*?)\n\1$",
    re.M | re.S,
)
TEACHING = (
    "method score 01_algorithm1_maze 02_explicit_cloning 03_sampling 04_likelihood 05_support "
    "06_policy_iteration 07_theorem1 08_table_1 09_good_penalty 11_dataset_traps 16_statistics "
    "18_critics"
).split()
SOLUTIONS = {label: text for page in PAGES.values() for _, label, text in SOLUTION.findall(page)}


def in_code(stem):
    """The source of a notebook's hidden cells that assert something."""
    cells = json.loads((ROOT / f"notebooks/{stem}.ipynb").read_text(encoding="utf-8"))["cells"]
    texts = ["".join(c["source"]) for c in cells if "remove-cell" in c["metadata"].get("tags", [])]
    return "\n".join(text for text in texts if re.search(r"^ *assert ", text, re.M))


def run(*labels):
    """What the code of the solutions defines, run in this order as on the page."""
    names = {}
    exercises = PAGES["method"].split("\n## Exercises\n")[1]
    for text in (exercises.split(":::{exercise}")[0], *(SOLUTIONS[label] for label in labels)):
        for code in re.findall(r"```python\n(.*?)```", text, re.S):
            exec(compile(code, "solution", "exec"), names)
    return names


def says(label, *numbers):
    """The solution's sentences hold these numbers."""
    prose = re.sub(r"```python\n.*?```", "", SOLUTIONS[label], flags=re.S)
    return all(re.search(rf"(?<![\d.]){re.escape(str(x))}(?![\d]|\.\d)", prose) for x in numbers)


def test_every_page_that_teaches_has_exercises_and_each_has_its_solution():
    found = {stem: EXERCISE.findall(text) for stem, text in PAGES.items()}
    assert not [stem for stem in TEACHING if not found[stem]]
    labels = [label for some in found.values() for label in some]
    assert len(labels) == len(set(labels)) >= 40
    assert sorted(labels) == sorted(SOLUTIONS)
    text = "".join(PAGES.values())
    assert len(labels) == text.count("{exercise}") and len(SOLUTIONS) == text.count("{solution}")


def test_each_solution_is_checked_by_name():
    mine = {
        value.value
        for node in ast.walk(ast.parse((ROOT / "tests/book/test_exercises.py").read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("run", "says")
        for value in node.args
        if isinstance(value, ast.Constant)
    }
    for stem, text in PAGES.items():
        labels = set(EXERCISE.findall(text))
        checked = (
            set(re.findall(r"^# (ex-[\w-]+)", in_code(stem), re.M))
            if stem[:2].isdigit()
            else {label for label in labels if label in mine}
        )
        assert labels == checked, stem


def changes(code):
    """(old, new) of each call of `changed`."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return {
        tuple(ast.literal_eval(value) for value in call.args[1:])
        for call in calls
        if ast.unparse(call.func) == "changed"
    }


def test_at_least_six_change_one_line_and_what_is_told_is_what_is_run():
    count = 0
    for stem, text in PAGES.items():
        for _, label, solution in SOLUTION.findall(text):
            told = re.findall(r"`(changed\(.*?\))`", solution, re.S)
            told += re.findall(r"```python\n(.*?)```", solution, re.S)
            told = set().union(*(changes(code) for code in told))
            count += bool(told) or "patch.object" in solution
            assert not stem[:2].isdigit() or told <= changes(in_code(stem)), label
    assert count >= 6


def test_a_change_is_of_one_place_and_of_the_copy_alone():
    from arq_core.algorithm.qlearning import target
    from arq_core.algorithm.samplers import predictor_corrector

    one, ends = torch.ones(1), torch.ones(1, dtype=torch.bool)
    assert changed(target, "rewards + ", "")(one, ~ends, one, 0.5) == 0.5
    assert target(one, ~ends, one, 0.5) == 1.5
    assert changed(predictor_corrector, "return mean", "return x").__defaults__ == (0.16, "sample")
    for old, count in {"no such words": 0, "v_next": 2}.items():
        with pytest.raises(ValueError, match=f"saw '{old}' {count} times in target, expected once"):
            changed(target, old, "")


def test_nothing_ends():
    found = run("ex-method-1")
    assert found["v"] == pytest.approx(100, rel=1e-4) and found["right"] == 1
    assert says("ex-method-1", "1/(1 - \\gamma) = 100")


def test_the_kth_of_k():
    found = run("ex-method-2")
    assert found["recorded"] == pytest.approx(30 / 31, abs=0.003)
    assert found["worst"] == pytest.approx(1 / 31, abs=0.001)
    assert says("ex-method-2", f"30/31 = {100 * 30 / 31:.1f}", f"{1 / 31:.2f}")


def test_q_in_the_place_of_a():
    ratio = run("ex-method-3")["ratio"]
    assert ratio["before"][0] == pytest.approx(ratio["before"][1].item())
    assert ratio["after"].tolist() == pytest.approx([math.e, 1])
    told = [f"{ratio['before'][0]:.2f}", *(f"{x:.2f}" for x in ratio["after"])]
    assert says("ex-method-3", *told)


def test_how_hard_a_softmax_is():
    found = run("ex-method-4")
    assert list(found["chosen"].values()) == pytest.approx([0.95, 0.95])
    gap = found["gap"]
    assert says("ex-method-4", f"{10 * gap[30]:.2f}", f"{gap[30]:.2f}", f"{10 * gap[300]:.2f}")


def test_eight_of_nine():
    found = run("ex-method-5")
    assert found["passed_on"] == {
        ("released", 8): 0,
        ("paper", 8): 1,
        ("released", 0): 0,
        ("paper", 0): 0,
    }
    assert says("ex-method-5", f"{found['too_few']:.0%}".replace("%", "\\%")) or says(
        "ex-method-5", f"{found['too_few']:.0%}"
    )


def test_half_signal_half_noise():
    found = run("ex-score-1")
    assert found["m"].item() == pytest.approx(found["sigma"].item())
    assert says("ex-score-1", f"{found['t']:.2f}", f"{found['above']:.0%}", "0.1\\,t + 9.95\\,t^2")
    assert (0.1 * found["t"] + 9.95 * found["t"] ** 2).item() == pytest.approx(math.log(2))


def test_what_the_loss_cannot_lose():
    found = run("ex-score-1", "ex-score-2")
    m, sigma, floor = found["m"].item(), found["sigma"].item(), found["floor"]
    for w, loss in floor.items():
        assert loss == pytest.approx((m * w) ** 2 / ((m * w) ** 2 + sigma**2), rel=0.01)
    assert says("ex-score-2", f"{floor[1.0]:.2f}", f"{floor[0.1]:.2f}")


def test_no_floor():
    found = run("ex-score-1", "ex-score-2", "ex-score-3")
    width, typical, kept = found["width"], found["typical"], found["kept"]
    assert list(width.values()) == pytest.approx([0.2, 1], rel=0.01)
    assert 4 * typical["none"] < -5 < 3 * typical["none"] and typical["floor"] > 0
    assert kept["floor"] > 0.99
    told = [f"{found['lost']:.2f}", f"{typical['floor']:.2f}", f"{typical['none']:.2f}"]
    assert says("ex-score-3", *told, f"{kept['none']:.0%}")


def test_a_term_forgotten():
    found = run("ex-score-1", "ex-score-2", "ex-score-4")
    half = found["sde"].integral_beta(torch.tensor(1.0, dtype=torch.float64)).item() / 2
    narrow, _ = found["wrong_by"](0.2, 2)
    assert narrow.flatten().tolist() == pytest.approx([2 * half] * 5, rel=1e-3)
    assert found["excess"].flatten().tolist() == pytest.approx([6 * half] * 5, rel=1e-3)
    assert (found["raised"] > -5).all() and (found["right"] < -5).all()
    assert says("ex-score-4", f"{half - 1e-6:.2f}", f"{6 * half - 1e-5:.1f}")
