"""The paper's tables: transcription checked against their own totals, and cells that cannot be mistaken for one another."""
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from test_results import rows

from arq_core import tables
from arq_core.tables import GROUPS, METHODS, members, published, table_2, table_a4, table_own, to_html

TASKS = {"door-human": "door-human-v0"}


def test_table_2_is_table_a4_added_up_within_rounding():
    cells = published()
    single, checked = cells[cells["table"] == "a4"], 0
    for total in cells[cells["table"] == "2"].itertuples():
        which = members(total.group)
        part = single[single["group"].isin(which["groups"]) & single["dataset"].str.contains(which["parts"][0], regex=False)]
        means = part.loc[part["method"] == total.method, "mean"]
        n = part["dataset"].nunique()
        assert len(means) == n, (total.group, total.method)
        if means.notna().all():
            checked += 1
            rounding = 0.5 + 2 * np.sqrt(n / 12)              # two std of n rounding errors, and the total's own
            assert abs(means.sum() - total.mean) <= rounding, (total.group, total.method, means.sum(), total.mean)
    assert checked == 68


def test_every_published_cell_is_shown_once():
    cells = published()
    single = cells[cells["table"] == "a4"]
    assert set(cells["method"]) <= set(METHODS) and set(single["group"]) == set(GROUPS)
    shown = table_a4([], TASKS)
    assert len(shown) == 40 * len(METHODS)
    assert (shown["state"] == "value").sum() == single["mean"].notna().sum() == 369
    assert (shown["state"] == "illegible").sum() == single["mean"].isna().sum() == 11


def test_the_papers_door_row_is_beside_ours():
    cells = table_a4(rows([[10.0, 12.0], [8.0, 6.0]]), TASKS, datasets=["door-human-v0"])
    paper = cells[cells["line"] == "paper"].set_index("method")["mean"]
    assert paper[["s_psi", "q_beta+s_psi", "arq+pi", "arq+s_psi"]].tolist() == [9, 11, 0, 10]
    ours = cells[cells["line"] == "ours"].set_index("method")
    assert ours.loc["arq+s_psi", ["mean", "n", "detail"]].tolist() == [9.0, "2 × 2", "ci, released, rebuilt data"]
    assert ours.loc["arq+s_psi", "std"] == pytest.approx(np.sqrt(8))
    assert set(ours.drop("arq+s_psi")["state"]) == {"not run"}


@pytest.mark.parametrize("fidelity", ["recollected", "own"])
def test_data_of_our_own_is_never_beside_the_papers_number(fidelity):
    ours = [row | dict(fidelity=fidelity) for row in rows([[10.0, 12.0]])]
    assert set(table_a4(ours, TASKS)["line"]) == {"paper"}


def test_recollected_datasets_have_a_table_without_the_paper(tmp_path):
    listed = tmp_path / "tasks.csv"
    listed.write_text("task,suite\nlift-ph-recollected,recollected-robomimic\nhopper-medium-recollected,recollected-locomotion\nmaze,ours\n")
    ours = [row | dict(fidelity="recollected", task=task) for task in ("lift-ph-recollected", "hopper-medium-recollected", "maze")
            for row in rows([[10.0, 12.0], [8.0, 6.0]])]
    cells = table_own(ours, listed)
    assert list(dict.fromkeys(cells["dataset"])) == ["hopper-medium-recollected", "lift-ph-recollected"] and set(cells["line"]) == {"ours"}
    assert "recollected data" in to_html(cells, "caption", "own") and "Robot arm" in to_html(cells, "caption", "own")
    assert table_own([], listed).empty


class Rows(HTMLParser):
    """The texts of a table's body cells, by row."""

    def __init__(self, text):
        super().__init__()
        self.rows = []
        self.feed(text)

    def handle_starttag(self, tag, _):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def test_a_zero_differs_from_not_run_illegible_and_not_reported():
    cells = table_a4(rows([[0.0, 0.0]]), TASKS, datasets=["door-human-v0", "hopper-expert-v2"])
    text = to_html(cells, "caption", "t")
    by_name = {r[0]: r for r in Rows(text).rows}
    head = by_name["dataset"]
    ours = by_name["door-human-v0ours, ci, released, rebuilt data"]
    assert ours[head.index("ARQ + sψ")].startswith("0.0") and ours[head.index("IQL")] == "not run"
    assert by_name["door-human-v0paper"][head.index("ARQ + πϕ")] == "0 ± 0.4"
    assert by_name["hopper-expert-v2paper"][head.index("Implicit BC")] == "illegible1"
    assert by_name["door-human-v0paper"][head.index("AWAC")] == "–not reported"
    assert "illegible in the available copy" in text


def test_a_table_has_heads_with_scope_a_caption_and_a_focusable_region():
    text = to_html(table_a4([], TASKS), "A caption & more", "t")
    assert text.count("<th ") == text.count('<th scope="') and "A caption &amp; more" in text
    assert 'role="region" tabindex="0" aria-labelledby="t-caption"' in text and 'id="t-caption"' in text
    widths = {len(r) for r in Rows(text).rows if len(r) > 1}
    assert widths == {1 + len(METHODS)}


def test_minus_zero_is_zero_and_minus_is_a_minus_sign():
    assert [tables._number(x, 1) for x in (-0.04, 0.0, -1.25, 10)] == ["0.0", "0.0", "−1.2", "10.0"]


def test_an_unknown_dataset_or_group_is_refused():
    with pytest.raises(ValueError, match="door-human'.*expected one of.*door-human-v0"):
        table_a4([], TASKS, datasets=["door-human"])
    with pytest.raises(ValueError, match="group"):
        table_a4([], TASKS, groups=["adroit"])


def test_our_total_needs_every_dataset():
    names = {f"{task}-human": f"{task}-human-v0" for task in ("pen", "door", "relocate", "hammer")}
    some = [r for task in list(names)[:3] for r in rows([[10.0]], task=task)]
    assert "ours" not in set(table_2(some, names)["line"])
    cells = table_2(some + rows([[2.0]], task="hammer-human"), names)
    ours = cells[cells["line"] == "ours"]
    assert set(ours["dataset"]) == {"adroit-human (4 datasets)"}
    assert ours.set_index("method").loc["arq+s_psi", "mean"] == 32 and (ours["state"] == "value").sum() == 1


def test_tasks_name_datasets_of_the_paper():
    names = set(published().query("table == 'a4'")["dataset"])
    assert set(tables.task_names().values()) <= names and tables.task_names()["door-human"] == "door-human-v0"


def test_no_number_of_the_paper_is_typed_into_a_page():
    for page in sorted((tables.DATA.parent / "book").glob("*.md")):
        assert not re.search(r"\d ± \d", page.read_text()), page
