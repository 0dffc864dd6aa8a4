"""The checks of legal entities."""

from __future__ import annotations

from lakehouse.derive.checks import found, offenders
from lakehouse.derive.source import Check, Finding, Partitions, Source
from lakehouse.domains.reference.chains import gaps
from lakehouse.domains.reference.entities import derive, rules
from lakehouse.domains.reference.shared.checks import no_overlap
from lakehouse.ingest.ledger import ledger_of
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import relation_of


def entity_checks(table: str) -> tuple[Check, ...]:
    """The checks of entities, on the stored table with what counts of them."""
    return (
        no_overlap(table, derive.entities, "entities", ["lei"]),
        Check(
            table,
            "changes_without_gap",
            "Every file of changes reaches back to the publication before it, or a full file follows.",
            _gaps,
        ),
        Check(
            table,
            "successors_without_cycle",
            "No entity succeeds itself, also over others.",
            _cycles,
        ),
        Check(
            table,
            "successors_known",
            "Every successor is an entity of the store.",
            _unknown_successors,
            severity="warn",
        ),
    )


def relationship_checks(table: str) -> tuple[Check, ...]:
    """The checks of relationships."""
    key = ["child", "parent", "relationship_type"]
    return (no_overlap(table, derive.relationships, "entity_relationships", key),)


def exception_checks(table: str) -> tuple[Check, ...]:
    """The checks of reporting exceptions."""
    return (no_overlap(table, derive.exceptions, "reporting_exceptions", ["lei", "category"]),)


def _gaps(lake: Lake, source: Source, partitions: Partitions) -> Finding:
    ledger = ledger_of(lake, source.name).select("product", "object", "status").collect()
    missing: list[dict[str, object]] = []
    for dataset in source.datasets:
        loaded = ledger.filter((ledger["product"] == dataset.name) & (ledger["status"] != "failed"))
        names = [named for name in loaded["object"].unique() if (named := dataset.parse_name(name)) is not None]
        missing += [{"rows": dataset.name, **gap} for gap in gaps(names)]
    advice = "deliver the full file"
    one, several = "1 file of changes begins after the publication before it", "files of changes begin so"
    return found(missing, f"{one}; {advice}", f"{several}; {advice}")


def _cycles(lake: Lake, source: Source, partitions: Partitions) -> Finding:
    return _successors(lake, source, "is_cycle", "1 chain of successors is a cycle", "chains of successors are cycles")


def _unknown_successors(lake: Lake, source: Source, partitions: Partitions) -> Finding:
    return _successors(
        lake, source, "NOT is_known", "1 successor is not in the store", "successors are not in the store"
    )


def _successors(lake: Lake, source: Source, which: str, one: str, several: str) -> Finding:
    with lake.connect() as connection:
        rows = relation_of(derive.entities(lake, connection, source))
    chains = rules.successor_chains(rows)
    return offenders(lake, f"SELECT lei, successor, hops FROM ({chains}) WHERE {which}", "ALL", one, several)
