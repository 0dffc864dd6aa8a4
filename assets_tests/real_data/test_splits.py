"""What looks like an unannounced split among three weeks of Xetra's shares."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb

from lakehouse.domains.market.corporate_actions.splits import session_splits


def test_grenkes_split_is_suspected_and_no_other_move_is(shared_data: Path) -> None:
    """27 closes moved by a fifth or more; one of them split."""
    connection = duckdb.connect()
    connection.execute(
        f"""
        CREATE TABLE closes AS
        SELECT 'xetra' AS source, ISIN AS instrument_id, Currency AS currency, Date AS session,
            arg_max(EndPrice, Time) AS close, sum(TradedVolume)::BIGINT AS volume, NULL::DATE AS adjusted_as_of
        FROM read_csv('{shared_data}/xetra_pds/*/*.csv.gz', union_by_name = true)
        WHERE TradedVolume > 0 AND Time BETWEEN '07:00' AND '15:45' GROUP BY ALL
        """
    )
    none_announced = (
        "(SELECT source, instrument_id, currency, session AS ex_date, 2.0 AS split_factor FROM closes LIMIT 0)"
    )
    found = connection.execute(
        f"SELECT instrument_id, session, suspected_split FROM ({session_splits('closes', none_announced)})"
    ).fetchall()
    assert found == [("DE000A161N30", date(2017, 7, 10), "3:1")]
