"""The ways from identifiers to others, as one DuckDB query over `reference.identifiers`.

A row of that table ties an identifier to its subject, which has an identifier of its own: an ISIN to the FIGIs of its
listings and to the LEI of its issuer. The query goes along these rows in both directions, never twice through the same
kind of identifier, so that from a ticker it comes by FIGI and ISIN to the issuer's LEI and BIC, and not from an ISIN to
the issuer's other ISINs. Every way is kept: nothing picks one of several answers.
"""

from __future__ import annotations

from lakehouse.domains.reference.resolution.schemes import TARGETS
from lakehouse.lake.sql import Query, Relation

_WAYS = {"lei": (), "isin": ("lei",), "bic": ("lei",), "mic": ("lei",), "permid": ("lei",)}
_WAYS |= {"figi": ("isin", "lei"), "mic_ticker": ("figi", "isin", "lei")}
"""Kind -> the kinds on the way from it to a legal entity."""


def schemes_between(start: str, target: str) -> list[str]:
    """The kinds of identifiers on the way from one kind to another, both included."""
    up, down = [start, *_WAYS[start]], [target, *_WAYS[target]]
    turn = next(scheme for scheme in up if scheme in down)
    return [*up[: up.index(turn) + 1], *reversed(down[: down.index(turn)])]


def reached(identifiers: Relation, seeds: Relation, schemes: list[str] | None, on: str, known: str) -> Query:
    """Everything that is reached from some identifiers: seed, scheme, value, and the `steps` of the way, each with the
    row of `identifiers` that it goes along.

    Args:
        identifiers: rows of `reference.identifiers`.
        seeds: seed (any number), scheme, value, and market: the MIC of listings that count, NULL for any.
        schemes: kinds of identifiers to go through; None: all.
        on: the day (an SQL expression) on which rows are valid.
        known: the moment at which they are known; NULL: now.
    """
    through = ", ".join(f"'{scheme}'" for scheme in schemes or TARGETS)
    step = "{'scheme': scheme, 'value': value, 'subject_scheme': subject_scheme, 'subject': subject, " + ", ".join(
        f"'{name}': {name}" for name in ("source", "object", "row_number", "valid_from", "known_from")
    )
    return Query(f"""
        WITH RECURSIVE links AS NOT MATERIALIZED (
            SELECT * FROM {identifiers}
            WHERE scheme IN ({through}, 'mic_ticker') AND subject_scheme IN ({through})
            AND valid_from <= {on} AND (valid_to IS NULL OR valid_to > {on})
            AND {known_at(known)}
        ),
        edges AS NOT MATERIALIZED (
            SELECT scheme AS near, value AS near_value, subject_scheme AS far, subject AS far_value, {step}}} AS step
            FROM links
            UNION ALL
            SELECT subject_scheme, subject, scheme, value, {step}}} FROM links
        ),
        markets AS NOT MATERIALIZED (
            SELECT DISTINCT subject AS figi, split_part(value, '/', 1) AS market FROM links
            WHERE scheme = 'mic_ticker' AND subject_scheme = 'figi'
        ),
        ways AS (
            SELECT seed, scheme, value, market, [scheme] AS passed, CAST([] AS {_STEPS}) AS steps FROM {seeds}
            UNION ALL
            SELECT seed, far, far_value, market, list_append(passed, far), list_append(steps, step)
            FROM ways JOIN edges ON near = scheme AND near_value = value
            WHERE far IN ({through}) AND NOT list_contains(passed, far)
            AND (far <> 'figi' OR market IS NULL OR (far_value, market) IN (SELECT (figi, market) FROM markets))
        )
        SELECT seed, scheme, value, min_by(steps, len(steps)) AS steps FROM ways GROUP BY seed, scheme, value
    """)


def known_at(moment: str) -> str:
    """The SQL condition that a row is known at a moment (an SQL expression); NULL: now."""
    return (
        f"CASE WHEN {moment} IS NULL THEN known_to IS NULL "
        f"ELSE known_from <= {moment} AND (known_to IS NULL OR known_to > {moment}) END"
    )


_STEPS = (
    "STRUCT(scheme VARCHAR, value VARCHAR, subject_scheme VARCHAR, subject VARCHAR, source VARCHAR, object VARCHAR, "
    "row_number BIGINT, valid_from DATE, known_from TIMESTAMPTZ)[]"
)
