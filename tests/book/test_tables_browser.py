"""The tables of results in a built page that nothing serves: sorted, filtered and read by hand,
by keys, on a telephone, on paper, in the dark.
"""

import html
import json
import re
import shutil
from contextlib import ExitStack

import browser
import numpy as np
import pytest
from example_rows import rows

from arq_core.book.tables import number
from arq_core.results.paper import published
from arq_core.results.records import write_run
from arq_core.results.rows import file_name, write_rows

ROOT = browser.ROOT
PAGE = (
    "# Results\n\n```{table-legend}\n```\n\n```{table-a4} All of "
    "A.4\n```\n\n```{table-2} Totals\n```\n\n```{table-own} Our "
    "own\n```\n\n```{table-files}\n```\n"
)
MINUTE = (
    "# In a minute\n\n```{results-strip}\n```\n\n```{results-dots} paper\n```\n\n"
    "```{table-a4} All of A.4\n:folded:\n:anchors:\n```\n\n```{results-dots} own\n```\n\n"
    "```{table-own} Our own\n:folded:\n:anchors:\n```\n"
)
NAME = file_name("door-human", "lite", "arq+s_psi", "released")
FAILED = dict(
    task="door-human",
    profile="lite",
    method="s_psi",
    variant="released",
    step="q",
    notebook="n",
    error="Out of memory",
    log="q.log",
)


def build(folder):
    """The book's own theme and settings around a page with all tables, and one with the results in
    a minute: every verdict occurs in them. Returns the folder of its pages.
    """
    shutil.copytree(
        ROOT / "book/_static", folder / "book/_static", ignore=shutil.ignore_patterns("mathjax")
    )
    for name, text in {
        "references.bib": "",
        "results.md": PAGE,
        "minute.md": MINUTE,
        "_toc.yml": "format: jb-book\nroot: results\nchapters:\n- file: minute\n",
    }.items():
        (folder / "book" / name).write_text(text, encoding="utf-8")
    kept = folder / "data/results"
    kept.mkdir(parents=True)
    for name in ("published.csv", "tasks.csv"):
        shutil.copy(ROOT / "data" / name, folder / "data")
    write_rows(kept / NAME, rows([[0.0, 0.0], [0.0, 0.0]], profile="lite"))
    write_run(kept / NAME, {"hyper": {"n": 30}, "budget": {"q_steps": 600}})
    three = np.repeat([[90.0], [88.0], [89.0]], 100, axis=1)
    full = dict(profile="paper", fidelity="official", task="hopper-expert-v2")
    write_rows(
        kept / "hopper-expert-v2.paper.s_psi.released.jsonl", rows(three, method="s_psi", **full)
    )
    write_rows(
        kept / "hopper-expert-v2.paper.arq+pi.released.jsonl",
        rows(three - 60, method="arq+pi", **full),
    )
    write_rows(
        kept / "lift-ph-recollected.lite.s_psi.released.jsonl",
        rows(
            [[50.0], [70.0]],
            task="lift-ph-recollected",
            method="s_psi",
            profile="lite",
            fidelity="recollected",
        ),
    )
    write_rows(
        kept / file_name("can-ph-recollected", "ci", "s_psi", "released"),
        rows([[5.0], [7.0]], task="can-ph-recollected", method="s_psi", fidelity="recollected"),
    )
    (folder / "_build/grid").mkdir(parents=True)
    (folder / "_build/grid/failed.json").write_text(json.dumps([FAILED]), encoding="utf-8")
    return browser.pages_of(folder)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    return build(tmp_path_factory.mktemp("tables"))


