"""The entry point of the program `lakehouse`."""

from __future__ import annotations

from lakehouse.garbage import collect_garbage_rarely


def main() -> None:
    """Runs the command of the arguments."""
    # Before the imports, of whose time it takes a seventh.
    collect_garbage_rarely()
    from lakehouse.cli.app import app

    app()
