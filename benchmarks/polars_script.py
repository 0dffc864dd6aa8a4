"""The same daily bars from the same files, by Polars alone and as fast as it goes: the yardstick of the backfill.

It reads every object as text, types it, leaves Saturdays and Sundays out, and writes raw bars, bars and daily bars as
Parquet files. It has no transactions, no ledger, no quarantine, no checks and no second run that costs nothing:
what it takes is the price of the work itself.

    python benchmarks/polars_script.py <folder of objects> <target folder>
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

PRICES = ("StartPrice", "MaxPrice", "MinPrice", "EndPrice")
QUANTITIES = ("TradedVolume", "NumberOfTrades")


def read(path: Path) -> pl.DataFrame:
    """An object as text, with its name: what can't be typed must not stop the others."""
    return pl.read_csv(path, infer_schema=False).with_columns(object=pl.lit(path.name))


def main(source: Path, target: Path) -> None:
    paths = sorted(source.glob("*/*.csv*"))
    with ThreadPoolExecutor(4) as pool:
        text = pl.concat(pool.map(read, paths))
    start_at = (
        pl.concat_str("Date", "Time", separator=" ")
        .str.to_datetime("%Y-%m-%d %H:%M", time_unit="us")
        .dt.replace_time_zone("UTC")
    )
    raw = text.select(
        instrument_id="ISIN",
        symbol="Mnemonic",
        name="SecurityDesc",
        instrument_type="SecurityType",
        vendor_id="SecurityID",
        currency="Currency",
        start_at=start_at,
        session=start_at.dt.date(),
        open=pl.col("StartPrice").cast(pl.Float64),
        high=pl.col("MaxPrice").cast(pl.Float64),
        low=pl.col("MinPrice").cast(pl.Float64),
        close=pl.col("EndPrice").cast(pl.Float64),
        volume=pl.col("TradedVolume").cast(pl.Int64),
        trades=pl.col("NumberOfTrades").cast(pl.Int64),
        object="object",
    ).filter(pl.col("session").dt.weekday() <= 5)
    write(raw, target / "raw_bars")

    # Xetra's regular session is 9:00 to 17:30 in Frankfurt; the closing auction's prints come within ten minutes.
    minute = pl.col("start_at").dt.convert_time_zone("Europe/Berlin")
    of_day = minute.dt.hour().cast(pl.Int32) * 60 + minute.dt.minute()
    bars = raw.unique(["instrument_id", "currency", "start_at"], keep="last").sort(
        "session", "instrument_id", "start_at"
    )
    bars = bars.with_columns(is_traded=pl.col("volume") > 0, is_regular=(of_day >= 9 * 60) & (of_day < 17 * 60 + 40))
    write(bars, target / "bars")

    daily = (
        bars.lazy()
        .filter("is_traded", "is_regular")
        .group_by("session", "instrument_id", "currency", maintain_order=True)
        .agg(
            symbol=pl.col("symbol").last(),
            open=pl.col("open").first(),
            high=pl.col("high").max(),
            low=pl.col("low").min(),
            close=pl.col("close").last(),
            volume=pl.col("volume").sum(),
            trades=pl.col("trades").sum(),
            turnover=(pl.col("close") * pl.col("volume")).sum(),
            bar_count=pl.len(),
            first_bar_at=pl.col("start_at").first(),
            last_bar_at=pl.col("start_at").last(),
        )
        .with_columns(prev_close=pl.col("close").shift().over("instrument_id", "currency", order_by="session"))
        .with_columns(change_pct=(pl.col("close") / pl.col("prev_close") - 1) * 100)
        .collect()
    )
    write(daily, target / "daily_bars")
    print(f"{raw.height:,} bars, {daily.height:,} daily bars")


def write(rows: pl.DataFrame, folder: Path) -> None:
    """One Parquet file a session, compressed as the lake's are."""
    for (session,), frame in rows.partition_by("session", as_dict=True, include_key=False).items():
        part = folder / f"session={session}"
        part.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(part / "part.parquet", compression="zstd", compression_level=1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
