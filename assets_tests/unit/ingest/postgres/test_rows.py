"""Values of PostgreSQL's texts."""

from __future__ import annotations

from decimal import Decimal

import duckdb
import pytest

from lakehouse.ingest.postgres.rows import of_text
from lakehouse.lake.types import parse_type

WIDEST = "9" * 16 + ".9999"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("decimal(20,4)", "12.50", Decimal("12.5000")),
        ("decimal(20,4)", "-0.00010000", Decimal("-0.0001")),
        ("decimal(20,4)", "99999999999999.9999", Decimal("99999999999999.9999")),
        ("decimal(20,4)", "100000000000000.0001", Decimal("100000000000000.0001")),
        ("decimal(20,4)", WIDEST, Decimal(WIDEST)),
        ("decimal(20,4)", f"1{WIDEST}", None),
        ("decimal(20,4)", "1.00001", None),
        ("decimal(20,4)", "NaN", None),
        ("decimal(38,20)", "1." + "0" * 19 + "1", Decimal("1." + "0" * 19 + "1")),
        ("decimal(18,2)", "12.5", Decimal("12.50")),
        ("timestamp", "infinity", None),
        ("timestamp", "0044-03-15 12:00:00+00 BC", None),
    ],
)
def test_of_text__takes_what_the_type_holds_exactly(kind: str, text: str, value: Decimal | None) -> None:
    found = duckdb.execute(f"SELECT {of_text(parse_type(kind), 'given')} FROM (SELECT '{text}' AS given)").fetchone()
    assert found == (value,)
