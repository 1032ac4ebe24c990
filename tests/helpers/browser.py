"""The widgets that are tested in a browser, and what those tests share: a small book that shows
them, servers, and what a page is asked.
"""

import http.server
import os
import re
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import nbformat
import numpy as np

from arq_core.book.pages import jupyter_book

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tests/browser"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
MAX_CODE = 60_000  # bytes a widget may add to a page besides its numbers


def support_filter():
    from arq_core.widgets.support_filter import Case, HeldOut, SupportFilter

    rng = np.random.default_rng(0)
    grid = np.linspace(-1, 1, 41)
    density = lambda a, centre: -8 * (a - centre) ** 2 + 0.5

    def case(name, centres):
        actions = rng.uniform(-1, 1, (2, 30, 1))
        curves = np.stack([density(grid, c) for c in centres])
        return Case(
            name,
            ["left", "right"],
            actions,
            np.stack([density(a[:, 0], c) for a, c in zip(actions, centres)]),
            curves,
            curves - 1,
        )

    cases = [case("One", (-0.5, 0.5)), case("Two", (0.0, 0.9))]
    return SupportFilter(cases, grid, held_out=HeldOut(0.01, -3.1, 400))


def backup():
    from arq_core.widgets.backup import Backup

    rng = np.random.default_rng(1)
    return Backup(
        [f"state {u}" for u in range(6)],
        3 * rng.standard_normal((6, 12)),
        -5 + 2 * rng.standard_normal((6, 12)),
        3 * rng.standard_normal(6),
        -5 + 2 * rng.standard_normal(6),
    )


def dimension():
    from arq_core.widgets.dimension import Dimension, Measured

    return Dimension([Measured("a hand", 28, 0.577, -5.0)])


def hero():
    from arq_core.widgets.hero import Hero

    return Hero()


def reverse_process():
    from arq_core.widgets.reverse_process import EDGES, ReverseProcess, Truth, Walk

    rng, levels, ends, n = (
        np.random.default_rng(2),
        np.linspace(1, 0.001, 20),
        np.array([2.0, np.inf]),
        100,
    )

    def walk(name, steps):
        x = rng.standard_normal((20, 2, n))
        return Walk(
            name,
            levels,
            np.round(np.linspace(0, steps, 20)),
            x,
            rng.random((20, 2)),
            (np.abs(x) > 2).mean(-1),
        )

    walks = {
        score: [
            walk(name, steps)
            for name, steps in (("PC", 1000), ("PC, own norms", 1000), ("DPM", 20))
        ]
        for score in ("network", "exact")
    }
    mass = np.full((20, 2, len(EDGES) - 1), 1 / (len(EDGES) - 1))
    return ReverseProcess(
        ["Fork", "Arcs"],
        walks,
        Truth(
            levels,
            mass,
            np.tile(-ends, (20, 2, 1)) * [1, -1],
            np.tile(ends, (20, 2, 1)) * [1, -1],
            rng.random((20, 2)),
        ),
        ("batch", "own"),
    )


def walk():
    from walkers import briefly_trained, opening

    from arq_core.experiments.in_page import bridge_walk

    return bridge_walk(*briefly_trained(), walkers=4, **opening())


def maze_walk():
    from walkers import maze_walkers

    from arq_core.widgets.maze_walk import MazeWalk

    return MazeWalk(maze_walkers()[0], walkers=4)


def penalty():
    from arq_core.widgets.penalty import Penalty

    return Penalty(
        actions=[-0.9, -0.6, -0.3, 0.0, 0.3, 0.6, 0.9],
        behavior=[0.2, 0.5, 0.28999, 0, 0.00001, 0.01, 0],
        reward=[4, 5, 4, 0, 0, 10, 2],
        q=[4, 5, 4, 14, 12, 10, 14],
        noise=[0.5, 0.5, 0.5, 0.5, 0.5, 2, 0.5],
    )


def diffusion():
    from arq_core.experiments.diffusion import diffusion

    return diffusion()


def pull():
    import torch

    from arq_core.theory import penalties, theorem1
    from arq_core.widgets.pull import Pull

    q, behavior = torch.tensor([[1.0, 3.0, 2.0, 4.5], [0.3, 0.5, 0.19, 0.01]]).double()
    strengths = torch.linspace(0, 3, 31, dtype=torch.float64)
    p = -strengths[:, None] * behavior.log()
    log_pi_p = penalties.induced_policy(p).log()
    state = theorem1.TabularMDP(torch.ones(1, 1, 4, 1).double(), q[None, None], 0.0)
    pi = theorem1.kl_policy_iteration(state.copies(31), log_pi_p[:, None], 1).pi[-1, :, 0]
    sides = [
        theorem1.inner(pi, q) - theorem1.kl(pi, log_pi_p),
        theorem1.inner(pi, q - p) - penalties.log_partition(p) + theorem1.entropy(pi),
    ]
    return Pull(q, strengths, log_pi_p.exp(), pi, torch.stack(sides, -1))


