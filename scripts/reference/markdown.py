"""Markdown: tables, and text that must not be read as markup."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

GENERATED = "<!-- Made by `python -m scripts.reference`: change the code instead. -->"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown already."""
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join('---' for _ in columns)}|"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def plain(text: str | None) -> str:
    """Text in one line, without markup of its own except code in backquotes."""
    parts = " ".join((text or "").split()).split("`")
    shown = [
        part if place % 2 else html.escape(part, quote=False).replace("*", r"\*").replace("[", r"\[")
        for place, part in enumerate(parts)
    ]
    return "`".join(shown) if len(parts) % 2 else html.escape(" ".join((text or "").split()), quote=False)


def code(text: object) -> str:
    """Text as code, or nothing."""
    return f"`{text}`" if text not in (None, "") else ""
