"""Pages of docs/ with tables that benchmarks write."""

from __future__ import annotations

from pathlib import Path

_DOCS = Path(__file__).parents[1] / "docs"


def put(page: str, program: str, text: str) -> None:
    """Puts a text between the marks that a program has in a page of docs/."""
    path, begin, end = _DOCS / page, f"<!-- {program}: begin -->", f"<!-- {program}: end -->"
    before, rest = path.read_text().split(begin)
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}")
