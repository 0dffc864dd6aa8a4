"""What differs between two versions of exported contracts (`odcs`), which differences break readers, and whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakehouse.governance.lineage import ColumnName, Lineage
from lakehouse.governance.odcs import SUFFIX, Document
from lakehouse.lake.contract import ContractError
from lakehouse.lake.strict_yaml import yaml_documents
from lakehouse.lake.types import parse_type


@dataclass(frozen=True)
class Difference:
    """A difference between two versions of a table's contract.

    Attributes:
        column: None where it is about the whole table.
        breaks: readers of the old version can't rely on the new one.
    """

    table: str
    column: str | None
    what: str
    breaks: bool

    def __str__(self) -> str:
        return f"{self.table}{'.' + self.column if self.column else ''}: {self.what}"


def read_documents(place: Path) -> dict[str, Document]:
    """The exported contracts in a file or a folder, by the names of their tables.

    Raises:
        ContractError: it has none.
    """
    files = sorted(place.glob(f"*{SUFFIX}")) if place.is_dir() else [place]
    found: dict[str, Document] = {}
    for file in files:
        try:
            documents = yaml_documents(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ContractError(f"{file}: {error}") from error
        for document in documents:
            if not (isinstance(document, dict) and document.get("kind") == "DataContract" and document.get("schema")):
                raise ContractError(f"{file} is no exported contract; write one by `lakehouse contract export`")
            found[document["name"]] = document
    if not found:
        raise ContractError(f"{place} has no exported contracts; write them by `lakehouse contract export -o {place}`")
    return found


def differences(old: Mapping[str, Document], new: Mapping[str, Document]) -> list[Difference]:
    """The differences of contracts, those that break readers first."""
    found = [Difference(name, None, "the table is gone", True) for name in old if name not in new]
    found += [Difference(name, None, "the table is new", False) for name in new if name not in old]
    for name in old:
        if name in new:
            found += _of_table(name, old[name], new[name])
    return sorted(found, key=lambda each: (not each.breaks, each.table, each.column or ""))


def broken_by(difference: Difference, old: Mapping[str, Document], lineage: Lineage) -> list[ColumnName]:
    """The columns that are made from what differs, however far downstream."""
    properties = old[difference.table]["schema"][0].get("properties", ()) if difference.table in old else ()
    names = [difference.column] if difference.column else [each["name"] for each in properties]
    return sorted(lineage.all_down(ColumnName(difference.table, name) for name in names))


def _of_table(table: str, old: Document, new: Document) -> Iterator[Difference]:
    before, after = _columns(old), _columns(new)
    for name in before:
        if name not in after:
            yield Difference(table, name, "the column is gone", True)
        else:
            for what, breaks in _of_column(before[name], after[name]):
                yield Difference(table, name, what, breaks)
    for name in after:
        if name not in before:
            yield Difference(table, name, "the column is new", False)
    if (one := _key(old)) != (other := _key(new)):
        yield Difference(table, None, f"the key was ({', '.join(one)}) and is ({', '.join(other)})", True)
    rules, kept = _rules(old), _rules(new)
    for name in rules:
        if name not in kept:
            yield Difference(table, None, f"the rule {name} doesn't hold any more: {rules[name][1]}", True)
        elif rules[name][0] != kept[name][0]:
            yield Difference(table, None, f"the rule {name} is another: {kept[name][1]}", True)
    for name in kept:
        if name not in rules:
            yield Difference(table, None, f"the rule {name} is new: {kept[name][1]}", False)
    for what, path in (("owner", ("team", "name")), ("freshness", ("slaProperties", 0, "value"))):
        if (said := _at(old, path)) != (now := _at(new, path)):
            yield Difference(table, None, f"the {what} was {said} and is {now}", False)


def _of_column(old: Document, new: Document) -> Iterator[tuple[str, bool]]:
    if (was := old["physicalType"]) != (now := new["physicalType"]):
        yield f"the type was {was} and is {now}", not _is_wider(was, now)
    if old.get("required") and not new.get("required"):
        yield "it may be NULL", True
    elif new.get("required") and not old.get("required"):
        yield "it is never NULL any more", False
    for name in ("unit", "format"):
        if (said := _custom(old).get(name)) != (says := _custom(new).get(name)):
            yield f"the {name} was {said or 'not given'} and is {says or 'not given'}", said is not None
    if (level := old.get("classification")) != (other := new.get("classification")):
        yield f"the classification was {level} and is {other}: roles without the right may not see it", False
    if not _custom(old).get("pii") and _custom(new).get("pii"):
        yield "it is personal: roles without the right see it masked", True
    if old.get("description") != new.get("description"):
        yield f"it is described as: {new.get('description')}", False


def _is_wider(old: str, new: str) -> bool:
    """Whether a decimal has as many digits or more on both sides of its point."""
    if not (old.startswith("decimal") and new.startswith("decimal")):
        return False
    one, other = parse_type(old), parse_type(new)
    return other.scale >= one.scale and other.precision - other.scale >= one.precision - one.scale


def _columns(document: Document) -> dict[str, Document]:
    return {each["name"]: each for each in document["schema"][0].get("properties", ())}


def _key(document: Document) -> list[str]:
    keys = [each for each in _columns(document).values() if each.get("primaryKey")]
    return [each["name"] for each in sorted(keys, key=lambda each: int(each["primaryKeyPosition"]))]


def _rules(document: Document) -> dict[str, tuple[Any, str]]:
    """Name -> what the rule asks for, and its description. The key is compared by itself."""
    quality = document["schema"][0].get("quality", ())
    return {
        each["name"]: (each.get("query"), each.get("description", "")) for each in quality if each["type"] != "library"
    }


def _custom(column: Document) -> dict[str, Any]:
    return {each["property"]: each["value"] for each in column.get("customProperties", ())}


def _at(document: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return None
    return document
