"""Promises 1 to 5 over random histories: a vendor publishes, corrects, damages and repairs objects, puts older ones
and earlier versions back, the source's settings change, loads are killed, sessions are loaded, read again and derived
in any order, and at any moment the lake holds what a plain-Python reference says.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote, urlparse

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from polars.testing import assert_frame_equal

from assets_tests.support.described import with_bars
from assets_tests.support.reference import (
    HEADER,
    MINUTE,
    Bar,
    Reference,
    Version,
    csv_line,
    isin,
    same_row,
)  # fmt: skip
from assets_tests.support.soak import soak_count
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.ingest import load as loading
from lakehouse.ingest.load import load
from lakehouse.settings import settings as lakehouse_settings

# A weekend and a month's end lie between the second session and the third.
SESSIONS = (date(2017, 6, 29), date(2017, 6, 30), date(2017, 7, 3), date(2017, 7, 4))
OPENS = {day: datetime(day.year, day.month, day.day, 7, tzinfo=UTC) for day in SESSIONS}
HOURS = {day: (opening, opening + timedelta(hours=8, minutes=40)) for day, opening in OPENS.items()}
EXPECTED = {day: [f"{day}/{day}_BINS_XETR{hour:02}.csv.gz" for hour in range(7, 16)] for day in SESSIONS}
# Saturday is no session. Objects that hold bars of two sessions are in `test_any_market`.
SLOTS = (
    (date(2017, 6, 29), 8), (date(2017, 6, 29), 15), (date(2017, 6, 29), 21), (date(2017, 6, 30), 7),
    (date(2017, 6, 30), 21), (date(2017, 7, 1), 8), (date(2017, 7, 3), 7), (date(2017, 7, 3), 9),
    (date(2017, 7, 4), 6), (date(2017, 7, 4), 19),
)  # fmt: skip
LISTINGS = ((isin("DE000SIM000"), "EUR"), (isin("DE000SIM000"), "USD"), (isin("US000SIM001"), "EUR"))
FIRST_PUBLICATION = datetime(2017, 7, 5, tzinfo=UTC)

DIRT = (
    ("ISIN", "DE0001234567"), ("Currency", "EUX"), ("StartPrice", "n/a"), ("MaxPrice", "0.01"), ("MinPrice", "inf"),
    ("EndPrice", ""), ("StartPrice", "-1"), ("TradedVolume", "-5"), ("TradedVolume", "1.5"), ("NumberOfTrades", "-1"),
    ("NumberOfTrades", "many"), ("Date", "2017-06-13"), ("Time", "25:00"), ("ISIN", ""),
)  # fmt: skip


def bar_row(chance: Random, slot: tuple[date, int]) -> tuple[str, ...]:
    """A row of an object; at times a bar that another object of the day brings too, at times a broken one."""
    day, hour = slot
    instrument, currency = chance.choice(LISTINGS)
    at = chance.choice([hour, hour, hour, 8 if hour < 20 else 21])
    low, span = 10.1 + chance.randrange(4), chance.randrange(3)
    row = {
        "ISIN": instrument,
        "Mnemonic": chance.choice(["SIM", "SIM", "NEW", ""]),
        "SecurityDesc": chance.choice(["MUSTER AG", 'MUSTER, "NEU" AG']),
        "SecurityType": "Common stock",
        "Currency": currency,
        "SecurityID": "2500001",
        "Date": str(day),
        "Time": f"{at:02}:{chance.choice([0, 1, 35, 39, 40]):02}",
        "StartPrice": str(low + chance.randint(0, span)),
        "MaxPrice": str(low + span),
        "MinPrice": str(low),
        "EndPrice": str(low + chance.randint(0, span)),
        "TradedVolume": str(chance.choice([0, 1, 7, 100])),
        "NumberOfTrades": chance.choice(["0", "1", "2", ""]),
    }
    if chance.random() < 0.08:
        column, value = chance.choice(DIRT)
        row[column] = value
    fields = tuple(row.values())
    return chance.choice([fields[:-1], (*fields, "1")]) if chance.random() < 0.02 else fields


def name_of(slot: tuple[date, int]) -> str:
    return f"{slot[0]}/{slot[0]}_BINS_XETR{slot[1]:02}.csv.gz"


def body_of(rows: list[tuple[str, ...]] | tuple[tuple[str, ...], ...]) -> bytes:
    return gzip.compress("".join(line + "\n" for line in map(csv_line, (HEADER, *rows))).encode(), mtime=0)


class Killed(BaseException):
    """The process ends here."""


def killed(*_: object) -> None:
    raise Killed


class Lakes(RuleBasedStateMachine):
    """A vendor's folder, a lake, and the reference; each operation acts on the first two and tells the third."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="promises-"))
        self.previous = {name: os.environ.get(name) for name in ("LAKEHOUSE_HOME", "LAKEHOUSE_XETRA_URL")}
        (self.root / "vendor").mkdir()
        os.environ["LAKEHOUSE_HOME"] = str(self.root / "home")
        os.environ["LAKEHOUSE_XETRA_URL"] = str(self.root / "vendor")
        lakehouse_settings.cache_clear()
        calendars = Path(tempfile.gettempdir()) / f"promises-calendars-{os.getpid()}"
        calendars.mkdir(exist_ok=True)
        (self.root / "home").mkdir()
        (self.root / "home" / "cache").symlink_to(calendars)
        self.source = source_named("xetra")
        columns = self.source.config.bars.columns
        fewer = {name: column for name, column in columns.items() if name != "trades"}
        self.other_source = with_bars(self.source, columns=fewer)
        self.lake = Lake.open()
        self.reference = Reference(HOURS, EXPECTED)
        self.published: dict[tuple[date, int], tuple[datetime, list[tuple[str, ...]] | None, int]] = {}
        self.said: dict[tuple[date, int], list[list[tuple[str, ...]]]] = {}
        self.history: dict[tuple[date, int], list[tuple[datetime, list[tuple[str, ...]] | None, bytes]]] = {}
        self.clock = FIRST_PUBLICATION
        self.loads = 0
        # A session without any object is derived once, too: its fingerprint says that it has no rows.
        self.underived: set[date] = {*SESSIONS}
        self.moments: list[tuple[datetime, dict[str, pl.DataFrame]]] = []
        self.publish(seed, len(SLOTS))

    def teardown(self) -> None:
        if not hasattr(self, "root"):
            return
        try:
            if self.reference.versions:
                self.take(0, len(SESSIONS))
                self.check()
                self.past_moments()
        finally:
            for name, value in self.previous.items():
                os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
            lakehouse_settings.cache_clear()
            shutil.rmtree(self.root, ignore_errors=True)

    # What the vendor does

    def _publish(
        self, slot: tuple[date, int], rows: list[tuple[str, ...]] | None, body: bytes, at: datetime | None = None
    ) -> None:
        at = at or self.clock
        path = self.root / "vendor" / name_of(slot)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(body)
        os.utime(path, ns=(int(at.timestamp() * 1e9),) * 2)
        self.published[slot] = (at, rows, len(body))
        self.history.setdefault(slot, []).append((at, rows, body))

    @precondition(lambda self: getattr(self, "published", None))
    @rule(seed=st.integers(0, 2**32))
    def put_back(self, seed: int) -> None:
        """An earlier version of an object comes back as it was (A, B, A)."""
        chance = Random(seed)
        slot = chance.choice(sorted(self.history))
        at, rows, body = chance.choice(self.history[slot])
        self._publish(slot, rows, body, at)

    @rule(seed=st.integers(0, 2**32), count=st.integers(1, 4))
    def publish(self, seed: int, count: int) -> None:
        """Objects come for the first time, or a new version, header-only or damaged at times, replaces one."""
        chance = Random(seed)
        for slot in chance.sample(SLOTS, count):
            # Objects may be published in the same moment; versions of one object are not.
            again = any(at >= self.clock for at, *_ in self.history.get(slot, ()))
            self.clock += timedelta(seconds=max(chance.randrange(2), again))
            # `cp -p` and tar give an object an older time than the version has that it replaces.
            older = FIRST_PUBLICATION - timedelta(days=1, seconds=len(self.history.get(slot, ())))
            at = older if slot in self.history and chance.random() < 0.2 else self.clock
            old = (self.published[slot][1] if slot in self.published else None) or []
            kept = [row for row in old if chance.random() < 0.6]
            rows = kept + [bar_row(chance, slot) for _ in range(chance.randrange(8))]
            if rows and chance.random() < 0.3:
                rows.insert(chance.randrange(len(rows)), chance.choice(rows))
            body, kind = body_of(rows), chance.random()
            if kind < 0.1:
                self._publish(slot, [], body_of([]), at)
            elif kind < 0.25:
                wrong = (
                    body[: chance.randrange(len(body))],
                    b"<html>",
                    gzip.compress(b""),
                    gzip.compress(b"ISIN,Date\n", mtime=0),
                )
                self._publish(slot, None, chance.choice(wrong), at)
            else:
                said = self.said.setdefault(slot, [])
                if said and kind < 0.4:
                    # What it said before, once again.
                    rows = chance.choice(said)
                said.append(rows)
                self._publish(slot, rows, body_of(rows), at)

    # What the house does

    def _sessions(self, first: int, count: int) -> list[date]:
        return list(SESSIONS[first : first + count])

    @rule()
    def change_settings(self) -> None:
        """The source's YAML takes the number of trades, or no longer does."""
        self.source, self.other_source = self.other_source, self.source

    @precondition(lambda self: self.reference.versions)
    @rule(first=st.integers(0, 3), count=st.integers(1, 4))
    def kill(self, first: int, count: int) -> None:
        """A load is killed before it has written the ledger."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loading, "_append_ledger", killed)
            with suppress(Killed):
                load(self.lake, self.source.bars, self._sessions(first, count))

    @rule(first=st.integers(0, 3), count=st.integers(1, 4), reread=st.sampled_from([False, False, True]))
    def take(self, first: int, count: int, reread: bool = False) -> None:
        """Loads a range of sessions, and at times reads them again, without deriving them yet."""
        sessions = self._sessions(first, count)
        last = {version.name: version for version in self.reference.versions}
        reading, with_trades = self.source.bars.reading, "trades" in self.source.config.bars.columns
        new = []
        for slot, (at, rows, size) in self.published.items():
            day = slot[0]
            session = min(session for session in SESSIONS if session >= day)
            version, before = f"{int(at.timestamp()) * 1_000_000}-{size}+{reading}", last.get(name_of(slot))
            if session not in sessions or (before is not None and before.version == version):
                continue
            if (
                before is None
                or before.version.partition("+")[0] != version.partition("+")[0]
                or (reread or before.rows is None)
            ):
                read = None if rows is None else tuple(rows)
                new.append(Version(name_of(slot), version, at, self.loads, day, session, read, with_trades))
        self.reference.versions += new
        # A version that says what an earlier one of its object said brings no rows to store.
        stored = {version.session for version in new if version.rows and self.reference.stored_as(version) is version}
        with self.only_touches("raw_bars", stored):
            loaded = load(self.lake, self.source.bars, sessions, reread=reread)
        self.loads += 1
        assert sum(loaded.objects.values()) == len(new)
        assert loaded.objects["failed"] == sum(version.rows is None for version in new) == len(loaded.errors)
        assert loaded.rows_received == sum(len(version.rows or ()) for version in new)
        assert loaded.parts == stored
        self.underived |= {version.session for version in new}
        if new:
            versions = self._versions()
            again = load(self.lake, self.source.bars, sessions, reread=reread)
            assert self._versions() == versions
            assert (sum(again.objects.values()), again.rows_received, again.parts) == (0, 0, set())

    @rule(first=st.integers(0, 3), count=st.integers(1, 4))
    def derive(self, first: int, count: int) -> None:
        """Derives a range of sessions, and writes no row nor file that it doesn't have to."""
        sessions = self._sessions(first, count)
        self._derive(sessions)
        self.underived -= set(sessions)

    def _derive(self, sessions: list[date]) -> None:
        # Sessions that were loaded and not derived yet stay as they are: the reference doesn't speak of them.
        wanted_bars = self.reference.bars()
        stale = {self._place(row) for row in self._rows("bars") if row["session"] in sessions}
        fresh = {(bar.session, *bar.place) for bar in wanted_bars.values() if bar.session in sessions}
        differing = {session for session, *_ in stale ^ fresh}
        with self.only_touches("bars", differing):
            derived = derive_bars(self.lake, self.source, sessions)
        assert derived.changed == differing
        before = {self._daily_key(row): row for row in self._rows("daily_bars")}
        files = self.files("daily_bars")
        result = derive_daily_bars(self.lake, self.source, sessions)
        after = {self._daily_key(row): row for row in self._rows("daily_bars")}
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        assert result.rows_changed == len(changed)
        assert result.changed == {session for *_, session in changed}
        self.untouched(files, self.files("daily_bars"), {session.replace(month=1, day=1) for *_, session in changed})
        # Outside the sessions only the row that follows may change: its own session's numbers don't.
        own = ("open", "high", "low", "close", "volume", "bar_count", "is_complete")
        for key in changed:
            if key[2] not in sessions:
                assert [before[key][name] for name in own] == [after[key][name] for name in own]

    @precondition(lambda self: self.reference.versions)
    @rule()
    def check(self) -> None:
        """Everything is derived; then the tables are what they should be."""
        if self.underived:
            self._derive(sorted(self.underived))
            self.underived.clear()
        self._conservation()
        self._tables()
        self._rebuilt()
        self._second_run()
        self._now_as_of_now()

    def _conservation(self) -> None:
        wanted = {
            (session, *(fates[name] for name in ("received", "kept", "duplicates", "superseded", "quarantined")))
            for session, fates in self.reference.fates().items()
        }
        stored = self.lake.sql(
            "SELECT session, received, kept, duplicates, superseded, quarantined FROM lake.conservation "
            "WHERE product = 'bars'"
        ).fetchall()
        assert {row for row in stored if any(row[1:])} == wanted
        assert all(received == sum(fates) for _, received, *fates in stored)

    def _tables(self) -> None:
        quarantine = self.lake.sql("FROM lake.quarantine").pl()
        places = [self._place(row)[1:] for row in quarantine.iter_rows(named=True)]
        assert len(places) == len(set(places))
        assert set(places) == self.reference.quarantined()
        assert quarantine["reasons"].list.len().min() != 0
        texts = {
            (version.name, version.version, number): csv_line(fields)
            for version in self.reference.versions
            if self.reference.stored_as(version) is version
            for number, fields in enumerate(version.rows or (), 1)
        }
        assert all(texts[place] == text for place, text in zip(places, quarantine["row"], strict=True))

        raw = [self._place(row)[1:] for row in self.lake.sql("FROM xetra.raw_bars").pl().iter_rows(named=True)]
        assert len(raw) == len(set(raw))
        assert set(raw) == texts.keys() - self.reference.refused()

        ledger = {(row["object"], row["sequence"]): row for row in self._rows("ingest_ledger")}
        assert len(ledger) == self.lake.table("ingest_ledger").to_polars().height
        numbers: Counter[str] = Counter()
        taken = []
        for version in self.reference.versions:
            numbers[version.name] += 1
            taken.append((version.name, numbers[version.name]))
        assert {key: row["status"] for key, row in ledger.items()} == {
            key: "failed" if version.rows is None else "loaded" if version.rows else "empty"
            for key, version in zip(taken, self.reference.versions, strict=True)
        }
        for key, version in zip(taken, self.reference.versions, strict=True):
            row = ledger[key]
            assert row["object_version"] == version.version
            assert (row["product"], row["first_session"], row["last_session"]) == ("bars", *[version.session] * 2)
            parts = [(part["part"], part["rows"], part["object_version"]) for part in row["parts"]]
            where = self.reference.stored_as(version).version
            assert parts == ([(version.session, len(version.rows), where)] if version.rows else [])

        bars, wanted_bars = list(self._rows("bars")), self.reference.bars()
        assert len(bars) == len(wanted_bars)
        for row in bars:
            assert_bar(row, wanted_bars[row["instrument_id"], row["currency"], row["start_at"]], self.reference)

        daily, wanted_daily = list(self._rows("daily_bars")), self.reference.daily()
        assert len(daily) == len(wanted_daily)
        assert {self._daily_key(row) for row in daily} == wanted_daily.keys()
        for row in daily:
            assert same_row(row, wanted_daily[self._daily_key(row)]), (row, wanted_daily[self._daily_key(row)])

    def _rebuilt(self) -> None:
        """Incremental = rebuild: all sessions derived at once beside the same raw_bars, ledger and quarantine."""
        copy = self.root / "rebuilt"
        for name in ("xetra/raw_bars", "ingest_ledger", "quarantine"):
            if (Path(self.lake.uri) / name).exists():
                shutil.copytree(Path(self.lake.uri) / name, copy / name)
        rebuilt = Lake(str(copy))
        derive_bars(rebuilt, self.source, SESSIONS)
        derive_daily_bars(rebuilt, self.source, SESSIONS)
        for name, key in (
            ("bars", ["instrument_id", "currency", "start_at"]),
            ("daily_bars", ["instrument_id", "currency", "session"]),
        ):
            stored, made = (
                lake.table(f"xetra/{name}").snapshot().scan().collect().sort(key) for lake in (self.lake, rebuilt)
            )
            assert_frame_equal(stored, made, check_exact=True)
        shutil.rmtree(copy, ignore_errors=True)

    def _second_run(self) -> None:
        versions = self._versions()
        derive_bars(self.lake, self.source, SESSIONS)
        rows = list(self._rows("daily_bars"))
        derive_daily_bars(self.lake, self.source, SESSIONS)
        assert list(self._rows("daily_bars")) == rows
        assert self._versions() == versions

    def _now_as_of_now(self) -> None:
        frames = self._everything(Lake.open())
        moment = datetime.now(UTC)
        self.moments.append((moment, frames))

    @precondition(lambda self: getattr(self, "moments", None))
    @rule()
    def past_moments(self) -> None:
        """Every earlier moment still reads as it was."""
        for moment, frames in self.moments[-3:]:
            for name, frame in self._everything(Lake.open(as_of=moment)).items():
                assert_frame_equal(frame, frames[name], check_exact=True)

    # How the tables are looked at

    def _everything(self, lake: Lake) -> dict[str, pl.DataFrame]:
        found = {}
        for name in ("xetra.raw_bars", "xetra.bars", "xetra.daily_bars", "lake.ingest_ledger", "lake.quarantine"):
            frame = lake.sql(f"SELECT * FROM {name}").pl()
            keys = [key for key in lake.table(name).contract.key if key in frame.columns]
            found[name] = frame.sort(keys)
        found["lake.conservation"] = lake.sql(
            "SELECT * FROM lake.conservation WHERE received + kept + quarantined > 0 ORDER BY source, session"
        ).pl()
        return found

    def _versions(self) -> dict[str, int | None]:
        names = ("xetra/raw_bars", "xetra/bars", "xetra/daily_bars", "ingest_ledger", "quarantine")
        return {name: self.lake.table(name).snapshot().version for name in names}

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        path = name if name == "ingest_ledger" else f"xetra/{name}"
        return self.lake.table(path).snapshot().scan().collect().iter_rows(named=True)

    @staticmethod
    def _place(row: dict[str, Any]) -> tuple[date, str, str, int]:
        return row["session"], row["object"], row["object_version"], row["row_number"]

    @staticmethod
    def _daily_key(row: dict[str, Any]) -> tuple[str, str, date]:
        return row["instrument_id"], row["currency"], row["session"]

    def files(self, table: str) -> dict[str, dict[str, str]]:
        """Partition -> file -> digest of its content, for the table's current files."""
        found: dict[str, dict[str, str]] = {}
        for uri in self.lake.table(f"xetra/{table}").snapshot().files():
            path = Path(unquote(urlparse(uri).path))
            found.setdefault(path.parent.name.partition("=")[2], {})[path.name] = sha256(path.read_bytes()).hexdigest()
        return found

    @contextmanager
    def only_touches(self, table: str, sessions: set[date]) -> Iterator[None]:
        """Inside the block no file of another partition of `table` may come, go or change."""
        before = self.files(table)
        yield
        self.untouched(before, self.files(table), sessions)

    @staticmethod
    def untouched(before: dict[str, dict[str, str]], after: dict[str, dict[str, str]], changed: set[date]) -> None:
        allowed = {str(value) for value in changed}
        assert {name: before[name] for name in before.keys() - allowed} == {
            name: after[name] for name in after.keys() - allowed
        }


def assert_bar(row: dict[str, Any], wanted: Bar, reference: Reference) -> None:
    assert (row["session"], row["object"], row["object_version"], row["row_number"]) == (wanted.session, *wanted.place)
    names = ("symbol", "name", "instrument_type", None, "open", "high", "low", "close", "volume", "trades")
    for name, value in zip(names, wanted.content, strict=True):
        assert name is None or row[name] == value
    assert row["end_at"] - row["start_at"] == MINUTE
    assert row["interval"] == "1min"
    assert row["segment"] == reference.segment(wanted)
    assert row["is_traded"] == (wanted.content[8] > 0)
    assert row["published_at"] == wanted.published_at
    assert row["is_adjusted"] is None
    assert row["vwap"] is None


Lakes.TestCase.settings = settings(
    max_examples=soak_count(3, 20),
    stateful_step_count=16,
    # To shrink a history takes minutes; add Phase.shrink where a failure's own is too long to read.
    phases=(Phase.explicit, Phase.generate),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
TestPromises = pytest.mark.soak(pytest.mark.usefixtures("own_environment")(Lakes.TestCase))
