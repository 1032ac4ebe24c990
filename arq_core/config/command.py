"""What all commands of `arq` share: how they end, options that several have."""

from __future__ import annotations

import errno

import click

STOPPED = "stopped; what was finished is kept, the same command goes on from there"
ERRORS = {
    "arq_core.envs.vector.EnvError",
    "arq_core.grid.driver.GridError",
    "arq_core.algorithm.types.DataError",
    "arq_core.grid.slurm.QueueError",
    "arq_core.book.layout.LayoutError",
    "arq_core.book.links.LinksError",
    "tomllib.TOMLDecodeError",
    "arq_core.config.files.TextError",
    "arq_core.results.regressions.RegressionError",
    "arq_core.book.notebook.RunError",
    "arq_core.results.records.ResultsError",
    "arq_core.config.settings.UnknownName",
    "arq_core.config.paths.NoCheckout",
}
# of a file system: it is read-only, full, or another user's
NO_PLACE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT}
# a folder where a file was expected, and the other way round
NO_FILE = {
    errno.EISDIR: "saw a folder, expected a file; name one in it.",
    errno.ENOTDIR: "saw a file, expected a folder; name another place.",
}
REFUSED = {"compare": 2}  # its status 1 says that an advantage was lost


class Refused(Exception):
    """What the command itself refuses; the message says what was seen, expected, and what to do."""


def is_told(error: Exception) -> bool:
    """Whether an error is one of ours, whose message is enough. Names, as no module is imported."""
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__}
    return isinstance(error, Refused) or bool(names & ERRORS)


class Commands(click.Group):
    """The commands, with one end for all: our errors in one line, Ctrl-C with what is kept."""

    def invoke(self, context: click.Context):
        """Run the command that was asked for; its errors end as the class says."""
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            click.echo(STOPPED, err=True)
            context.exit(130)
        except EOFError as error:  # click would say "Aborted!" and no more
            raise RuntimeError("saw a file or a pipe end too early") from error
        except Exception as error:
            if is_told(error):
                said = str(error)
            elif isinstance(error, OSError) and error.errno in NO_FILE:
                said = f"{error.filename or 'a file'}: {NO_FILE[error.errno]}"
            elif isinstance(error, OSError) and error.errno in NO_PLACE:
                said = (
                    f"{error.filename or 'a file'}: saw {error.strerror!r}, expected a place that "
                    "can be read and written, with room: the checkout and the cache are such "
                    "places (arq where: which they are). Name others in ARQ_ROOT and ARQ_CACHE."
                )
            else:
                raise
            click.echo(f"error: {said}", err=True)
            context.exit(REFUSED.get(context.invoked_subcommand or "", 1))


def profile(default: str):
    """The option --profile."""
    return click.option("--profile", default=default, help="Budget, a name in data/profiles.toml.")


def text(name: str, what: str):
    """An option that is a text, "" where it is not given."""
    return click.option(name, default="", show_default=False, help=what)
