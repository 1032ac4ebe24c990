"""The library in the book: code under an equation leads to its file, rooms have a reference.

Sphinx's own `literalinclude`, `autodoc` and `viewcode` do the work. Here stands what they lack: a
role that leads to a source page, directives that find a definition in a room of the package and
that list a room, and docstrings in plain English, whose single backticks are code.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.inspect import stringify_signature
from sphinx.util.nodes import make_refnode

from arq_core.config.files import files_in

logger = logging.getLogger(__name__)
PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Module:
    """A module by its text: `members` are (name, kind, first paragraph) of what is public in it."""

    name: str
    said: str
    members: tuple[tuple[str, str, str], ...]


def read_module(path: Path) -> Module:
    """What a file of the package holds, without importing it."""
    tree, parts = (
        ast.parse(path.read_text("utf-8")),
        path.relative_to(PACKAGE.parent).with_suffix("").parts,
    )
    kinds = {ast.FunctionDef: "func", ast.ClassDef: "class"}
    members = [
        (node.name, kinds[type(node)], _opening(node))
        for node in tree.body
        if type(node) in kinds and not node.name.startswith("_")
    ]
    return Module(".".join(parts), _opening(tree), tuple(members))


def _opening(node: ast.AST) -> str:
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    return " ".join(text.split("\n\n")[0].split())


def room(name: str) -> list[Module]:
    """The modules of a room in the reading order that its docstring gives, then any others."""
    folder = PACKAGE / name
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
    said = said.partition("Reading order:")[2] or said

    def place(path: Path) -> tuple[int, str]:
        found = re.search(rf"\b{path.relative_to(folder).parts[0].removesuffix('.py')}\b", said)
        return (found.start() if found else len(said), str(path))

    files = [p for p in files_in(folder, "*.py", deep=True) if p.name != "__init__.py"]
    return [module for path in sorted(files, key=place) if (module := read_module(path)).members]


def words(text: str) -> Iterator[nodes.Node]:
    """Plain English with code in single backticks, as nodes."""
    for i, part in enumerate(text.split("`")):
        if part:
            yield nodes.literal("", part) if i % 2 else nodes.Text(part)


class Source(SphinxRole):
    """{source}`arq_core.algorithm.support:kth_largest`: a link to that definition's file."""

    def run(self):
        module, _, name = self.text.partition(":")
        path = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
        if not path.is_file() or name and not _defines(path, name):
            logger.warning(
                "source %r: saw no such definition, expected `module:name` of arq_core",
                self.text,
                location=self.get_location(),
            )
            return [nodes.Text("?")], []
        self.env.note_dependency(str(path))
        page = "_modules/" + module.replace(".", "/")
        address = self.env.app.builder.get_relative_uri(self.env.docname, page)
        address += f"#{name}" if name else ""
        file = nodes.literal("", path.relative_to(PACKAGE.parent).as_posix())
        said = nodes.Text("the whole file: ")
        return [nodes.reference("", "", said, file, refuri=address, internal=True)], []


def _defines(path: Path, dotted: str) -> bool:
    body = ast.parse(path.read_text("utf-8")).body
    for part in dotted.split("."):
        found = [
            n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part
        ]
        if not found:
            return False
        body = found[0].body
    return True


class Formula(SphinxDirective):
    """{arq-formula} baselines:expectile_loss: the definition, from whichever module of that room
    has it, with the way to its file; baselines.dt:squared_error is that of one module.

    Option: method, a name of methods.METHODS; where this library has no such method, nothing is
    shown, and a definition that is missing is no fault.
    """

    required_arguments = 1
    option_spec = {"method": directives.unchanged_required}

    def run(self):
        found, name = definitions(self.arguments[0]), self.arguments[0].partition(":")[2]
        if not found and not _has_method(self.options.get("method", "")):
            return []
        if len(found) != 1:
            logger.warning(
                "arq-formula %r: saw %d such definitions, expected one in a room of arq_core",
                self.arguments[0],
                len(found),
                location=self.get_location(),
            )
            return []
        file = found[0].relative_to(PACKAGE.parent).as_posix()
        module = file.removesuffix(".py").replace("/", ".")
        up = os.path.relpath(found[0], Path(self.env.doc2path(self.env.docname)).parent)
        content = [
            f"````{{literalinclude}} {Path(up).as_posix()}",
            ":language: python",
            f":pyobject: {name}",
            f':caption: "{{source}}`{module}:{name}`"',
            "````",
        ]
        node = nodes.Element()
        self.state.nested_parse(StringList(content, self.arguments[0]), self.content_offset, node)
        return node.children


def definitions(where: str) -> list[Path]:
    """The files that define what `where` names, "room:name" or "room.module:name"."""
    place, _, name = where.partition(":")
    room, _, module = place.partition(".")
    return [p for p in files_in(PACKAGE / room, f"{module or '*'}.py") if _defines(p, name)]


def _has_method(name: str) -> bool:
    from arq_core.experiments.methods import METHODS  # late: it brings torch

    return not name or name in METHODS


