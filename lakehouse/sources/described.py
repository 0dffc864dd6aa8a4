"""The `defs.yaml` files: which sources they describe, and how a name is looked up among them.

What a description may say belongs beside what reads it: `config` for bars, `feed` for quotes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from lakehouse.settings import PROJECT_ROOT
from lakehouse.sources.errors import SourceError
from lakehouse.sources.products import Strict

DEFS = PROJECT_ROOT / "lakehouse" / "defs"

Described = TypeVar("Described", bound=Strict)


def described(component: str, model: type[Described], folder: Path) -> dict[str, Described]:
    """What the `defs.yaml` files below `folder` say of a type of component, by the name of the source.

    Raises:
        SourceError: a file says what the model doesn't allow.
    """
    import yaml

    found: dict[str, Described] = {}
    for path in sorted(folder.rglob("defs.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document and document.get("type") == component:
                try:
                    made = model.model_validate(document["attributes"])
                except ValueError as error:
                    raise SourceError(f"{path}: {error}") from error
                found[document["attributes"]["source"]] = made
    return found


def named_in(known: Mapping[str, Described], name: str, kind: str) -> Described:
    """The description of that name.

    Raises:
        SourceError: no defs.yaml describes it.
    """
    if name not in known:
        raise SourceError(
            f"no {kind} '{name}'; there is {', '.join(known) or 'none'}. A {kind} is a defs.yaml below lakehouse/defs"
        )
    return known[name]
