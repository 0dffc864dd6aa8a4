"""Corporate actions and returns in the marts, against plain Python: sixty instruments whose prices are known as they
were traded, and arrive as vendors send them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from math import prod
from pathlib import Path
from random import Random

import pytest

from assets_tests.support.dbt_warehouse import (
    FILES,
    THURSDAY,
    TUESDAY,
    VENDOR,
    WEDNESDAY,
    WEEK,
    Action,
    Bar,
    Bars,
    Closes,
    Key,
    Warehouse,
    built_elsewhere,
    write,
    write_actions,
    write_official,
)
from lakehouse.warehouse.parts import MARKET_MARTS

# Four weeks of New York without a holiday.
SESSIONS = [date(2024, 1, 16) + timedelta(days) for days in range(32)]
SESSIONS = [session for session in SESSIONS if session.weekday() < 5]
DOWNLOADED = date(2024, 2, 9)


@dataclass
class Share:
    """An instrument as it was traded: the last bars' closes, the official closes and the actions by their ex-dates."""

    name: str
    currency: str = "USD"
    bars: dict[date, float] = field(default_factory=dict)
    official: dict[date, float] = field(default_factory=dict)
    dividends: dict[date, float] = field(default_factory=dict)
    splits: dict[date, float] = field(default_factory=dict)
    renamed: date = date.max
    adjusted_as_of: date | None = None

    def split_factor(self, after: date, until: date) -> float:
        """New shares for one old, of the ex-dates in (after, until]."""
        return prod(split for day, split in self.splits.items() if after < day <= until)

    def crsp(self, ex_date: date) -> float | None:
        """The factor of a day's dividend; None where it can't be had."""
        earlier = [session for session in self.official if session < ex_date]
        if not earlier:
            return None
        before = self.official[max(earlier)] / self.split_factor(max(earlier), ex_date)
        factor = 1 - self.dividends[ex_date] / before
        return factor if 0 < factor <= 1 else None

    def as_sent(self, session: date) -> float:
        """The close that the vendor sends: adjusted, by its own convention, for what happened until the download."""
        sent = self.bars[session]
        if self.adjusted_as_of is None:
            return sent
        for day, dividend in self.dividends.items():
            if session < day <= self.adjusted_as_of and day in self.official:
                sent *= self.official[day] / (self.official[day] + dividend)
        return sent / self.split_factor(session, self.adjusted_as_of)

    def symbol(self, session: date) -> str:
        return f"{self.name}.NEW" if session >= self.renamed else self.name

    def actions(self) -> list[Action]:
        dividends = [Action(self.name, day, "dividend", value, self.currency) for day, value in self.dividends.items()]
        return dividends + [Action(self.name, day, "split", value, self.currency) for day, value in self.splits.items()]


def share(random: Random, number: int) -> Share:
    """An instrument with gaps, actions on and between its sessions, before the first and after the last one."""
    made = Share(f"S{number}", random.choice(["USD", "USD", "EUR"]))
    days = [SESSIONS[0] - timedelta(30), *(SESSIONS[0] + timedelta(offset) for offset in range(40))]
    made.dividends = {day: random.choice([0.25, 1.0, 5.0]) for day in random.sample(days, random.randint(0, 4))}
    made.splits = {day: random.choice([2.0, 4.0, 0.1]) for day in random.sample(days, random.randint(0, 2))}
    if number % 3 == 0 and made.splits:
        made.dividends[min(made.splits)] = 0.5
    price = random.uniform(20, 500)
    for previous, session in pairwise([SESSIONS[0] - timedelta(1), *SESSIONS]):
        price *= random.uniform(0.95, 1.05) / made.split_factor(previous, session)
        if random.random() < 0.85:
            made.official[session] = price
        if random.random() < 0.85 and number % 10:
            made.bars[session] = price * random.uniform(0.999, 1.001)
    made.renamed = random.choice([date.max, SESSIONS[8]])
    made.adjusted_as_of = random.choice([None, DOWNLOADED, date(2030, 1, 1)])
    return made


