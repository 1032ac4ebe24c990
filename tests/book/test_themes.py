"""A figure of a notebook can be read on the light page and on the dark one, from one file."""

import colorsys
import io
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import pydata_sphinx_theme
import pytest
import sphinx_book_theme
from matplotlib import pyplot as plt
from PIL import Image
from sphinx_books import ROOT, file, sphinx

from arq_core.book import themes
from arq_core.figures import style

BOOK = Path(sphinx_book_theme.__file__).parent / "theme/sphinx_book_theme/static/styles"
BELOW = Path(pydata_sphinx_theme.__file__).parent / "theme/pydata_sphinx_theme/static/styles"
LOOKS = (
    BELOW / "theme.css",
    BELOW / "pydata-sphinx-theme.css",
    BOOK / "sphinx-book-theme.css",
    ROOT / "book/_static/book.css",
)
PAGE = """<!doctype html><html data-theme="{theme}"><head>{looks}
<style>body {{ margin: 0 }} img {{ width: 400px }}</style></head>
<body class="bd-content"><div class="cell_output">{body}</div></body></html>"""
IMG = '<img alt="a line" src="_images/figure.svg" />'


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with _images/figure.svg: an ink, a colour, a coloured ground with a white line."""
    folder = tmp_path_factory.mktemp("themes")
    with matplotlib.rc_context():
        style.use()
        figure, axes = plt.subplots(figsize=(4, 3))
        axes.imshow([[0.0, 1.0], [1.0, 0.0]], aspect="auto", extent=(0, 2, 0, 1))
        axes.plot([0, 2], [0.5, 0.5], color="white", lw=4)
        axes.plot([3, 4], [0, 1], color=style.COLORS["blue"], lw=4)
        axes.set_xlabel("some words")
        (folder / "_images").mkdir()
        figure.savefig(folder / "_images/figure.svg")
        plt.close(figure)
    return folder


def luminance(colour):
    """W3C, Web Content Accessibility Guidelines 2.2: relative luminance of an #rrggbb colour."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_colour_of_the_style_stands_out_from_the_dark_page():
    dark = {name: themes.INKS.get(c.lower(), c) for name, c in style.COLORS.items()}
    assert {name: c for name, c in dark.items() if contrast(c, themes.PAPER) < 3} == {}
    assert contrast(themes.INKS["#262626"], themes.PAPER) > 7  # letters
    assert len(set(dark.values())) == len(dark)
    assert contrast(dark["blue"], dark["sky"]) > 2  # a clone and what learns beside it
    for name in ("blue", "sky"):  # a colour keeps its hue, within a tenth of the circle
        hues = [
            colorsys.rgb_to_hls(*(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)))[0]
            for c in (style.COLORS[name], dark[name])
        ]
        assert abs(hues[0] - hues[1]) < 0.1


def test_a_file_with_the_rules_is_a_drawing_and_gets_them_once(drawn):
    text = (drawn / "_images/figure.svg").read_text(encoding="utf-8")
    both = themes.for_both(text)
    root = ElementTree.fromstring(both)
    assert root.get("id") == "dark" and both != text
    assert themes.for_both(both) == both
    # in the light theme it is the drawing that it was
    assert re.sub(r"\n<style>.*?</style>", "", both, flags=re.S).replace(' id="dark"', "") == text


def test_a_page_of_the_book_shows_each_figure_once_for_each_theme(tmp_path, drawn):
    svg = (drawn / "_images/figure.svg").read_text(encoding="utf-8")
    file(
        tmp_path / "book/conf.py",
        "extensions = ['myst_parser', 'arq_core.book.themes']\nhtml_theme = 'basic'\n",
    )
    file(tmp_path / "book/index.md", "# A page\n\n![a line](figure.svg)\n")
    file(tmp_path / "book/figure.svg", svg)
    assert sphinx(tmp_path) == (0, "")
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert re.findall(r'<img[^>]*alt="a line"[^>]*src="([^"]*)"', page) == [
        "_images/figure.svg",
        "_images/figure.svg#dark",
    ]
    assert (tmp_path / "out/_images/figure.svg").read_text("utf-8") == themes.for_both(svg)


@pytest.mark.parametrize("theme, ground", [("light", "#ffffff"), ("dark", themes.PAPER)])
def test_its_ground_is_the_pages_and_its_words_stand_out(chromium, drawn, theme, ground):
    path = drawn / "_images/figure.svg"
    path.write_text(themes.for_both(path.read_text("utf-8")), encoding="utf-8")
    body = themes.twice(IMG)
    looks = "".join(f'<link rel="stylesheet" href="{look.as_uri()}">' for look in LOOKS)
    page_file = file(drawn / f"{theme}.html", PAGE.format(theme=theme, looks=looks, body=body))
    with chromium.new_context(viewport={"width": 400, "height": 300}) as context:
        page = context.new_page()
        page.goto(page_file.as_uri(), wait_until="load")
        assert page.evaluate("() => document.styleSheets.length") == len(LOOKS) + 1
        shown = page.locator("img:visible")
        assert shown.count() == 1
        assert shown.get_attribute("src").endswith("#dark") == (theme == "dark")
        seen = pixels(page.screenshot())
    assert seen[ground] > 0.3 * sum(seen.values())  # around the axes and in the empty half of them
    assert any(contrast(c, ground) > 7 for c, n in seen.items() if n > 20)  # letters
    if theme == "dark":
        assert (
            0 < seen["#ffffff"] < 0.05 * sum(seen.values())
        )  # the white line on coloured ground alone


def test_a_mark_that_is_an_outline_alone_stands_out_too(chromium, tmp_path):
    with matplotlib.rc_context():
        style.use()
        figure, axes = plt.subplots(figsize=(4, 3))
        axes.axis("off")
        axes.plot([0], [0], "|", color=style.COLORS["black"], ms=60, mew=8)
        figure.savefig(tmp_path / "figure.svg")
        plt.close(figure)
    text = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    file(tmp_path / "figure.svg", themes.for_both(text))
    image = '<body style="margin: 0; background: {}"><img src="figure.svg{}">'
    with chromium.new_context(viewport={"width": 400, "height": 300}) as context:
        for ground, theme, ink in (
            ("#ffffff", "", style.COLORS["black"]),
            (themes.PAPER, f"#{themes.DARK}", themes.INKS[style.COLORS["black"]]),
        ):
            page = context.new_page()
            shown = file(tmp_path / "page.html", image.format(ground, theme))
            page.goto(shown.as_uri(), wait_until="load")
            assert pixels(page.screenshot()).get(ink, 0) > 300, ink


def pixels(png):
    """How many pixels have each colour, as #rrggbb."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    return {
        "#{:02x}{:02x}{:02x}".format(*colour): n
        for n, colour in image.getcolors(image.width * image.height)
    }
