"""The pages of tables: of each domain its tables and marts, and an entity-relationship diagram of both.

Lines of a diagram are the foreign keys that contracts (`references`) and dbt's tests (`foreign_key`) declare. Dotted
ones follow from keys: the columns of a table contain the whole key of another, which has one row for several of its, or
the key of one whose rows are versions, of which one is in force.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from lakehouse import catalog
from lakehouse.analyses import store
from lakehouse.derive.domain import Domain
from lakehouse.governance import catalogue
from lakehouse.governance.models import Model, models
from lakehouse.lake.contract import Contract, read_contracts, shared_contracts
from lakehouse.lake.strict_yaml import yaml_documents
from lakehouse.warehouse import dbt
from lakehouse.warehouse.parts import parts
from scripts.reference.markdown import code, plain, table

_UNSHOWN = re.compile(r"^raw_|_changes$|^(answered|published|found|mapped|decided)_")
"""Tables that a diagram leaves out: revisions and logs of changes of those that it shows."""
_PROVENANCE = {"object", "object_version", "row_number"}
"""Where rows came in, which links no tables."""


@dataclass(frozen=True)
class Relation:
    """A line of a diagram: many rows of one table refer to one of the other by a column."""

    many: str
    one: str
    by: str
    is_declared: bool = True


def pages() -> dict[str, str]:
    """A page per domain, one of the lake's own tables, and one of the star."""
    made = {f"tables-{domain.name}.md": _domain_page(domain) for domain in catalog.DOMAINS}
    made["tables-analyses.md"] = _page("Tables: analyses", "analyses", store.contracts(), {})
    made["tables-lake.md"] = _page("Tables: lake", "lake", lake_contracts(), {})
    made["star.md"] = _star()
    return made


def lake_contracts() -> dict[str, Contract]:
    """The tables over all domains."""
    found = {**shared_contracts(), **read_contracts(Path(catalogue.__file__).parent)}
    for domain in catalog.DOMAINS:
        found |= {name: contract for name, (contract, _) in domain.views().items()}
    return dict(sorted(found.items()))


def domain_contracts(domain: Domain) -> dict[str, Contract]:
    """A domain's tables, by their names without a schema; those of a kind of sources and the domain's own views."""
    found = {name: contract for kind in domain.kinds for name, contract in kind.contracts().items()}
    found |= {name: contract for name, (contract, _) in domain.own_views().items()}
    return dict(sorted(found.items()))


def domain_models(domain: Domain) -> dict[str, Model]:
    """A domain's marts."""
    schemas = {kind.name for kind in domain.kinds}
    own = {part.name for part in parts() if part.schema in schemas}
    return {name: model for name, model in sorted(models().items()) if model.part in own}


def _domain_page(domain: Domain) -> str:
    schema = domain.name if domain.has_own_schema else "<source>"
    return _page(f"Tables: {domain.name}", schema, domain_contracts(domain), domain_models(domain))


def _page(title: str, schema: str, contracts: Mapping[str, Contract], marts: Mapping[str, Model]) -> str:
    shown = {name: contract for name, contract in contracts.items() if not _UNSHOWN.search(name)}
    text = [f"# {title}", diagram({name: _keys(each) for name, each in shown.items()}, relations(shown))]
    text += [_table(schema, name, contract) for name, contract in contracts.items()]
    text += [_mart(model) for model in marts.values()]
    return "\n\n".join(text) + "\n"


def _table(schema: str, name: str, contract: Contract) -> str:
    rows = []
    for column in contract.columns:
        marks = [
            "key" if column.name in contract.key else "",
            "" if column.nullable else "required",
            "personal" if column.is_personal else "",
            f"refers to `{column.references}`" if column.references else "",
            f"format `{column.format}`" if column.format else "",
        ]
        marked = ", ".join(filter(None, marks))
        rows.append((code(column.name), code(column.type), plain(column.unit), plain(column.description), marked))
    about = plain(contract.description)
    if contract.partition_by:
        about += f" Partitions: {', '.join(map(code, contract.partition_by))}."
    text = [f"## {schema}.{name}".replace("<", "&lt;").replace(">", "&gt;"), about]
    text.append(table(("column", "type", "unit", "meaning", ""), rows))
    rules = [f"- {code(rule.name)}: {code(rule.holds)}, otherwise: {plain(rule.reason)}" for rule in contract.rules]
    return "\n\n".join([*text, *(["Rules:\n\n" + "\n".join(rules)] if rules else [])])


