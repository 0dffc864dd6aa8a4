"""Adjustment for corporate actions, as DuckDB queries over named relations: the factors of splits and dividends,
prices and volumes on a wanted basis, and the changes of an adjusted series.

Belongs here: what scales a price. How two series are compared belongs in `reconciliation`, what a corporate action
is and when it became known in the tables. Prices are stored as they came and adjusted when they are read.

An argument that is not a relation is a piece of SQL, not a value: a literal such as `'crsp'` with its quotes, or the
parameter of a macro. So a query can be the body of a table macro, and one text serves every choice. A macro's
parameter hides the column of its name: none here is called adjust, adjusted, convention or as_of.
"""

from __future__ import annotations

from lakehouse.lake.sql import Query, Relation, relation_of

SERIES = "instrument_id, currency"
"""A price belongs to an instrument and a currency."""

PRICES = ("open", "high", "low", "close")
VOLUMES = ("volume",)


def factors(actions: Relation, closes: Relation, convention: str) -> Query:
    """The adjustment factors of each ex-date.

    Several dividends of a day add up, several splits multiply. A dividend's factor is by convention
    `crsp`: 1 - D / P_prev, with P_prev the last close before the ex-date, on the share count of the ex-date: divided
    by the splits since (Center for Research in Security Prices, "factor to adjust prices"), or
    `reinvest`: C_ex / (C_ex + D), with C_ex the close of the ex-date itself, as Alpha Vantage does.

    A factor that can't be had is skipped, that is 1: where the close is missing, where the split's is not finite or
    not positive, where the dividend's is outside (0, 1].

    Args:
        actions: relation of (instrument_id, currency, ex_date, kind, dividend_amount, split_coefficient), as known
            at one moment. A dividend is cash a share on the ex-date's share count, in `currency`.
        closes: relation of (instrument_id, currency, session, close), as traded.
        convention: SQL text, 'crsp' or 'reinvest'. Another value is an error when the query runs.

    Returns: instrument_id, currency, ex_date, split_factor (new shares for one old), dividend_factor,
        dividend_convention, skipped (whether one of the two was).
    """
    return Query(f"""
        WITH days AS (
            SELECT *, product(coalesce(split, 1)) OVER (PARTITION BY {SERIES} ORDER BY ex_date) AS splits_so_far
            FROM (
                SELECT {SERIES}, ex_date,
                    sum(dividend_amount ORDER BY dividend_amount) FILTER (kind = 'dividend') AS dividend,
                    coalesce(bool_and(isfinite(split_coefficient) AND split_coefficient > 0)
                        FILTER (kind = 'split'), true) AS split_holds,
                    CASE WHEN split_holds THEN product(split_coefficient ORDER BY split_coefficient)
                        FILTER (kind = 'split') END AS split
                FROM {actions} GROUP BY {SERIES}, ex_date
            )
        ), closes_given AS NOT MATERIALIZED (
            SELECT {SERIES}, session, close FROM {closes} WHERE isfinite(close)
        ), prices AS (
            SELECT days.*, last.session AS last_session, last.close AS last_close, on_day.close AS ex_close
            FROM days ASOF LEFT JOIN closes_given AS last
                ON days.instrument_id = last.instrument_id AND days.currency = last.currency
                AND days.ex_date > last.session
            LEFT JOIN closes_given AS on_day
                ON days.instrument_id = on_day.instrument_id AND days.currency = on_day.currency
                AND days.ex_date = on_day.session
        ), on_one_basis AS (
            -- Where the last close is older than a split, it counts other shares than the dividend does.
            SELECT prices.*, last_close / (prices.splits_so_far / coalesce(older.splits_so_far, 1)) AS prev_close
            FROM prices ASOF LEFT JOIN days AS older
                ON prices.instrument_id = older.instrument_id AND prices.currency = older.currency
                AND prices.last_session >= older.ex_date
        ), computed AS (
            SELECT *, coalesce(dividend_part > 0 AND dividend_part <= 1, false) AS dividend_holds FROM (
                SELECT *, CASE {convention}
                    WHEN 'crsp' THEN 1 - dividend / prev_close
                    WHEN 'reinvest' THEN ex_close / (ex_close + dividend)
                    ELSE error('the convention of dividends must be ''crsp'' or ''reinvest'', not '
                        || coalesce({convention}, 'NULL'))::DOUBLE
                END AS dividend_part
                FROM on_one_basis
            )
        )
        SELECT {SERIES}, ex_date, coalesce(split, 1) AS split_factor,
            CASE WHEN dividend_holds THEN dividend_part ELSE 1 END AS dividend_factor,
            {convention} AS dividend_convention,
            NOT split_holds OR (dividend IS NOT NULL AND NOT dividend_holds) AS skipped
        FROM computed
    """)


