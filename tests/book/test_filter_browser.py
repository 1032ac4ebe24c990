"""The lists of datasets are filtered by typing: from a file, by the keyboard, said aloud; and stand
whole without JavaScript and on paper.
"""

import browser
import pytest
from sphinx_books import ROOT, file

from arq_core.book import catalogue
from arq_core.config.tasks import tasks

STATIC = ROOT / "book/_static"
PAGE = """<!doctype html><html lang="en"><head><title>Datasets</title>
<style>:root {{ --pst-color-text-base: #222; --pst-color-text-muted: #555;
--pst-color-background: #fff; --pst-color-border: #ccc; --pst-color-surface: #eee;
--pst-color-primary: #0063a0 }}</style>
<link rel="stylesheet" href="{book}"><link rel="stylesheet" href="{tables}">
<script src="{script}"></script></head><body class="bd-content"><main>{body}</main></body></html>"""
NAMES = ("door-human", "pen-human-v0", "hopper-medium-v2", "lift-ph", "maze")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rows = [row for row in tasks().values() if row.task in NAMES]
    assert len(rows) == len(NAMES)
    links = dict(
        book=(STATIC / "book.css").as_uri(),
        tables=(STATIC / "tables.css").as_uri(),
        script=(STATIC / "filter.js").as_uri(),
    )
    body = catalogue.overview(rows) + catalogue.passports(rows)
    return file(tmp_path_factory.mktemp("filter") / "page.html", PAGE.format(body=body, **links))


@pytest.fixture
def page(reused, path):
    with reused.page() as page:
        page.goto(path.as_uri())
        yield page


SEEN = """(selector) => [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility())
  .map((e) => e.textContent.trim())"""
ROWS = "#datasets-overview tbody tr:not(.arq-group) th"
HEADS = "#datasets-overview tr.arq-group"
PASSPORTS = ".arq-passport summary"


def seen(page, selector):
    return page.evaluate(SEEN, selector)


def test_typing_leaves_the_rows_with_all_words_and_their_headings(page):
    assert len(seen(page, ROWS)) == 5 and len(seen(page, HEADS)) == 4
    page.keyboard.press("Tab")
    page.keyboard.type("HUMAN pEn")
    assert seen(page, ROWS) == ["pen-human-v0official"] and len(seen(page, HEADS)) == 1
    assert len(seen(page, PASSPORTS)) == 5  # a list of its own
    page.keyboard.press("Escape")
    assert len(seen(page, ROWS)) == 5 and len(seen(page, HEADS)) == 4


def test_what_is_folded_is_searched_and_the_count_is_said(page):
    box = page.get_by_role("search", name="Filter the passports").get_by_role("searchbox")
    assert box.get_attribute("id") and page.get_by_label("Show only passports").count() == 1
    said = page.locator("output").nth(1)
    assert said.get_attribute("aria-live") == "polite"
    assert said.text_content() == "5 of 5 passports shown."
    box.fill("rebuilt")
    found = len(seen(page, PASSPORTS))
    assert 0 < found < 5 and said.text_content() == f"{found} of 5 passports shown."
    box.fill("no such words")
    assert seen(page, PASSPORTS) == [] and said.text_content() == "0 of 5 passports shown."
    box.press("Enter")  # goes nowhere
    assert seen(page, PASSPORTS) == [] and page.url.endswith("page.html")


def test_a_word_is_found_anywhere_in_a_name_and_elsewhere_where_it_begins(page):
    box = page.get_by_role("searchbox").first
    box.fill("uman")
    assert len(seen(page, ROWS)) == 2
    box.fill("door-human")
    assert seen(page, ROWS) == ["door-humanrebuilt"]
    box.fill("robosuite")  # the simulator's name
    assert seen(page, ROWS) == ["lift-phofficial"]
    box.fill("bosuite")
    assert seen(page, ROWS) == []


def test_an_address_shows_what_it_names(page):
    page.get_by_role("searchbox").nth(1).fill("maze")
    assert "door-human" not in " ".join(seen(page, PASSPORTS))
    page.evaluate("location.hash = '#passport-door-human'")
    page.wait_for_function("document.querySelector('#passport-door-human').checkVisibility()")
    assert len(seen(page, PASSPORTS)) == 5


def test_on_paper_and_without_javascript_nothing_is_lost(chromium, path, page):
    for box in page.get_by_role("searchbox").all():
        box.fill("maze")
    page.emulate_media(media="print")
    assert len(seen(page, ROWS)) == len(seen(page, PASSPORTS)) == 5
    assert seen(page, "form") == []
    with chromium.new_context(java_script_enabled=False) as context:
        bare = context.new_page()
        bare.goto(path.as_uri())
        assert bare.locator("form").count() == 0
        assert bare.locator(f"{ROWS}:visible").count() == 5
        assert bare.locator(f"{PASSPORTS}:visible").count() == 5


def test_it_fits_a_phone_and_breaks_no_rule_of_accessibility(page, axe_source):
    assert browser.overflow(page, selector="form") == []
    assert browser.axe(page, axe_source, "form") == []
