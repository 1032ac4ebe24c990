"""Each word of the glossary leads to the page that introduces it, and pages lead back to it."""

import re

import pytest
from sphinx_books import ROOT

BOOK = ROOT / "book"
GLOSSARY = (BOOK / "glossary.md").read_text(encoding="utf-8")
ENTRIES = re.split(r"\n\n", GLOSSARY.split("```{glossary}\n")[1].split("\n```")[0])
PAGES = (BOOK / "_toc.yml").read_text(encoding="utf-8").split()


def terms(entry):
    return [line for line in entry.splitlines() if not line.startswith(" ")]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: terms(entry)[0])
def test_an_entry_ends_with_the_page_that_introduces_it(entry):
    pages = re.findall(r"\[\]\(([\w/]+)\.\w+\)", entry)
    assert pages and set(pages) <= set(PAGES)
    assert re.search(r"(\)|`)$", entry)  # a link or an equation
    # the page is about it: one of the words of a term stands there
    words = {word for term in terms(entry) for word in re.findall(r"\w{3,}", term)}
    name = pages[0].removeprefix("executed/")
    (source,) = [*BOOK.glob(f"{name}.md"), *(ROOT / "notebooks").glob(f"[0-9][0-9]_{name}.ipynb")]
    text = source.read_text(encoding="utf-8").lower()
    assert [word for word in words if word.lower().rstrip("y") in text], (name, words)


@pytest.mark.parametrize("name", ["method", "score", "results"])
def test_a_page_links_the_first_use_of_its_words(name):
    text = (BOOK / f"{name}.md").read_text(encoding="utf-8")
    linked = re.findall(r"\{term\}`(?:[^`<]*<)?([^`<>]+)>?`", text)
    assert len(linked) >= 4 and len(linked) == len(set(linked))  # once a page
    assert set(linked) <= {term for entry in ENTRIES for term in terms(entry)}
