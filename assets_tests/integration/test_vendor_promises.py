"""Promises 1 to 5 over random histories of a REST vendor: answers are asked for in any order, corrected, refused, cut
and damaged, loads are killed between their commits, and at any moment the lake holds what a plain-Python reference
makes of the texts that the vendor sent.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from polars.testing import assert_frame_equal

from assets_tests.support.soak import soak_count
from assets_tests.support.vendor_lake import (
    DAYS,
    KEY,
    NEW_YORK,
    SOURCE,
    hours,
    object_name,
    small_market,
    vendor_lake,
)
from assets_tests.support.vendor_reference import Row, VendorReference, is_answer
from lakehouse.derive.rebuild import rebuild
from lakehouse.ingest.http import connection as api_module
from lakehouse.lake.snapshot import Snapshot
from lakehouse.simulators.vendor_answers import DAILY, INTRADAY, Fault, Reply
from lakehouse.simulators.vendor_api import VendorApi

MONTHS = {"2020-10": DAYS[:2], "2020-11": DAYS[2:]}
SERIES = ("", *MONTHS)
"""What can be asked about a symbol: the official series, or a month's bars."""
# In the middle of the third session.
BEGIN = datetime(2020, 11, 2, 16, tzinfo=UTC)
STEPS = (timedelta(hours=2), timedelta(hours=5), timedelta(days=1), timedelta(days=3), timedelta(days=20))
REFUSALS: tuple[Fault, ...] = ("error_message", "http_503", "wrong_json", "empty_body", "cut", "reset", "information")
DAMAGE: tuple[Fault, ...] = ("damaged_rows", "damaged_trailer", "damaged_header")


class Killed(BaseException):
    """The process ends here."""


class Listening(VendorApi):
    """A vendor that tells the reference what it sends."""

    reference: VendorReference

    def answer(self, parameters: dict[str, str]) -> Reply:
        reply = super().answer(parameters)
        if is_answer(reply.status, reply.manner, reply.body):
            self.reference.take(parameters["symbol"], parameters.get("month", ""), self.now(), reply.body.decode())
        return reply