# (name, how to make it, [(control, 20 values that its control can take, in order of the test)]).
# Values of a choice are its places, from 0.
WIDGETS = [
    (
        "support_filter",
        support_filter,
        [
            ("log_epsilon", np.linspace(-20, 5, 101)[::5][:20].tolist()),
            ("case", [0, 1] * 10),
            ("state_index", [1, 0] * 10),
        ],
    ),
    (
        "reverse_process",
        reverse_process,
        [
            ("time", list(range(20))),
            ("behaviour", [1, 0] * 10),
            ("score", [1, 0] * 10),
            ("norm", [1, 0] * 10),
            ("time", list(range(19, -1, -1))),
        ],
    ),
    (
        "backup",
        backup,
        [
            ("state_index", [*range(6), *range(6), *range(6), 0, 4]),
            ("k", [*range(1, 13), *range(8, 0, -1)]),
            ("log_alpha", np.round(np.linspace(-2, 3.7, 20), 1).tolist()),
            ("log_epsilon", np.linspace(-19, 0, 20).tolist()),
        ],
    ),
    (
        "dimension",
        dimension,
        [
            ("rule", [0, 1, 2, 0] * 5),
            ("dim", [*range(1, 21)]),
            ("width", np.round(np.linspace(0.02, 1.54, 20)[:19], 2).clip(max=1.5).tolist() + [0.4]),
            ("log_epsilon", np.linspace(-19, 0, 20).tolist()),
            ("keep", np.round(np.linspace(0.5, 0.88, 20), 2).tolist()),
            ("rule", [1, 2] * 10),
        ],
    ),
    (
        "hero",
        hero,
        [
            (
                "log_epsilon",
                np.r_[-14, -10.25:-7.75:0.25, -5, -0.5, 0, 0.5:2:0.25].tolist(),
            )
        ],
    ),
    (
        "walk",
        walk,
        [
            # each of these is a walk in Python
            ("epsilon_at", [0, 27, 29, 31]),
            ("plank", [*range(10)]),
            ("n", [1, 60, 4, 19]),
            ("k", [*range(1, 9), 60]),
        ],
    ),
    (
        "maze_walk",
        maze_walk,
        [
            # each of these is a walk in Python
            ("policy", [0, 1, 2, 3, 5, 10, 4]),
            ("trained_at", [5, 2, 0]),
            ("epsilon_at", [0, 17, 45]),
            ("cell", [*range(13)]),
            ("policy", [3, 0, 1, 4]),
            ("k", [*range(1, 7)]),
        ],
    ),
    (
        "penalty",
        penalty,
        [
            ("row", [*range(10)] * 2),
            ("log_rarity", np.round(np.linspace(-4, -0.39, 20), 1).tolist()),
            ("log_alpha", np.round(np.linspace(-2, 1.8, 20), 1).tolist()),
            ("row", [8, 3] * 10),
            ("log_epsilon", (-14 + 0.25 * np.round(np.linspace(0, 56, 20))).tolist()),
            ("log_alpha", np.round(np.linspace(2, -1.8, 20), 1).tolist()),
            ("row", [*range(9, -1, -1)] * 2),
            ("log_rarity", np.round(np.linspace(-0.39, -4, 20), 1).tolist()),
        ],
    ),
    ("diffusion", diffusion, [("time", [*range(0, 180, 10), 89, 91])]),
    ("pull", pull, [("strength", np.round(np.linspace(0, 2.85, 20), 1).tolist())]),
]


def widget(name: str):
    """A new widget of the list, by name."""
    return next(make() for one, make, _ in WIDGETS if one == name)


def traits(name: str) -> dict[str, list]:
    """Values that each control of that widget can take, by the control's name."""
    return next(dict(traits) for one, _, traits in WIDGETS if one == name)


def slider(name: str, shown) -> tuple[str, float]:
    """(control, a value to set it to) of the first control of that widget that is a slider."""
    return next(
        (trait, values[7 % len(values)])
        for trait, values in traits(name).items()
        if shown.controls[trait].kind == "slider"
    )


