"""Checks of the tables of retail, beside those that every source has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lakehouse.derive.by_partition import raw_and_ledger
from lakehouse.derive.checks import (
    conservation_holds,
    enough_rows_kept,
    objects_known,
    of_every_dataset,
    of_every_table,
    offenders,
    over_all,
    relation,
)
from lakehouse.derive.source import Check, Finding, Partitions, Source
from lakehouse.domains.retail import check_rules as rules
from lakehouse.domains.retail.tables import LINES, SALE_LINES, TABLES
from lakehouse.lake.contract import Contract
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, predicate, relation_of

RunCheck = Callable[[Lake, Source, Partitions], Finding]


def retail_checks(known: Mapping[str, Contract]) -> tuple[Check, ...]:
    """The checks of all tables, whose contracts are `known`."""
    whole = [table.name for table in TABLES if table.is_whole]
    return (
        *of_every_dataset(known["raw_lines"], LINES),
        objects_known("raw_lines"),
        *of_every_table(known["sale_lines"]),
        conservation_holds(SALE_LINES),
        enough_rows_kept("sale_lines", LINES),
        Check(
            "sale_lines",
            "money_is_conserved",
            "Lines and money of each kind are those received, without duplicates, superseded and refused lines.",
            _money_is_conserved,
            blocking=True,
        ),
        over_all(
            Check(
                "sale_lines",
                "weekdays_usual",
                "No month has lines on a weekday on which the other months have none: day and month may be swapped.",
                _of_lines(rules.unusual_weekdays, "1 weekday is unusual", "weekdays are unusual"),
                severity="warn",
            )
        ),
        over_all(
            Check(
                "sale_lines",
                "codes_without_case_twins",
                "No two stock codes differ in upper and lower case alone.",
                _of_lines(rules.case_twins, "1 code has a twin", "codes have twins"),
                severity="warn",
            )
        ),
        *[over_all(check) for name in whole for check in of_every_table(known[name])],
        *[_one_version("items", "stock_code"), _one_version("customers", "customer_id")],
        *[_continuous("items", "stock_code"), _continuous("customers", "customer_id")],
        over_all(
            Check(
                "customers",
                "one_country_a_day",
                "No customer has lines in two countries on one day.",
                _of_lines(
                    rules.countries_of_a_day, "1 customer's day is in two countries", "days are in two countries"
                ),
                severity="warn",
            )
        ),
    )


def _one_version(table: str, key: str) -> Check:
    def run(lake: Lake, source: Source, partitions: Partitions) -> Finding:
        lines, versions = (relation(lake, source, name, None) for name in ("sale_lines", table))
        one, several = "1 line has not one version", "lines have not one version"
        return offenders(lake, rules.lines_without_one_version(lines, versions, key), "ALL", one, several)

    text = f"Each line resolves to exactly one version of its {key}."
    return Check(table, "one_version_a_line", text, run, blocking=True)


def _continuous(table: str, key: str) -> Check:
    def run(lake: Lake, source: Source, partitions: Partitions) -> Finding:
        query = rules.discontinuous_versions(relation(lake, source, table, None), key)
        return offenders(lake, query, "ALL", "1 version overlaps or leaves a gap", "versions overlap or leave a gap")

    text = "Versions follow each other without gap or overlap, and only the last one is open."
    return Check(table, "versions_continuous", text, run, blocking=True)


def _of_lines(rule: Callable[..., Query], one: str, several: str) -> RunCheck:
    return partial(_offending_lines, rule, one, several)


def _offending_lines(
    rule: Callable[..., Query], one: str, several: str, lake: Lake, source: Source, partitions: Partitions
) -> Finding:
    return offenders(lake, rule(relation(lake, source, "sale_lines", None)), "ALL", one, several)


def _money_is_conserved(lake: Lake, source: Source, partitions: Partitions) -> Finding:
    with lake.connect() as connection:
        raw, ledger = raw_and_ledger(LINES, lake, connection, source)
    if partitions is not None:
        raw = relation_of(f"SELECT * FROM {raw} WHERE {predicate({'month': partitions})}")
    query = rules.money_that_differs(raw, ledger, relation(lake, source, "sale_lines", partitions))
    return offenders(lake, query, "ALL", "1 kind of a month doesn't add up", "kinds of months don't add up")
