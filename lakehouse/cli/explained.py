"""The consoles of the commands, and the handler that prints known errors without a traceback."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.markup import escape

from lakehouse.cli.render import SafeConsole
from lakehouse.errors import HomeUnavailable, LakehouseError

console = SafeConsole()
errors = SafeConsole(stderr=True)
SIGINT_STATUS = 130
"""128 + SIGINT."""

_WRITABLE = "Get permission to write there, or set LAKEHOUSE_HOME to a folder that you may write"
_FULL = "Free some space and start again; what is in the lake stays as it was committed"
_OS_HINTS = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _WRITABLE),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "A file is where a folder is needed: remove it or rename it"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FULL),
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.ENOENT: "Restore it, or set LAKEHOUSE_HOME to a folder that can be made",
    errno.EISDIR: "A folder is where a file is needed: remove it or rename it",
}
"""Fixes for file system errors."""
_CHECK_DISK = "Check this file and its disk, or set LAKEHOUSE_HOME to another folder"


@contextmanager
def explained() -> Iterator[None]:
    """Prints errors that explain themselves without a traceback, and exits with status 1."""
    try:
        yield
    except LakehouseError as error:
        print_error(error)
        raise typer.Exit(2) from None
    except BrokenPipeError:
        # Typer exits quietly.
        raise
    except OSError as error:
        what = f"{error.filename or 'the home'}: {error.strerror}" if error.strerror else str(error)
        print_error(HomeUnavailable(what, _OS_HINTS.get(error.errno or 0, _CHECK_DISK)))
        raise typer.Exit(2) from None
    except (KeyboardInterrupt, RuntimeError) as error:
        if not is_ctrl_c(error):
            raise
        errors.print("Stopped.")
        raise typer.Exit(SIGINT_STATUS) from None


def is_ctrl_c(error: BaseException) -> bool:
    """Whether an error is Ctrl-C, which DuckDB turns into a RuntimeError."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt)


_printed: set[str] = set()
"""The errors that were printed."""


def warn_of_broken_files() -> None:
    """Names the broken `defs.yaml` files that weren't named by an error: the command worked without their sources."""
    from lakehouse.catalog import analyses, broken_files, warn_of
    from lakehouse.settings import SettingsError

    try:
        found = [*broken_files().values(), *analyses().broken.values()]
    except SettingsError:
        return  # the command has named it
    for error in found:
        if str(error) not in _printed:
            warn_of(error)


def mark_as_printed(error: Exception) -> None:
    """Keeps `warn_of_broken_files` from naming an error again."""
    _printed.add(str(error))


def print_error(error: Exception) -> None:
    mark_as_printed(error)
    errors.print(f"[bold red]Error[/] {escape(str(error))}", highlight=False, soft_wrap=True)
