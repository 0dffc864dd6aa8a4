"""Checks of the bank's rules on what the lake has of it, beside those of every captured database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lakehouse.derive.captured_checks import capture_checks
from lakehouse.derive.checks import of_every_table, offenders, over_all, relation
from lakehouse.derive.source import Check, Finding, Partitions, Source
from lakehouse.domains.banking import check_rules as rules
from lakehouse.domains.banking.balances import BALANCES
from lakehouse.domains.banking.versions import VERSIONS
from lakehouse.ingest.postgres.captured import CapturedDatabase
from lakehouse.lake.contract import Contract
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query


def bank_checks(of: CapturedDatabase, known: Mapping[str, Contract]) -> tuple[Check, ...]:
    """The checks of all tables, whose contracts are `known`."""
    captured = [known[table.name] for table in of.tables]
    checks = (
        _check(
            "entry",
            "sums_to_zero",
            "The entries of a transaction sum to zero in each currency.",
            rules.unbalanced,
            ("entry", "account"),
            ("1 transaction doesn't balance", "transactions don't balance"),
        ),
        _check(
            "account",
            "balance_equals_entries",
            "The balance of an account is the sum of its entries.",
            rules.other_balances,
            ("account", "entry"),
            ("1 balance isn't the sum of its entries", "balances aren't the sums of their entries"),
        ),
        _check(
            "account",
            "balance_not_below_minimum",
            "What an account has available isn't below its minimum.",
            rules.below_minimum,
            ("account",),
            ("1 account is below its minimum", "accounts are below their minimum"),
        ),
        _check(
            BALANCES,
            "days_follow_each_other",
            "The opening balance of a day is the balance of the day before.",
            rules.broken_days,
            (BALANCES,),
            ("1 day doesn't begin with the balance before", "days don't begin with the balance before"),
        ),
    )
    of_derived = [over_all(each) for name in (BALANCES, VERSIONS) for each in of_every_table(known[name])]
    return (*capture_checks(of, captured), *of_derived, *checks)


def _check(
    table: str,
    name: str,
    description: str,
    rule: Callable[..., Query],
    inputs: tuple[str, ...],
    words: tuple[str, str],
) -> Check:
    return Check(table, name, description, partial(_found, rule, inputs, words), blocking=True)


def _found(
    rule: Callable[..., Query],
    inputs: tuple[str, ...],
    words: tuple[str, str],
    lake: Lake,
    source: Source,
    partitions: Partitions,
) -> Finding:
    query = rule(*(relation(lake, source, name, None) for name in inputs))
    return offenders(lake, query, "ALL", *words)
