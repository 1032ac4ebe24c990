"""An executed notebook as a plain page, and the search from a disk."""

import json

import nbformat
from sphinx_books import file, sphinx

from arq_core.book import faults, reading
from arq_core.book.search import Sections


def test_words_are_rendered_and_bars_are_left_out(tmp_path):
    bars = [f"\rpolicy: {i}%|█  | {i}/100 [00:01<00:14, 12.09it/s]" for i in range(9)]
    outputs = [nbformat.v4.new_output("stream", name="stderr", text=bar) for bar in bars]
    outputs.append(nbformat.v4.new_output("stream", text="loss 0.5 < 1\n"))
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# maze: the clone\n\nIt is $s_\\psi$, **trained**."),
            nbformat.v4.new_code_cell("x = a < b", outputs=outputs),
        ]
    )
    path = file(tmp_path / "evidence/maze.ci/behavior.ipynb", json.dumps(notebook))
    page = reading.page(path)
    file(path.with_suffix(".html"), page)
    assert faults.problems(tmp_path) == []
    assert "<h1>maze: the clone</h1>" in page and "<strong>trained</strong>" in page
    assert '<span class="math">\\(s_\\psi\\)</span>' in page and "mathjax" in page
    assert page.count('<pre class="output"') == 1 and "loss 0.5 &lt; 1" in page
    assert "x = a &lt; b" in page and 'href="../maze.html"' in page


def test_what_was_written_over_is_what_it_became():
    assert reading.printed("10%\r100%\r\x1b[31mdone\x1b[0m\nnext\n") == "done\nnext"


def test_sections_of_a_page_are_told_apart():
    page = '<main><article><h1>A</h1><section id="b"><p>in b</p></section>after</article>x</main>'
    assert [(i, "".join(t)) for i, t in Sections(page).found] == [("", "Aafter"), ("b", "in b")]


def test_the_search_shows_words_around_what_it_found_from_a_disk(tmp_path, chromium):
    # the theme `basic` has no article
    file(
        tmp_path / "book/conf.py",
        "extensions = ['arq_core.book.values']\nhtml_theme = 'pydata_sphinx_theme'\n",
    )
    file(tmp_path / "book/index.rst", "Title\n=====\n\nHere a walrus crosses the bridge.\n")
    status, said = sphinx(tmp_path)
    assert status == 0, said
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto((tmp_path / "out/search.html").as_uri() + "?q=walrus")
        page.locator("#search-results .context").wait_for()
        assert "a walrus crosses" in page.locator("#search-results .context").inner_text()
