"""From files of a vendor without a YAML to the marts, by README's three commands."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from assets_tests.integration.test_cli import said
from assets_tests.support.pence_vendor import DAYS, write_files
from lakehouse import catalog
from lakehouse.settings import settings


def test_init_check_and_update_bring_a_vendors_files_to_the_marts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    amounts = write_files(tmp_path / "acme", DAYS[-1:])
    (tmp_path / "defs").mkdir()
    monkeypatch.setenv("LAKEHOUSE_DEFS", str(tmp_path / "defs"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    settings.cache_clear()
    said("init", "acme", "--from", str(tmp_path / "acme"), "--market", "XLON", code=0)
    assert (tmp_path / "defs" / "acme" / "defs.yaml").is_file()
    catalog._described.cache_clear()  # the next command is another process's
    assert "nothing is wrong" in said("check", "acme", code=0)
    said("update", "acme", code=0)
    with duckdb.connect(str(settings().warehouse), read_only=True) as marts:
        rows = marts.execute(
            "SELECT symbol, session, open, high, low, close, volume "
            "FROM marts.fct_daily_bar JOIN marts.dim_instrument USING (instrument_key)"
        ).fetchall()
    assert {(row[0], row[1]): row[2:] for row in rows} == amounts