def notebook(names) -> nbformat.NotebookNode:
    """A notebook as if run, whose cells show these widgets."""
    cells = [nbformat.v4.new_markdown_cell("# Widgets", id="cell-00")]
    for i, name in enumerate(names, 1):
        bundle, metadata = widget(name)._repr_mimebundle_()
        output = nbformat.v4.new_output(
            "execute_result", bundle, metadata=metadata, execution_count=i
        )
        cells.append(
            nbformat.v4.new_code_cell(name, id=f"cell-{i:02d}", execution_count=i, outputs=[output])
        )
    return nbformat.v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )


def build_book(folder: Path) -> Path:
    """Build a book with this project's theme and settings: one page for each widget, and `all` of
    them, the first twice. Returns the folder of its pages.
    """
    source = folder / "book"
    shutil.copytree(ROOT / "book/_static", source / "_static")
    (source / "references.bib").write_text("", encoding="utf-8")
    names = [name for name, _, _ in WIDGETS]
    for page, shown in [("all", names + names[:1]), *((name, [name]) for name in names)]:
        nbformat.write(notebook(shown), source / f"{page}.ipynb")
    (source / "_toc.yml").write_text(
        "format: jb-book\nroot: all\nchapters:\n" + "".join(f"- file: {name}\n" for name in names),
        encoding="utf-8",
    )
    return pages_of(folder)


def pages_of(folder: Path) -> Path:
    """Build the book in `folder`/book with this project's settings. Returns the folder of its
    pages.
    """
    run = subprocess.run(
        jupyter_book(folder / "book", ROOT / "_config.yml", folder),
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"NO_COLOR": "1"},
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return folder / "_build/html"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/favicon.ico":  # which a browser asks for by itself
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@contextmanager
def served(folder: Path, scheme: str):
    """The address, ending in a slash, under which a browser finds `folder`."""
    if scheme == "file":
        yield folder.resolve().as_uri() + "/"
        return
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Quiet, directory=str(folder))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Reused:
    """Pages of a Chromium, of contexts that tests share one after the other: what a page loads
    for the second time costs half. Each is given empty, with nothing stored, of its first size.
    """

    def __init__(self, chromium):
        self.chromium, self.free = chromium, {}

    @contextmanager
    def page(self, **options):
        """A page of a context with these options, that nobody else has until the block ends."""
        free = self.free.setdefault(repr(sorted(options.items())), [])
        page = free.pop() if free else self.chromium.new_context(**options).new_page()
        size = page.viewport_size
        yield page
        page.evaluate("() => { try { localStorage.clear(); sessionStorage.clear() } catch {} }")
        page.goto("about:blank")
        page.emulate_media(media="null", color_scheme="null")
        page.set_viewport_size(size)
        free.append(page)


class Watched:
    """A page of a folder, what it asked of others (`requests`, which go nowhere: FLAGS) and what it
    complained about (`errors`), until `leave`.
    """

    def __init__(self, page, home: str):
        self.home, self.requests, self.errors = home, [], []
        self.page, self.figure = page, page.locator(".arq-widget").first
        self.measured = page.context.new_cdp_session(page)
        self.measured.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.listening = {
            "request": lambda r: self.is_own(r.url) or self.requests.append(r.url),
            "websocket": lambda s: self.requests.append(s.url),
            "requestfailed": lambda r: self.errors.append(f"{r.url}: {r.failure}"),
            "pageerror": lambda e: self.errors.append(str(e)),
            "console": lambda m: m.type == "error" and self.errors.append(m.text),
        }
        for event, listener in self.listening.items():
            page.on(event, listener)

    def leave(self) -> None:
        """Listen no more."""
        self.measured.detach()
        for event, listener in self.listening.items():
            self.page.remove_listener(event, listener)

    def is_own(self, url: str) -> bool:
        return url.startswith((self.home, "data:", "blob:"))

    def open(self, path: str, scripts: bool = True) -> tuple[float, float]:
        """Go to a page of the folder and wait until its widgets stand; seconds that passed, and
        seconds that the page's thread worked.
        """
        start = time.perf_counter()
        self.page.goto(self.home + path, wait_until="commit")
        self.figure.wait_for()
        if scripts:
            self.page.wait_for_function(
                "document.readyState !== 'loading' && "
                "!document.querySelector('.arq-widget:not([data-ready])')"
            )
        seconds = time.perf_counter() - start
        worked = next(
            m["value"]
            for m in self.measured.send("Performance.getMetrics")["metrics"]
            if m["name"] == "ThreadTime"
        )
        self.page.wait_for_load_state("load")
        return seconds, worked

    def sentence(self) -> str:
        return self.figure.locator(".arq-finding").text_content()


