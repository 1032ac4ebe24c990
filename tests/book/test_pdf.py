"""The book on paper: its pages in their order, in one file, with a first sheet that lists them."""

import shutil

import pytest
from sphinx_books import file

from arq_core.book import layout, pdf

PAGE = (
    "<html><head><title>{0} — The ARQ Book</title></head><body><article>{1}</article></body></html>"
)


@pytest.fixture
def root(tmp_path):
    file(tmp_path / "book/_toc.yml", "root: first\nchapters:\n  - file: executed/second\n")
    two_sheets = '<p style="break-after: page">one</p><p>two</p>'
    file(tmp_path / "_build/html/first.html", PAGE.format("First", two_sheets))
    link = '<a href="../first.html">back</a> <a href="https://example.org/">out</a>'
    file(tmp_path / "_build/html/executed/second.html", PAGE.format("Second", link))
    return tmp_path


def test_pages_come_in_the_order_of_the_book(root):
    assert [path.stem for path in pdf.pages(root)] == ["first", "second"]
    (root / "_build/html/first.html").unlink()
    with pytest.raises(layout.LayoutError, match="first.html: saw no such page"):
        pdf.pages(root)


@pytest.mark.parametrize(
    "ask",
    [
        lambda root, names: pdf.make(root, root / "out/book.pdf", names),
        lambda root, names: layout.built(root / "_build/html", names),
    ],
)
@pytest.mark.parametrize("names", [["secnd"], ["first", "secnd.html"]])
def test_a_name_that_no_page_has_is_named_though_others_are_right(root, ask, names):
    with pytest.raises(layout.LayoutError, match="saw no such page: 'secnd';"):
        ask(root, names)
    assert not (root / "out").exists()


def test_the_first_sheet_says_where_a_page_begins():
    sheet = pdf.contents(["A & B", "C"], [3, 1])
    assert "A &amp; B</td><td>2<" in sheet and "C</td><td>5<" in sheet


def test_a_book_is_one_file_without_links_to_places_of_this_machine(root):
    if layout.program() is None or not any(map(shutil.which, pdf.TOGETHER)):
        pytest.skip("BROWSER TEST NOT RUN: saw no Chromium, or neither pdfunite nor gs")
    out = pdf.make(root, root / "out/book.pdf")
    assert out.read_bytes().startswith(b"%PDF") and pdf.count(out) == 4
    assert b"example.org" in out.read_bytes() and b"file://" not in out.read_bytes()


def test_without_a_program_that_joins_it_says_which_to_install(root, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(layout.LayoutError, match="poppler-utils"):
        pdf.make(root)
