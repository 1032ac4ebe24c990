"""Numbers that cells printed, set as the book sets its own: a true minus, a letter below another.

pandas writes a table as HTML with a line of its own for the index's name, and cells of plain text;
what cells hand to the prose ({glue:text}) is plain text too.
"""

from __future__ import annotations

import re

from arq_core.config.labels import in_words

FRAME = re.compile(r'<table border="1" class="dataframe.*?</table>', re.S)
PASTED = re.compile(r'<span class="pasted-text">[^<]*</span>')
WORDS = re.compile(r">([^<>]+)<")
HEAD = re.compile(r"<thead>\s*<tr[^>]*>(.*?)</tr>\s*<tr[^>]*>(.*?)</tr>\s*</thead>", re.S)
CELL = re.compile(r"<th[^>]*>.*?</th>", re.S)
NO_WORDS = "<th></th>"
MINUS = re.compile(r"(?<![\w.)\]-])-(?=\.?\d)|(?<=[A-Za-z] )-(?= \.?\d)")
METHOD = re.compile(r"(<th[^>]*>)((?:s_psi|arq|q_beta)[a-z_+]*)(?=</th>)")
BELOW = re.compile(r"(?<!\w)([A-Za-zπ])_([ψϕφp])(?!\w)")
ABOVE = re.compile(r"(?<!\w)([A-Za-z])\^([βπ])(?!\w)")


def numbers(words: str) -> str:
    """Text with a minus before each negative number and in "r - 1"; names and "1e-5" stay."""
    return MINUS.sub("−", words)


def signs(words: str) -> str:
    """Text whose s_ψ and Q^β are set in HTML, with `numbers`."""
    return ABOVE.sub(r"\1<sup>\2</sup>", BELOW.sub(r"\1<sub>\2</sub>", numbers(words)))


def _one_head(found: re.Match) -> str:
    columns, names = (CELL.findall(line) for line in found.groups())
    levels = next((i for i, name in enumerate(names) if name == NO_WORDS), 0)
    if any(name != NO_WORDS for name in names[levels:]) or columns[:levels] != levels * [NO_WORDS]:
        return found[0]
    return f"<thead><tr>{''.join(names[:levels] + columns[levels:])}</tr></thead>"


def frame(table: str) -> str:
    """The HTML of a table of pandas: names of the index stand in the line of the columns', and a
    method's key (arq+pi) is read in words.
    """
    table = HEAD.sub(_one_head, table, count=1)
    table = METHOD.sub(lambda found: found[1] + in_words(found[2]), table)
    return WORDS.sub(lambda found: f">{signs(found[1])}<", table)


def page(body: str) -> str:
    """A page's HTML with all its tables of pandas and pasted numbers."""
    body = FRAME.sub(lambda found: frame(found[0]), body)
    return PASTED.sub(lambda found: WORDS.sub(lambda words: f">{signs(words[1])}<", found[0]), body)


def _show(app, pagename, templatename, context, doctree) -> None:
    if "body" in context:
        context["body"] = page(context["body"])


def setup(app) -> dict:
    app.connect("html-page-context", _show)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