# a change draws at the next frame, and a widget that goes on computing draws again when it is done
DRAWN = """() => new Promise((done) => {
  const busy = () => document.querySelector(".arq-widget[data-busy]");
  const look = () => (busy() ? setTimeout(look, 5) : done());
  requestAnimationFrame(() => setTimeout(look));
})"""
# Sets controls as a hand would and returns, for each value, where the control then stands and what
# the figure says after it was drawn.
SET = """async ([figure, name, values]) => {
  const drawn = DRAWN;
  const said = [];
  for (const v of values) {
    const control = figure.querySelector(`[name="${name}"]`), radio = control.type === "radio";
    if (radio) figure.querySelector(`[name="${name}"][value="${v}"]`).checked = true;
    else control.value = v;
    const kind = control.type === "range" ? "input" : "change";
    const changed = radio ? figure.querySelector(`[name="${name}"]:checked`) : control;
    changed.dispatchEvent(new Event(kind, { bubbles: true }));
    await drawn();
    const which = radio ? ":checked" : "";
    const stands = Number(figure.querySelector(`[name="${name}"]${which}`).value);
    said.push([stands, figure.querySelector(".arq-finding").textContent]);
  }
  return said;
}""".replace("DRAWN", DRAWN)


def put(figure, name: str, values) -> list:
    """[value, sentence] after each value that the control of that name was given."""
    return figure.page.evaluate(SET, [figure.element_handle(), name, list(values)])


def stands(figure, name: str) -> float:
    """Where the control of that name stands."""
    controls = figure.locator(f"[name={name}]")
    if controls.first.get_attribute("type") == "radio":
        controls = figure.locator(f"[name={name}]:checked")
    return float(controls.input_value())


def axe(page, source: str, selector: str = ".arq-widget") -> list[str]:
    """Serious and critical violations of axe-core's rules inside the elements of `selector`."""
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(source)
    found = page.evaluate(
        "(selector) => axe.run({include: [[selector]]}, {resultTypes: ['violations']})", selector
    )["violations"]
    return [
        f"{v['id']} ({v['impact']}): {v['help']}: {n['html'][:150]}"
        for v in found
        if v["impact"] in ("serious", "critical")
        for n in v["nodes"]
    ]


# What sticks out: of the page on the right, or of the box that would cut it off (an element of the
# selector; the plot, for its letters).
WIDER = """(selector) => {
  const wide = document.documentElement.scrollWidth;
  const out = wide > innerWidth ? [`the page: ${wide} of ${innerWidth} px`] : [];
  for (const figure of document.querySelectorAll(selector))
    for (const e of figure.querySelectorAll(":scope *:not(svg *, script, style), svg text")) {
      const box = (e.tagName === "text" ? e.closest("svg") : figure).getBoundingClientRect();
      const at = e.getBoundingClientRect(), px = Math.round;
      if (at.width && e.checkVisibility() && (at.right > box.right + 1 || at.left < box.left - 1))
        out.push(`<${e.tagName}> ${e.textContent.slice(0, 40)}: ` +
          `${px(at.left)} to ${px(at.right)}, ` +
          `expected within ${px(box.left)} to ${px(box.right)}`);
    }
  return out;
}"""


def overflow(page, width: int = 390, selector: str = ".arq-widget") -> list[str]:
    """What of those elements does not fit into a window of that width (CSS pixels)."""
    page.set_viewport_size({"width": width, "height": 844})
    # the observer of sizes, then the drawing that it asks for
    for _ in range(2):
        page.evaluate(DRAWN)
    return page.evaluate(WIDER, selector)


# words of one plot that lie on one another, by more than the room around letters
OVER = """() => {
  const out = [];
  for (const svg of document.querySelectorAll(".arq-widget svg")) {
    const words = [...svg.querySelectorAll("text")].filter((e) => e.textContent.trim());
    const at = words.map((e) => e.getBoundingClientRect());
    at.forEach((a, i) => at.slice(0, i).forEach((b, j) => {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1.5 && high > 4.5) out.push(`${words[j].textContent} / ${words[i].textContent}`);
    }));
  }
  return out;
}"""


def laid_over(page) -> list[str]:
    """Words of the widgets' plots that lie on others."""
    return page.evaluate(OVER)


def code_bytes(fragment: str) -> int:
    """Bytes of a fragment without its numbers."""
    return len(
        re.sub(
            r'(<script type="application/json"[^>]*>).*?</script>', "", fragment, flags=re.S
        ).encode()
    )
