"""A Markdown page shows the widget that it names, whole; a name that makes none fails the build."""

from sphinx_books import file, sphinx

from arq_core.book.offline import Assets
from arq_core.widgets.dimension import Dimension

CONF = "extensions = ['myst_parser', 'arq_core.book.figures_in_pages']\nhtml_theme = 'basic'\n"


def built(folder, *names):
    figures = "".join(f"```{{arq-widget}} {name}\n```\n\n" for name in names)
    file(folder / "book/conf.py", CONF)
    file(folder / "book/index.md", f"# A page\n\nBefore.\n\n{figures}After.\n")
    return sphinx(folder)


def test_a_page_holds_the_widget_with_all_that_it_needs(tmp_path):
    assert built(tmp_path, "arq_core.widgets.dimension:Dimension") == (0, "")
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    before, figure, after = page.partition(Dimension().to_html())
    assert figure and "Before." in before and "After." in after
    read = Assets()
    read.feed(figure)
    assert read.problems == []


def test_words_in_it_are_its_caption(tmp_path):
    file(tmp_path / "book/conf.py", CONF + "numfig = True\n")
    words = (
        "```{arq-widget} arq_core.widgets.dimension:Dimension\n:name: fig-share\n\nA *share*.\n```"
    )
    file(tmp_path / "book/index.md", f"# A page\n\n{words}\n\n{{numref}}`fig-share`\n")
    assert sphinx(tmp_path) == (0, "")
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    figure, caption = page.split("<figcaption>")
    assert Dimension().to_html() in figure and "A <em>share</em>." in caption
    assert caption.count("Fig. 1") == 2 and 'href="#fig-share"' in caption


def test_names_that_make_no_widget_fail_the_build(tmp_path):
    wrong = {
        "arq_core.widgets.dimension": "not enough values to unpack",
        "arq_core.widgets.gone:Dimension": "No module named",
        "arq_core.widgets.dimension:Gone": "has no attribute",
        "arq_core.widgets.backup:Backup": "missing 5 required positional arguments",
        "arq_core.widgets.base:fixed": "missing 1 required positional argument",
    }
    code, said = built(tmp_path, *wrong)
    assert code == 1 and said.count("expected `module:name`") == len(wrong)
    for name, told in wrong.items():
        assert any(repr(name) in line and told in line for line in said.splitlines()), name
