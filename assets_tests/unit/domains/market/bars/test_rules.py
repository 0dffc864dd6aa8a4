"""The rules from revisions to bars to daily bars, held against plain Python and the cases they were made for."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets_tests.support.described import contract_of
from assets_tests.support.whole_sessions import all_came
from lakehouse.derive.revisions import RevisionRule, losers
from lakehouse.domains.market.bars import rules
from lakehouse.lake.engine import connect

SESSIONS = [date(2017, 6, 29), date(2017, 6, 30), date(2017, 7, 3)]
MINUTE = timedelta(minutes=1)


def at(session: date, minutes: float) -> datetime:
    """That many minutes after 07:00 UTC, when Xetra opens in summer; after 510 it closes, after 520 the auction ends."""  # noqa: E501
    return datetime(session.year, session.month, session.day, 7, tzinfo=UTC) + timedelta(minutes=minutes)


HOURS = pl.DataFrame(
    {
        "session": SESSIONS,
        "open_at": [at(day, 0) for day in SESSIONS],
        "regular_end_at": [at(day, 520) for day in SESSIONS],
    },
    schema_overrides={"open_at": pl.Datetime("us", "UTC"), "regular_end_at": pl.Datetime("us", "UTC")},
)


def raw_bar(**values: Any) -> dict[str, Any]:
    session = values.setdefault("session", SESSIONS[0])
    price = values.pop("price", 10.0)
    start = values.setdefault("start_at", at(session, values.pop("minute", 60)))
    return {
        "instrument_id": "DE0005190003", "symbol": "BMW", "name": "BMW AG", "instrument_type": "Common stock", "vendor_id": "1",  # noqa: E501
        "currency": "EUR", "interval": "1min", "end_at": start + MINUTE, "open": price, "high": price, "low": price, "close": price,  # noqa: E501
        "volume": 100, "trades": 1, "vwap": None, "vendor_revision": None, "is_adjusted": None,
        "object": "a", "object_version": "1", "row_number": 1,
        "published_at": at(session, 600), "ingested_at": at(session, 700),
    } | values  # fmt: skip


def ledger_row(**values: Any) -> dict[str, Any]:
    return {
        "source": "x", "object": "a", "object_version": "1", "product": "bars", "size": 1, "status": "loaded", "error": None,  # noqa: E501
        "first_session": SESSIONS[0], "last_session": SESSIONS[0], "rows_received": 1, "rows_quarantined": 0,
        "parts": [part()] if values.get("status", "loaded") == "loaded" else [], "published_at": at(SESSIONS[0], 600),
        "ingested_at": at(SESSIONS[0], 700), "run_id": None,
    } | values  # fmt: skip


def part(session: date = SESSIONS[0], version: str = "1", rows: int = 1) -> dict[str, Any]:
    """A share of an object version: the rows of one session, and the version under which they are stored."""
    return {"part": session, "rows": rows, "digest": f"{session} {version}", "object_version": version}


def ledger_of(raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A ledger in which every version of the rows was loaded and stored."""
    versions: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in raw:
        versions[row["object"], row["object_version"]].append(row)
    return [
        ledger_row(
            object=name,
            object_version=version,
            rows_received=len(rows),
            parts=[part(day, version, count) for day, count in Counter(row["session"] for row in rows).items()],
            published_at=rows[0]["published_at"],
            ingested_at=rows[0]["ingested_at"],
        )
        for (name, version), rows in versions.items()
    ]


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return connect("")


def register(
    connection: duckdb.DuckDBPyConnection, raw: list[dict[str, Any]], ledger: list[dict[str, Any]] | None = None
) -> None:
    import pyarrow as pa

    for name, rows in (("raw_bars", raw), ("ingest_ledger", ledger_of(raw) if ledger is None else ledger)):
        connection.register(name, pa.Table.from_pylist(rows, schema=contract_of(name).arrow_schema))
    connection.register("hours", HOURS)
    connection.register("completeness", all_came(SESSIONS))


