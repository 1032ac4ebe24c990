"""Real processes that fetch one file."""

import contextlib
import ctypes
import io
import os
import resource
import subprocess
import sys

import forked

from arq_core.datasets import download
from arq_core.datasets.fetch import FetchError, fetch_locked

NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000  # linux/sched.h
WRITES = (
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.link",
    "os.symlink",
    "os.rmdir",
    "os.truncate",
    "os.chmod",
    "shutil.copyfile",
)


def small_files(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def own_disk(folder, options, *then):
    """Mounts an empty disk in memory that nobody else sees (Linux namespaces; no rights are needed
    where the kernel grants them).
    """
    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_MOUNTS | NEW_USER):
        raise PermissionError(ctypes.get_errno(), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {user} 1"),
        ("gid_map", f"0 {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "-o", options, "x", folder],
        *then,
    ):
        subprocess.run(command, check=True, capture_output=True)


def watched(written):
    """From now on every path that is opened for writing, made, renamed or removed is noted."""

    def hook(event, args):
        if (
            event == "open"
            and isinstance(args[0], (str, bytes))
            and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            written.append(os.path.abspath(os.fsdecode(args[0])))
        elif event in WRITES:
            written.extend(
                os.path.abspath(os.fsdecode(a))
                for a in args
                if isinstance(a, (str, bytes, os.PathLike))
            )

    sys.addaudithook(hook)


def run(pipe, environment, arguments, before):
    """Sends (the path or the error, what was written to stderr, paths written to), or why `before`
    was impossible.
    """
    os.environ.update(environment)
    download.PAUSE = 0
    written = []
    try:
        for step, *args in before:
            globals()[step](*args)
    except (OSError, subprocess.CalledProcessError) as error:
        pipe.send((f"impossible: {error}", "", []))
        return
    watched(written)
    with contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            answer = str(fetch_locked(*arguments))
        except FetchError as error:
            answer = f"FetchError: {error}"
    pipe.send((answer, err.getvalue(), list(written)))


class Fetching:
    """A process that calls fetch_locked(*arguments); `before` lists (function above, arguments) to
    call first.
    """

    def __init__(self, *arguments, before=()):
        environment = {
            k: v
            for k, v in os.environ.items()
            if k.startswith("ARQ_") or k.lower().endswith("_proxy")
        }
        self.process, self.pipe = forked.started(run, environment, arguments, before)

    def answer(self):
        assert self.pipe.poll(60)
        try:
            return self.pipe.recv()
        finally:
            self.process.join()
