"""No equation is cut: one that is wider than the page is set smaller (book/_static/fit.js)."""

import pytest
from sphinx_books import ROOT

STATIC = ROOT / "book/_static"
PAGE = """<!doctype html><html><head>
<script>window.MathJax = {{options: {{enableMenu: false}}}}</script>
<script defer src="{static}/mathjax/tex-chtml-full.js"></script>
<script src="{static}/fit.js"></script>
<style>body {{ margin: 16px }} div.math {{ overflow-x: auto }}</style></head><body>
<div class="math" id="short">\\[ a = b \\]</div>
<div class="math" id="long">\\[ {long} \\]</div>
<div class="math" id="tagged">\\[ {long} \\tag{{S1}} \\]</div>
<p style="margin: 0">so <span class="math" id="inline"
style="display: inline-flex; max-width: 100%; overflow: hidden">\\( {long} \\)</span></p>
<details><summary>more</summary><div class="math" id="folded">\\[ {long} \\]</div></details>
</body></html>"""
LOOK = """id => {
  const box = document.getElementById(id), equation = box.querySelector("mjx-container");
  const size = parseFloat(getComputedStyle(equation).fontSize);
  return {cut: box.scrollWidth - box.clientWidth, size};
}"""


@pytest.fixture
def page(chromium, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(
        PAGE.format(static=STATIC.as_uri(), long=r"x_{t+1} = x_t + f(x_t)\, h + " * 3 + "z"),
        encoding="utf-8",
    )
    with chromium.new_context(viewport={"width": 1280, "height": 800}) as context:
        page = context.new_page()
        page.goto(path.as_uri())
        page.wait_for_function(
            "document.querySelectorAll('mjx-container').length == 5 &&"
            "!document.querySelector('mjx-container:not([data-size])')"
        )
        yield page


def narrow(page, width=390):
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_timeout(300)


@pytest.mark.parametrize("equation", ["long", "tagged", "folded"])
def test_an_equation_that_is_wider_than_the_page_is_set_smaller(page, equation):
    page.locator("summary").click()
    before = page.evaluate(LOOK, equation)
    narrow(page)
    after = page.evaluate(LOOK, equation)
    assert before["cut"] <= 1 and after["cut"] <= 1
    assert 0.5 * before["size"] <= after["size"] < before["size"]


def test_a_formula_in_a_line_is_not_cut_either(page):
    room = "() => document.getElementById('inline').getBoundingClientRect().right"
    end = "() => document.querySelector('#inline mjx-math').getBoundingClientRect().right"
    narrow(page)
    assert page.evaluate(end) <= page.evaluate(room) + 1 <= 390


def test_one_that_fits_keeps_its_size_and_a_wide_page_gives_it_back(page):
    short, long = page.evaluate(LOOK, "short"), page.evaluate(LOOK, "long")
    narrow(page)
    assert page.evaluate(LOOK, "short") == short and page.evaluate(LOOK, "long") != long
    narrow(page, 1280)
    assert page.evaluate(LOOK, "long") == long
