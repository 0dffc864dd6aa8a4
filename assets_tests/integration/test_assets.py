"""A source's assets run as one job: what Dagster is told, and what holds back what."""

from __future__ import annotations

import base64
import gzip
import re

import dagster as dg
import polars as pl
import pytest
from deltalake import write_deltalake
from polars.testing import assert_frame_equal

from assets_tests.integration.conftest import FirstLoad
from assets_tests.support.described import with_bars
from assets_tests.support.exchange_lake import FIRST, LAST, SESSIONS, TABLES, ExchangeLake, failed_checks, materialized
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.components import retries as loading
from lakehouse.components.sources import assets
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.ingest.load import load

CHAIN = [f"xetra/{table}" for table in ("raw_bars", "bars", "daily_bars")]
KEYS = [session.isoformat() for session in SESSIONS]
COUNTS = ("received", "kept", "duplicates", "superseded", "quarantined")


def metadata_of(result: dg.ExecuteInProcessResult, asset: str, place: int = -1) -> dict[str, object]:
    """The metadata that a run gave one of an asset's materializations, the last if nothing else is said."""
    events = [
        event.step_materialization_data.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key and event.asset_key.to_user_string() == asset
    ]
    return {name: value.value for name, value in events[place].metadata.items()}


def daily_truth(lake: ExchangeLake, *stages: str) -> pl.DataFrame:
    """What the daily bars should be after these stages."""
    return lake.exchange.truth.daily_bars(*stages).rename({"isin": "instrument_id"})  # type: ignore[arg-type]


def assert_daily_bars(lake: ExchangeLake, *stages: str) -> None:
    """The stored daily bars are the truth after these stages."""
    wanted = daily_truth(lake, *stages)
    key = ["instrument_id", "currency", "session"]
    stored = lake.rows("xetra/daily_bars").select(wanted.columns).sort(key)
    assert_frame_equal(stored, wanted.sort(key), check_exact=True)


def assert_published(lake: ExchangeLake, *stages: str) -> None:
    """The stored daily bars, and the published ones, are the truth after these stages."""
    assert_daily_bars(lake, *stages)
    wanted = daily_truth(lake, *stages).select("instrument_id", "currency", "session", "close")
    published = lake.marts("SELECT instrument_id, currency, session, close FROM fct_daily_bar ORDER BY ALL")
    assert published == wanted.sort(pl.all()).rows()


def test_every_result_of_a_check_is_kept(first_load: FirstLoad) -> None:
    lake, result = first_load
    reported = [
        (found.asset_key.to_user_string(), found.check_name, found.passed)
        for found in result.get_asset_check_evaluations()
    ]
    kept = lake.rows("check_results").filter(pl.col("run_id") == result.run_id)
    names = pl.concat_str("source", "table_name", separator="/")
    assert sorted(kept.select(names, "check_name", "passed").rows()) == sorted(reported)
    assert {name.split("/")[0] for name, *_ in reported} >= {"xetra", "marts"}


def test_every_partition_is_reported_and_everything_published(first_load: FirstLoad) -> None:
    lake, result = first_load

    assert result.success
    reported = materialized(result)
    sources = {f"xetra/{table}": KEYS for table in ("raw_bars", "bars", "daily_bars", "daily_report")}
    assert {asset: found for asset, found in reported.items() if asset in sources} == sources
    assert {asset for asset in reported if asset not in sources} == {
        *("lake/ingest_ledger", "lake/quarantine"),
        *(f"marts/{name}" for name in ("dim_instrument", "dim_session", "dim_venue", "fct_daily_bar")),
        *(f"marts/{name}" for name in ("dim_issuer", "bridge_instrument_identifier")),
        *(f"marts/{name}" for name in ("average_range", "daily_movers", "daily_summary", "most_traded_by_value")),
        *(f"marts/{name}" for name in ("fct_corporate_action", "returns")),
    }
    assert_published(lake, "first")
    reports = sorted(path.name for path in (lake.home / "reports" / "xetra").iterdir())
    assert reports == [f"xetra_daily_report_{key}.parquet" for key in KEYS]
    report = pl.read_parquet(lake.home / "reports" / "xetra" / reports[0])
    truth = daily_truth(lake, "first").filter(pl.col("session") == SESSIONS[0])
    assert sorted(report["closing_price"].to_list()) == sorted(truth["close"].to_list())


