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
<style>.toggle {{ padding: 0 25px }} .toggle-hidden {{ padding: 0 }}</style>
<div class="admonition toggle toggle-hidden"><button
onclick="this.parentElement.classList.toggle('toggle-hidden')">solution</button>
<div class="math" id="unfolded">\\[ {long} \\]</div></div>
</body></html>"""
LOOK = """id => {
  const box = document.getElementById(id), equation = box.querySelector("mjx-container");
  const size = parseFloat(getComputedStyle(equation).fontSize);
  return {cut: box.scrollWidth - box.clientWidth, size};
}"""


@pytest.fixture
def page(reused, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(
        PAGE.format(static=STATIC.as_uri(), long=r"x_{t+1} = x_t + f(x_t)\, h + " * 3 + "z"),
        encoding="utf-8",
    )
    with reused.page(viewport={"width": 1280, "height": 800}) as page:
        page.goto(path.as_uri())
        page.wait_for_function(
            "document.querySelectorAll('mjx-container').length == 6 &&"
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


def test_one_in_a_solution_is_fitted_again_when_the_solution_unfolds(page):
    narrow(page)
    before = page.evaluate(LOOK, "unfolded")
    page.locator("button").click()
    page.wait_for_timeout(100)
    after = page.evaluate(LOOK, "unfolded")
    assert before["cut"] <= 1 and after["cut"] <= 1 and after["size"] < before["size"]


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


def test_how_small_it_may_get_is_a_share_of_the_text_whatever_mathjax_chose(page):
    """In a box of another font MathJax sets an equation a quarter larger."""
    page.evaluate("document.querySelector('#tagged mjx-container').dataset.size = '150%'")
    narrow(page, 400)
    after = page.evaluate(LOOK, "tagged")
    assert after["cut"] <= 1 and 8 <= after["size"] < 12


def test_a_figure_is_not_so_small_on_a_phone_that_its_letters_are_lost(chromium, tmp_path):
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="{}" height="90"/>'
    for name, width in {"wide": 700, "small": 300}.items():
        (tmp_path / f"{name}.svg").write_text(svg.format(width), encoding="utf-8")
    box = '<span class="arq-wide"><img id="{0}" src="{0}.svg" style="max-width: 100%"></span>'
    (tmp_path / "page.html").write_text(
        f'<!doctype html><link rel="stylesheet" href="{(STATIC / "book.css").as_uri()}">'
        f'<script src="{(STATIC / "fit.js").as_uri()}"></script>'
        f"<body>{box.format('wide')}{box.format('small')}</body>",
        encoding="utf-8",
    )
    with chromium.new_context(viewport={"width": 390, "height": 800}) as context:
        page = context.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_function("document.querySelector('.arq-wide').dataset.more === 'right'")
        shown = "id => document.getElementById(id).clientWidth"
        assert page.evaluate(shown, "wide") == 490 and page.evaluate(shown, "small") == 300
        narrow(page, 1280)
        assert page.evaluate(shown, "wide") == 700
        assert page.locator("[data-more]").count() == 0