class Shown(browser.Watched):
    """The results page, or another one, in a window that no other test has."""

    def __init__(self, page, home, path):
        super().__init__(page, home)
        page.set_default_timeout(60_000)
        page.goto(home + path)
        self.a4 = page.locator("figure.arq-results").nth(0)

    def blocks(self):
        """Names of the datasets of Table A.4 that can be seen, from the top."""
        return self.a4.evaluate(
            "f => [...f.querySelectorAll('tbody[data-dataset]')].filter(b => "
            "b.offsetHeight).map(b => b.dataset.dataset)"
        )

    def lines(self):
        return self.a4.evaluate(
            "f => [...f.querySelectorAll('tbody[data-dataset] tr.arq-ours')].filter(r "
            "=> r.offsetHeight).map(r => r.cells[0].innerText)"
        )

    def said(self):
        return self.a4.locator("output").text_content()

    def choose(self, label, value):
        self.a4.get_by_label(label, exact=True).select_option(label=value)


@pytest.fixture
def opened(reused, pages):
    with ExitStack() as stack:

        def make(scheme="file", path="results.html", color_scheme=None, **options):
            home = stack.enter_context(browser.served(pages, scheme))
            page = stack.enter_context(reused.page(**options))
            page.emulate_media(color_scheme=color_scheme)
            shown = Shown(page, home, path)
            stack.callback(shown.leave)
            return shown

        yield make


def paper(method):
    cells = published().query("table == 'a4' and method == @method")
    return cells.set_index("dataset")["mean"].reindex(
        published().query("table == 'a4'")["dataset"].unique()
    )


def test_a_file_needs_no_other_host_and_shows_all_in_the_papers_order(opened):
    shown = opened()
    assert shown.blocks() == list(paper("bc").index) and shown.errors == [] and shown.requests == []
    assert shown.said() == "40 of 40 rows of the table shown, 2 lines of ours with numbers."


def test_a_head_sorts_by_the_papers_numbers_and_what_has_none_comes_last(opened):
    shown = opened()
    head = shown.a4.locator("thead th", has_text="Implicit BC")
    button = head.get_by_role("button")
    button.focus()
    for keys, ascending in (("Enter", False), ("Space", True)):
        button.press(keys)
        assert head.get_attribute("aria-sort") == ("ascending" if ascending else "descending")
        order = paper("ibc").dropna().sort_values(ascending=ascending)
        seen = paper("ibc")[shown.blocks()]
        assert (
            seen[: len(order)].tolist() == order.tolist()
            and seen[len(order) :].isna().all()
            and 0 < seen.isna().sum() < 40
        )
        assert (
            "sorted by Implicit BC (the paper's number), " + ("lowest" if ascending else "highest")
            in shown.said()
        )
        assert shown.a4.locator("[aria-sort]").count() == 1
        assert shown.a4.evaluate(
            "f => [...f.querySelectorAll('tbody.arq-heads')].every(b => !b.offsetHeight)"
        )
    button.press("Enter")
    assert head.get_attribute("aria-sort") is None and shown.blocks() == list(paper("bc").index)


def test_a_column_sorts_by_ours_and_by_the_difference(opened):
    shown = opened()
    head = shown.a4.locator("thead th").filter(has_text=re.compile("^sψ$"))
    for what in ("our number", "the difference Δ"):
        shown.choose("Columns sort by", what)
        if head.get_attribute("aria-sort") is None:
            head.get_by_role("button").click()
        assert shown.blocks()[0] == "hopper-expert-v2" and len(shown.blocks()) == 40
    shown.a4.locator("thead th").first.get_by_role("button").click()
    assert shown.blocks() == sorted(shown.blocks()) and "from A to Z" in shown.said()