def test_a_run_tells_what_it_made(first_load: FirstLoad) -> None:
    lake, result = first_load
    truth = lake.exchange.truth.counts("first")
    raw, bars, daily = (metadata_of(result, f"xetra/{table}") for table in ("raw_bars", "bars", "daily_bars"))

    assert raw["rows_received"] == truth.received
    assert raw["rows_quarantined"] == sum(truth.quarantined.values())
    statuses = [item.status for item in lake.exchange.truth.objects if item.stage == "first"]
    assert {name: raw[f"objects_{name}"] for name in ("loaded", "empty", "failed")} == {
        name: statuses.count(name) for name in ("loaded", "empty", "failed")
    }
    assert str(lake.exchange.truth.damaged_object) in str(raw["errors"])
    wanted = (truth.received, truth.kept, truth.duplicates, truth.superseded, sum(truth.quarantined.values()))
    (law,) = [found for found in result.get_asset_check_evaluations() if found.check_name == "conservation"]
    assert tuple(law.metadata[name].value for name in COUNTS) == wanted
    for table, facts in (("raw_bars", raw), ("bars", bars), ("daily_bars", daily)):
        stored = lake.rows(f"xetra/{table}")
        snapshot = Lake.open().table(f"xetra/{table}").snapshot()
        assert facts["table_version"] == snapshot.version
        files = [path.stat().st_size for path in (lake.home / "lake/xetra" / table).glob("*=*/*.parquet")]
        assert (facts["table_files"], facts["table_bytes"]) == (len(files), sum(files))
        assert isinstance(facts["duration_s"], float)
        assert 0 < facts["duration_s"] < 60
        header, _, *rows = str(facts["sample"]).splitlines()
        assert [name.strip() for name in header.strip("|").split("|")] == stored.columns
        assert len(rows) == 5
        assert all(any(row["instrument_id"] in line for row in stored.iter_rows(named=True)) for line in rows)
    # Without a partition of their own, the shared tables say what this run added to them.
    assert metadata_of(result, "lake/ingest_ledger")["rows_received"] == truth.received


@pytest.mark.parametrize(
    ("table", "ends"), [("bars", ("start_at", "end_at")), ("daily_bars", ("first_bar_at", "last_bar_at"))]
)
def test_each_partition_tells_its_own_rows(first_load: FirstLoad, table: str, ends: tuple[str, str]) -> None:
    stored = first_load.lake.rows(f"xetra/{table}")
    for place, session in enumerate(SESSIONS):
        facts = metadata_of(first_load.result, f"xetra/{table}", place)
        rows = stored.filter(pl.col("session") == session)
        assert facts["dagster/partition_row_count"] == facts["rows_changed"] == rows.height > 0
        span = rows.select(pl.col(ends[0]).min(), pl.col(ends[1]).max()).row(0)
        assert (facts["time_from"], facts["time_to"]) == tuple(f"{moment:%Y-%m-%d %H:%M:%S}+00" for moment in span)


def test_what_the_run_did_is_stored_once(first_load: FirstLoad) -> None:
    """With every partition it made 28 MB of a quarter."""
    for table in ("raw_bars", "bars", "daily_bars"):
        told = ["sample" in metadata_of(first_load.result, f"xetra/{table}", place) for place in range(len(SESSIONS))]
        assert told == [False] * (len(SESSIONS) - 1) + [True]


def test_the_picture_is_of_the_last_session(first_load: FirstLoad) -> None:
    text = str(metadata_of(first_load.result, "xetra/daily_bars")["session_in_pictures"])
    found = re.fullmatch(r"!\[(.*)\]\(data:image/svg\+xml;base64,(.*)\)", text)
    assert found is not None
    assert str(LAST) in found[1]
    picture = base64.b64decode(found[2], validate=True).decode()
    changes = first_load.lake.rows("xetra/daily_bars").filter(pl.col("session") == LAST)["change_pct"].drop_nulls()
    assert f"{LAST}: change of {changes.len():,} instruments" in picture


def test_a_damaged_and_a_missing_object_are_named_and_the_others_land(first_load: FirstLoad) -> None:
    lake, result = first_load
    truth = lake.exchange.truth
    damaged, missing = str(truth.damaged_object), str(truth.late_object)

    failed = failed_checks(result)
    assert {"xetra/raw_bars objects_readable", "xetra/raw_bars session_complete"} <= failed.keys()
    assert not {name for name in failed if name.startswith("marts/") or "contract" in name or "conservation" in name}
    named = {
        found.check_name: str(found.metadata["rows"].value)
        for found in result.get_asset_check_evaluations()
        if not found.passed and found.asset_key.path[-1] == "raw_bars"
    }
    assert damaged in named["objects_readable"]
    hours = [f"{name[:10]} hour {name.removesuffix('.csv.gz')[-2:]}" for name in (damaged, missing)]
    assert all(hour in named["session_complete"] for hour in hours)
    daily = lake.rows("xetra/daily_bars")
    incomplete = set(daily.filter(~pl.col("is_complete"))["session"])
    assert {str(session) for session in incomplete} == {damaged[:10], missing[:10]}
    assert lake.marts("SELECT DISTINCT session FROM fct_daily_bar WHERE NOT is_complete ORDER BY 1") == [
        (session,) for session in sorted(incomplete)
    ]


