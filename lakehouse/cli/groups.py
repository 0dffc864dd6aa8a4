"""Groups of commands, made when one is asked for: making all hundred commands takes longer than showing help."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup
from typer.main import get_group


class Group(TyperGroup):
    """Stands for the group of a Typer app, by its name and help, until the group is asked for."""

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
    """A program with such groups beside its own commands."""

    groups: ClassVar[Sequence[typer.Typer]] = ()

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for app in self.groups:
            self.add_command(Group(app))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, others = super().resolve_command(ctx, args)
        return name, command.made if isinstance(command, Group) else command, others
