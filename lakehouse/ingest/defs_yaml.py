"""The `defs.yaml` files: which sources they describe, and how a name is looked up among them.

A file that can't be read leaves the other sources alone: it is listed as broken, with the line.

What a description may say belongs beside what reads it: `config` for bars, `feed` for quotes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import ValidationError

from lakehouse.errors import SourceError, did_you_mean
from lakehouse.ingest.dataset import Strict
from lakehouse.settings import PROJECT_ROOT

if TYPE_CHECKING:
    import yaml

DEFS = PROJECT_ROOT / "lakehouse" / "defs"
MARKET_SOURCE, QUOTE_FEED = "lakehouse.components.MarketSource", "lakehouse.components.QuoteFeed"
_OWN = "lakehouse.components."

Described = TypeVar("Described", bound=Strict)


@dataclass(frozen=True)
class Descriptions(Generic[Described]):
    """What the files say of one type of component: by the name of the source, and the error of each broken file."""

    found: dict[str, Described] = field(default_factory=dict)
    broken: dict[Path, SourceError] = field(default_factory=dict)

    def named(self, name: str, kind: str) -> Described:
        """The description of that name.

        Raises:
            SourceError: no defs.yaml describes it, or the one in the folder of that name is broken.
        """
        if name in self.found:
            return self.found[name]
        for path, error in self.broken.items():
            if path.parent.name == name:
                raise error
        broken = "".join(f". {error}" for error in self.broken.values())
        raise SourceError(
            f"no {kind} '{name}'; there is {', '.join(self.found) or 'none'}{did_you_mean(name, self.found)}. "
            f"A {kind} is a defs.yaml below lakehouse/defs{broken}"
        )


def described(component: str, model: type[Described], folder: Path) -> Descriptions[Described]:
    """What the `defs.yaml` files below `folder` say of a type of component."""
    descriptions: Descriptions[Described] = Descriptions()
    for path in sorted(folder.rglob("defs.yaml")):
        try:
            descriptions.found.update(_described_in(path, component, model))
        except SourceError as error:
            descriptions.broken[path] = error
    return descriptions


def _described_in(path: Path, component: str, model: type[Described]) -> dict[str, Described]:
    import yaml

    found: dict[str, Described] = {}
    try:
        text = path.read_text()
        documents = list(yaml.safe_load_all(text))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SourceError(f"{path}{line}: {error.problem}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SourceError(f"{path}: {error}") from error
    kinds = [document.get("type") if isinstance(document, dict) else None for document in documents] or [None]
    for kind in kinds:
        if not isinstance(kind, str) or (kind.startswith(_OWN) and kind not in (MARKET_SOURCE, QUOTE_FEED)):
            raise SourceError(
                f"{path}: its type is {'missing' if kind is None else repr(kind)}; set it to {MARKET_SOURCE} or "
                f"{QUOTE_FEED}, or remove the file"
            )
    for number, document in enumerate(documents):
        if kinds[number] != component:
            continue
        attributes = document.get("attributes") or {}
        try:
            found[attributes.get("source", "")] = model.model_validate(attributes)
        except ValidationError as error:
            nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
            raise SourceError("; ".join(_problems(path, nodes[number], error))) from error
    return found


def _problems(path: Path, document: yaml.Node, error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        where = ".".join(map(str, problem["loc"]))
        yield f"{path}, line {_line(document, ('attributes', *problem['loc']))}: {where}: {problem['msg']}"


def _line(node: yaml.Node, loc: Sequence[Any]) -> int:
    """The line of the entry at `loc`, or of the innermost one above it that the document has."""
    line = node.start_mark.line + 1
    for part in loc:
        entries = node.value if isinstance(node.value, list) else []
        pairs = [entry for entry in entries if isinstance(entry, tuple) and entry[0].value == str(part)]
        if pairs:
            key, node = pairs[0]
            line = key.start_mark.line + 1
        elif isinstance(part, int) and part < len(entries) and not isinstance(entries[part], tuple):
            node = entries[part]
            line = node.start_mark.line + 1
    return int(line)
