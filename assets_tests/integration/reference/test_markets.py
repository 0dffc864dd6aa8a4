"""Publications of the register of markets, in any order: what the lake knows is what the register said."""

from __future__ import annotations

import random
from datetime import date
from pathlib import Path

import pytest

from assets_tests.support.reference_lake import failed_checks, rows, take
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive.rebuild import rebuild
from lakehouse.simulators.gleif import lei_of
from lakehouse.simulators.market_register import MarketRegister

MONTHS = [date(2024, month, 1) for month in range(1, 6)]
NOW = "known_to IS NULL AND valid_to IS NULL"


@pytest.fixture
def register(own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MarketRegister:
    """A folder of publications, which the lake reads."""
    made = MarketRegister(tmp_path / "register")
    made.folder.mkdir()
    monkeypatch.setenv("LAKEHOUSE_MIC_URL", str(made.folder))
    made.add("XETR", MONTHS[0], lei=lei_of(1), name="XETRA")
    made.add("XETA", MONTHS[0], operator="XETR")
    for number in range(8):
        made.add(f"{3579 + number}", MONTHS[0])
    return made


def known(day: date) -> dict[str, tuple[str, bool]]:
    """What is known at a day: MIC -> name and whether it is active."""
    at = f"TIMESTAMPTZ '{day} 00:00:00+00'"
    found = rows(f"""
        SELECT mic, name, is_active FROM reference.markets
        WHERE known_from <= {at} AND coalesce(known_to > {at}, true) AND valid_to IS NULL
    """)
    return {mic: (name, is_active) for mic, name, is_active in found}


def said(register: MarketRegister, day: date) -> dict[str, tuple[str, bool]]:
    return {
        mic: (row["MARKET NAME-INSTITUTION DESCRIPTION"], row["STATUS"] != "EXPIRED")
        for mic, row in register.published[day].items()
    }


def test_publications_in_any_order_and_twice_give_the_same_table(register: MarketRegister) -> None:
    chance = random.Random(7)
    for month in MONTHS:
        register.publish(month)
        register.change_at_random(month, chance)
    for place in (4, 0, 2, 3, 1):
        register.write(MONTHS[place], underscored=place % 2 == 1, marked=place > 2)
        take("mic")
        assert take("mic") == {}
        loaded = sorted(day for day in MONTHS if (register.folder / f"ISO10383_MIC_{day}.csv").exists())
        for day in loaded:
            assert known(day) == said(register, day)
    assert failed_checks("mic") == set()
    assert not rebuild(Lake.open(), described_source("mic"), verify=True).differs
    assert rows("SELECT count(*) FROM reference.markets WHERE country = 'NA'")[0][0] > 0
    assert {mic for (mic,) in rows("SELECT mic FROM reference.mic")} == set(register.published[MONTHS[-1]])


def test_only_a_change_of_meaning_is_a_new_version(register: MarketRegister) -> None:
    register.publish(MONTHS[0])
    register.change("XETR", STATUS="UPDATED", LAST_UPDATE_DATE="20240201", LAST_VALIDATION_DATE="20240201")
    register.publish(MONTHS[1])
    register.change("XETR", CITY="FRANKFURT")
    register.publish(MONTHS[2])
    register.change("XETR", STATUS="EXPIRED", EXPIRY_DATE="20240401")
    register.publish(MONTHS[3])
    for month in MONTHS[:4]:
        register.write(month)
    take("mic")
    query = (
        "SELECT city, is_active, valid_from, valid_to FROM reference.markets WHERE mic = 'XETR' AND known_to IS NULL"
    )
    assert rows(f"{query} ORDER BY valid_from") == [
        ("A, TOWN", True, MONTHS[0], MONTHS[2]),
        ("FRANKFURT", True, MONTHS[2], MONTHS[3]),
        ("FRANKFURT", False, MONTHS[3], None),
    ]
    assert rows(f"SELECT subject FROM reference.identifiers WHERE value = 'XETR' AND {NOW}") == [(lei_of(1),)]
    assert rows("SELECT last_update_date, expiry_date FROM reference.mic WHERE mic = 'XETR'") == [
        (date(2024, 2, 1), date(2024, 4, 1))
    ]


def test_an_operator_that_is_missing_holds_the_register_back(register: MarketRegister) -> None:
    del register.rows["XETR"]
    register.publish(MONTHS[0])
    register.write(MONTHS[0])
    take("mic")
    assert failed_checks("mic") == {"operating_mics_exist"}
    blocking = {check.name for check in described_source("mic").checks if check.blocking}
    assert "operating_mics_exist" in blocking


def test_rows_that_break_the_contract_go_to_the_quarantine(register: MarketRegister) -> None:
    register.change("3579", STATUS="GONE")
    register.change("3580", LEI="529900G3SW56SHYNPR90")
    register.change("3581", CREATION_DATE="2024")
    register.publish(MONTHS[0])
    register.write(MONTHS[0])
    take("mic")
    found = {reasons[0] for (reasons,) in rows("SELECT reasons FROM lake.quarantine")}
    assert found == {
        "status is none of ACTIVE, UPDATED and EXPIRED",
        "lei is not an LEI (ISO 17442: twenty characters, the last two check digits)",
        "created_on is not a date",
    }
