"""Writes the pages, and deletes those that are no longer made."""

from __future__ import annotations

from pathlib import Path

from scripts.reference.pages import all_pages

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


def main() -> None:
    """Writes every page that differs."""
    made = all_pages()
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        path = FOLDER / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    main()