def bars_of(
    connection: duckdb.DuckDBPyConnection, raw: list[dict[str, Any]], ledger: list[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    register(connection, raw, ledger)
    query = rules.bars("raw_bars", "ingest_ledger", "hours")
    return connection.execute(f"SELECT * FROM ({query}) ORDER BY start_at, instrument_id, currency").pl().to_dicts()


def daily_of(connection: duckdb.DuckDBPyConnection, raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
    register(connection, raw)
    daily = rules.daily(f"({rules.bars('raw_bars', 'ingest_ledger', 'hours')})", "completeness", "Europe/Berlin")
    query = f"WITH daily AS MATERIALIZED ({daily}) {rules.with_previous('daily', 'daily')}"
    return connection.execute(f"SELECT * FROM ({query}) ORDER BY instrument_id, currency, session").pl().to_dicts()


def fates_of(
    connection: duckdb.DuckDBPyConnection,
    raw: list[dict[str, Any]],
    ledger: list[dict[str, Any]] | None = None,
    rule: RevisionRule = rules.BARS,
) -> list[tuple]:
    register(connection, raw, ledger)
    return connection.execute(
        f"SELECT object, object_version, row_number, fate FROM ({losers('raw_bars', 'ingest_ledger', rule)}) ORDER BY ALL"  # noqa: E501
    ).fetchall()


# Rules 1 to 7: daily bars


def test_technical_bars_never_set_a_price(connection: duckdb.DuckDBPyConnection) -> None:
    """Rule 2: reference prices in session, in the auction, in the evening and at night; the last one is tomorrow's split."""  # noqa: E501
    raw = [raw_bar(minute=minute, price=207.85) for minute in (60, 400)]
    raw += [raw_bar(minute=minute, price=69.3, volume=0, trades=0) for minute in (-180, 30, 450, 519, 750)]
    (row,) = daily_of(connection, raw)
    assert [row[name] for name in ("open", "high", "low", "close")] == [207.85] * 4
    assert (row["bar_count"], row["first_bar_at"], row["last_bar_at"]) == (2, at(SESSIONS[0], 60), at(SESSIONS[0], 400))
    assert [bar["is_traded"] for bar in bars_of(connection, raw)].count(False) == 5


@pytest.mark.parametrize(
    ("minute", "segment"),
    [(-1, "pre"), (0, "regular"), (509, "regular"), (510, "regular"), (519, "regular"), (520, "post"), (750, "post")],
)
def test_the_closing_auction_belongs_to_the_regular_segment(
    minute: int, segment: str, connection: duckdb.DuckDBPyConnection
) -> None:
    raw = [raw_bar(minute=minute)]
    assert [bar["segment"] for bar in bars_of(connection, raw)] == [segment]
    assert len(daily_of(connection, raw)) == (segment == "regular")


def test_an_instrument_without_a_traded_regular_bar_has_no_daily_bar(connection: duckdb.DuckDBPyConnection) -> None:
    assert daily_of(connection, [raw_bar(volume=0), raw_bar(minute=-5), raw_bar(minute=600)]) == []


def test_the_same_isin_in_two_currencies_is_two_series(connection: duckdb.DuckDBPyConnection) -> None:
    raw = [
        raw_bar(session=day, currency=currency, price=price)
        for day in SESSIONS[:2]
        for currency, price in (("EUR", 10.0), ("USD", 12.0))
    ]
    rows = daily_of(connection, raw)
    assert [(row["currency"], row["close"], row["prev_close"]) for row in rows] == [
        ("EUR", 10.0, None), ("EUR", 10.0, 10.0), ("USD", 12.0, None), ("USD", 12.0, 12.0),
    ]  # fmt: skip


def test_change_goes_back_to_the_latest_session_that_has_a_daily_bar(connection: duckdb.DuckDBPyConnection) -> None:
    raw = [
        raw_bar(session=SESSIONS[0], price=8.0),
        raw_bar(session=SESSIONS[1], volume=0),
        raw_bar(session=SESSIONS[2], price=10.0),
    ]
    first, second = daily_of(connection, raw)
    assert (first["prev_session"], first["prev_close"], first["change_pct"]) == (None, None, None)
    assert (second["prev_session"], second["prev_close"], second["change_pct"]) == (SESSIONS[0], 8.0, 25.0)
    assert second["year"] == date(2017, 1, 1)


def test_vwap_is_exact_or_null(connection: duckdb.DuckDBPyConnection) -> None:
    raw = [raw_bar(minute=1, vwap=1e-7, volume=1, price=1e-7), raw_bar(minute=2, vwap=3e-7, volume=3, price=3e-7)]
    assert daily_of(connection, raw)[0]["vwap"] == pytest.approx(2.5e-7, rel=1e-12)
    assert daily_of(connection, [*raw, raw_bar(minute=3)])[0]["vwap"] is None
    assert daily_of(connection, [*raw, raw_bar(minute=3, volume=0)])[0]["vwap"] == pytest.approx(2.5e-7, rel=1e-12)


def test_no_value_within_the_contract_overflows(connection: duckdb.DuckDBPyConnection) -> None:
    huge = {"price": 9.9e14, "vwap": 9.9e14, "volume": 9.9e17, "trades": 2**62}
    (row,) = daily_of(connection, [raw_bar(minute=minute, **huge) for minute in range(520)])
    assert row["volume"] == pytest.approx(520 * 9.9e17)
    assert row["trades"] is None, "more than 64 bits hold"
    assert row["turnover"] == pytest.approx(520 * 9.9e14 * 9.9e17)
    assert row["vwap"] == pytest.approx(9.9e14)


def test_the_texts_are_those_of_the_last_trade(connection: duckdb.DuckDBPyConnection) -> None:
    raw = [
        raw_bar(minute=1, symbol="MEO", name="METRO"),
        raw_bar(minute=2, symbol="CEC", name=None),
        raw_bar(minute=3, symbol="ZZZ", volume=0),
    ]
    assert [(row["symbol"], row["name"]) for row in daily_of(connection, raw)] == [("CEC", None)]


def test_an_optional_number_that_no_bar_has_stays_unknown(connection: duckdb.DuckDBPyConnection) -> None:
    assert daily_of(connection, [raw_bar(trades=None)])[0]["trades"] is None


# Rules 12 to 14: revisions


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ({"vendor_revision": 1, "published_at": at(SESSIONS[0], 999)}, {"vendor_revision": 2}),
        ({"vendor_revision": None, "published_at": at(SESSIONS[0], 999)}, {"vendor_revision": 0}),
        (
            {"published_at": at(SESSIONS[0], 600), "ingested_at": at(SESSIONS[0], 999)},
            {"published_at": at(SESSIONS[0], 601)},
        ),
        ({"ingested_at": at(SESSIONS[0], 700), "object": "z"}, {"ingested_at": at(SESSIONS[0], 701), "object": "b"}),
        ({"object": "a", "row_number": 9}, {"object": "b", "row_number": 1}),
        ({"row_number": 9}, {"row_number": 10}),
    ],
    ids=["vendor's revision", "a revision before none", "published", "ingested", "object", "row"],
)
def test_the_highest_revision_wins(
    lower: dict[str, Any], higher: dict[str, Any], connection: duckdb.DuckDBPyConnection
) -> None:
    # Two objects, unless both rows are of one.
    objects = ({}, {}) if "row_number" in lower and "object" not in lower else ({"object": "a"}, {"object": "b"})
    rows = [raw_bar(**(objects[0] | lower), price=1.0), raw_bar(**(objects[1] | higher), price=2.0)]
    for raw in (rows, rows[::-1]):
        assert [bar["close"] for bar in bars_of(connection, raw)] == [2.0]
        assert [fate for *_, fate in fates_of(connection, raw)] == ["superseded"]


def test_a_new_version_replaces_its_object_as_a_whole(connection: duckdb.DuckDBPyConnection) -> None:
    """Changed, unchanged and withdrawn; and what a failed version says counts for nothing."""
    old = [raw_bar(minute=minute, row_number=minute, price=1.0) for minute in (1, 2, 3)]
    new = {"object_version": "2", "published_at": at(SESSIONS[0], 800)}
    raw = [*old, raw_bar(minute=1, price=2.0, row_number=1, **new), raw_bar(minute=2, price=1.0, row_number=2, **new)]
    ledger = [
        *ledger_of(raw),
        ledger_row(object_version="3", status="failed", error="cut", published_at=at(SESSIONS[0], 900)),
    ]
    assert [(bar["close"], bar["object_version"]) for bar in bars_of(connection, raw, ledger)] == [
        (2.0, "2"),
        (1.0, "2"),
    ]
    assert fates_of(connection, raw, ledger) == [
        ("a", "1", 1, "superseded"),
        ("a", "1", 2, "duplicate"),
        ("a", "1", 3, "superseded"),
    ]


def test_an_empty_version_withdraws_every_bar(connection: duckdb.DuckDBPyConnection) -> None:
    raw = [raw_bar()]
    ledger = [*ledger_of(raw), ledger_row(object_version="2", status="empty", published_at=at(SESSIONS[0], 800))]
    assert bars_of(connection, raw, ledger) == []
    assert fates_of(connection, raw, ledger) == [("a", "1", 1, "superseded")]


def test_rows_that_the_ledger_does_not_know_are_not_read(connection: duckdb.DuckDBPyConnection) -> None:
    raw = [raw_bar(), raw_bar(object="killed", price=99.0, published_at=at(SESSIONS[0], 900))]
    ledger = ledger_of(raw[:1])
    assert [bar["close"] for bar in bars_of(connection, raw, ledger)] == [10.0]
    assert fates_of(connection, raw, ledger) == []


def test_equal_prices_at_another_time_are_no_duplicates(connection: duckdb.DuckDBPyConnection) -> None:
    raw = [raw_bar(minute=1, row_number=1), raw_bar(minute=2, row_number=2)]
    assert len(bars_of(connection, raw)) == 2


# Against plain Python

price = st.integers(1, 6).map(lambda eighths: eighths / 8 + 9.1)


@st.composite
def raw_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    rows = []
    for name in draw(st.lists(st.sampled_from("abc"), max_size=3, unique=True)):
        session = draw(st.sampled_from(SESSIONS))
        for version in range(draw(st.integers(1, 3))):
            published = at(session, 600 + draw(st.integers(0, 3)))
            # Versions come in any order of publication; the later load is the higher number.
            ingested = at(session, 700 + 10 * version)
            for number in range(1, draw(st.integers(0, 4)) + 1):
                low, high = sorted((draw(price), draw(price)))
                opened, closed = (draw(st.sampled_from([low, high])) for _ in range(2))
                rows.append(
                    raw_bar(
                        session=session, minute=draw(st.sampled_from([-1, 0, 1, 519, 520])), open=opened, high=high, low=low, close=closed,  # noqa: E501
                        instrument_id=draw(st.sampled_from(["A", "B"])), currency=draw(st.sampled_from(["EUR", "USD"])),
                        volume=draw(st.sampled_from([0, 1, 7])), trades=draw(st.sampled_from([None, 0, 2])),
                        vwap=draw(st.sampled_from([None, low, high, high])), vendor_revision=draw(st.sampled_from([None, None, 1, 2])),  # noqa: E501
                        symbol=draw(st.sampled_from([None, "S", "T"])), object=name, object_version=str(version), row_number=number,  # noqa: E501
                        published_at=published, ingested_at=ingested,
                    )
                )  # fmt: skip
    return rows


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["instrument_id"], row["currency"], row["interval"], row["start_at"]


def place_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["object"], row["object_version"], row["row_number"]


def plain_winners(raw: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    newest: dict[str, tuple[Any, ...]] = {}
    for row in raw:
        version = (row["published_at"], row["ingested_at"], row["object_version"])
        newest[row["object"]] = max(newest.get(row["object"], version), version)
    won: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in raw:
        if newest[row["object"]][2] != row["object_version"]:
            continue
        rank = (
            -1 if row["vendor_revision"] is None else row["vendor_revision"],
            row["published_at"],
            row["ingested_at"],
            row["object"],
            row["row_number"],
        )
        if key_of(row) not in won or rank > won[key_of(row)]["rank"]:
            won[key_of(row)] = row | {"rank": rank}
    return won


@given(raw=raw_rows())
def test_winners_and_losers_are_those_of_plain_python(
    raw: list[dict[str, Any]], connection: duckdb.DuckDBPyConnection
) -> None:
    won = plain_winners(raw)
    assert {key_of(bar): place_of(bar) for bar in bars_of(connection, raw)} == {
        key: place_of(row) for key, row in won.items()
    }
    identity = {"object", "object_version", "row_number", "published_at", "ingested_at"}
    wanted = []
    for row in raw:
        winner = won.get(key_of(row))
        if winner is None or place_of(winner) != place_of(row):
            same = winner is not None and all(row[name] == winner[name] for name in row.keys() - identity)
            wanted.append((*place_of(row), "duplicate" if same else "superseded"))
    assert fates_of(connection, raw) == sorted(wanted)


@given(raw=raw_rows())
def test_daily_bars_are_those_of_plain_python(raw: list[dict[str, Any]], connection: duckdb.DuckDBPyConnection) -> None:
    groups = defaultdict(list)
    for row in plain_winners(raw).values():
        if row["volume"] > 0 and at(row["session"], 0) <= row["start_at"] < at(row["session"], 520):
            groups[row["instrument_id"], row["currency"], row["session"]].append(row)
    found = {(row["instrument_id"], row["currency"], row["session"]): row for row in daily_of(connection, raw)}
    assert found.keys() == groups.keys()
    for key, group in groups.items():
        rows, row = sorted(group, key=lambda bar: bar["start_at"]), found[key]
        assert (row["open"], row["close"], row["symbol"]) == (rows[0]["open"], rows[-1]["close"], rows[-1]["symbol"])
        assert (row["high"], row["low"]) == (max(bar["high"] for bar in rows), min(bar["low"] for bar in rows))
        assert (row["volume"], row["bar_count"]) == (sum(bar["volume"] for bar in rows), len(rows))
        trades = [bar["trades"] for bar in rows if bar["trades"] is not None]
        assert row["trades"] == (sum(trades) if trades else None)
        assert (row["first_bar_at"], row["last_bar_at"]) == (rows[0]["start_at"], rows[-1]["start_at"])
        assert math.isclose(row["turnover"], sum(bar["close"] * bar["volume"] for bar in rows), rel_tol=1e-12)
        if any(bar["vwap"] is None for bar in rows):
            assert row["vwap"] is None
        else:
            assert math.isclose(
                row["vwap"], sum(bar["vwap"] * bar["volume"] for bar in rows) / row["volume"], rel_tol=1e-12
            )
        earlier = [other for other in groups if other[:2] == key[:2] and other[2] < key[2]]
        if earlier:
            last = found[max(earlier)]
            assert (row["prev_session"], row["prev_close"]) == (last["session"], last["close"])
            assert row["change_pct"] == (row["close"] / last["close"] - 1) * 100
        else:
            assert (row["prev_session"], row["prev_close"], row["change_pct"]) == (None, None, None)
