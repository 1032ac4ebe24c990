"""The library in the book: equations and rooms are shown by the code; a name that is gone fails."""

import ast
import re

import pytest
from sphinx_books import ROOT, file, sphinx

from arq_core.book import library

PACKAGE = ROOT / "arq_core"
PAGES = "".join(
    (ROOT / "book" / name).read_text(encoding="utf-8") for name in ("method.md", "score.md")
)
CONF = "extensions = ['myst_parser', 'arq_core.book.library']\nhtml_theme = 'basic'\n"
ROOMS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def of_type_checking(tree):
    """Nodes that only a type checker reads."""
    return {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }


def imported_rooms(room):
    """The rooms that the files of a room import, in whatever line."""
    found = set()
    for path in (PACKAGE / room).rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        ignored = of_type_checking(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and id(node) not in ignored:
                found |= {
                    f"{node.module}.{alias.name}.".split(".")[1]
                    for alias in node.names
                    if node.module.split(".")[0] == "arq_core"
                }
    return found & ROOMS - {room}


def rooms_table():
    """{room: the rooms that the library's page says it may import}, in the table's order."""
    rows = re.findall(
        r"^\* - `(\w+)`\n  - .*\n  - (.*)$",
        (ROOT / "book/api.md").read_text(encoding="utf-8"),
        re.M,
    )
    names = [name for name, _ in rows]
    below = {name: set(names[i + 1 :]) for i, name in enumerate(names)}
    return {
        name: below[name] if said == "every room below" else set(re.findall(r"`(\w+)`", said))
        for name, said in rows
    }


def test_the_table_of_rooms_is_complete_and_true():
    table = rooms_table()
    assert set(table) == ROOMS
    names = list(table)
    for i, (room, allowed) in enumerate(table.items()):
        assert allowed <= set(names[i + 1 :]), f"{room} imports a room above it"
        assert imported_rooms(room) <= allowed, room


def test_each_equation_of_the_method_is_shown_as_code_with_a_link_to_its_file():
    shown = re.findall(
        r"```\{literalinclude\} \.\./(\S+)\.py\n:language: python\n:pyobject: (\S+)\n"
        r"(?::dedent: 4\n)?"
        r':caption: "\{source\}`(\S+)`"\n```',
        PAGES,
    )
    assert len(shown) == PAGES.count("{literalinclude}")
    assert all(source == f"{path.replace('/', '.')}:{name}" for path, name, source in shown)
    assert {
        "score_matching_loss",
        "reverse_mean",
        "predictor_corrector",
        "kth_largest",
        "bootstrap_released",
        "bootstrap_paper",
        "policy_evaluation_loss",
        "implicit_probabilities",
        "weighted_regression_loss",
        "arq",
    } <= {name for _, name, _ in shown}


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    file(
        folder / "book/conf.py",
        CONF + "nitpicky = True\nautodoc_preserve_defaults = True\nadd_module_names = False\n"
        "autodoc_inherit_docstrings = False\n",
    )
    file(
        folder / "book/index.md",
        "# Title\n\n```{library} engine\n:summary:\n```\n\n"
        "{source}`arq_core.engine.streams:Streams`\n\n"
        "```{library} engine\n```\n",
    )
    assert sphinx(folder) == (0, "")
    return folder / "out"


def test_a_room_is_described_from_its_docstrings_in_its_reading_order(book):
    page = (book / "index.html").read_text(encoding="utf-8")
    places = [
        page.index(f'id="arq_core.engine.{name}"')
        for name in ("streams.Streams", "machine.compiled", "train.train", "store.Store")
    ]
    assert places == sorted(places)
    assert (
        page.index('href="#arq_core.engine.streams.Streams"') < places[0]
    )  # the table comes first
    assert 'href="_modules/arq_core/engine/streams.html#Streams"' in page
    text = re.sub("<.*?>", "", page)
    assert "_fit" not in text and "NoStore()" not in text.split("Streams(")[0]


def test_the_page_of_a_file_has_the_place_that_links_name(book):
    assert 'id="Streams"' in (book / "_modules/arq_core/engine/streams.html").read_text(
        encoding="utf-8"
    )


GONE = [
    "{source}`arq_core.engine.streams:Brook`",
    "{source}`arq_core.engine.brooks`",
    "```{literalinclude} arq.py\n:pyobject: gone\n```",
]


def test_a_name_that_is_gone_fails_the_build(tmp_path):
    file(
        tmp_path / "book/conf.py",
        "extensions = ['myst_parser', 'arq_core.book.library']\nhtml_theme = 'basic'\n",
    )
    file(tmp_path / "book/arq.py", "def arq():\n    pass\n")
    listed = "\n".join(f"p{i}" for i in range(len(GONE)))
    file(tmp_path / "book/index.md", f"# Title\n\n```{{toctree}}\n{listed}\n```\n")
    for i, text in enumerate(GONE):
        file(tmp_path / f"book/p{i}.md", f"# Title\n\n{text}\n")
    status, told = sphinx(tmp_path)
    assert status != 0 and all(f"p{i}.md" in told for i in range(len(GONE))), told


@pytest.mark.parametrize(
    "written, shown",
    [
        ("x_t = |z| *2* of `a_b`", r"x\_t = \|z\| \*2\* of ``a_b``"),
        (
            "First.\n\na    what a is\nb    what b is",
            "First.\n\n::\n\n   a    what a is\n   b    what b is",
        ),
    ],
)
def test_a_docstring_keeps_its_signs_and_its_columns(written, shown):
    lines = written.splitlines()
    library.plain_docstring(None, "", "", None, None, lines)
    assert "\n".join(lines).strip() == shown


def test_annotations_are_shown_as_they_are_written():
    from arq_core.algorithm.support import kth_largest

    shown, returned = library.source_signature(None, "function", "", kth_largest, None, "()", "")
    assert (
        shown.startswith(
            "(values: Float[Tensor, '*rows N'], mask: Bool[Tensor, '*rows N'], k: int)"
        )
        and returned == "Float[Tensor, '*rows']"
    )


def test_a_short_name_of_a_shape_is_spelled_out():
    from arq_core.algorithm.qlearning import QEnsemble

    shown, _ = library.source_signature(None, "method", "", QEnsemble.all, None, "()", "")
    assert shown == "(states: Float[Tensor, 'E B S'], actions: Float[Tensor, 'E B n A'])"
