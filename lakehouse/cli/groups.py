"""Groups of commands, made when one is asked for: to make all hundred commands takes longer than most of them do."""

from __future__ import annotations

from collections.abc import MutableMapping
from functools import cached_property
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group


class Group(TyperGroup):
    """Stands in the program's help for the group of a Typer app."""

    def __init__(self, app: typer.Typer) -> None:
        self._app = app
        super().__init__(name=app.info.name, help=app.info.help)

    @cached_property
    def made(self) -> TyperGroup:
        """The group itself, with its commands."""
        return get_group(self._app)

    @property
    def commands(self) -> MutableMapping[str, Any]:
        return self.made.commands

    @commands.setter
    def commands(self, none: object) -> None:
        """Left to `made`."""


class GroupedProgram(TyperGroup):
    """A program some of whose commands are such groups."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, others = super().resolve_command(ctx, args)
        return name, command.made if isinstance(command, Group) else command, others
