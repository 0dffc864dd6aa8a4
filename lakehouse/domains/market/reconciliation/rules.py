"""Reconciles two daily series of the same instruments, as DuckDB queries over named relations: finds our adjustment
basis, the deviation of each session, and the deviations that are breaks.

Belongs here: the definition of a break. `views` defines which tables are compared, `adjustment` the factors.

Series and their columns: `ours` and `theirs` have instrument_id, symbol, currency, session, open, high, low, close,
volume. A basis column (DATE) says as of which day a row's vendor had adjusted it for splits and dividends; NULL is as
traded. `factors` is a relation as of `adjustment.factors`, by the convention of the vendor who adjusted.

An archive often differs from what its vendor declares: a file may combine downloads of several days, or be downloaded
on another day than its name says. So an instrument's basis is inferred. The candidates are the declared one, as traded,
and as of the day before each later ex-date or after the last one; the basis is the candidate under which open, high and
low agree on the most sessions. The declared one wins ties. Sessions that are then off by one ratio in all four prices
have another basis than the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from lakehouse.domains.market.corporate_actions.adjustment import PRICES, SERIES, later_factors
from lakehouse.lake.sql import Query, Relation


@dataclass(frozen=True)
class Tolerances:
    """How far two series may differ before it is a break.

    price_bp: open, high and low, in basis points of the other value.
    close_bp: close, in basis points: the closing auction is in no minute bar, so that two closes differ by more.
    volume_min, volume_max: bounds of our volume as a share of theirs. Minute bars hold 80 to 95% of the official volume
        on most days and half of it when a quarter's options and futures expire and indices are rebalanced.
    """

    price_bp: float = 1.0
    close_bp: float = 50.0
    volume_min: float = 0.48
    volume_max: float = 1.01


@dataclass(frozen=True)
class TwoSeries:
    """Two daily series and what is needed to compare them; relations as the module's docstring has them.

    Attributes:
        tolerances: price_bp also says which sessions agree, when the basis of ours is looked for.
        our_basis: basis column of `ours`; None where all rows are as traded.
        their_basis: basis column of `theirs`; None where all rows are as traded.
    """

    ours: Relation
    theirs: Relation
    factors: Relation
    tolerances: Tolerances
    our_basis: str | None = "adjusted_as_of"
    their_basis: str | None = None

    def compared(self) -> Query:
        """Every session that both series have, side by side on the basis of theirs.

        Returns: instrument_id, currency, symbol, session; open, high, low, close, volume (ours, on the basis of
            theirs); other_open to other_volume (theirs, as they came); open_bp, high_bp, low_bp, close_bp (ours against
            theirs, in basis points); ratio (our volume over theirs, NULL where theirs is zero); basis_as_of (as of when
            ours was found to be adjusted; NULL as traded).
        """
        return Query(f"""
            WITH {self._on_one_basis()}
            SELECT * EXCLUDE (in_ours, in_theirs) FROM side_by_side WHERE in_ours AND in_theirs
        """)

    def breaks(self) -> Query:
        """Where the two series differ by more than the tolerances allow; one row per break.

        Kinds: `basis` (field close: open, high, low and close are off by one ratio, which is deviation_bp), `price`
        (field open, high or low), `close`, `volume`, and `missing_ours`, `missing_theirs` (field close: the session
        lies between the first and the last that both have, and one lacks it). A session with a `basis` break has no
        `price` and `close` breaks beside it. An instrument without a common session is not compared.

        The basis is found from all sessions that are given: who wants the breaks of some sessions filters the result,
        not the series.

        Returns: instrument_id, currency, symbol, session, kind, field, value (ours, on the basis of theirs),
            other_value (theirs, as it came), deviation_bp (of value against other_value; for `basis` the mean of open,
            high and low; NULL for volumes and missing sessions), ratio (value over other_value of a volume),
            basis_as_of (as of when ours was found to be adjusted; NULL as traded).
        """
        price, close = self.tolerances.price_bp, self.tolerances.close_bp
        least, most = self.tolerances.volume_min, self.tolerances.volume_max
        one_ratio = " AND ".join(f"abs({field}_bp - ratio_bp) <= {price}" for field in ("open", "high", "low"))

        def found(kind: str, field: str, where: str, deviation: str = "NULL", ratio: str = "NULL") -> str:
            return f"""
            SELECT {SERIES}, symbol, session, '{kind}' AS kind, '{field}' AS field, {field}::DOUBLE AS value,
                other_{field}::DOUBLE AS other_value, {deviation}::DOUBLE AS deviation_bp, {ratio}::DOUBLE AS ratio,
                basis_as_of
            FROM judged WHERE {where}"""

        kinds = [
            found("missing_ours", "close", "NOT in_ours"),
            found("missing_theirs", "close", "NOT in_theirs"),
            found("basis", "close", "is_basis", deviation="ratio_bp"),
            *(
                found("price", field, f"NOT is_basis AND {_beyond(field, price)}", deviation=f"{field}_bp")
                for field in ("open", "high", "low")
            ),
            found("close", "close", f"NOT is_basis AND {_beyond('close', close)}", deviation="close_bp"),
            # Where theirs is zero there is no ratio, and any volume of ours is too much.
            found(
                "volume",
                "volume",
                f"coalesce(ratio NOT BETWEEN {least} AND {most}, volume <> other_volume)",
                ratio="ratio",
            ),
        ]
        return Query(f"""
            WITH {self._on_one_basis()},
            judged AS MATERIALIZED (
                SELECT *, (open_bp + high_bp + low_bp) / 3 AS ratio_bp,
                    coalesce(abs(ratio_bp) > {price} AND {one_ratio} AND abs(close_bp - ratio_bp) <= {close}, false)
                        AS is_basis
                FROM side_by_side
            )
            {" UNION ALL ".join(kinds)}
        """)

    def other_bases(self) -> Query:
        """The instruments of `ours` whose basis was found to be another than the declared one.

        Returns: instrument_id, currency, symbol, sessions (that both have), declared_as_of (the latest, where rows
            declare several), agreeing_as_declared (sessions), basis_as_of (NULL as traded), agreeing (sessions).
        """
        return Query(f"""
            WITH {self._on_one_basis()}
            SELECT {SERIES}, symbol, sessions, declared_as_of, agreeing_as_declared, found_as_of AS basis_as_of,
                agreeing
            FROM bases WHERE NOT is_declared
        """)

    def _on_one_basis(self) -> str:
        """Common table expressions up to `bases`, one row per instrument and currency, and `side_by_side`, one row per
        session that one of the two series has, between the first and the last that both have.
        """

        def side(relation: Relation, basis: str | None) -> str:
            return f"(SELECT *, {basis or 'NULL'}::DATE AS declared, true AS is_there FROM {relation})"

        def later(name: str, basis: str | None, moment: str) -> str:
            if basis is None:
                return ""
            return f"""ASOF LEFT JOIN later AS {name}
                    ON aligned.instrument_id = {name}.instrument_id AND aligned.currency = {name}.currency
                    AND {moment} < {name}.ex_date"""

        def since(name: str, basis: str | None, factor: str) -> str:
            return "1" if basis is None else f"coalesce(at_session.{factor}, 1) / coalesce({name}.{factor}, 1)"

        columns = ", ".join(
            f"{side}.{field} AS {prefix}_{field}"
            for side, prefix in (("ours", "our"), ("theirs", "other"))
            for field in (*PRICES, "volume")
        )
        both = "in_ours AND in_theirs"
        moves = ", ".join(
            f"our_{field} / other_{field} * their_price AS {field}_move" for field in ("open", "high", "low")
        )
        return f"""
            later AS MATERIALIZED (
                SELECT {SERIES}, ex_date, dividend_factor / split_factor AS price, split_factor AS split
                FROM ({later_factors(self.factors)})
            ), aligned AS (
                SELECT {SERIES}, session, coalesce(ours.symbol, theirs.symbol) AS symbol, {columns},
                    ours.declared AS our_declared, theirs.declared AS their_declared,
                    ours.is_there IS NOT NULL AS in_ours, theirs.is_there IS NOT NULL AS in_theirs
                FROM {side(self.ours, self.our_basis)} AS ours
                FULL JOIN {side(self.theirs, self.their_basis)} AS theirs USING ({SERIES}, session)
                WINDOW series AS (PARTITION BY {SERIES})
                QUALIFY session BETWEEN min(session) FILTER ({both}) OVER series
                    AND max(session) FILTER ({both}) OVER series
            ), scaled AS MATERIALIZED (
                -- Each factor is that of the ex-dates in (session, basis]: none where the basis is earlier, or NULL,
                -- which greatest() skips.
                SELECT aligned.*,
                    coalesce(at_session.price, 1) AS price_later, coalesce(at_session.split, 1) AS split_later,
                    {since("at_ours", self.our_basis, "price")} AS declared_price,
                    {since("at_ours", self.our_basis, "split")} AS declared_split,
                    {since("at_theirs", self.their_basis, "price")} AS their_price,
                    {since("at_theirs", self.their_basis, "split")} AS their_split,
                    {moves}
                FROM aligned
                ASOF LEFT JOIN later AS at_session
                    ON aligned.instrument_id = at_session.instrument_id AND aligned.currency = at_session.currency
                    AND aligned.session < at_session.ex_date
                {later("at_ours", self.our_basis, "greatest(aligned.session, aligned.our_declared)")}
                {later("at_theirs", self.their_basis, "greatest(aligned.session, aligned.their_declared)")}
            ), {_bases(self.tolerances)},
            side_by_side AS (
                SELECT *, {", ".join(f"{_deviation_bp(field)} AS {field}_bp" for field in PRICES)},
                    volume / nullif(other_volume, 0) AS ratio
                FROM (
                    SELECT {SERIES}, symbol, session, in_ours, in_theirs,
                        {", ".join(f"our_{field} / our_price * their_price AS {field}" for field in PRICES)},
                        our_volume / our_split * their_split AS volume,
                        {", ".join(f"other_{field}" for field in (*PRICES, "volume"))}, basis_as_of
                    FROM (
                        SELECT scaled.*,
                            CASE WHEN is_declared THEN our_declared ELSE found_as_of END AS basis_as_of,
                            CASE WHEN is_declared THEN declared_price WHEN found_as_of > session
                                THEN price_later / found_price ELSE 1 END AS our_price,
                            CASE WHEN is_declared THEN declared_split WHEN found_as_of > session
                                THEN split_later / found_split ELSE 1 END AS our_split
                        FROM scaled JOIN bases USING ({SERIES})
                    )
                )
            )"""


def _deviation_bp(field: str) -> str:
    deviation = f"CASE WHEN other_{field} > 0 THEN ({field} - other_{field}) / other_{field} * 10000 END"
    return f"CASE WHEN {field} = other_{field} THEN 0 ELSE {deviation} END"


def _beyond(field: str, tolerance: float) -> str:
    # Where theirs is zero or negative there is no deviation in basis points; the difference is judged by its size.
    beyond = f"abs({field} - other_{field}) > {tolerance / 10_000} * abs(other_{field})"
    return f"coalesce(abs({field}_bp) > {tolerance}, {beyond})"


def _bases(tolerances: Tolerances) -> str:
    """The expressions from `scaled` to `bases`: sessions vote for the basis under which they agree."""

    def agrees(factor: str) -> str:
        return " AND ".join(
            f"abs({field}_move / ({factor}) - 1) <= {tolerances.price_bp / 10_000}" for field in ("open", "high", "low")
        )

    return f"""
        as_declared AS (
            SELECT {SERIES}, arg_max(symbol, session) AS symbol, count(*) AS sessions,
                min(session) AS first_session, max(our_declared) AS declared_as_of,
                count(*) FILTER ({agrees("declared_price")}) AS agreeing_as_declared
            FROM scaled WHERE in_ours AND in_theirs GROUP BY {SERIES}
        ), unsettled AS (
            FROM as_declared WHERE agreeing_as_declared < sessions
        ), candidates AS (
            SELECT {SERIES}, NULL::DATE AS found_as_of, 1 AS found_price, 1 AS found_split FROM unsettled
            UNION ALL
            SELECT {SERIES}, ex_date - 1, price, split FROM later JOIN unsettled USING ({SERIES})
            WHERE ex_date > first_session
            UNION ALL
            SELECT {SERIES}, max(ex_date), 1, 1 FROM later JOIN unsettled USING ({SERIES})
            WHERE ex_date > first_session GROUP BY {SERIES}
        ), voted AS (
            SELECT {SERIES}, found_as_of, found_price, found_split, count(*) FILTER (
                {agrees("CASE WHEN found_as_of > session THEN price_later / found_price ELSE 1 END")}
            ) AS agreeing
            FROM scaled JOIN candidates USING ({SERIES}) WHERE in_ours AND in_theirs
            GROUP BY {SERIES}, found_as_of, found_price, found_split
            QUALIFY row_number() OVER (PARTITION BY {SERIES} ORDER BY agreeing DESC, found_as_of NULLS FIRST) = 1
        ), bases AS MATERIALIZED (
            SELECT as_declared.*, coalesce(agreeing <= agreeing_as_declared, true) AS is_declared,
                found_as_of, found_price, found_split, agreeing
            FROM as_declared LEFT JOIN voted USING ({SERIES})
        )"""