def later_factors(factors_relation: Relation) -> Query:
    """For each ex-date the product of its factors and those of all later ones.

    The factors of the ex-dates in (t, as of] are one quotient of it: the row of the first ex-date after t over the row
    of the first ex-date after `as of`, with 1 where there is no row.

    Returns: instrument_id, currency, ex_date, split_factor, dividend_factor.
    """
    return Query(f"""
        SELECT {SERIES}, ex_date, product(split_factor) OVER backwards AS split_factor,
            product(dividend_factor) OVER backwards AS dividend_factor
        FROM {factors_relation} WINDOW backwards AS (PARTITION BY {SERIES} ORDER BY ex_date DESC)
    """)


def adjusted(
    rows: Relation,
    factors_relation: Relation,
    adjust: str,
    as_of: str,
    *,
    prices: tuple[str, ...] = PRICES,
    volumes: tuple[str, ...] = VOLUMES,
    basis: str | None = None,
    basis_factors: Relation | None = None,
) -> Query:
    """The rows with their prices and volumes on the wanted basis: for the ex-dates in (session, as of].

    Where no factor is known, nothing can be adjusted, and the label says so: `adjustment` is 'none' then, whatever is
    wanted. Prices are divided by the split factors and, where wanted, multiplied by the dividend factors; volumes are
    multiplied by the split factors and rounded to a millionth of a share. Rows that came adjusted are
    brought back to as-traded prices first, by the factors that they came with. Columns that depend on other sessions,
    such as prev_close, are left as they are: see `with_changes`.

    Args:
        rows: relation with instrument_id, currency, session and the columns named below.
        factors_relation: relation as of `factors`, by the wanted convention.
        adjust: SQL text, 'none', 'splits' or 'splits_and_dividends'. Another value is an error when the query runs.
        as_of: SQL text, the DATE whose basis is wanted; NULL is an error unless nothing is adjusted.
        prices: columns of doubles to scale.
        volumes: columns of doubles to scale.
        basis: column of `rows` (DATE) that says as of which day their vendor had adjusted them, NULL for as traded;
            None where all are as traded.
        basis_factors: relation as of `factors`, by the vendor's convention; goes with `basis`.

    Returns: the columns of `rows`, and adjustment (what `adjust` says, or 'none'), prices_as_of (NULL where nothing is
        adjusted), dividend_convention (NULL unless dividends count); these are the same on all rows. The column
        `basis` is left out: it is true of the stored row only.

    Raises:
        ValueError: one of `basis` and `basis_factors` goes without the other.
    """
    if (basis is None) != (basis_factors is None):
        raise ValueError(
            "basis and basis_factors go together: the column that says how rows came adjusted, "
            "and the factors that they came with"
        )
    source = _wanted_factors(rows, factors_relation, as_of)
    came_splits, came_dividends, left_out = "1", "1", ""
    if basis is not None and basis_factors is not None:
        source = _with_factors_they_came_with(source, basis, basis_factors)
        came_splits, came_dividends = "_came_splits", "_came_dividends"
        left_out = f", {basis}, {came_splits}, {came_dividends}"
    choice = f"""CASE
        WHEN {adjust} = 'none' THEN 0
        WHEN {adjust} IS NULL OR {adjust} NOT IN ('splits', 'splits_and_dividends') THEN
            error('adjusted must be ''none'', ''splits'' or ''splits_and_dividends'', not '
                || coalesce({adjust}, 'NULL'))::INTEGER
        WHEN {as_of} IS NULL THEN error('as_of is NULL: name the day whose basis is wanted')::INTEGER
        WHEN {adjust} = 'splits' THEN 1 ELSE 2 END"""
    scaled = [f"{column} * _dividends / _splits AS {column}" for column in prices]
    # Factors such as 1/7 leave a whole number of shares a hair off.
    scaled += [
        f"CASE WHEN _splits = 1 THEN {column} ELSE round({column} * _splits, 6) END AS {column}" for column in volumes
    ]
    return Query(f"""
        SELECT * EXCLUDE (_choice, _wanted_splits, _wanted_dividends, _convention, _splits, _dividends{left_out})
            REPLACE ({", ".join(scaled)}),
            CASE _choice WHEN 0 THEN 'none' WHEN 1 THEN 'splits' ELSE 'splits_and_dividends' END AS adjustment,
            CASE WHEN _choice > 0 THEN CAST({as_of} AS DATE) END AS prices_as_of,
            CASE WHEN _choice = 2 THEN _convention END AS dividend_convention
        FROM (
            SELECT *, CASE WHEN _choice >= 1 THEN _wanted_splits ELSE 1 END / {came_splits} AS _splits,
                CASE WHEN _choice = 2 THEN _wanted_dividends ELSE 1 END / {came_dividends} AS _dividends
            FROM (
                SELECT given.*, _convention, CASE WHEN _known THEN {choice} ELSE 0 * {choice} END AS _choice
                FROM ({source}) AS given, (
                    SELECT count(*) > 0 AS _known, max(dividend_convention) AS _convention FROM {factors_relation}
                )
            )
        )
    """)


