"""The same daily bars from the same files, by pandas as most people would write it (see `polars_script`).

python benchmarks/pandas_script.py <folder of objects> <target folder>
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

NAMES = {
    "ISIN": "instrument_id",
    "Mnemonic": "symbol",
    "SecurityDesc": "name",
    "SecurityType": "instrument_type",
    "SecurityID": "vendor_id",
    "Currency": "currency",
    "StartPrice": "open",
    "MaxPrice": "high",
    "MinPrice": "low",
    "EndPrice": "close",
    "TradedVolume": "volume",
    "NumberOfTrades": "trades",
}


def main(source: Path, target: Path) -> None:
    frames = [pd.read_csv(path) for path in sorted(source.glob("*/*.csv*"))]
    raw = pd.concat([frame for frame in frames if len(frame)], ignore_index=True).rename(columns=NAMES)
    raw["start_at"] = pd.to_datetime(raw["Date"] + " " + raw["Time"], utc=True)
    raw["session"] = raw["start_at"].dt.date
    raw = raw[raw["start_at"].dt.weekday < 5].drop(columns=["Date", "Time"])
    raw.to_parquet(target / "raw_bars", partition_cols=["session"])

    bars = raw.drop_duplicates(["instrument_id", "currency", "start_at"], keep="last")
    # Xetra's regular session is 9:00 to 17:30 in Frankfurt; the closing auction's prints come within ten minutes.
    minute = bars["start_at"].dt.tz_convert("Europe/Berlin")
    of_day = minute.dt.hour * 60 + minute.dt.minute
    bars = bars.assign(is_traded=bars["volume"] > 0, is_regular=(of_day >= 9 * 60) & (of_day < 17 * 60 + 40))
    bars = bars.sort_values(["session", "instrument_id", "start_at"])
    bars.to_parquet(target / "bars", partition_cols=["session"])

    traded = bars[bars["is_traded"] & bars["is_regular"]].assign(turnover=lambda rows: rows["close"] * rows["volume"])
    daily = (
        traded.groupby(["session", "instrument_id", "currency"])
        .agg(
            symbol=("symbol", "last"),
            open=("open", "first"),
            high=("high", "max"),
            low=("low", "min"),
            close=("close", "last"),
            volume=("volume", "sum"),
            trades=("trades", "sum"),
            turnover=("turnover", "sum"),
            bar_count=("close", "size"),
            first_bar_at=("start_at", "first"),
            last_bar_at=("start_at", "last"),
        )
        .reset_index()
    )
    daily["prev_close"] = daily.groupby(["instrument_id", "currency"])["close"].shift()
    daily["change_pct"] = (daily["close"] / daily["prev_close"] - 1) * 100
    daily.to_parquet(target / "daily_bars", partition_cols=["session"])


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    main(Path(sys.argv[1]), folder)
