"""Publications in any order, twice, and with a late one in between give what a plain-Python reference says."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from assets_tests.support.reference_lake import rows, take
from assets_tests.support.soak import soak_count
from assets_tests.support.two_times_reference import expected
from lakehouse.simulators.gleif import Gleif, isin_of, lei_of
from lakehouse.simulators.market_register import MarketRegister

pytestmark = pytest.mark.soak

MONTHS = [date(2024, month, 1) for month in range(1, 6)]
TIMES = "valid_from, valid_to, known_from, known_to"


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def orders(chance: random.Random) -> list[int]:
    """An order of all publications, one of which comes after a newer one."""
    order = list(range(len(MONTHS)))
    while order == sorted(order):
        chance.shuffle(order)
    return order


@pytest.mark.parametrize("seed", range(soak_count(1, 10)))
def test_markets_and_the_entities_of_their_codes(
    own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance, register = random.Random(seed), MarketRegister(tmp_path / "register")
    monkeypatch.setenv("LAKEHOUSE_MIC_URL", str(register.folder))
    for number in range(6):
        register.add(f"X{number:03d}", MONTHS[0], lei=lei_of(number + 1))
    for month in MONTHS:
        register.publish(month)
        register.change_at_random(month, chance)
        register.change(chance.choice(sorted(register.rows)), LEI=chance.choice(["", lei_of(chance.randrange(1, 9))]))
    for place in orders(chance):
        register.write(MONTHS[place])
        take("mic")
        # The same publication once more, under the same name.
        register.write(MONTHS[place])
        take("mic")
    names = {
        midnight(day): {
            mic: (
                row["MARKET NAME-INSTITUTION DESCRIPTION"],
                row["LEI"] or None,
                row["STATUS"] != "EXPIRED",
                row["EXPIRY DATE"],
            )
            for mic, row in published.items()
        }
        for day, published in register.published.items()
    }
    content = "{'name': name, 'lei': lei, 'is_active': is_active, 'ends': coalesce(strftime(expires_on, '%Y%m%d'), '')}"
    stored = rows(f"SELECT mic, {content}, {TIMES} FROM reference.markets")
    assert {(mic, tuple(content.values()), *times) for mic, content, *times in stored} == expected(names)
    entities = {
        moment: {mic: lei for mic, (_, lei, *_) in published.items() if lei is not None}
        for moment, published in names.items()
    }
    assert {*rows(f"SELECT value, subject, {TIMES} FROM mic.identifiers")} == expected(entities)


@pytest.mark.parametrize("seed", range(soak_count(1, 10)))
def test_pairs_of_isin_and_lei(
    own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance, gleif = random.Random(seed), Gleif(tmp_path / "mappings")
    monkeypatch.setenv("LAKEHOUSE_GLEIF_MAPPINGS_URL", str(gleif.folder))
    every = [(isin_of(number), lei_of(number % 5 + 1)) for number in range(12)]
    published = {midnight(month): set(chance.sample(every, 8)) for month in MONTHS}
    for place in orders(chance):
        moment = midnight(MONTHS[place])
        gleif.pairs["isin"] = published[moment]
        gleif.publish_pairs("isin", moment)
        take("gleif")
        gleif.publish_pairs("isin", moment)
        take("gleif")
    said = {moment: dict.fromkeys(pairs, "") for moment, pairs in published.items()}
    stored = rows(f"SELECT value, subject, {TIMES} FROM gleif.identifiers WHERE scheme = 'isin'")
    assert {((value, subject), "", *times) for value, subject, *times in stored} == expected(said)