def _wanted_factors(rows: Relation, factors_relation: Relation, as_of: str) -> Query:
    """The rows with _wanted_splits and _wanted_dividends: those of the ex-dates in (session, as of]."""
    until = relation_of(f"SELECT * FROM {factors_relation} WHERE ex_date <= {as_of}")
    return Query(f"""
        SELECT given.*, coalesce(wanted.split_factor, 1) AS _wanted_splits,
            coalesce(wanted.dividend_factor, 1) AS _wanted_dividends
        FROM {rows} AS given ASOF LEFT JOIN ({later_factors(until)}) AS wanted
            ON given.instrument_id = wanted.instrument_id AND given.currency = wanted.currency
            AND given.session < wanted.ex_date
    """)


def _with_factors_they_came_with(rows: Query, basis: str, basis_factors: Relation) -> Query:
    """The rows of a query with _came_splits and _came_dividends: those of the ex-dates in (session, basis]."""
    # A basis before the session, or none, has no ex-date after the session: greatest() skips NULL.
    return Query(f"""
        SELECT given.*,
            coalesce(since.split_factor, 1) / coalesce(after.split_factor, 1) AS _came_splits,
            coalesce(since.dividend_factor, 1) / coalesce(after.dividend_factor, 1) AS _came_dividends
        FROM ({rows}) AS given ASOF LEFT JOIN ({later_factors(basis_factors)}) AS since
            ON given.instrument_id = since.instrument_id AND given.currency = since.currency
            AND given.session < since.ex_date
        ASOF LEFT JOIN ({later_factors(basis_factors)}) AS after
            ON given.instrument_id = after.instrument_id AND given.currency = after.currency
            AND greatest(given.session, given.{basis}) < after.ex_date
    """)


def with_changes(rows: Relation) -> Query:
    """The rows with prev_session, prev_close and change_pct computed anew from their closes.

    An adjusted change is that of the closes on one basis: the stored prev_close is on the basis of its own session
    (and vendors' rows come on several), so it can't be scaled with its row.

    Args:
        rows: relation of daily rows that has these three columns, with every row's earlier session in it.
    """
    return Query(f"""
        SELECT * EXCLUDE (_prev_close) REPLACE (
            lag(session) OVER series AS prev_session,
            _prev_close AS prev_close,
            CASE WHEN _prev_close > 0 THEN (close / _prev_close - 1) * 100 END AS change_pct
        )
        FROM (SELECT *, lag(close) OVER (PARTITION BY {SERIES} ORDER BY session) AS _prev_close FROM {rows})
        WINDOW series AS (PARTITION BY {SERIES} ORDER BY session)
    """)
