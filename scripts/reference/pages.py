"""All pages of the reference, and its index."""

from __future__ import annotations

from scripts.reference import commands, errors, settings, tables, yaml_keys
from scripts.reference.markdown import GENERATED


def all_pages() -> dict[str, str]:
    """File name -> text."""
    made: dict[str, str] = {}
    for module in (commands, settings, yaml_keys, tables, errors):
        made |= module.pages()
    return {name: f"{GENERATED}\n\n{text}" for name, text in sorted((made | {"README.md": _index(made)}).items())}


def _index(made: dict[str, str]) -> str:
    lines = [f"- [{text.splitlines()[0].removeprefix('# ')}]({name})" for name, text in sorted(made.items())]
    return "# Reference\n\nWritten from the code, and checked against it by the tests.\n\n" + "\n".join(lines) + "\n"
