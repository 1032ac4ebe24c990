"""The paper's tables: transcription checked against their own totals, and cells that cannot be
mistaken for one another.
"""

import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from example_rows import rows as example_rows

from arq_core.book.tables import legend_html, number, to_html
from arq_core.config import paths
from arq_core.config.labels import GROUPS, METHODS, PUBLISHED
from arq_core.results import tables
from arq_core.results.paper import published
from arq_core.results.records import ResultsError
from arq_core.results.tables import read_failures, table_a4, table_own
from arq_core.results.totals import members, table_2
from arq_core.results.verdicts import WORDS

TASKS = {"door-human": "door-human-v0"}
FAILURE = dict(
    task="door-human",
    profile="lite",
    method="s_psi",
    variant="released",
    step="policy",
    notebook="policy.ipynb",
    error="ValueError: no such <door>\n  at line 3",
    log="door-human.s_psi.policy.log",
)


def rows(scores, **changes):
    """Of a profile whose scores mean something."""
    return example_rows(scores, **dict(profile="lite") | changes)


def test_table_2_is_table_a4_added_up_within_rounding():
    cells = published()
    single, checked = cells[cells["table"] == "a4"], 0
    for total in cells[cells["table"] == "2"].itertuples():
        which = members(total.group)
        part = single[
            single["group"].isin(which["groups"])
            & single["dataset"].str.contains(which["parts"][0], regex=False)
        ]
        means = part.loc[part["method"] == total.method, "mean"]
        n = part["dataset"].nunique()
        assert len(means) == n, (total.group, total.method)
        if means.notna().all():
            checked += 1
            # two std of n rounding errors, and the total's own
            rounding = 0.5 + 2 * np.sqrt(n / 12)
            assert abs(means.sum() - total.mean) <= rounding, (
                total.group,
                total.method,
                means.sum(),
                total.mean,
            )
    assert checked == 68


def test_every_published_cell_is_shown_once():
    cells = published()
    single = cells[cells["table"] == "a4"]
    assert set(cells["method"]) <= set(METHODS) and set(single["group"]) == set(GROUPS)
    shown = table_a4([], TASKS)
    shown = shown[shown["line"] == "paper"]
    assert len(shown) == 40 * len(METHODS)
    assert (shown["state"] == "value").sum() == single["mean"].notna().sum() == 369
    assert (shown["state"] == "illegible").sum() == single["mean"].isna().sum() == 11


def test_the_papers_door_row_is_beside_ours():
    cells = table_a4(rows([[10.0, 12.0], [8.0, 6.0]]), TASKS, datasets=["door-human-v0"])
    paper = cells[cells["line"] == "paper"].set_index("method")["mean"]
    assert paper[["s_psi", "q_beta+s_psi", "arq+pi", "arq+s_psi"]].tolist() == [9, 11, 0, 10]
    ours = cells[cells["line"] == "ours"].set_index("method")
    assert ours.loc["arq+s_psi", ["mean", "n", "detail"]].tolist() == [
        9.0,
        "2 × 2",
        "profile lite, released, rebuilt data",
    ]
    assert ours.loc["arq+s_psi", "std"] == pytest.approx(np.sqrt(8))
    assert set(ours.drop("arq+s_psi")["state"]) == {"not run"}


@pytest.mark.parametrize("fidelity", ["recollected", "own"])
def test_data_of_our_own_is_never_beside_the_papers_number(fidelity):
    ours = [row | dict(fidelity=fidelity) for row in rows([[10.0, 12.0]])]
    cells = table_a4(ours, TASKS)
    assert set(cells.loc[cells["line"] == "ours", "state"]) == {"not run"}


def test_recollected_datasets_have_a_table_without_the_paper(tmp_path):
    listed = tmp_path / "tasks.csv"
    listed.write_text(
        "task,suite,fidelity\nlift-ph-recollected,recollected-robomimic,recollected\n"
        "maze,ours,recollected\n"
        "hopper-medium-recollected,recollected-locomotion,recollected\nx,other,own\n",
        encoding="utf-8",
    )
    ours = [
        row | dict(fidelity="recollected", task=task)
        for task in ("lift-ph-recollected", "hopper-medium-recollected", "maze")
        for row in rows([[10.0, 12.0], [8.0, 6.0]])
    ]
    cells = table_own(ours, listed)
    assert list(dict.fromkeys(cells["dataset"])) == [
        "hopper-medium-recollected",
        "lift-ph-recollected",
        "maze",
    ] and set(cells["line"]) == {"ours"}
    assert "recollected data" in to_html(cells, "caption", "own") and "Robot arm" in to_html(
        cells, "caption", "own"
    )
    values = cells[cells["state"] == "value"]
    assert (
        set(values["verdict"]) == {"not comparable"}
        and values["reason"].str.contains("The paper has no such dataset").all()
        and len(values) == 3
    )
    assert set(table_own([], listed)["state"]) == {"not run"}


