"""Pictures in Markdown, as Dagster's pages show it."""

from __future__ import annotations

import base64


def in_markdown(picture: str | bytes, description: str) -> str:
    """Embeds an SVG (text) or a PNG (bytes) as a data URI."""
    kind, data = ("svg+xml", picture.encode()) if isinstance(picture, str) else ("png", picture)
    return f"![{description}](data:image/{kind};base64,{base64.b64encode(data).decode()})"