class VendorsLakes(RuleBasedStateMachine):
    """A vendor, a lake, and the reference."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="vendor-promises-"))
        calendars = Path(tempfile.gettempdir()) / f"promises-calendars-{os.getpid()}"
        calendars.mkdir(exist_ok=True)
        (self.root / "home").mkdir()
        (self.root / "home" / "cache").symlink_to(calendars)
        self.market = small_market(seed=seed, every=40)
        api = Listening(self.market, api_key=KEY, clock=BEGIN)
        self.reference = api.reference = VendorReference({day: hours(day) for day in DAYS})
        self.open = ExitStack()
        patch = self.open.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(api_module, "FIRST_WAIT_S", 0.001)
        self.patch = patch
        self.vendor = self.open.enter_context(vendor_lake(self.root / "home", api, self.market.symbols))
        self.underived: set[str] = set()
        self.unloaded: set[str] = set()
        self.moments: list[tuple[datetime, dict[str, pl.DataFrame]]] = []

    def teardown(self) -> None:
        if not hasattr(self, "vendor"):
            return
        try:
            if self.reference.answers:
                self.check()
                self.past_moments()
        finally:
            self.open.close()
            shutil.rmtree(self.root, ignore_errors=True)

    # What the vendor does

    @rule(seed=st.integers(0, 2**32), count=st.integers(1, 4))
    def live(self, seed: int, count: int) -> None:
        """Time passes, bars are corrected, companies act, requests will be refused or get damaged answers."""
        chance = Random(seed)
        for event in chance.choices(
            (self._wait, self._correct, self._act, self._fail, self._mend), (4, 5, 3, 4, 2), k=count
        ):
            event(chance)

    def _wait(self, chance: Random) -> None:
        assert self.vendor.api.clock is not None
        self.vendor.api.clock += chance.choice(STEPS)

    def _correct(self, chance: Random) -> None:
        """Bars change, go or appear."""
        symbol = chance.choice(self.market.symbols)
        bars = list(self.market.truth_bars().filter(symbol=symbol).iter_rows(named=True))
        for bar in chance.sample(bars, min(len(bars), chance.randint(1, 9))):
            session, at = bar["session"], bar["start_at"].astimezone(NEW_YORK).time()
            kind = chance.random()
            if kind < 0.6:
                self.market.correct(symbol, session, at, bar["close"] * chance.uniform(0.9, 1.1), chance.choice([0, 9]))
            else:
                self.market.withdraw_bar(symbol, session, at)
            if kind > 0.8:
                price = bar["open"]
                self.market.add_bar(symbol, session, at, open=price, high=price, low=price, close=price, volume=5)

    def _act(self, chance: Random) -> None:
        """A dividend is paid or revised, or shares are split, on a day that may be long past."""
        symbol = chance.choice(self.market.symbols)
        days = self.market.official(symbol)["session"].to_list()
        if not days:
            return
        ex_date, trading = chance.choice(days), self.market.trading[symbol]
        if chance.random() < 0.3 and ex_date not in trading.splits:
            self.market.split(symbol, ex_date, chance.choice([2.0, 0.5, 1.5]))
        elif ex_date in trading.dividends:
            self.market.revise_dividend(symbol, ex_date, chance.choice([0.1, 0.25, 1.0]))
        else:
            self.market.pay_dividend(symbol, ex_date, chance.choice([0.1, 0.25, 1.0]))

    def _fail(self, chance: Random) -> None:
        series = chance.choice(SERIES)
        self.vendor.api.fail(
            chance.choice(self.market.symbols),
            chance.choice(chance.choice((REFUSALS, DAMAGE))),
            function=INTRADAY if series else DAILY,
            month=series or None,
            forever=chance.random() < 0.5,
        )

    def _mend(self, chance: Random) -> None:
        self.vendor.api.mend()

    # What the house does

    @rule(what=st.sets(st.sampled_from(SERIES), min_size=1), symbols=st.sets(st.integers(0, 2), min_size=1))
    def fetch(self, what: set[str], symbols: set[int]) -> None:
        """Asks about some symbols: months of bars, the official series; nothing is derived yet."""
        chosen = ",".join(self.market.symbols[number] for number in sorted(symbols))
        self.patch.setenv("LAKEHOUSE_ALPHA_VANTAGE_SYMBOLS", chosen)
        for series in sorted(what):
            self._load(series)

    def _load(self, series: str) -> None:
        self.unloaded.add(series)
        self.underived.add(series)
        if series:
            self.vendor.load_bars(MONTHS[series][:1])
        else:
            self.vendor.load_official()
        self.unloaded.discard(series)

    @rule(months=st.sets(st.sampled_from(tuple(MONTHS)), min_size=1))
    def derive(self, months: set[str]) -> None:
        """Derives some months, and the official tables; what was loaded for others waits."""
        self.vendor.derive([MONTHS[month][0] for month in sorted(months)])
        self.underived -= months | {""}

    @rule(
        series=st.sampled_from(SERIES), commits=st.integers(0, 5), afterwards=st.booleans(), then_derive=st.booleans()
    )
    def die(self, series: str, commits: int, afterwards: bool, then_derive: bool) -> None:
        """A load, perhaps with its derivation, is killed: before, or right after, one of its commits."""
        done, commit = 0, Snapshot._commit

        def killing(snapshot: Snapshot, *arguments: Any, **options: Any) -> int:
            nonlocal done
            done += 1
            if done > commits:
                if afterwards:
                    commit(snapshot, *arguments, **options)
                raise Killed
            return commit(snapshot, *arguments, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Snapshot, "_commit", killing)
            try:
                self._load(series)
                if then_derive:
                    self.vendor.derive(MONTHS[series][:1] if series else [])
            except Killed:
                pass

    @precondition(lambda self: self.reference.answers)
    @rule()
    def check(self) -> None:
        """What was killed is run again, what was loaded is derived; then the tables are what they should be."""
        for series in sorted(self.unloaded):
            self._load(series)
        self.vendor.derive([MONTHS[series][0] for series in sorted(self.underived) if series])
        self.underived.clear()
        self._tables()
        self._conservation()
        versions = self.vendor.versions()
        assert not rebuild(self.vendor.lake, self.vendor.described, verify=True).differs
        self.vendor.derive(DAYS)
        assert self.vendor.versions() == versions
        self.moments.append((datetime.now(UTC), self.vendor.everything()))

    def _tables(self) -> None:
        bars, wanted_bars = self._rows("bars"), self.reference.bars()
        assert {(row["symbol"], row["start_at"]) for row in bars} == wanted_bars.keys()
        assert len(bars) == len(wanted_bars)
        for row in bars:
            wanted = wanted_bars[row["symbol"], row["start_at"]]
            assert wanted == {name: row[name] for name in wanted}
            assert (row["is_adjusted"], row["object"]) == (False, object_name(row["symbol"], f"{row['session']:%Y-%m}"))
        daily, wanted_daily = self._rows("daily_bars"), self.reference.daily()
        assert {(row["symbol"], row["session"]) for row in daily} == wanted_daily.keys()
        for row in daily:
            wanted = wanted_daily[row["symbol"], row["session"]]
            assert wanted == {name: row[name] for name in wanted}
        official, wanted_official = self._rows("official_daily"), self.reference.official()
        assert {(row["symbol"], row["session"]) for row in official} == wanted_official.keys()
        for row in official:
            wanted = wanted_official[row["symbol"], row["session"]]
            assert wanted == {name: row[name] for name in wanted}
        assert {
            (row["symbol"], row["ex_date"], row["kind"]): row["dividend_amount"] or row["split_coefficient"]
            for row in self._rows("corporate_actions")
        } == self.reference.actions()
        assert {(row["object"], row["row"]) for row in self.vendor.rows("lake.quarantine").iter_rows(named=True)} == {
            (object_name(symbol, month or None), line) for symbol, month, line in self.reference.refused
        }

    def _conservation(self) -> None:
        """What the landed answers hold is what was received; each row has one fate."""
        landing = self.root / "home" / "lake" / "landing" / SOURCE
        landed: Counter[str] = Counter()
        for path in landing.rglob("*.csv.gz"):
            product = path.relative_to(landing).parts[0]
            landed[product] += len(gzip.decompress(path.read_bytes()).splitlines()) - 1
        found = self.vendor.lake.sql("SELECT * EXCLUDE (source, session) FROM lake.conservation")
        assert found is not None
        received: Counter[str] = Counter()
        kept: Counter[str] = Counter()
        for product, count, *fates in found.fetchall():
            assert count == sum(fates)
            received[product] += count
            kept[product] += fates[0]
        assert received == landed
        assert +kept == +Counter(bars=len(self.reference.bars()), official_daily=len(self.reference.official()))

    def _rows(self, name: str) -> list[Row]:
        return self.vendor.rows(f"{SOURCE}.{name}").to_dicts()

    @precondition(lambda self: getattr(self, "moments", None))
    @rule()
    def past_moments(self) -> None:
        """Every earlier moment still reads as it was."""
        for moment, frames in self.moments[-2:]:
            for name, frame in self.vendor.everything(moment).items():
                assert_frame_equal(frame, frames[name], check_exact=True)


VendorsLakes.TestCase.settings = settings(
    max_examples=soak_count(2, 12),
    stateful_step_count=14,
    # To shrink a history takes minutes; add Phase.shrink where a failure's own is too long to read.
    phases=(Phase.explicit, Phase.generate),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
TestVendorPromises = pytest.mark.soak(pytest.mark.usefixtures("own_environment")(VendorsLakes.TestCase))