class Rows(HTMLParser):
    """The texts of a table's body cells, by row."""

    def __init__(self, text):
        super().__init__()
        self.rows = []
        self.feed(text)
        self.rows = [[cell.strip() for cell in row] for row in self.rows]

    def handle_starttag(self, tag, _):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def test_a_zero_differs_from_not_run_illegible_and_not_reported():
    cells = table_a4(
        rows([[0.0, 0.0]]), tables.task_names(), datasets=["door-human-v0", "hopper-expert-v2"]
    )
    text = to_html(cells, "caption", "t")
    by_name = {r[0]: r for r in Rows(text).rows}
    head = by_name["dataset"]
    ours = by_name["door-human-v0: ours, profile lite, released, rebuilt data"]
    assert ours[head.index("ARQ + sψ")].startswith("0.0") and ours[head.index("CQL")] == "not run"
    assert (
        by_name["hopper-expert-v2: ours"][1].startswith("not run")
        and len(by_name["hopper-expert-v2: ours"]) == 2
    )
    assert by_name["door-human-v0paper"][head.index("ARQ + πϕ")] == "0 ± 0.4"
    assert by_name["hopper-expert-v2paper"][head.index("Implicit BC")] == "illegible2, 3"
    assert by_name["door-human-v0paper"][head.index("AWAC")] == "–not reported"
    assert "illegible in the available copy" in text


def test_a_table_has_heads_with_scope_a_caption_and_a_focusable_region():
    text = to_html(table_a4([], tables.task_names()), "A caption & more", "t")
    assert text.count("<th ") == text.count('<th scope="') and "A caption &amp; more" in text
    assert (
        'role="region" tabindex="0" aria-labelledby="t-caption"' in text
        and 'id="t-caption"' in text
    )
    rows_ = Rows(text).rows
    assert {len(r) for r in rows_ if len(r) > 2} == {1 + len(PUBLISHED)}
    # one line of ours each: nothing was run
    assert text.count(f'colspan="{len(PUBLISHED)}"') == sum(len(r) == 2 for r in rows_) == 40


def test_minus_zero_is_zero_and_minus_is_a_minus_sign():
    assert [number(x, 1) for x in (-0.04, 0.0, -1.25, 10)] == ["0.0", "0.0", "−1.2", "10.0"]


def test_an_unknown_dataset_or_group_is_refused():
    with pytest.raises(ValueError, match="door-human'.*expected one of.*door-human-v0"):
        table_a4([], TASKS, datasets=["door-human"])
    with pytest.raises(ValueError, match="group"):
        table_a4([], TASKS, groups=["adroit"])


def test_our_total_needs_every_dataset():
    names = {f"{task}-human": f"{task}-human-v0" for task in ("pen", "door", "relocate", "hammer")}
    known = {name: task for task, name in tables.task_names().items()}
    tasks = {known[name]: name for name in names.values()}
    some = [r for task in list(tasks)[:3] for r in rows([[10.0], [12.0]], task=task)]
    three = table_2(some, tasks)
    three = three[
        (three["line"] == "ours") & (three["dataset"] == "adroit-human (4 datasets)")
    ].set_index("method")
    assert (
        set(three["state"]) == {"not run"}
        and three.loc["arq+s_psi", "reason"] == "3 of its 4 datasets were run."
    )
    cells = table_2(some + rows([[2.0], [2.0]], task=list(tasks)[3], fidelity="official"), tasks)
    ours = cells[(cells["line"] == "ours") & (cells["state"] == "value")]
    assert ours[["dataset", "detail"]].values.tolist() == [
        ["adroit-human (4 datasets)", "profile lite, released, official and rebuilt data"]
    ]
    total = ours.iloc[0]
    assert (
        total["mean"] == 35
        and total["std"] == pytest.approx(np.sqrt(6))
        and len(total["jobs"]) == 4
        and total["verdict"] == "not comparable"
    )
    paper = published().query(
        "table == 'a4' and method == 'arq+s_psi' and dataset in @names.values()"
    )
    assert total["paper_mean"] == 90 and total["paper_std"] == pytest.approx(
        np.sqrt((paper["std"] ** 2).sum())
    )
    assert total["difference"] == pytest.approx(
        (35 - 90) / np.hypot(np.sqrt(6), total["paper_std"])
    )


def ours_of(cells, method):
    return cells[(cells["line"] == "ours") & (cells["method"] == method)].iloc[0]


def test_a_cell_of_ours_has_everything_that_leads_back_to_its_rows():
    cells = table_a4(rows([[10.0, 12.0], [8.0, 6.0]]), TASKS, datasets=["door-human-v0"])
    cell = ours_of(cells, "arq+s_psi")
    assert (
        cell["jobs"] == ("door-human.lite.arq+s_psi.released",)
        and cell["commits"] == ("abc",)
        and cell["data"] == ("0" * 64,)
    )
    assert (
        cell["difference"] == pytest.approx((9 - 10) / np.hypot(np.sqrt(8), 4.9))
        and cell["verdict"] == "not comparable"
    )
    assert "profile lite" in cell["reason"] and "2 × 2" in cell["reason"]
    text = to_html(cells, "caption", "t", "../evidence/")
    assert (
        'href="../evidence/door-human.html#door-human.lite.arq+s_psi.released"><b>9.0</b> '
        "<span>± 2.8</span></a>" in text
    )
    # the title, what the word opens, the list on paper
    assert html.unescape(text).count("A smaller budget than the paper's: profile lite") == 3