def test_the_repaired_and_the_late_object_mend_their_sessions(
    first_load: FirstLoad, instance: dg.DagsterInstance
) -> None:
    lake = first_load.lake
    for stage in ("late", "repaired"):
        lake.exchange.write(lake.feed, stage)  # type: ignore[arg-type]
    result = lake.run(instance, marts=False)

    assert not {name for name in failed_checks(result) if name.startswith("xetra/raw_bars")}
    assert lake.rows("xetra/daily_bars")["is_complete"].all()
    assert_daily_bars(lake, "first", "late", "repaired")
    assert metadata_of(result, "xetra/raw_bars")["partitions_with_news"] == 2


def test_a_second_run_changes_nothing(first_load: FirstLoad, instance: dg.DagsterInstance) -> None:
    lake = first_load.lake
    versions, rows = lake.versions(), lake.marts("FROM fct_daily_bar ORDER BY ALL")
    reports = {path: path.stat().st_mtime_ns for path in (lake.home / "reports").rglob("*.parquet")}
    result = lake.run(instance)

    assert result.success
    assert lake.versions() == versions
    assert lake.marts("FROM fct_daily_bar ORDER BY ALL") == rows
    assert {path: path.stat().st_mtime_ns for path in (lake.home / "reports").rglob("*.parquet")} == reports
    assert metadata_of(result, "xetra/raw_bars")["rows_received"] == 0
    assert metadata_of(result, "xetra/daily_bars")["rows_changed"] == 0


def test_a_late_correction_of_an_old_session_reaches_the_marts(
    first_load: FirstLoad, instance: dg.DagsterInstance
) -> None:
    lake = first_load.lake
    truth = lake.exchange.truth
    session = next(day for day in SESSIONS if str(day) == str(truth.corrected_object)[:10])
    assert session < LAST
    lake.exchange.write(lake.feed, "corrected")
    result = lake.run(instance, session, session)

    assert result.success
    assert_published(lake, "first", "corrected")
    assert materialized(result)["xetra/daily_bars"] == [str(session)]
    following = SESSIONS[SESSIONS.index(session) + 1]
    closes = lake.marts(
        f"""SELECT instrument_id, currency, prev_close FROM fct_daily_bar
            WHERE session = '{following}' AND prev_session = '{session}' ORDER BY ALL"""
    )
    wanted = daily_truth(lake, "first", "corrected").filter(pl.col("session") == session)
    assert len(closes) >= 10
    assert set(closes) <= set(wanted.select("instrument_id", "currency", "close").rows())


def test_a_failed_blocking_check_holds_back_what_is_downstream(
    first_load: FirstLoad, instance: dg.DagsterInstance
) -> None:
    """A row of raw_bars stands twice, as no load writes it."""
    lake = first_load.lake
    table = Lake.open().table("xetra/raw_bars")
    row = table.scan().filter(pl.col("session") == FIRST).head(1).collect()
    write_deltalake(table.uri, row.to_arrow().cast(table.contract.arrow_schema), mode="append")
    lake.exchange.write(lake.feed, "corrected")
    versions, published = lake.versions(), lake.warehouse.read_bytes()
    result = lake.run(instance)

    assert not result.success
    failed = failed_checks(result)
    assert failed["xetra/raw_bars key_is_unique"] == "1 key occurs more than once"
    assert set(materialized(result)) == {"xetra/raw_bars", "lake/ingest_ledger", "lake/quarantine"}
    assert {name for name, version in lake.versions().items() if version != versions[name]} == {
        *("xetra/raw_bars", "ingest_ledger")
    }
    assert lake.warehouse.read_bytes() == published


