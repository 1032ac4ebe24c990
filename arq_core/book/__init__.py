"""The pages: notebooks are run (`notebook`, `side_by_side`), then pages are built (`pages`) with
what Sphinx is taught here.

`values`, `scores` and `evidence` bring numbers and tables from rows into pages, `catalogue` the
datasets; `offline`, `faults`, `links` and `layout` check them. `changed` is for the exercises: a
function with one line changed.
"""
