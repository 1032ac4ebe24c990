"""The kernel of a notebook, run as a file (book.kernel): IPython without anybody's settings, and a
count of the figures that a cell draws.

It runs in the notebook's process and imports nothing of ours: a notebook may bring modules of its
own.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from weakref import WeakSet

# of an output that says how many figures a cell drew; the runner takes it out
DRAWN = "application/vnd.arq.drawn+json"
INLINE = "matplotlib_inline"


class After(MetaPathFinder):
    """Calls a function with a module once that has been imported."""

    def __init__(self, name: str, call):
        self.name, self.call = name, call

    def find_spec(self, name, path=None, target=None):
        """The module's own spec, whose loader calls us too."""
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        if spec := find_spec(name):
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                self.call(module)

            spec.loader.exec_module = exec_module
        return spec


def after(name: str, call) -> None:
    """Call a function with a module, now if it has been imported already, or else just then."""
    if name in sys.modules:
        call(sys.modules[name])
    else:
        sys.meta_path.insert(0, After(name, call))


class Figures:
    """Counts the figures that each cell draws to be seen: those that are open when `pyplot.show`
    is called, and those that the cell leaves open, which its end shows too.
    """

    def __init__(self):
        self.pyplot, self.known, self.drawn = None, WeakSet(), 0

    def watch(self, pyplot):
        """Count before every call of `show`."""
        self.pyplot, show = pyplot, pyplot.show

        def counted(*args, **kwargs):
            self.count()
            return show(*args, **kwargs)

        pyplot.show = counted

    def count(self):
        """Note open figures that hold something, each once."""
        for number in self.pyplot.get_fignums():
            figure = self.pyplot._pylab_helpers.Gcf.figs[number].canvas.figure
            if (figure.axes or figure.lines) and figure not in self.known:
                self.known.add(figure)
                self.drawn += 1

    def end(self):
        """At the end of a cell, before its open figures are shown. With `pyplot.ioff` none are."""
        if self.pyplot and (INLINE not in self.backend() or self.pyplot.isinteractive()):
            self.count()

    def backend(self) -> str:
        """What draws the figures now."""
        return str(self.pyplot.matplotlib.rcParams["backend"])

    def say(self, result):
        """After a cell: how many it drew, as an output of it."""
        from IPython.display import display

        if self.drawn:
            display({DRAWN: {"figures": self.drawn, "backend": self.backend()}}, raw=True)
        self.drawn = 0


def main() -> None:
    """IPython's kernel, with what the command line says."""
    from ipykernel.kernelapp import IPKernelApp
    from IPython.core import application

    application.SYSTEM_CONFIG_DIRS[:] = application.ENV_CONFIG_DIRS[:] = []
    figures = Figures()
    # a matplotlibrc in the folder where we work would come before every other
    after("matplotlib", lambda matplotlib: matplotlib.rcdefaults())
    after("matplotlib.pyplot", figures.watch)
    app = IPKernelApp.instance()
    app.initialize()
    app.shell.events.register("post_execute", figures.end)
    app.shell.events.register("post_run_cell", figures.say)
    app.start()


if __name__ == "__main__":
    # this file's folder, where no notebook looks for modules
    del sys.path[0]
    main()
