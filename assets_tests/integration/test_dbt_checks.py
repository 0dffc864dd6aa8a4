"""The checks on the dbt models: each notices what it is for, and one that fails stops the build."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from assets_tests.support.dbt_warehouse import (
    FILES,
    SATURDAY,
    THURSDAY,
    TUESDAY,
    VENDOR,
    WEEK,
    Action,
    Bar,
    Key,
    Place,
    Warehouse,
    Window,
    write,
    write_actions,
    write_official,
    write_windows,
)
from lakehouse.catalog import feed_named
from lakehouse.settings import settings
from lakehouse.warehouse.dbt import manifest


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse")


TAMPERING = {
    "insert into marts.dim_venue from marts.dim_venue": {"dim_venue_key"},
    "insert into marts.dim_session from marts.dim_session where session = '2024-01-02'": {"dim_session_key"},
    "update marts.dim_session set close_at = open_at where session = '2024-01-02'": {"dim_session_opens_before_close"},
    "update marts.dim_instrument set instrument_key = 'same' where instrument_id = 'A'": {
        "dim_instrument_key",
        "fct_daily_bar_instrument",
    },
    "update marts.dim_instrument set valid_to = valid_to + 1 where not is_current": {"dim_instrument_versions"},
    "update marts.dim_instrument set valid_to = valid_to - 1 where not is_current": {"dim_instrument_versions"},
    "update marts.dim_instrument set is_current = true": {"dim_instrument_versions"},
    "update marts.dim_instrument set is_current = false": {"dim_instrument_versions"},
    """
    insert into marts.dim_issuer by name
    select 'a' as issuer_key, 'A' as lei, 'A' as legal_name, date '2024-01-01' as valid_from,
        date '2025-01-01' as valid_to, false as is_current
    from range(2)
    """: {"dim_issuer_key"},
    """
    insert into marts.dim_issuer by name
    select 'a' as issuer_key, 'A' as lei, 'A' as legal_name, date '2024-01-01' as valid_from,
        date '2024-01-01' as valid_to, false as is_current
    """: {"dim_issuer_is_valid_forwards"},
    """
    insert into marts.bridge_instrument_identifier by name
    select distinct source, instrument_id, currency, 'isin' as scheme, 'A' as value
    from marts.dim_instrument where instrument_id = 'A'
    union all
    select distinct source, instrument_id, currency, 'isin' as scheme, 'A' as value
    from marts.dim_instrument where instrument_id = 'A'
    """: {"bridge_instrument_identifier_key"},
    """
    insert into marts.bridge_instrument_identifier by name
    select 'none' as source, 'none' as instrument_id, 'EUR' as currency, 'isin' as scheme, 'A' as value
    """: {"bridge_instrument_identifier_instrument"},
    "update marts.fct_daily_bar set instrument_key = 'none'": {"fct_daily_bar_instrument"},
    "update marts.fct_daily_bar set session = '2024-01-06' where session = '2024-01-05'": {"fct_daily_bar_session"},
    "update marts.fct_daily_bar set mic = 'XXXX'": {"fct_daily_bar_venue", "fct_daily_bar_session"},
    "insert into marts.fct_daily_bar from marts.fct_daily_bar": {"fct_daily_bar_key", "fct_daily_bar_reconciles"},
    "delete from marts.fct_daily_bar where session = '2024-01-05'": {"fct_daily_bar_reconciles"},
    "update marts.fct_daily_bar set volume = volume + 1": {"fct_daily_bar_reconciles"},
    "update marts.fct_daily_bar set high = close - 0.1": {"fct_daily_bar_ranges"},
    "update marts.fct_daily_bar set prev_session = session": {"fct_daily_bar_ranges"},
    "update marts.fct_daily_bar set close_as_traded = close + 1": {"fct_daily_bar_ranges"},
    "insert into marts.fct_corporate_action from marts.fct_corporate_action": {
        "fct_corporate_action_key",
        "fct_corporate_action_reconciles",
    },
    "delete from marts.fct_corporate_action where kind = 'split'": {"fct_corporate_action_reconciles"},
    "update marts.fct_corporate_action set dividend_amount = dividend_amount * 2": {"fct_corporate_action_reconciles"},
    "update marts.fct_corporate_action set mic = 'XXXX'": {"fct_corporate_action_venue"},
    "update marts.fct_corporate_action set price_factor = -1": {"fct_corporate_action_ranges"},
    "update marts.fct_corporate_action set instrument_key = 'none'": {"fct_corporate_action_instrument"},
    # The version is one of the instrument's, but neither valid on the ex-date nor the first.
    """
    update marts.fct_corporate_action set instrument_key = version.instrument_key
    from marts.dim_instrument as version where version.symbol = 'NEW' and ex_date < '2024-01-01'
    """: {"fct_corporate_action_instrument"},
    "insert into marts.returns from marts.returns": {"returns_key"},
    "update marts.returns set prev_session = session": {"returns_follow_each_other"},
    "update marts.returns set total_return_pct = total_return_pct - 1": {"returns_follow_each_other"},
    "insert into marts.daily_summary from marts.daily_summary": {"daily_summary_key"},
    "insert into marts.daily_movers from marts.daily_movers": {"daily_movers_key"},
    "insert into marts.most_traded_by_value from marts.most_traded_by_value": {"most_traded_by_value_key"},
    "insert into marts.average_range from marts.average_range": {"average_range_key"},
    "update marts.average_range set average_range_pct = -1": {"average_range_not_negative"},
    "insert into marts.dim_resolution from marts.dim_resolution": {"dim_resolution_key", "top_stocks_key"},
    "delete from marts.dim_resolution where resolution_minutes = 5": {"fct_quote_window_resolution"},
    "insert into marts.fct_quote_window from marts.fct_quote_window": {
        "fct_quote_window_key",
        "fct_quote_window_reconciles",
        "top_stocks_key",
        "percentage_gains_key",
    },
    "update marts.fct_quote_window set quote_count = quote_count + 1": {"fct_quote_window_reconciles"},
    "delete from marts.fct_quote_window where day = '2024-01-02'": {"fct_quote_window_reconciles"},
    "update marts.fct_quote_window set day = day + 1": {"fct_quote_window_ranges"},
    "update marts.fct_quote_window set mean_price = max_price + 1": {"fct_quote_window_ranges"},
    "update marts.fct_quote_window set percentage_gain = null": {"fct_quote_window_ranges"},
    """
    create or replace view marts.top_stocks as
    select *, row_number() over (partition by resolution_minutes, window_end order by mean_price desc) as price_rank
    from marts.fct_quote_window
    """: {"top_stocks_ranks"},
}


def test_every_check_notices_what_it_is_for(tmp_path: Path) -> None:
    write(WEEK)
    write({Key("S", TUESDAY, "USD"): Bar(20, "OLD"), Key("S", THURSDAY, "USD"): Bar(10, "NEW")}, VENDOR)
    write_official({Key("S", TUESDAY, "USD"): 20})
    write_actions(
        [
            Action("S", date(2020, 5, 4), "dividend", 1),
            Action("S", THURSDAY, "split", 2),
            Action("NO BARS", THURSDAY, "split", 3),
        ]
    )
    ends = [datetime(2024, 1, day, 12, 0, 5, tzinfo=UTC) for day in (2, 3)]
    write_windows({Place(symbol, end, minutes): Window() for symbol in "AB" for end in ends for minutes in (1, 5)})
    warehouse = Warehouse(tmp_path / "warehouse", FILES, VENDOR, feeds=[feed_named("iex")])
    checks = warehouse.build()
    # Others have those of the other parts, whose tables this warehouse doesn't have.
    tests = {node.name: node.fqn[2] for node in manifest(settings()).nodes.values() if node.resource_type == "test"}
    assert checks.keys() == tests.keys()
    checks = {name: query for name, query in checks.items() if tests[name] in ("market", "quotes")}

    assert warehouse.noticed(TAMPERING, checks) == TAMPERING
    assert set().union(*TAMPERING.values()) == checks.keys()


def test_a_bar_outside_the_calendar_stops_the_build(warehouse: Warehouse) -> None:
    write(WEEK | {Key("A", SATURDAY): Bar(12, "BBB")})
    assert warehouse.failed("build", "--exclude-resource-type", "unit_test") == {"fct_daily_bar_session"}


def test_unit_tests_pass(warehouse: Warehouse) -> None:
    write(WEEK)
    warehouse.run()
    result = warehouse.dbt("test", "--resource-type", "unit_test")
    assert result.success, [(r.node.name, r.message) for r in result.result if r.message]
    assert len(result.result) == 14
