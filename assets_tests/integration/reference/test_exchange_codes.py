"""A map of exchange codes: texts that mean nothing are NULL, and a new edition replaces the one before."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets_tests.support.reference_lake import failed_checks, rows, take
from lakehouse.catalog import described_source
from lakehouse.local_dagster.backfill import stored_rows

HEAD = "MIC|Operating MIC|MIC EXCHANGE NAME|CORP EXCHANGE|EQUITY EXCH CODE|EQUITY EXCH NAME|Composite Code|ISO COUNTRY"
FIRST = (
    "XETR|XETR|XETRA|XETRA|GY|XETRA|GR| DE",
    "|||SIBE|SQ|SOC.BOL SIBE|SM|ES",
    "|||TISE|NONE|No Exchange |No Composite Code|GG",
    "YYYY|N/A|INTERNAL CODE|ALL GERMAN SE|NONE|No Exchange |No Composite Code|DE",
)
CODES = "SELECT mic, operating_mic, exch_code, exch_name, composite_code, country FROM reference.exchange_codes"


@pytest.fixture
def folder(own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "codes"
    folder.mkdir()
    monkeypatch.setenv("LAKEHOUSE_FIGI_EXCHANGES_URL", str(folder))
    return folder


def write(folder: Path, *lines: str) -> None:
    (folder / "mapping_mic_figi-exchange-codes.csv").write_text("\n".join([HEAD, *lines, ""]))


def test_exchange_codes__are_null_where_the_publisher_writes_none(folder: Path) -> None:
    write(folder, *FIRST)
    assert take("figi_exchanges")["exchange_codes"].rows_quarantined == 0
    assert rows(f"{CODES} ORDER BY row_number") == [
        ("XETR", "XETR", "GY", "XETRA", "GR", "DE"),
        (None, None, "SQ", "SOC.BOL SIBE", "SM", "ES"),
        (None, None, None, None, None, "GG"),
        ("YYYY", None, None, None, None, "DE"),
    ]
    assert failed_checks("figi_exchanges") == set()


def test_exchange_codes__are_those_of_the_newest_edition(folder: Path) -> None:
    write(folder, *FIRST)
    take("figi_exchanges")
    write(folder, FIRST[0].replace("|GY|", "|GX|"))
    take("figi_exchanges")
    assert rows(CODES) == [("XETR", "XETR", "GX", "XETRA", "GR", "DE")]
    assert failed_checks("figi_exchanges") == set()


def test_stored_rows__counts_those_of_a_source_without_sessions(folder: Path) -> None:
    write(folder, *FIRST)
    take("figi_exchanges")
    counts, (table, stored) = stored_rows(described_source("figi_exchanges"), [])
    assert counts == {"received": 4, "kept": 4, "duplicates": 0, "superseded": 0, "quarantined": 0}
    assert (table, stored) == ("exchange_codes", 4)
