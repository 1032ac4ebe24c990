"""What a page shows of a notebook: captions, folded checks, no heading over nothing."""

import json
import re

import nbformat
import pytest
from sphinx_books import ROOT

from arq_core.book import cells

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# roles, formulas and names
NAMES = r"\{[\w:]+\}`[^`]*`|\$[^$]*\$|Eq\. \d|Table \d|\(2M\)|TD3\+BC"
# they describe, and claim nothing that could be otherwise
ONLY_DESCRIBED = {
    "01_algorithm1_maze": 1,
    "02_explicit_cloning": 1,
    "05_support": 1,
    "08_table_1": 1,
    "09_good_penalty": 1,
    "12_dataset": 5,
    "13_door_data": 1,
    "14_train_evaluate": 1,
    "15_tables": 1,
    "16_statistics": 2,
    "17_speed": 2,
}


def pictures(path):
    """The cells of a notebook that show a figure or have a caption."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        config = cell["metadata"].get("mystnb", {})
        if "figure" in config or "plt.show()" in "".join(cell["source"]):
            yield cell, config


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_figure_has_a_caption_whose_finding_is_checked_in_its_notebook(path):
    every = {
        cell.get("id"): "".join(cell["source"])
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
    }
    described = 0
    for cell, config in pictures(path):
        caption = config.get("figure", {}).get("caption", "")
        assert re.match(r"[A-Z].*\.$", caption), f"{cell['id']}: {caption!r}"
        # a number comes from the data
        typed = re.sub(NAMES, "", caption)
        assert not re.search(r"\d", typed), f"{cell['id']}: a number typed by hand: {caption}"
        checked = config["figure"].get("checked")
        described += checked is None
        computes = every.get(checked, "assert")
        assert "assert" in computes or "glue(" in computes, f"{cell['id']}: {checked}"
    assert described == ONLY_DESCRIBED.get(path.stem, 0)


def test_each_value_in_a_caption_is_glued_by_its_notebook():
    for path in NOTEBOOKS:
        text = path.read_text(encoding="utf-8")
        for _, config in pictures(path):
            for name in re.findall(r"\{glue:text\}`(\w+)`", config["figure"]["caption"]):
                known = f'glue(\\"{name}\\"' in text
                assert known or re.search(r"glue\(f\\\"", text), f"{path.stem}: {name}"


def code(source, *outputs, tags=()):
    made = [nbformat.v4.new_output("stream", text=text) for text in outputs]
    return nbformat.v4.new_code_cell(source, outputs=made, metadata={"tags": list(tags)})


def test_a_section_of_outputs_without_any_is_left_out():
    heading = nbformat.v4.new_markdown_cell("## Episodes", metadata={"tags": ["of-outputs"]})
    plain = nbformat.v4.new_markdown_cell("## Words")
    kept = lambda *all_cells: [cell["source"] for cell in cells.shown(list(all_cells))]
    assert kept(heading, code("x"), plain, code("y", "said")) == ["x", "## Words", "y"]
    assert kept(heading, code("x"), code("y", "said")) == ["## Episodes", "x", "y"]
    assert kept(plain, code("x")) == ["## Words", "x"]


def test_parameters_that_others_replaced_are_left_out():
    first, second = code("a = 1", tags=["parameters"]), code("a = 2", tags=["injected-parameters"])
    assert cells.shown([first, second]) == [second] and cells.shown([first]) == [first]


@pytest.mark.parametrize(
    "cell, said",
    [
        (code("a = 1", tags=["parameters"]), cells.PARAMETERS),
        (code("x = f()\nassert x"), cells.CHECKED),
        (code("for x in y:\n    assert x"), cells.CHECKED),
        (code("assert x", "a table"), None),
        (code("assert x\ny = 1"), None),
        (code("assert x", tags=["remove-cell"]), None),
        (code("%matplotlib inline"), None),
    ],
)
def test_parameters_and_checks_are_folded_behind_what_they_are(cell, said):
    shown = cells._folded(cell)["metadata"]
    assert shown.get("mystnb", {}).get("code_prompt_show") == said
    assert ("hide-input" in shown["tags"]) == (said is not None)


def test_the_papers_equations_alone_are_numbered_and_every_other_has_a_tag_of_its_own():
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.md")]
    for path in NOTEBOOKS:
        every = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts += ["".join(cell["source"]) for cell in every if cell["cell_type"] == "markdown"]
    tags = [tag for text in texts for tag in re.findall(r"\\tag\{(\w+)\}", text)]
    assert len(tags) == len(set(tags)) >= 20
    numbered = [
        name for text in texts for name in re.findall(r"^\$\$ \((eq-[\w-]+)\)$", text, re.M)
    ]
    assert numbered == [f"eq-{i}" for i in range(1, 7)]
    assert not [text for text in texts if re.search(r"^:label: eq-", text, re.M)]
