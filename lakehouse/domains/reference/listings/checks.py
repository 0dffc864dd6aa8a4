"""The checks of listings."""

from __future__ import annotations

from lakehouse.derive.by_partition import raw_and_ledger
from lakehouse.derive.checks import conservation_holds, found, of_every_dataset, of_every_table, offenders
from lakehouse.derive.source import Check, Finding, Partitions, Source
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.listings import derive, rules
from lakehouse.lake.lake import Lake

_LEAST_MATCHED = 0.9


def listing_checks() -> tuple[Check, ...]:
    """The checks of the tables of listings."""
    table = derive.MAPPED_LISTINGS.name
    return (
        *of_every_dataset(contracts()["raw_listings"], derive.DATASET),
        *of_every_table(contracts()[table]),
        conservation_holds(derive.MAPPED_LISTINGS),
        Check(
            table,
            "most_are_resolved",
            f"At least {_LEAST_MATCHED:.0%} of the questions about instruments have an answer with a listing.",
            _resolved,
            severity="warn",
        ),
        Check(
            table,
            "issuers_known",
            "Each ISIN with a listing stands for a legal entity, where mappings of ISINs are loaded.",
            _issuers,
            severity="warn",
        ),
    )


def _resolved(lake: Lake, source: Source, partitions: Partitions) -> Finding:
    with lake.connect() as connection:
        _, ledger = raw_and_ledger(derive.DATASET, lake, connection, source)
        query = f"SELECT isin, asked_mic, status, error FROM ({rules.requests(ledger, source.name)})"
        asked = connection.sql(f"{query} ORDER BY ALL").to_arrow_table().to_pylist()
    lacking = [each for each in asked if each["status"] != "matched"]
    share = 1 - len(lacking) / len(asked) if asked else 1.0
    facts = {"asked": len(asked), "matched": len(asked) - len(lacking)}
    if share >= _LEAST_MATCHED:
        return Finding(True, f"{share:.1%} have a listing", facts=facts)
    return found(lacking, "1 question has no listing", "questions have no listing", **facts)


def _issuers(lake: Lake, source: Source, partitions: Partitions) -> Finding:
    with lake.connect() as connection:
        listed = lake.select(source.table(derive.MAPPED_LISTINGS.name), connection)
        pairs = lake.select("reference/lei_isin", connection)
    query = f"""
        SELECT DISTINCT isin FROM ({listed}) WHERE isin NOT IN (SELECT isin FROM ({pairs}))
        AND EXISTS (FROM ({pairs}))
    """
    return offenders(lake, query, "isin", "1 ISIN has no issuer", "ISINs have no issuer")
