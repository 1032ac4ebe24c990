"""What typesets formulas is loaded by the pages that have some, and by no other."""

from sphinx_books import file, sphinx

CONF = (
    "extensions = ['myst_parser', 'sphinx.ext.mathjax', 'arq_core.book.values']\n"
    "myst_enable_extensions = ['dollarmath']\nhtml_theme = 'basic'\nmathjax_path = 'mathjax.js'\n"
    # as jupyter-book has it
    "html_js_files = ['mathjax.js']\n"
)
PAGES = {
    "plain": "# Plain\n\nIt costs 3$, and `x_1`.",
    "inline": "# Inline\n\nThe line $e^{-5}$.",
    "equation": "# Equation\n\n$$\na = b\n$$",
    "output": "# Output\n\n```{raw} html\n<div class='output_area'>\\(x\\)</div>\n```",
}


def loading(folder, pages):
    """The pages of a small book that load MathJax."""
    toc = "# Book\n\n```{toctree}\n" + "\n".join(pages) + "\n```\n"
    for name, text in {**pages, "index": toc}.items():
        file(folder / f"book/{name}.md", text)
    file(folder / "book/conf.py", CONF)
    assert sphinx(folder) == (0, "")
    built = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("out/*.html")}
    assert {*pages, "index", "genindex", "search"} <= built.keys()
    return {name for name, page in built.items() if "mathjax.js" in page}


def test_pages_with_formulas_load_mathjax(tmp_path):
    assert loading(tmp_path, PAGES) == {"inline", "equation", "output"}


def test_all_do_where_the_contents_beside_them_have_one(tmp_path):
    pages = PAGES | {"inline": "# Of $\\epsilon$"}
    assert {*pages, "index"} <= loading(tmp_path, pages)
