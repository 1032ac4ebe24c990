"""Processes that start at once: forked from one that has imported what they need of other people.

Of ours only what asks for no folder when it is imported: a test names its own in the environment.
"""

import contextlib
import io
import multiprocessing
import os

IMPORTED = [
    "arq_core.datasets.fetch",
    "arq_core.datasets.readers.d4rl",
    "arq_core.datasets.readers.minari",
    "arq_core.datasets.readers.robomimic",
    "pandas.io.formats.style",
    "scipy.stats",
    "sphinx.builders.html",
    "sphinx.cmd.build",
]
_context = multiprocessing.get_context("forkserver")


def started(target, *arguments):
    """(the process, the end of a pipe to read from): target(the pipe's other end, *arguments)
    begins in it, in the environment and folder of the process that it was forked from.
    """
    _context.set_forkserver_preload(IMPORTED)  # a run of the book leaves its own
    pipe, end = _context.Pipe(False)
    process = _context.Process(target=target, args=(end, *arguments))
    process.start()
    end.close()
    return process, pipe


def answer(function, *arguments, folder):
    """(what a function of a module returns, what it wrote to stderr), called in a process of its
    own in this folder and this process's environment; EOFError where it ended before it answered.
    """
    process, pipe = started(_run, dict(os.environ), folder, function, arguments)
    try:
        return pipe.recv()
    finally:
        process.join()


def _run(pipe, environment, folder, function, arguments):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as said,
    ):
        returned = function(*arguments)
    pipe.send((returned, said.getvalue()))


def ran(code):
    """True where these lines, as a program's, come to their end."""
    exec(compile(code, "<lines>", "exec"), {"__name__": "__main__"})
    return True
