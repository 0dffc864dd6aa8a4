"""The same daily bars from the same files, by DuckDB alone (see `polars_script`).

python benchmarks/duckdb_script.py <folder of objects> <target folder>
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

STEPS = """
    SET TimeZone = 'UTC';
    CREATE TABLE raw AS
    SELECT ISIN AS instrument_id, Mnemonic AS symbol, SecurityDesc AS name, SecurityType AS instrument_type,
        SecurityID AS vendor_id, Currency AS currency,
        strptime("Date" || ' ' || "Time", '%Y-%m-%d %H:%M')::TIMESTAMP AS start_at, "Date"::DATE AS session,
        StartPrice::DOUBLE AS open, MaxPrice::DOUBLE AS high, MinPrice::DOUBLE AS low, EndPrice::DOUBLE AS close,
        TradedVolume::BIGINT AS volume, NumberOfTrades::BIGINT AS trades, filename AS object
    FROM read_csv('{source}/*/*.csv*', all_varchar = true, header = true, filename = true)
    WHERE isodow("Date"::DATE) <= 5;
    COPY raw TO '{target}/raw_bars' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARTITION_BY (session));

    -- Xetra's regular session is 9:00 to 17:30 in Frankfurt; the closing auction's prints come within ten minutes.
    CREATE TABLE bars AS
    SELECT *, volume > 0 AS is_traded,
        timezone('Europe/Berlin', timezone('UTC', start_at))::TIME AS minute,
        minute >= TIME '09:00' AND minute < TIME '17:40' AS is_regular
    FROM raw QUALIFY row_number() OVER (PARTITION BY instrument_id, currency, start_at ORDER BY object DESC) = 1;
    COPY (SELECT * EXCLUDE (minute) FROM bars ORDER BY session, instrument_id, start_at) TO '{target}/bars'
    (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARTITION_BY (session));

    CREATE TABLE daily AS
    SELECT session, instrument_id, currency, arg_max(symbol, start_at) AS symbol,
        arg_min(open, start_at) AS open, max(high) AS high, min(low) AS low, arg_max(close, start_at) AS close,
        sum(volume)::BIGINT AS volume, sum(trades)::BIGINT AS trades, sum(close * volume) AS turnover,
        count(*) AS bar_count, min(start_at) AS first_bar_at, max(start_at) AS last_bar_at
    FROM bars WHERE is_traded AND is_regular GROUP BY session, instrument_id, currency;
    COPY (
        SELECT *, lag(close) OVER series AS prev_close, (close / prev_close - 1) * 100 AS change_pct FROM daily
        WINDOW series AS (PARTITION BY instrument_id, currency ORDER BY session) ORDER BY session, instrument_id
    ) TO '{target}/daily_bars' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARTITION_BY (session));
"""


def main(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(STEPS.format(source=source, target=target))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
