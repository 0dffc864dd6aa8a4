"""The marts as of a past moment: of corporate actions, too, only those count that were known then."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from assets_tests.support.dbt_warehouse import VENDOR, Warehouse
from lakehouse.api import Lake

BEFORE, EX_DATE = date(2024, 1, 16), date(2024, 1, 17)
FIRST, SECOND = (datetime(2024, 2, day, 12, tzinfo=UTC) for day in (1, 2))
CLOSES = {BEFORE: 100.0, EX_DATE: 99.0}


def append(name: str, rows: list[dict[str, Any]]) -> None:
    table = Lake.open().table(name)
    table.snapshot().append(pa.Table.from_pylist(rows, schema=table.contract.arrow_schema), transactions=["test"])


def load(product: str, raw_table: str, moment: datetime, rows: list[dict[str, Any]]) -> None:
    """Stores rows as one object version that the lake came to know at `moment`, and its row of the ledger."""
    version = {"object": f"{product}/S", "object_version": moment.isoformat()}
    known = {"published_at": moment, "ingested_at": moment}
    append(f"{VENDOR}/{raw_table}", [row | version | known | {"row_number": n} for n, row in enumerate(rows, 1)])
    parts = Counter(row.get("year") or row["session"] for row in rows)
    version_of_part = {"digest": "", "object_version": version["object_version"]}
    ledger = {
        "source": VENDOR,
        "product": product,
        "size": 1,
        "status": "loaded",
        "first_session": BEFORE,
        "last_session": EX_DATE,
        "rows_received": len(rows),
        "rows_quarantined": 0,
        "parts": [{"part": part, "rows": count} | version_of_part for part, count in parts.items()],
    }
    append("ingest_ledger", [ledger | version | known])


def bar(session: date, close: float) -> dict[str, Any]:
    """The only bar of a session, in its regular segment."""
    start = datetime(session.year, session.month, session.day, 15, tzinfo=UTC)
    return {
        "instrument_id": "S",
        "symbol": "S",
        "currency": "USD",
        "interval": "1min",
        "session": session,
        "start_at": start,
        "end_at": start.replace(minute=1),
        "volume": 10,
        **dict.fromkeys(("open", "high", "low", "close"), close),
    }


def daily(session: date, close: float, dividend: float) -> dict[str, Any]:
    return {
        "year": date(2024, 1, 1),
        "instrument_id": "S",
        "symbol": "S",
        "currency": "USD",
        "session": session,
        **dict.fromkeys(("open", "high", "low", "close", "adjusted_close"), close),
        "volume": 20,
        "dividend_amount": dividend,
        "split_coefficient": 1.0,
    }


@pytest.mark.parametrize(("moment", "dividends", "total"), [(FIRST, 0, -1.0), (SECOND, 1, 0.0)])
def test_an_action_counts_from_when_it_was_known(
    tmp_path: Path, moment: datetime, dividends: int, total: float
) -> None:
    load("bars", "raw_bars", FIRST, [bar(session, close) for session, close in CLOSES.items()])
    load("official_daily", "raw_daily", FIRST, [daily(session, close, 0) for session, close in CLOSES.items()])
    load("official_daily", "raw_daily", SECOND, [daily(day, close, day == EX_DATE) for day, close in CLOSES.items()])
    warehouse = Warehouse(tmp_path / "warehouse", VENDOR, as_of=moment)
    warehouse.run("+returns", "fct_corporate_action")

    assert warehouse.query("select count(*) from marts.fct_corporate_action") == [(dividends,)]
    assert warehouse.query(
        "select return_pct, split_adjusted_return_pct, total_return_pct from marts.returns where prev_close is not null"
    ) == [(pytest.approx(-1), pytest.approx(-1), pytest.approx(total, abs=1e-12))]
    assert warehouse.query("select official_close from marts.fct_daily_bar order by session") == [(100,), (99,)]
