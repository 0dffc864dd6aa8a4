"""What a publisher of legal entities and mappings delivers, from the sections of its `defs.yaml`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from lakehouse.derive.source import Check, TableQuery
from lakehouse.domains.reference.config import SourceConfig
from lakehouse.domains.reference.entities import checks
from lakehouse.domains.reference.entities import derive as entities
from lakehouse.domains.reference.mappings import derive as mappings
from lakehouse.domains.reference.mappings.checks import pair_checks
from lakehouse.domains.reference.product import Product
from lakehouse.domains.reference.publications import Publications, Rows
from lakehouse.ingest.names import Objects
from lakehouse.ingest.variables import Variables


@dataclass(frozen=True)
class _Section:
    """What follows from rows of a kind, however they were delivered."""

    rows: Rows
    views: Mapping[str, TableQuery]
    identifiers: TableQuery | None = None
    checks: Callable[[str], tuple[Check, ...]] = field(default=lambda table: ())


_SECTIONS = (
    _Section(
        entities.ENTITIES,
        {"entities": entities.entities, "entity_events": entities.entity_events, "lei": entities.lei},
        entities.identifiers,
        checks.entity_checks,
    ),
    _Section(
        entities.RELATIONSHIPS, {"entity_relationships": entities.relationships}, None, checks.relationship_checks
    ),
    _Section(entities.EXCEPTIONS, {"reporting_exceptions": entities.exceptions}, None, checks.exception_checks),
    _Section(mappings.ISINS, {"lei_isin": mappings.lei_isin}, mappings.isin_pairs, partial(pair_checks, "isin")),
    _Section(mappings.BICS, {"lei_bic": mappings.lei_bic}, mappings.bic_pairs, partial(pair_checks, "bic")),
)


def published(config: SourceConfig, variables: Variables) -> list[Product]:
    """The products of the sections about entities and mappings, as publications and as answers."""
    found = []
    for section in _SECTIONS:
        ways = [said for said in _said(config, section.rows) if said is not None]
        if not ways:
            continue
        tables = [section.rows.table(said.are_answers) for said in ways]
        found.append(
            Product(
                datasets=tuple(
                    section.rows.dataset(config, said, _beside(config, section.rows, said), variables) for said in ways
                ),
                tables=tuple(tables),
                checks=(
                    *(check for said in ways for check in section.rows.checks(said.are_answers)),
                    *section.checks(tables[0].name),
                ),
                views=section.views,
                identifiers=section.identifiers,
                crons={section.rows.dataset_name(said.are_answers): said.cron for said in ways if said.cron},
            )
        )
    return found


def _said(config: SourceConfig, rows: Rows) -> tuple[Publications | None, Publications | None]:
    return getattr(config, rows.name), getattr(config, f"answered_{rows.name}")


def _beside(config: SourceConfig, rows: Rows, said: Publications) -> list[Objects]:
    """The names of all objects in the same place."""
    here = rows.settings[said.are_answers]
    return [
        other.objects
        for section in _SECTIONS
        for other in _said(config, section.rows)
        if other is not None and section.rows.settings[other.are_answers] == here
    ]