def test_filters_by_group_data_profile_and_verdict_with_a_live_count(opened):
    shown = opened()
    assert shown.a4.locator("output").get_attribute("aria-live") == "polite"
    shown.choose("Group", "D4RL Adroit")
    assert len(shown.blocks()) == 8 and shown.said().startswith(
        "8 of 40 rows of the table shown, 1 line of ours"
    )
    shown.choose("Group", "all groups")
    for label, value, dataset in (
        ("Data", "official", "hopper-expert-v2"),
        ("Data", "rebuilt", "door-human-v0"),
        ("Profile", "paper", "hopper-expert-v2"),
        ("Profile", "lite", "door-human-v0"),
        ("Verdict", "reproduced", "hopper-expert-v2"),
        ("Verdict", "failed", "door-human-v0"),
    ):
        shown.choose(label, value)
        assert (
            shown.blocks() == [dataset]
            and len(shown.lines()) == 1
            and shown.said().startswith("1 of 40 rows")
        )
        shown.a4.get_by_role("button", name="No filters").click()
        assert len(shown.blocks()) == 40
    shown.choose("Profile", "lite")
    shown.choose("Data", "official")
    assert shown.blocks() == [] and shown.said().startswith("0 of 40")


def test_every_verdict_looks_its_own_way_and_a_zero_like_a_number(opened):
    shown = opened()
    looks = shown.page.locator(".arq-legend").evaluate(
        "f => [...f.querySelectorAll('tbody tr td:first-child')].map(td => td.innerText.trim())"
    )
    assert len(set(looks)) == len(looks) == 9
    shown.choose("Cells not run", "shown")
    door = shown.a4.locator("tbody[data-dataset='door-human-v0'] tr.arq-ours td")
    texts = door.all_inner_texts()
    assert (
        any(t.startswith("0.0 ± 0.0") and "not comparable" in t for t in texts)
        and any("failed" in t for t in texts)
        and "not run" in texts
    )
    expert = " ".join(
        shown.a4.locator("tbody[data-dataset='hopper-expert-v2'] tr.arq-ours td").all_inner_texts()
    )
    assert (
        "reproduced" in expert
        and "not reproduced" in expert
        and f"Δ {number((29 - 111) / np.hypot(1, 0.2), 1)}" in expert
    )


def test_a_reason_opens_by_key_and_a_number_leads_to_its_evidence(opened):
    shown = opened()
    cell = shown.a4.locator("tbody[data-dataset='door-human-v0'] td.arq-value")
    summary = cell.locator("summary")
    assert not cell.locator("p").is_visible() and "A smaller budget" in summary.get_attribute(
        "title"
    )
    summary.focus()
    summary.press("Enter")
    assert (
        cell.locator("p").is_visible()
        and "A smaller budget than the paper's: profile lite" in cell.locator("p").inner_text()
    )
    cell.get_by_role("link").first.click()
    assert html.unescape(shown.page.url).endswith(
        f"evidence/door-human.html#{NAME.removesuffix('.jsonl')}"
    )
    shown.page.locator("section:target h2").wait_for()
    assert shown.errors == []


@pytest.mark.parametrize(
    "path", ["results.html", "evidence/door-human.html", "evidence/index.html"]
)
def test_it_fits_a_telephone(opened, path):
    shown = opened(path=path, viewport={"width": 390, "height": 844})
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_heads_and_first_column_stay_where_a_table_scrolls(opened):
    at = opened(viewport={"width": 740, "height": 844}).a4.evaluate("""f => {
      const box = f.querySelector('.arq-scroll'), left = e => e.getBoundingClientRect().left;
      const head = f.querySelector('tr.arq-ours th'), top = e => e.getBoundingClientRect().top;
      const cell = f.querySelector('tbody[data-dataset] td');
      const before = left(cell);
      box.scrollLeft = 600;
      const sideways = [box.scrollLeft, left(head) - left(box), before - left(cell)];
      box.scrollTop = 900;
      return [...sideways, box.scrollTop, top(f.querySelector('thead th')) - top(box)] }""")
    assert at[0] > 40 and 0 <= at[1] < 3 and at[2] == pytest.approx(at[0])
    assert at[3] > 200 and 0 <= at[4] < 3


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "path, parts",
    [
        ("results.html", (".arq-legend", "figure.arq-results")),
        ("minute.html", (".arq-strip", ".arq-dots")),
        ("evidence/door-human.html", (".arq-evidence",)),
    ],
)
def test_axe_finds_nothing_serious(opened, axe_source, theme, path, parts):
    shown = opened(path=path, color_scheme=theme)
    shown.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert shown.page.evaluate("document.documentElement.dataset.theme") == theme
    for part in parts:
        assert browser.axe(shown.page, axe_source, part) == []