@pytest.fixture(scope="module")
def shares() -> list[Share]:
    random = Random(17)
    made = [share(random, number) for number in range(60)]
    # A dividend that nobody can afford, and one of a share that was never traded before.
    made[1].dividends[SESSIONS[4]] = 1e6
    made[1].bars |= {SESSIONS[3]: 50.0, SESSIONS[4]: 51.0}
    return made


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory, shares: list[Share]) -> Warehouse:
    """What the shares' lake is built to, once for the tests that look at it."""
    bars: Bars = {
        Key(each.name, session, each.currency): Bar(
            each.as_sent(session), each.symbol(session), adjusted_as_of=each.adjusted_as_of
        )
        for each in shares
        for session in each.bars
    }
    closes: Closes = {
        Key(each.name, session, each.currency): close for each in shares for session, close in each.official.items()
    }
    with built_elsewhere(tmp_path_factory.mktemp("shares"), FILES, VENDOR) as made:
        write(bars, VENDOR)
        write_official(closes)
        write_actions([action for each in shares for action in each.actions()])
        write(WEEK)
        made.build(*MARKET_MARTS.selection)
    return made


def expected_returns(each: Share) -> dict[tuple[str, str, date], tuple[float, float, float]]:
    found = {}
    for previous, session in pairwise(sorted(each.bars)):
        plain = each.bars[session] / each.bars[previous]
        split = plain * each.split_factor(previous, session)
        dividends = prod(each.crsp(day) or 1 for day in each.dividends if previous < day <= session)
        found[each.name, each.currency, session] = tuple((x - 1) * 100 for x in (plain, split, split / dividends))
    return found


def test_marts_of_actions_and_returns_say_what_was_traded(warehouse: Warehouse, shares: list[Share]) -> None:
    close_as_traded = {
        (name, currency, session): close
        for name, currency, session, close in warehouse.query(
            "select instrument_id, currency, session, close_as_traded from marts.fct_daily_bar "
            f"where source = '{VENDOR}'"
        )
    }
    assert close_as_traded == {
        (each.name, each.currency, session): pytest.approx(close, rel=1e-12)
        for each in shares
        for session, close in each.bars.items()
    }
    official = warehouse.query(
        f"select instrument_id, currency, session, official_close, official_volume from marts.fct_daily_bar "
        f"where source = '{VENDOR}'"
    )
    known = {(each.name, each.currency): each.official for each in shares}
    for name, currency, session, close, volume in official:
        assert close == known[name, currency].get(session)
        assert volume == (None if close is None else round(close * 10))

    returns = warehouse.query(
        "select instrument_id, currency, session, return_pct, split_adjusted_return_pct, total_return_pct "
        f"from marts.returns where source = '{VENDOR}' and prev_session is not null"
    )
    expected = {key: value for each in shares for key, value in expected_returns(each).items()}
    assert len(expected) > 700
    assert {tuple(row[:3]): tuple(row[3:]) for row in returns} == {
        key: pytest.approx(value, rel=1e-9, abs=1e-9) for key, value in expected.items()
    }
    assert sum(abs(total - plain) > 1e-3 for plain, _, total in expected.values()) > 50

    # One row per action, with the version that was valid then, or the instrument's first one.
    actions = warehouse.query(
        """
        select actions.instrument_id, actions.ex_date, kind, currency, coalesce(dividend_amount, split_coefficient),
            symbol, is_skipped, price_factor
        from marts.fct_corporate_action as actions left join marts.dim_instrument using (instrument_key, currency)
        """
    )
    assert sorted(
        Action(name, ex_date, kind, value, currency) for name, ex_date, kind, currency, value, *_ in actions
    ) == (sorted(action for each in shares for action in each.actions()))
    by_name = {each.name: each for each in shares}
    skipped = 0
    for name, ex_date, kind, _, value, symbol, is_skipped, price_factor in actions:
        each = by_name[name]
        sessions = sorted(each.bars)
        after_rename = [session for session in sessions if session >= each.renamed]
        renamed = sessions and after_rename and (ex_date >= after_rename[0] or after_rename == sessions)
        assert symbol == (f"{name}.NEW" if renamed else name)
        factor = 1 / value if kind == "split" else each.crsp(ex_date)
        assert is_skipped == (factor is None)
        assert price_factor == pytest.approx(factor or 1, rel=1e-12)
        skipped += is_skipped
    assert skipped > 1


def test_movers_are_ranked_by_the_change_without_splits(warehouse: Warehouse) -> None:
    """A consolidation 1:10 is no gain of 900%. (Two closes of S1 are made up.)"""
    movers = warehouse.query(
        "select change_pct, split_adjusted_change_pct, gain_rank, session, currency, return_pct "
        f"from marts.daily_movers join marts.returns using (source, session, currency, instrument_id) "
        f"where source = '{VENDOR}' and instrument_id <> 'S1' order by session, currency, gain_rank"
    )
    assert max(return_pct for *_, return_pct in movers) > 800
    assert max(abs(adjusted) for _, adjusted, *_ in movers) < 60
    ranked = [(session, currency, -adjusted) for _, adjusted, _, session, currency, _ in movers]
    assert ranked == sorted(ranked)