def test_a_refused_object_holds_back_the_publication_and_no_bars(
    first_load: FirstLoad, instance: dg.DagsterInstance
) -> None:
    """Every price of an hour is negative: the load succeeds, the source is not sound."""
    lake = first_load.lake
    path = min(path for path in (lake.feed / str(LAST)).iterdir() if len(gzip.decompress(path.read_bytes())) > 500)
    header, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    prices = [header.split(",").index(name) for name in ("StartPrice", "MaxPrice", "MinPrice", "EndPrice")]
    rows = [line.split(",") for line in lines]
    for row in rows:
        for place in prices:
            row[place] = "-1"
    path.write_bytes(gzip.compress("\n".join([header, *map(",".join, rows)]).encode()))
    published = lake.warehouse.read_bytes()
    result = lake.run(instance, LAST, LAST)

    assert not result.success
    found = failed_checks(result)["xetra/daily_bars enough_rows_kept"]
    assert "a price is zero or negative" in found
    assert f"No row was kept of {LAST}/{path.name}" in found
    assert {"xetra/raw_bars", "xetra/bars", "xetra/daily_bars"} <= set(materialized(result))
    assert not any(name.startswith("marts/") for name in materialized(result))
    assert lake.warehouse.read_bytes() == published
    raw = metadata_of(result, "xetra/raw_bars")
    assert raw["refused_pct"] > 0
    assert "a price is zero or negative" in str(raw["refused_reasons"])


def test_a_tampered_derived_table_is_mended_by_the_next_run(
    first_load: FirstLoad, instance: dg.DagsterInstance
) -> None:
    lake = first_load.lake
    before = {name: lake.rows(name) for name in TABLES[1:3]}
    for name in before:
        table = Lake.open().table(name)
        twice = table.scan().filter(pl.col("session") == LAST).head(1).collect()
        write_deltalake(table.uri, twice.to_arrow().cast(table.contract.arrow_schema), mode="append")
    result = lake.run(instance, LAST, LAST, marts=False)

    assert result.success
    assert not {name for name in failed_checks(result) if "key_is_unique" in name}
    for name, rows in before.items():
        key = list(Lake.open().table(name).contract.key)
        assert_frame_equal(lake.rows(name).sort(key), rows.sort(key), check_exact=True)


def test_a_source_that_does_not_answer_is_tried_again(
    first_load: FirstLoad, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed's folder is away for the first two tries."""
    lake, tries = first_load.lake, []
    lake.exchange.write(lake.feed, "late")
    lake.feed.rename(lake.home / "away")

    def load_when_it_is_back(*arguments: object, **named: object) -> object:
        tries.append(1)
        if len(tries) == 3:
            (lake.home / "away").rename(lake.feed)
        return load(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(assets, "load", load_when_it_is_back)
    monkeypatch.setattr(loading, "_PAUSE_S", 0.01)
    result = lake.run(instance, LAST, LAST, marts=False)

    assert result.success
    assert [event.step_key for event in result.all_events if event.is_step_up_for_retry] == ["xetra__raw_bars"] * 2
    assert_daily_bars(lake, "first", "late")


def test_any_other_fault_fails_at_once(
    first_load: FirstLoad, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAKEHOUSE_XETRA_URL")
    result = first_load.lake.run(instance, LAST, LAST)

    assert not result.success
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    (failure,) = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    assert "set LAKEHOUSE_XETRA_URL to a folder or an s3:// URL" in failure.to_string()


def test_the_reload_job_reads_stored_objects_again_and_a_second_run_changes_nothing(
    first_load: FirstLoad, instance: dg.DagsterInstance
) -> None:
    """The last session was read while the YAML named the wrong columns."""
    lake, right = first_load.lake, source_named("xetra")
    wrong = with_bars(right, columns={**right.config.bars.columns, "open": "EndPrice", "close": "StartPrice"})
    misread = load(Lake.open(), wrong.bars, [LAST], reread=True)
    for derive in (derive_bars, derive_daily_bars):
        derive(Lake.open(), wrong, [LAST])
    closes = lake.rows("xetra/daily_bars").filter(pl.col("session") == LAST)["close"].to_list()
    assert closes != daily_truth(lake, "first").filter(pl.col("session") == LAST)["close"].to_list()

    # A run that is no reload leaves what was read as it is.
    versions = lake.versions()
    assert lake.run(instance, LAST, LAST, assets=["xetra/raw_bars"]).success
    assert lake.versions() == versions

    result = lake.run(instance, LAST, LAST, job="xetra_reload")
    assert result.success
    assert metadata_of(result, "xetra/raw_bars")["rows_received"] == misread.rows_received > 0
    assert "xetra/raw_bars readings_current" not in failed_checks(result)
    assert_published(lake, "first")

    versions = lake.versions()
    again = lake.run(instance, LAST, LAST, job="xetra_reload", assets=CHAIN)
    assert again.success
    assert metadata_of(again, "xetra/raw_bars")["rows_received"] == 0
    assert lake.versions() == versions