def test_without_javascript_the_whole_table_is_there(opened):
    shown = opened(java_script_enabled=False)
    assert (
        shown.a4.locator("tbody[data-dataset]:visible").count() == 40
        and shown.a4.locator("form").count() == 0
    )
    summary = shown.a4.locator("tbody[data-dataset='door-human-v0'] td.arq-value summary")
    summary.click()
    assert shown.a4.locator("tbody[data-dataset='door-human-v0'] td.arq-value p").is_visible()


def test_paper_shows_all_whatever_was_filtered_with_the_reasons_as_a_list(opened):
    shown = opened()
    shown.choose("Profile", "lite")
    assert len(shown.blocks()) == 1
    shown.page.emulate_media(media="print")
    assert len(shown.blocks()) == 40 and not shown.a4.locator("form").is_visible()
    told = shown.a4.locator(".arq-printed li").all_inner_texts()
    assert (
        len(told) == 4
        and all(shown.a4.locator(".arq-printed").is_visible() for _ in told)
        and any("Out of memory" in t for t in told)
    )
    # a sheet of A4 on its side, at 96 dots an inch
    shown.page.set_viewport_size({"width": 1000, "height": 700})
    assert shown.a4.evaluate("f => f.querySelector('table').scrollWidth <= f.clientWidth")


def test_the_other_tables_sort_and_filter_too(opened):
    shown = opened()
    totals, own = (
        shown.page.locator("figure.arq-results").nth(1),
        shown.page.locator("figure.arq-results").nth(2),
    )
    totals.locator("thead th", has_text="IQL").get_by_role("button").click()
    first = totals.evaluate("f => f.querySelector('tbody[data-dataset]').dataset.dataset")
    assert first.startswith("d4rl+robomimic")
    own.get_by_label("Profile", exact=True).select_option(label="lite")
    assert (
        own.locator("output").text_content().startswith("1 of ")
        and own.locator("tbody[data-dataset='lift-ph-recollected']").is_visible()
    )


def test_a_served_page_is_as_quiet(opened):
    shown = opened("http")
    assert shown.errors == [] and shown.requests == [] and len(shown.blocks()) == 40


PARTS = ".arq-strip, .arq-dots, .arq-results"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["minute.html", "results.html"])
def test_nothing_is_wider_than_its_box(opened, path, width):
    shown = opened(path=path)
    folded = "document.querySelectorAll('details.arq-folded').forEach(d => { d.open = true; })"
    shown.page.evaluate(folded)
    assert browser.overflow(shown.page, width, PARTS) == []
    boxes = shown.page.evaluate(
        "() => [...document.querySelectorAll('.arq-scroll')].map(b => "
        "b.scrollWidth - b.clientWidth)"
    )
    assert boxes and max(boxes) <= 1


@pytest.mark.parametrize("way", ["hover", "focus"])
def test_a_square_shows_its_words_when_pointed_at_or_reached_by_keys(opened, way):
    shown = opened(path="minute.html")
    square = shown.page.locator(".arq-strip a", has_text="hopper-expert-v2")
    words, hint = square.locator(".arq-told"), shown.page.locator(".arq-told-hint")
    assert words.bounding_box()["width"] <= 1 and hint.is_visible()
    if way == "hover":
        square.hover()
    else:
        # the focus of keys, not of a pointer
        shown.page.locator(".arq-strip a").first.focus()
        shown.page.keyboard.press("Tab")
        shown.page.keyboard.press("Shift+Tab")
    box, outer = words.bounding_box(), shown.page.locator(".arq-strip").bounding_box()
    assert box["width"] > 300 and not hint.is_visible()
    assert outer["y"] <= box["y"] and box["y"] + box["height"] <= outer["y"] + outer["height"]
    assert words.inner_text().startswith("hopper-expert-v2: not reproduced. Ours, profile paper")