def test_a_recorded_budget_below_the_papers_is_not_the_papers():
    ours = rows(np.full((3, 100), 10.0), profile="paper")
    job = "door-human.paper.arq+s_psi.released"
    full = dict(
        score_steps=300_000,
        q_steps=1_000_000,
        q_beta_steps=1_000_000,
        policy_steps=1_000_000,
        transitions=0,
    )
    for budget, word in (
        (full, "reproduced"),
        (full | dict(q_steps=20), "not comparable"),
        (full | dict(transitions=500), "not comparable"),
    ):
        cell = ours_of(table_a4(ours, TASKS, runs={job: {"budget": budget}}), "arq+s_psi")
        assert cell["verdict"] == word, cell["reason"]
    assert "at most 500 transitions" in cell["reason"]


def test_a_failed_cell_is_neither_a_number_nor_not_run():
    cells = table_a4(rows([[0.0, 0.0]]), TASKS, datasets=["door-human-v0"], failures=[FAILURE])
    failed = ours_of(cells, "s_psi")
    assert (failed["state"], failed["verdict"]) == ("failed", "failed") and np.isnan(failed["mean"])
    assert (
        "no such <door>" in failed["reason"]
        and "line 3" not in failed["reason"]
        and FAILURE["log"] in failed["reason"]
    )
    text = to_html(cells, "caption", "t")
    assert 'class="arq-failed"' in text and "no such &lt;door&gt;" in text and "<door>" not in text


def test_a_number_whose_cell_failed_later_stays_and_says_so():
    cell = ours_of(
        table_a4(rows([[3.0, 5.0]]), TASKS, failures=[FAILURE | dict(method="arq+s_psi")]),
        "arq+s_psi",
    )
    assert cell["mean"] == 4 and cell["verdict"] == "failed" and "earlier run" in cell["reason"]


def test_a_broken_list_of_failures_is_named(tmp_path):
    path = tmp_path / "failed.json"
    assert read_failures(path) == []
    for text, message in (
        ("[", "failed.json: saw"),
        ('[{"task": "x"}]', "without error"),
        ('{"a": 1}', "expected a list"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ResultsError, match=message):
            read_failures(path)


def test_the_largest_budget_comes_first():
    both = (
        rows([[1.0]], profile="ci") + rows([[1.0]], profile="paper") + rows([[1.0]], profile="lite")
    )
    cells = table_a4(both, TASKS, datasets=["door-human-v0"])
    assert list(dict.fromkeys(cells["profile"])) == ["", "paper", "lite", "ci"]


def test_the_legend_explains_every_word_a_cell_can_show():
    text = legend_html()
    for word in (*WORDS, "illegible", "not run", "a dash"):
        assert f">{word}<" in text or f"> {word}<" in text, word


def test_tasks_name_datasets_of_the_paper():
    names = set(published().query("table == 'a4'")["dataset"])
    assert (
        set(tables.task_names().values()) <= names
        and tables.task_names()["door-human"] == "door-human-v0"
    )


def test_no_number_of_the_paper_is_typed_into_a_page():
    for page in sorted((paths.DATA.parent / "book").glob("*.md")):
        assert not re.search(r"\d ± \d", page.read_text(encoding="utf-8")), page


def test_the_number_of_a_smoke_test_is_called_so_stands_beside_nothing_and_is_not_bold():
    cells = table_a4(rows([[10.0, 12.0], [8.0, 6.0]], profile="ci"), TASKS)
    ours = cells[(cells["line"] == "ours") & (cells["state"] == "value")].iloc[0]
    assert ours["verdict"] == "smoke test" and ours["mean"] == 9 and ours["difference"] is None
    shown = to_html(cells, "caption", "a4")
    assert "9.0 ± 2.8" in shown and "<b>9.0</b>" not in shown and "smoke test" in shown
    # it is folded: outside of what opens there is its name and no number
    (line,) = re.findall(r'<tr class="arq-ours" data-profile="ci".*?</tr>', shown, re.S)
    outside = re.sub(r"(</summary>).*?(</details>)", r"\1\2", line, flags=re.S)
    said = re.sub("<[^>]*>", "", re.sub('title="[^"]*"', "", outside))
    assert "smoke test" in said and not re.search(r"\d\.\d|Δ|±", said)
    assert "<b>9.0</b>" in to_html(table_a4(rows([[9.0]]), TASKS), "caption", "a4")
    assert table_a4(rows([[9.0]]), TASKS)["verdict"].isin(["smoke test"]).sum() == 0
