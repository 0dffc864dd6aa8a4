"""The publishers' own figures: the register of markets of October 2024, and GLEIF's answers about some entities."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from assets_tests.support.reference_lake import failed_checks, rows, take

SHARED = Path(__file__).parents[3] / "shared" / "data" / "reference"
MICS = SHARED / "ISO10383_MIC_2024-10-28.csv"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not MICS.exists(), reason=f"no real reference data at {SHARED}"),
]


@pytest.fixture
def mic(own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mic"
    folder.mkdir()
    shutil.copyfile(MICS, folder / MICS.name)
    monkeypatch.setenv("LAKEHOUSE_MIC_URL", str(folder))
    return folder


@pytest.fixture
def gleif(own_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_GLEIF_API_URL", str(SHARED / "gleif"))


def test_the_register_of_markets(mic: Path) -> None:
    loaded = take("mic")["markets"]
    assert (loaded.rows_received, loaded.rows_quarantined) == (2701, 0)
    assert rows("SELECT status, count(*) FROM reference.mic GROUP BY ALL ORDER BY ALL") == [
        ("ACTIVE", 2173),
        ("EXPIRED", 501),
        ("UPDATED", 27),
    ]
    query = """
        SELECT count(*) FILTER (operating_type = 'OPRT'), count(*) FILTER (operating_type = 'SGMT'),
            count(DISTINCT country), count(lei), count(DISTINCT lei), count(*) FILTER (is_active)
        FROM reference.markets
    """
    assert rows(query) == [(1502, 1199, 148, 2027, 985, 2200)]
    query = "SELECT mic, lei IS NULL FROM reference.markets WHERE mic IN ('XETR', 'XEUR', 'XNYS', 'XNAS') ORDER BY ALL"
    assert rows(query) == [("XETR", False), ("XEUR", False), ("XNAS", True), ("XNYS", True)]
    assert rows("SELECT name FROM reference.markets WHERE mic = 'XNYS'") == [("NEW YORK STOCK EXCHANGE, INC.",)]
    assert rows("SELECT operating_mic, operating_type FROM reference.markets WHERE mic = 'ARCX'") == [("XNYS", "SGMT")]
    assert rows("SELECT mic FROM reference.markets WHERE mic = '3579'") == [("3579",)]
    assert rows("SELECT count(*) > 0 FROM reference.markets WHERE country = 'NA'") == [(True,)]
    assert failed_checks("mic") == set()


def test_the_map_of_exchange_codes(own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "codes"
    folder.mkdir()
    shutil.copy(SHARED / "openfigi" / "openfigi-rs_mapping_mic_figi-exchange-codes.csv", folder)
    monkeypatch.setenv("LAKEHOUSE_FIGI_EXCHANGES_URL", str(folder))
    loaded = take("figi_exchanges")["exchange_codes"]
    assert (loaded.rows_received, loaded.rows_quarantined) == (434, 0)
    counted = "SELECT count(mic), count(DISTINCT mic), count(*) FILTER (mic IS NULL) FROM reference.exchange_codes"
    assert rows(counted) == [(350, 350, 84)]
    written = "SELECT count(*) FROM reference.exchange_codes WHERE exch_code = 'NONE' OR exch_name LIKE 'No Exchange%'"
    assert rows(written) == [(0,)]
    xetra = "SELECT exch_code, composite_code, country FROM reference.exchange_codes WHERE mic = 'XETR'"
    assert rows(xetra) == [("GY", "GR", "DE")]
    assert failed_checks("figi_exchanges") == set()


def test_answers_of_the_api(gleif: None) -> None:
    taken = take("gleif")
    assert {name: (result.rows_received, result.rows_quarantined) for name, result in taken.items()} == {
        "answered_entities": (54, 1),
        "answered_relationships": (35, 0),
        "answered_exceptions": (9, 0),
        "answered_isins": (5, 0),
    }
    # The invalid record is issued, too.
    assert rows("SELECT registration_status, count(*) FROM gleif.entities GROUP BY ALL ORDER BY ALL") == [
        ("ISSUED", 27),
        ("LAPSED", 5),
    ]
    query = "SELECT relationship_type, count(*) FROM gleif.entity_relationships GROUP BY ALL ORDER BY ALL"
    assert [count for _, count in rows(query)] == [17, 18]
    query = "SELECT registration_status, count(*) FROM gleif.entity_relationships GROUP BY ALL ORDER BY ALL"
    assert rows(query) == [("LAPSED", 5), ("PUBLISHED", 30)]
    assert rows("SELECT subject FROM reference.identifiers WHERE scheme = 'isin' AND value = 'DE0006969603'") == [
        ("529900GRZ2BQY5ZM9N49",)
    ]
    assert rows("SELECT legal_name FROM reference.lei WHERE lei = '529900GRZ2BQY5ZM9N49'") == [("PUMA SE",)]
    assert failed_checks("gleif") == {"few_rows_refused"}
    reasons = rows("SELECT reasons FROM lake.quarantine")[0][0]
    assert any("is not an LEI" in reason for reason in reasons)
