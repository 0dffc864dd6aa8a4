"""A second opinion on bar feeds: reads, checks, settles and aggregates them row by row, in plain Python.

It shares no code with the simulator nor with the lake, so that agreement with either means something.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections import defaultdict
from typing import TYPE_CHECKING

from stdnum import isin as isin_number

if TYPE_CHECKING:
    from lakehouse.simulators.exchange import Exchange

HEADER_ONLY = (
    b"ISIN,Mnemonic,SecurityDesc,SecurityType,Currency,SecurityID,Date,Time,"
    b"StartPrice,MaxPrice,MinPrice,EndPrice,TradedVolume,NumberOfTrades\n"
)


def fault_of(fields: list[str], file_date: str, session_days: set[str]) -> str | None:
    if len(fields) != 14:
        return "missing_field" if len(fields) < 14 else "extra_field"
    isin, currency, day = fields[0], fields[4], fields[6]
    if "" in fields:
        return "missing_value"
    try:
        opened, high, low, closed = (float(value) for value in fields[8:12])
        volume, trades = int(fields[12]), int(fields[13])
    except ValueError:
        return "text_in_number"
    if not all(math.isfinite(price) for price in (opened, high, low, closed)):
        return "not_finite"
    if min(opened, high, low, closed) <= 0 or volume < 0 or trades < 0:
        return "negative_price"
    if high < max(opened, low, closed) or low > min(opened, closed):
        return "high_below_low"
    if not isin_number.is_valid(isin):
        return "wrong_check_digit"
    if currency not in {"EUR", "USD", "CHF"}:
        return "unknown_currency"
    if day != file_date:
        return "outside_file_date"
    return None if day in session_days else "not_a_session"


class Reading:
    """Loads stages in order, each object version a whole, and counts what became of every row."""

    def __init__(self, exchange: Exchange, stages: tuple[str, ...], compress: bool = True) -> None:
        days = {str(session.session) for session in exchange.market.sessions}
        versions = defaultdict(list)
        self.received, self.faults, self.statuses = 0, {}, []
        for stage in stages:
            for name, body, published_at in exchange.objects(stage):
                try:
                    text = gzip.decompress(body) if compress else body
                    header, *lines = text.decode().splitlines()
                    if header + "\n" != HEADER_ONLY.decode():
                        raise ValueError(header)
                except (EOFError, ValueError):
                    self.statuses.append((name, stage, "failed", 0, 0))
                    continue
                good = []
                for number, line in enumerate(lines, 1):
                    fields = next(csv.reader([line]))
                    fault = fault_of(fields, name[:10], days)
                    if fault:
                        self.faults[name, number] = fault
                    else:
                        good.append((published_at, name, number, fields))
                versions[name].append(good)
                self.received += len(lines)
                bad = len(lines) - len(good)
                self.statuses.append((name, stage, "loaded" if lines else "empty", len(lines), bad))
        candidates, every = defaultdict(list), defaultdict(list)
        for history in versions.values():
            for rows in history:
                for row in rows:
                    key = (row[3][0], row[3][4], row[3][6], row[3][7])
                    every[key].append(row[3])
                    if rows is history[-1]:
                        candidates[key].append(row)
        self.bars = {key: max(rows)[3] for key, rows in candidates.items()}
        self.duplicates = self.superseded = 0
        for key, rows in every.items():
            if key in self.bars:
                same = rows.count(self.bars[key])
                self.duplicates += same - 1
                self.superseded += len(rows) - same
            else:
                self.superseded += len(rows)

    def daily_bars(self) -> dict[tuple[str, str, str], tuple[float, ...]]:
        traded = defaultdict(list)
        for (isin, currency, day, time), fields in sorted(self.bars.items()):
            if int(fields[12]) > 0:
                traded[isin, currency, day].append((time, *map(float, fields[8:12]), int(fields[12]), int(fields[13])))
        return {
            key: (
                rows[0][1],
                max(row[2] for row in rows),
                min(row[3] for row in rows),
                rows[-1][4],
                sum(row[5] for row in rows),
                sum(row[6] for row in rows),
                len(rows),
                f"{key[2]} {rows[0][0]}",
                f"{key[2]} {rows[-1][0]}",
            )
            for key, rows in traded.items()
        }
