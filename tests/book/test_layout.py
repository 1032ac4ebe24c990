"""What is wider than its place is found in a browser, and what scrolls shows it (arq layout)."""

import pytest
from sphinx_books import ROOT, file

from arq_core.book import layout

STATIC = ROOT / "book/_static"
PAGE = """<!doctype html><html><head><meta name="viewport" content="width=device-width">
<style>body {{ margin: 0 }} article {{ padding: 16px }}</style>{head}</head>
<body><article>{body}</article></body></html>"""
BOOK = (
    f'<link rel="stylesheet" href="{(STATIC / "book.css").as_uri()}">'
    f'<script src="{(STATIC / "fit.js").as_uri()}"></script>'
)
WIDE = '<div style="width: 600px; height: 20px">wide</div>'


@pytest.fixture
def faults(reused, tmp_path):
    """faults(body, head): what is found on a page, by width."""

    def found(body, head=""):
        path = file(tmp_path / "page.html", PAGE.format(head=head, body=body))
        with reused.page() as page:
            return layout.faults(page, path)

    return found


@pytest.mark.parametrize(
    "body, words",
    [
        (f"<figure>{WIDE}</figure>", "the page: "),
        (f'<div style="overflow: hidden">{WIDE}</div>', "cut by 242 px"),
        (f'<div style="overflow-x: auto">{WIDE}</div>', "does not show it"),
        (f'<details><div style="overflow: hidden">{WIDE}</div></details>', "cut by 242 px"),
        ('<table style="margin-left: -30px"><tr><td>x</td></tr></table>', "<table> x"),
        ("<mjx-merror>no such macro</mjx-merror>", "a formula that is an error"),
    ],
)
def test_what_does_not_fit_a_phone_is_found(faults, body, words):
    found = faults(body)
    assert [f for f in found if f.startswith("at 390 px: ") and words in f], found


def test_what_fits_is_no_fault(faults):
    body = (
        '<p>words</p><table><tr><td>x</td></tr></table><div style="overflow-x: auto">short</div>'
        f'<div style="width: 1px; height: 1px; overflow: hidden">{WIDE}</div>'
        f'<div style="display: none; overflow: hidden">{WIDE}</div>'
    )
    assert faults(body) == []


def test_a_box_of_the_book_that_scrolls_fades_where_there_is_more(chromium, faults, tmp_path):
    body = f'<div class="arq-scroll">{WIDE}</div>'
    assert faults(body, BOOK) == []
    with chromium.new_context(viewport={"width": 390, "height": 600}) as context:
        page = context.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_function(layout.STANDS)
        box = page.locator(".arq-scroll")
        mask = "e => getComputedStyle(e).maskImage"
        assert box.get_attribute("data-more") == "right" and "gradient" in box.evaluate(mask)
        assert box.get_attribute("tabindex") == "0"
        box.evaluate("e => { e.scrollLeft = 1000 }")
        page.wait_for_function("document.querySelector('.arq-scroll').dataset.more === 'left'")
        assert box.evaluate(mask) == "none"
        page.set_viewport_size({"width": 1280, "height": 600})
        page.wait_for_function("!('more' in document.querySelector('.arq-scroll').dataset)")


def test_code_of_a_page_fits_a_laptop_and_that_of_the_library_may_scroll(faults):
    code = '<div class="highlight"><pre style="overflow-x: auto">' + 300 * "x" + "</pre></div>"
    assert [f for f in faults(code, BOOK) if "a line of code is" in f and "1280" in f]
    assert faults(f'<div class="literal-block-wrapper">{code}</div>', BOOK) == []


def frame(cells):
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    table = f'<table class="dataframe"><tbody><tr>{body}</tr></tbody></table>'
    return f'<div class="cell_output"><div class="text_html"><div>{table}</div></div></div>'


SIZE = "() => parseFloat(getComputedStyle(document.querySelector('td')).fontSize)"


def test_a_notebooks_table_breaks_its_words_then_is_set_smaller_and_else_is_a_fault(faults):
    words, numbers = frame(9 * ["several words, many of them"]), frame(34 * ["1234"])
    assert faults(words, BOOK) == [] == faults(numbers, BOOK)
    found = faults(frame(80 * ["1234"]), BOOK)
    assert len(found) == 1 and "at 1280 px: a table is" in found[0]


def test_a_table_that_fits_keeps_its_size_and_gets_it_back(reused, tmp_path):
    path = file(tmp_path / "page.html", PAGE.format(head=BOOK, body=frame(34 * ["1234"])))
    with reused.page(viewport={"width": 2000, "height": 600}) as page:
        page.goto(path.as_uri())
        page.wait_for_function(layout.STANDS)
        own = page.evaluate(SIZE)
        page.set_viewport_size({"width": 1280, "height": 600})
        page.wait_for_function(f"({SIZE})() < {own}")
        assert page.evaluate(SIZE) >= 0.8 * own
        page.set_viewport_size({"width": 2000, "height": 600})
        page.wait_for_function(f"({SIZE})() === {own}")


def test_pages_are_chosen_by_name_and_none_is_an_error(tmp_path):
    for name in ("a", "executed/b", "_static/c"):
        file(tmp_path / f"{name}.html")
    names = lambda *wanted: [p.stem for p in layout.built(tmp_path, wanted)]
    assert names() == ["a", "b"] and names("executed/b.html") == ["b"]
    for name, text in {"1": layout.PLAIN, "2": layout.PLAIN + " longer", "3": "<body>"}.items():
        file(tmp_path / f"evidence/{name}.html", text)
    every = layout.built(tmp_path)
    assert [p.stem for p in layout.one_of_each_kind(every)] == ["a", "3", "b", "2"]
    with pytest.raises(layout.LayoutError, match="run `make book` first"):
        names("c")
