"""The lines "Try next" after commands that make something: what a newcomer would type now."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from lakehouse.cli.explained import console


def try_next(*arguments: str) -> None:
    """Prints commands, each given by its arguments."""
    print_next(f"{as_typed()} {each}" for each in arguments)


def print_next(commands: Iterable[str]) -> None:
    """Prints whole commands."""
    console.print("\nTry next:")
    for command in commands:
        console.print(f"  {command}", highlight=False, soft_wrap=True, markup=False)


def as_typed() -> str:
    """The `lakehouse` command, as it is typed in the working directory."""
    program = Path(sys.argv[0]).absolute()
    found = shutil.which("lakehouse")
    if program.name != "lakehouse" or (found and Path(found).absolute() == program):
        return "lakehouse"
    return shlex.quote(short(program))


def short(path: Path) -> str:
    """A path, from the working directory on if it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