def _mart(model: Model) -> str:
    rows = [
        (
            code(column.name),
            code(column.type),
            plain(column.description),
            ", ".join(filter(None, ["key" if column.name in model.key else "", "" if column.nullable else "required"])),
        )
        for column in model.columns
    ]
    text = [f"## marts.{model.name}", plain(model.description), table(("column", "type", "meaning", ""), rows)]
    rules = [f"- {code(name)}: {plain(description)}" for name, description in model.rules]
    return "\n\n".join([*text, *(["Tests:\n\n" + "\n".join(rules)] if rules else [])])


def _nullable(contract: Contract, names: Iterable[str]) -> set[str]:
    return {column.name for column in contract.columns if column.nullable}.intersection(names)


def relations(contracts: Mapping[str, Contract]) -> list[Relation]:
    """The foreign keys of contracts, and what follows from keys where none is declared."""
    found = [
        Relation(name, column.references.split(".")[-2], column.name)
        for name, contract in contracts.items()
        for column in contract.columns
        if column.references and column.references.split(".")[-2] in contracts
    ]
    declared = {(each.many, each.one) for each in found}
    for name, contract in contracts.items():
        for other, one in contracts.items():
            own, key = set(_key_of_things(contract)), _key_of_things(one)
            # A table whose key is a part of the other's is what that one refers to.
            is_within = bool(set(key) - _PROVENANCE) and set(key) < set(contract.column_names) and not own <= set(key)
            # Among several, a column that may be NULL where the key may not has the name by chance.
            is_whole = len(key) == 1 or _nullable(contract, key) <= _nullable(one, key)
            if is_within and is_whole and not declared & {(name, other), (other, name)}:
                found.append(Relation(name, other, ", ".join(key), is_declared=False))
    return found


def _key_of_things(contract: Contract) -> tuple[str, ...]:
    """A table's key without the beginnings of versions."""
    begins = {f"{kind}_from" for kind in ("valid", "known") if f"{kind}_to" in contract.column_names}
    return tuple(name for name in contract.key if name not in begins)


def _keys(contract: Contract) -> list[tuple[str, str, str]]:
    """(type, name, PK, FK or both) of the columns that link tables."""
    marked = []
    for column in contract.columns:
        marks = [*(["PK"] if column.name in contract.key else []), *(["FK"] if column.references else [])]
        if marks:
            marked.append((str(column.type), column.name, ", ".join(marks)))
    return marked


def foreign_keys() -> list[Relation]:
    """The foreign keys between marts, as dbt's tests declare them."""
    return sorted(_declared_by_dbt(), key=lambda each: (each.many, each.one, each.by))


def _declared_by_dbt() -> Iterator[Relation]:
    for path in sorted((dbt.PROJECT / "models" / "marts").rglob("*.yml")):
        for model in (each for document in yaml_documents(path.read_text()) for each in document.get("models", ())):
            for test in model.get("data_tests", ()):
                said = test.get("foreign_key", test.get("version_in_force"))
                if said is not None and "to" in said["arguments"]:
                    to = re.fullmatch(r"ref\('(\w+)'\)", said["arguments"]["to"])
                    assert to is not None, said
                    yield Relation(model["name"], to[1], ", ".join(said["arguments"]["columns"]))


def _star() -> str:
    linked, text = foreign_keys(), ["# The star", "The foreign keys of the marts, which dbt tests before it publishes."]
    known = models()
    by_part = groupby(sorted(linked, key=lambda each: known[each.many].part), key=lambda each: known[each.many].part)
    for part, lines in by_part:
        own = list(lines)
        names = sorted({name for each in own for name in (each.many, each.one)})
        text += [f"## {part}", diagram({name: _columns(known[name], own) for name in names}, own)]
    return "\n\n".join(text) + "\n"


def _columns(model: Model, lines: Iterable[Relation]) -> list[tuple[str, str, str]]:
    linking = {name for each in lines if each.many == model.name for name in each.by.split(", ")}
    marked = []
    for column in model.columns:
        marks = [*(["PK"] if column.name in model.key else []), *(["FK"] if column.name in linking else [])]
        if marks:
            marked.append((column.type, column.name, ", ".join(marks)))
    return marked


def diagram(entities: Mapping[str, list[tuple[str, str, str]]], lines: Iterable[Relation]) -> str:
    """An entity-relationship diagram in Mermaid's language."""
    text = ["```mermaid", "erDiagram"]
    for name, columns in entities.items():
        text.append(f"    {name} {{")
        text += [f"        {_word(kind)} {column} {marks}" for kind, column, marks in columns]
        text.append("    }")
    for each in lines:
        text.append(f'    {each.many} }}o{"--" if each.is_declared else ".."}|| {each.one} : "{each.by}"')
    return "\n".join([*text, "```"])


def _word(kind: str) -> str:
    """A type as one word, as Mermaid wants it."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", kind).strip("_")