class Library(SphinxDirective):
    """{library} algorithm: a section a module; with `:summary:` its names in a table."""

    required_arguments = 1
    option_spec = {"summary": directives.flag}

    def run(self):
        sections = []
        for module in room(self.arguments[0]):
            path = PACKAGE.parent.joinpath(*module.name.split(".")).with_suffix(".py")
            self.env.note_dependency(str(path))
            short = module.name.split(".", 2)[2]
            if "summary" in self.options:
                link = self._link(short, "mod", module.name)
                opening = nodes.paragraph("", "", link, nodes.Text(": "), *words(module.said))
                sections += [opening, self._table(module)]
                continue
            section = nodes.section(ids=[f"module-{short.replace('.', '-')}"], names=[module.name])
            section += nodes.title("", "", nodes.literal("", short))
            content = [
                "````{eval-rst}",
                f".. automodule:: {module.name}",
                "   :members:",
                "   :undoc-members:",
                "   :ignore-module-all:",
                "````",
            ]
            self.state.nested_parse(StringList(content, str(path)), self.content_offset, section)
            sections.append(section)
        return sections

    def _table(self, module: Module) -> nodes.table:
        table, group, body = nodes.table(classes=["arq-api"]), nodes.tgroup(cols=2), nodes.tbody()
        group += [nodes.colspec(colwidth=30), nodes.colspec(colwidth=70), body]
        for name, kind, said in module.members:
            entries = [
                nodes.paragraph("", "", self._link(name, kind, f"{module.name}.{name}")),
                nodes.paragraph("", "", *words(said)),
            ]
            body += nodes.row("", *(nodes.entry("", entry) for entry in entries))
        table += group
        return table

    def _link(self, shown: str, kind: str, target: str) -> nodes.Node:
        link = addnodes.pending_xref(
            "",
            nodes.literal("", shown),
            refdomain="py",
            reftype=kind,
            reftarget=target,
            refdoc=self.env.docname,
            refwarn=True,
            refexplicit=True,
        )
        link.line = self.lineno
        return link


def plain_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    """Plain English becomes reStructuredText: signs are escaped, what is aligned stays as it is."""
    out: list[str] = []
    for block in "\n".join(lines).strip().split("\n\n"):
        rows = block.splitlines()
        if any(re.search(r"^\s|\S {3,}\S", row) for row in rows):
            out += ["::", "", *(f"   {row}" for row in rows), ""]
        else:
            out += [*_escaped(block).splitlines(), ""]
    lines[:] = out


def _escaped(text: str) -> str:
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\*|_])", r"\\\1", part) for part in parts[::2]]
    return "".join(f"``{part}``" if i % 2 else part for i, part in enumerate(parts))


def source_signature(app, what, name, obj, options, signature, returns):
    """Annotations as the file writes them: Float[Tensor, "E B A"], not what it evaluates to."""
    if what not in ("function", "method", "class") or signature is None:
        return None
    try:
        written = inspect.signature(obj)
    except (TypeError, ValueError):
        return None
    known = vars(sys.modules[obj.__module__])
    parameters = [
        p.replace(annotation=_with_shapes(p.annotation, known))
        for p in written.parameters.values()
        if what != "method" or p.name != "self"
    ]
    written = written.replace(
        parameters=parameters, return_annotation=_with_shapes(written.return_annotation, known)
    )
    if what == "class":
        protocol = list(written.parameters) == ["args", "kwargs"]
        return "" if protocol else stringify_signature(written, show_return_annotation=False), None
    returned = stringify_signature(written.replace(parameters=[])).removeprefix("()")
    shown = stringify_signature(written, show_return_annotation=False)
    return shown, returned.removeprefix(" -> ") or None


def _with_shapes(annotation, known: dict):
    """An annotation with the shapes that its module's short names stand for: States has one."""
    if not isinstance(annotation, str):
        return annotation

    def spelled(name: re.Match) -> str:
        kind = known.get(name[0])
        return kind.__name__ if hasattr(kind, "dim_str") else name[0]

    return re.sub(r"\b[A-Z]\w*\b", spelled, annotation)


def is_left_out(app, what, name, obj, skip, options) -> bool | None:
    """Constants and fields of records are left out: signatures show the latter."""
    shown = inspect.isroutine(obj) or inspect.isclass(obj)
    return None if shown or isinstance(obj, property | cached_property) else True


def find_type(app, env, node, content):
    """A type of ours in a signature leads to its description; any other is just its name."""
    written_by_hand = "refwarn" in node
    if node.get("refdomain") != "py" or node.get("reftype") != "class" or written_by_hand:
        return None
    objects = env.get_domain("py").objects
    found = [
        (name, o)
        for name, o in objects.items()
        if o.objtype == "class" and name.endswith(f".{node['reftarget']}")
    ]
    if len(found) != 1:
        return content
    ((name, entry),) = found
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, name)


def setup(app) -> dict:
    for extension in ("sphinx.ext.autodoc", "sphinx.ext.viewcode"):
        app.setup_extension(extension)
    app.add_role("source", Source())
    app.add_directive("library", Library)
    app.add_directive("arq-formula", Formula)
    app.connect("autodoc-process-docstring", plain_docstring)
    app.connect("autodoc-process-signature", source_signature)
    app.connect("autodoc-skip-member", is_left_out)
    app.connect("missing-reference", find_type)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
