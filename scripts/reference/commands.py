"""The page of commands: every command with its arguments and options, as the command line knows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from lakehouse.cli.app import app
from scripts.reference.markdown import code, plain, table

_OF_SHELLS = ("help", "install_completion", "show_completion")


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its full name."""
    yield from _below("lakehouse", typer.main.get_command(app))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for each in sorted(getattr(command, "commands", ())):
        yield from _below(f"{name} {each}", command.commands[each])


def pages() -> dict[str, str]:
    """The page."""
    parts = ["# Commands", "In a clone they are in `.venv/bin`. `--help` of each says the same."]
    for name, command in commands():
        parts += [f"## {name}", plain(command.help)]
        shown = [each for each in command.params if not getattr(each, "hidden", False) and each.name not in _OF_SHELLS]
        rows = [_parameter(each) for each in shown]
        if rows:
            parts.append(table(("argument or option", "default", "meaning"), rows))
    return {"commands.md": "\n\n".join(part for part in parts if part) + "\n"}


def _parameter(each: Any) -> tuple[str, str, str]:
    required = "required" if each.required else ""
    default = "" if each.default in (None, False, ()) or callable(each.default) else code(each.default)
    if each.param_type_name == "option":
        value = "" if each.is_flag else f" {each.metavar or _value(each)}"
        name = ", ".join(code(option + value) for option in (*each.opts, *each.secondary_opts))
        return name, required or default, plain(each.help)
    name = (each.metavar or each.name or "").upper()
    return code(f"{name} ..." if each.nargs == -1 else name), required or default, plain(getattr(each, "help", ""))


def _value(each: Any) -> str:
    """What an option takes: its choices, or its type."""
    choices = each.type_descriptor.choices if each.type_descriptor.is_choice else None
    if choices:
        return "|".join(str(getattr(choice, "value", choice)) for choice in choices)
    return str(each.bare_type()).strip("<>").upper()
