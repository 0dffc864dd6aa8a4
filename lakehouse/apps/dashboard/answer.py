"""What a page is made of: a template with its values; and what a request may ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from lakehouse.api import Lake
from lakehouse.errors import LakehouseError


class UnknownValue(LakehouseError, ValueError):
    """A value of the address can't be used; the message names it."""


@dataclass(frozen=True)
class Answer:
    """A page: the name of its template, and the values that it shows."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What the address of a page asks for."""

    values: Mapping[str, str]

    def text(self, name: str) -> str | None:
        """A value as it is written; None if it is left out or empty."""
        return self.values.get(name, "").strip() or None

    def day(self, name: str) -> date | None:
        """A date.

        Raises:
            UnknownValue: it isn't one.
        """
        text = self.text(name)
        try:
            return date.fromisoformat(text) if text else None
        except ValueError:
            raise UnknownValue(f"{name}={text!r} is not a date; write it as 2024-03-28") from None

    def chosen(self, name: str, among: list[str], default: str | None = None) -> str | None:
        """One of some values, or the default.

        Raises:
            UnknownValue: it is another.
        """
        text = self.text(name)
        if text is not None and text not in among:
            raise UnknownValue(
                f"there is no {name} {text!r}; choose one of {', '.join(among) or 'those that are loaded'}"
            )
        return text or default

    def number(self, name: str) -> int | None:
        """A whole number.

        Raises:
            UnknownValue: it isn't one.
        """
        text = self.text(name)
        if text is not None and not (text.isascii() and text.isdigit() and len(text) < 6):
            raise UnknownValue(f"{name}={text!r} is not a whole number")
        return None if text is None else int(text)


MakePage = Callable[[Lake, Asked], Answer]
"""Makes a page of the lake's present state."""


@dataclass(frozen=True)
class Page:
    """A page of the dashboard.

    Args:
        path: its address, such as `/movers`.
        group: heading under which the navigation lists it; None leaves it out.
    """

    path: str
    title: str
    make: MakePage
    group: str | None = None
