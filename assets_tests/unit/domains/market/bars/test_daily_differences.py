"""Daily bars held against their bars: what is found is what the plain query finds, whatever is wrong."""

from __future__ import annotations

import random

import duckdb
import pytest

from lakehouse.domains.market.bars.sanity import daily_differences

SAID = ("open", "high", "low", "close", "volume", "trades", "bar_count", "first_bar_at", "last_bar_at")
KEY = "instrument_id, currency, session"
PLAIN = f"""
    SELECT {KEY}, 'values differ' FROM (
        SELECT {KEY}, any_value(daily) AS said,
            any_value(bars.open) FILTER (bars.start_at = daily.first_bar_at) AS open,
            max(bars.high) AS high, min(bars.low) AS low,
            any_value(bars.close) FILTER (bars.start_at = daily.last_bar_at) AS close,
            fsum(bars.volume ORDER BY bars.start_at) AS volume, TRY_CAST(sum(bars.trades) AS BIGINT) AS trades,
            count(*) AS bar_count, min(bars.start_at) AS first_bar_at, max(bars.start_at) AS last_bar_at
        FROM bars JOIN daily USING ({KEY}) GROUP BY {KEY}
    )
    WHERE ({", ".join(f"said.{column}" for column in SAID)}) IS DISTINCT FROM ({", ".join(SAID)})
    UNION ALL SELECT DISTINCT {KEY}, 'has bars but no daily bar' FROM bars ANTI JOIN daily USING ({KEY})
    UNION ALL SELECT {KEY}, 'has a daily bar but no bars' FROM daily ANTI JOIN bars USING ({KEY})
"""
FAULTS = (
    *(f"UPDATE daily SET {column} = {column} + 1 WHERE {{some}}" for column in ("open", "volume", "trades")),
    "UPDATE daily SET volume = volume * (1 + 2.3e-16) WHERE {some}",
    "UPDATE daily SET first_bar_at = first_bar_at + INTERVAL 1 MINUTE WHERE {some}",
    "UPDATE daily SET close = NULL, volume = NULL WHERE {some}",
    "DELETE FROM daily WHERE {some}",
    "DELETE FROM bars WHERE {some}",
    "INSERT INTO daily SELECT * FROM daily WHERE {some}",
    "INSERT INTO bars SELECT * FROM bars WHERE {some}",
    "UPDATE daily SET currency = NULL WHERE {some}",
    "UPDATE bars SET currency = NULL WHERE {some}",
)


def made(volume: str) -> duckdb.DuckDBPyConnection:
    """Bars of 40 instruments in 3 sessions, in no order, and what they say."""
    connection = duckdb.connect()
    connection.execute(
        f"""
        CREATE TABLE bars AS SELECT 'I' || (number % 40) AS instrument_id, 'EUR' AS currency,
            DATE '2024-03-01' + (number % 3)::INTEGER AS session,
            TIMESTAMP '2024-03-01 08:00' + INTERVAL (number) MINUTE AS start_at,
            100 + number % 7 AS open, 110 + number % 11 AS high, 90 - number % 5 AS low, 100 + number % 13 AS close,
            ({volume})::DOUBLE AS volume, if(number % 9 = 0, NULL, number % 17)::BIGINT AS trades
        FROM range(3000) AS numbers(number) ORDER BY hash(number)
        """
    )
    connection.execute(
        f"""
        CREATE TABLE daily AS SELECT {KEY}, arg_min(open, start_at) AS open, max(high) AS high, min(low) AS low,
            arg_max(close, start_at) AS close, fsum(volume ORDER BY start_at) AS volume,
            TRY_CAST(sum(trades) AS BIGINT) AS trades, count(*) AS bar_count, min(start_at) AS first_bar_at,
            max(start_at) AS last_bar_at FROM bars GROUP BY {KEY}
        """
    )
    return connection


def found(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[str, ...]]:
    return sorted(tuple(map(str, row)) for row in connection.execute(query).fetchall())


@pytest.mark.parametrize(
    "volume",
    [
        "number % 1000",
        "number / 7 * pow(10, number % 19)",
        "if(number % 10 = 0, NULL, number)",
        "9007199254740991 - number % 5",
        "CASE number % 700 WHEN 0 THEN 'inf'::DOUBLE WHEN 1 THEN 'nan'::DOUBLE ELSE number END",
        "NULL",
    ],
    ids=["whole", "fractional", "some unknown", "near 2^53", "not finite", "unknown"],
)
def test_finds_what_the_plain_query_finds(volume: str) -> None:
    chosen = random.Random(volume)
    with made(volume) as connection:
        assert found(connection, daily_differences("daily", "bars")) == []
        for number in range(len(FAULTS)):
            connection.execute("BEGIN")
            for fault in [*chosen.sample(FAULTS, k=1 + number % 3), FAULTS[number]]:
                some = f"hash(instrument_id, session) % 13 = {chosen.randrange(13)}"
                connection.execute(fault.format(some=some))
            expected = found(connection, PLAIN)
            assert found(connection, daily_differences("daily", "bars")) == expected, FAULTS[number]
            connection.execute("ROLLBACK")


def test_each_fault_is_found() -> None:
    with made("number % 1000") as connection:
        for fault in FAULTS:
            connection.execute("BEGIN")
            connection.execute(fault.format(some="hash(instrument_id, session) % 5 = 0"))
            differences = found(connection, daily_differences("daily", "bars"))
            assert differences, fault
            connection.execute("ROLLBACK")