def test_a_jump_that_looks_like_a_split_is_flagged_and_not_ranked(tmp_path: Path) -> None:
    days = SESSIONS[:8]
    bars = {Key("SPLIT", day, "USD"): Bar(30.0, "SPLIT", 3000) for day in days[:-1]}
    bars |= {Key("NEWS", day, "USD"): Bar(30.0, "NEWS", 3000) for day in days[:-1]}
    bars |= {Key("SPLIT", days[-1], "USD"): Bar(301.0, "SPLIT", 290)}
    bars |= {Key("NEWS", days[-1], "USD"): Bar(301.0, "NEWS", 9000)}
    write(bars, VENDOR)
    warehouse = Warehouse(tmp_path / "warehouse", VENDOR)
    warehouse.run("+daily_movers", "+daily_summary", "+returns")
    last = f"session = '{days[-1]}'"
    for mart in ("fct_daily_bar", "daily_summary", "returns"):
        assert warehouse.query(
            f"select instrument_id, suspected_split from marts.{mart} where {last} order by all"
        ) == [("NEWS", None), ("SPLIT", "1:10")]
    assert warehouse.query(f"select instrument_id, gain_rank, loss_rank from marts.daily_movers where {last}") == [
        ("NEWS", 1, 1)
    ]


def test_a_source_without_actions_has_one_return(warehouse: Warehouse) -> None:
    rows = warehouse.query(
        "select return_pct, split_adjusted_return_pct, total_return_pct, prev_close, close, dividend_convention "
        f"from marts.returns where source = '{FILES}'"
    )
    assert len(rows) == len(WEEK)
    assert {row[5] for row in rows} == {None}
    assert [row[0] for row in rows if row[0] is not None] != []
    assert all(plain == split == total for plain, split, total, *_ in rows)


def test_no_accepted_row_stops_a_publication(tmp_path: Path) -> None:
    """A spread below zero, with a dividend; an index without volumes; volumes as small and as large as there are."""
    days = (TUESDAY, WEDNESDAY, THURSDAY)
    series = {
        "SPREAD": [Bar(10, volume=1.5), Bar(-5, volume=0.25), Bar(3, volume=1.0)],
        "INDEX": [Bar(100, volume=None), Bar(130, volume=None), Bar(0, volume=None)],
        "EXTREME": [Bar(9e14, volume=9e17), Bar(1e-12, volume=5e-324), Bar(9e14, volume=5e-324)],
    }
    bars = {
        Key(name, day, "USD"): bar for name, all_bars in series.items() for day, bar in zip(days, all_bars, strict=True)
    }
    write(bars, VENDOR)
    write_official({key: bar.close for key, bar in bars.items()})
    write_actions([Action("SPREAD", WEDNESDAY, "dividend", 1.0), Action("EXTREME", THURSDAY, "split", 1e6)])
    warehouse = Warehouse(tmp_path / "warehouse", VENDOR)
    warehouse.build()
    index = "select volume, turnover from marts.daily_summary where instrument_id = 'INDEX'"
    assert warehouse.query(index) == [(None, None)] * 3
    assert {name for (name,) in warehouse.query("select distinct instrument_id from marts.most_traded_by_value")} == {
        "SPREAD",
        "EXTREME",
    }
    spread = warehouse.query(
        "select return_pct, total_return_pct from marts.returns where instrument_id = 'SPREAD' order by session"
    )
    assert spread[0] == (None, None)
    assert spread[1] == (-150.0, pytest.approx((-5 / 9 - 1) * 100))
    assert spread[2] == (None, None), "a share of a negative close means nothing"


def test_an_instrument_known_by_its_actions_alone_is_not_lost(tmp_path: Path) -> None:
    write({Key("TRADED", WEDNESDAY, "USD"): Bar(10, "TRADED")}, VENDOR)
    write_actions([Action("TRADED", TUESDAY, "split", 2), Action("UNSEEN", THURSDAY, "dividend", 1)])
    warehouse = Warehouse(tmp_path / "warehouse", VENDOR)
    warehouse.run("+fct_corporate_action")
    assert warehouse.query(
        "select symbol, valid_from, ex_date, price_factor, is_skipped from marts.fct_corporate_action "
        "join marts.dim_instrument using (instrument_key) order by symbol"
    ) == [("TRADED", WEDNESDAY, TUESDAY, 0.5, False), ("UNSEEN", THURSDAY, THURSDAY, 1, True)]
