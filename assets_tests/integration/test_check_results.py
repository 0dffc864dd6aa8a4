"""Checks remember: a run evaluates what changed, and reports the same as if it had evaluated all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from assets_tests.support.soak import soak_count
from assets_tests.support.vendor_lake import DAYS, KEY, NEW_YORK, SOURCE, VendorLake, small_market, vendor_lake
from lakehouse.derive import evaluation
from lakehouse.derive.evaluation import evaluate
from lakehouse.derive.source import Check, Finding
from lakehouse.lake.sql import literal
from lakehouse.simulators.us_market import UsMarket
from lakehouse.simulators.vendor_api import VendorApi

CLOCK = datetime(2020, 11, 28, 12, tzinfo=UTC)
TABLES = ("raw_bars", "bars", "daily_bars")


@pytest.fixture(scope="module")
def first_load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    market, home = small_market(every=5), tmp_path_factory.mktemp("checked") / "home"
    with vendor_lake(home, VendorApi(market, api_key=KEY, clock=CLOCK), market.symbols) as made:
        made.update()
    return home


@pytest.fixture
def market() -> UsMarket:
    return small_market(every=5)


@pytest.fixture
def lake(first_load: Path, own_environment: None, market: UsMarket, tmp_path: Path) -> Iterator[VendorLake]:
    shutil.copytree(first_load, tmp_path / "home")
    with vendor_lake(tmp_path / "home", VendorApi(market, api_key=KEY, clock=CLOCK), market.symbols) as made:
        yield made


def checked(lake: VendorLake, days: list[date], description: str = "as described") -> dict[tuple[str, str], Finding]:
    source, checks = lake.described, remembering(lake)
    return {
        (table, name): finding
        for table in TABLES
        for name, finding in evaluate(
            lake.lake, source, table, [check for check in checks if check.table == table], days, description
        ).items()
    }


def remembering(lake: VendorLake) -> list[Check]:
    return [check for check in lake.described.checks if check.counted is not None]


def evaluated(findings: dict[tuple[str, str], Finding]) -> set[int]:
    """On how many partitions the checks that remember were evaluated."""
    return {finding.facts["partitions_evaluated_now"] for finding in findings.values()}


def said(findings: dict[tuple[str, str], Finding]) -> dict[tuple[str, str], tuple[object, ...]]:
    """What the findings say, without how they were found."""
    return {
        key: (
            finding.passed,
            finding.summary,
            {name: number for name, number in finding.facts.items() if not name.startswith("partitions_")},
            len(finding.rows),
        )
        for key, finding in findings.items()
    }


def afresh(lake: VendorLake, days: list[date]) -> dict[tuple[str, str], Finding]:
    source = lake.described
    return {(check.table, check.name): check.run(lake.lake, source, days) for check in remembering(lake)}


def spike(lake: VendorLake, market: UsMarket, session: date, chance: Random) -> None:
    """Makes a bar of a session suspect."""
    symbol = chance.choice(market.symbols)
    bars = market.truth_bars().filter(symbol=symbol, session=session, segment="regular")
    bar = bars.filter(bars["volume"] > 0).row(-5, named=True)
    market.correct(symbol, session, bar["start_at"].astimezone(NEW_YORK).time(), close=bar["close"] * 3)


def test_what_has_not_changed_is_not_evaluated_again(lake: VendorLake) -> None:
    days = list(DAYS)
    first = checked(lake, days)
    assert evaluated(first) == {len(days)}
    again = checked(lake, days)
    assert evaluated(again) == {0}
    assert said(again) == said(first) == said(afresh(lake, days))
    # A part of what was checked is known, too.
    assert evaluated(checked(lake, days[2:4])) == {0}


def test_another_description_or_code_makes_results_void(lake: VendorLake, monkeypatch: pytest.MonkeyPatch) -> None:
    days = list(DAYS)
    checked(lake, days)
    assert evaluated(checked(lake, days, "described otherwise")) == {len(days)}
    monkeypatch.setattr(evaluation, "code_digest", lambda: "other code")
    assert evaluated(checked(lake, days)) == {len(days)}


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(soak_count(1, 8)))
def test_remembered_and_evaluated_results_are_those_of_a_whole_evaluation(
    lake: VendorLake, market: UsMarket, seed: int
) -> None:
    chance, days = Random(seed), list(DAYS)
    for day in range(2):
        touched = chance.sample(days, 2)
        for session in touched:
            spike(lake, market, session, chance)
        lake.api.clock = CLOCK + timedelta(days=day + 1)
        lake.update(touched)
        asked = sorted(chance.sample(days, chance.randint(1, len(days))))
        assert said(checked(lake, asked)) == said(afresh(lake, asked))
    found = checked(lake, days)
    assert said(found) == said(afresh(lake, days))
    assert not found["bars", "no_suspect_bars"].passed


def test_damage_is_found_although_the_check_has_passed_before(lake: VendorLake, market: UsMarket) -> None:
    days = list(DAYS)
    checked(lake, days)
    snapshot = lake.lake.table(f"{SOURCE}/bars").snapshot()
    snapshot.delete(f"session = {literal(DAYS[1])} AND symbol = {literal(market.symbols[0])}")
    found = checked(lake, days)
    assert not found["bars", "conservation"].passed
    assert not found["daily_bars", "consistent_with_bars"].passed
    assert said(found) == said(afresh(lake, days))


def test_batches_that_fit_in_memory_find_what_one_does(
    lake: VendorLake, market: UsMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = list(DAYS)
    for session in (days[0], days[-1]):
        spike(lake, market, session, Random(0))
    lake.api.clock = CLOCK + timedelta(days=1)
    lake.update([days[0], days[-1]])
    ran: list[int] = []
    run = evaluation._run_checks
    monkeypatch.setattr(evaluation, "_MOST_ROWS", 1)
    monkeypatch.setattr(evaluation, "_run_checks", lambda *given: ran.append(len(given[4])) or run(*given))
    found = checked(lake, days)
    assert {*ran} == {1}
    assert len(ran) == len(TABLES) * len(days)
    assert not found["bars", "no_suspect_bars"].passed
    assert said(found) == said(afresh(lake, days))