def test_every_square_is_reached_by_keys_in_the_papers_order(opened):
    shown = opened(path="minute.html")
    shown.page.locator(".arq-strip a").first.focus()
    seen = []
    for _ in range(40):
        seen.append(shown.page.evaluate("document.activeElement.querySelector('b').textContent"))
        shown.page.keyboard.press("Tab")
    assert seen == list(paper("bc").index)


def test_a_click_on_a_square_opens_the_table_at_its_line(opened):
    shown = opened(path="minute.html")
    line = shown.page.locator("#line-kitchen-mixed-v0")
    assert not line.is_visible()
    shown.page.locator(".arq-strip a", has_text="kitchen-mixed-v0").click()
    line.wait_for()
    near = "e => { const y = e.getBoundingClientRect().top; return y >= 0 && y < innerHeight }"
    assert line.evaluate(near)
    # a filter that hides it gives way, and so does a table that was closed again
    shown.choose("Group", "D4RL Adroit")
    assert not line.is_visible()
    shown.page.locator("details.arq-folded > summary").first.click()
    shown.page.locator(".arq-strip a", has_text="kitchen-mixed-v0").click()
    line.wait_for()
    assert line.evaluate(near) and shown.errors == []


def test_an_address_that_names_a_line_opens_its_table(opened):
    shown = opened(path="minute.html#line-kitchen-mixed-v0")
    shown.page.locator("#line-kitchen-mixed-v0").wait_for()


def test_what_was_not_run_is_hidden_until_it_is_chosen(opened):
    shown = opened()
    kitchen = shown.a4.locator("tbody[data-dataset='kitchen-mixed-v0'] tr.arq-ours")
    assert not kitchen.is_visible() and "kitchen-mixed-v0" in shown.blocks()
    own = shown.page.locator("figure.arq-results").nth(2)
    sets = own.locator("tbody[data-dataset]:visible")
    before = sets.count()
    assert before == 2
    shown.choose("Cells not run", "shown")
    assert kitchen.inner_text().endswith("not run. No run of it is recorded.")
    own.get_by_label("Cells not run").select_option(label="shown")
    assert sets.count() > 20
    shown.a4.get_by_role("button", name="No filters").click()
    assert not kitchen.is_visible()
    shown.choose("Verdict", "not run")
    assert kitchen.is_visible() and len(shown.blocks()) == 38


def test_a_smoke_test_is_grey_and_shows_its_number_when_it_is_opened(opened):
    own = opened().page.locator("figure.arq-results").nth(2)
    line = own.locator("tbody[data-dataset='can-ph-recollected'] tr.arq-ours")
    assert "smoke test" in line.inner_text() and "6.0" not in line.inner_text()
    grey, plain = (
        own.locator(f"tbody[data-dataset='{name}'] td").first.evaluate(
            "e => getComputedStyle(e).color"
        )
        for name in ("can-ph-recollected", "lift-ph-recollected")
    )
    assert grey != plain and line.locator("b").count() == 0
    line.locator("summary").click()
    assert "6.0 ± 1.4" in line.inner_text() and "Δ" not in line.inner_text()


def test_on_a_telephone_a_dataset_is_a_card_whose_cells_name_their_methods(opened):
    shown = opened(viewport={"width": 390, "height": 844})
    door = shown.a4.locator("tbody[data-dataset='door-human-v0']")
    assert not shown.a4.locator("thead th").first.is_visible()
    box = door.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    heads = door.locator("td[data-head]:visible").evaluate_all(
        "all => all.map(e => getComputedStyle(e, '::before').content)"
    )
    assert heads and all(h.strip('"').strip() for h in heads) and '"ARQ + sψ "' in heads[0]
