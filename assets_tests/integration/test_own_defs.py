"""A user's own folder of defs.yaml files: LAKEHOUSE_DEFS."""

from __future__ import annotations

import warnings
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from lakehouse import catalog
from lakehouse.catalog import DEFS, analyses, broken_files, descriptions, sources
from lakehouse.cli.app import app
from lakehouse.cli.vendors import copy_vendor
from lakehouse.definitions import defs, present_definitions
from lakehouse.settings import settings

ANALYSIS = (DEFS / "analyses" / "test_period" / "defs.yaml").read_text().replace("test_period", "my_period")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, whose name couldn't be a package's."""
    folder = tmp_path / "my vendors, v1.0"
    folder.mkdir()
    use(folder, monkeypatch)
    return folder


def use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_DEFS", str(folder))
    settings.cache_clear()


def lakehouse(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "300"})
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_vendors_add__writes_to_the_users_folder(own: Path) -> None:
    assert str(own / "kraken" / "defs.yaml") in lakehouse("vendors", "add", "kraken")
    assert (own / "kraken" / "defs.yaml").is_file()
    assert not (DEFS / "market" / "kraken").exists()


def test_descriptions__are_those_of_both_folders_and_follow_the_setting(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    copy_vendor("kraken", own / "kraken" / "defs.yaml")
    copy_vendor("tiingo", other / "deeper" / "tiingo" / "defs.yaml")
    (own / "my_period").mkdir()
    (own / "my_period" / "defs.yaml").write_text(ANALYSIS)
    assert {"xetra", "kraken"} <= sources().keys()
    assert "my_period" in analyses().found
    use(other, monkeypatch)
    assert {"xetra", "tiingo"} <= sources().keys()
    assert "kraken" not in sources()
    assert "my_period" not in analyses().found
    monkeypatch.delenv("LAKEHOUSE_DEFS")
    settings.cache_clear()
    assert not {"kraken", "tiingo"} & sources().keys()


def test_descriptions__name_a_source_that_both_folders_describe(own: Path) -> None:
    path = own / "xetra" / "defs.yaml"
    path.parent.mkdir()
    path.write_text((DEFS / "market" / "xetra" / "defs.yaml").read_text())
    assert str(DEFS / "market" / "xetra" / "defs.yaml") in str(descriptions().broken[path])
    assert descriptions().files["xetra"].is_relative_to(DEFS)


def test_a_missing_folder_is_named_by_every_command(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use(tmp_path / "missing", monkeypatch)
    (error,) = broken_files().values()
    assert (
        str(error) == f"LAKEHOUSE_DEFS is {tmp_path / 'missing'}, which is no folder; make it, or correct the variable"
    )
    lakehouse("sources")
    assert str(error) in caplog.text


def test_defs__are_those_of_both_folders(own: Path) -> None:
    copy_vendor("kraken", own / "crypto.1" / "kraken" / "defs.yaml")
    loaded = present_definitions()
    assert {"xetra/daily_bars", "kraken/daily_bars", "marts/fct_daily_bar"} <= assets(loaded)
    assert loaded.resolve_job_def("kraken_update")

    # A faulty file leaves out its own source only.
    (own / "broken").mkdir()
    (own / "broken" / "defs.yaml").write_text("type: lakehouse.components.MarketSource\nattributes: {source: mine}\n")
    catalog._described.cache_clear()
    found = defs()
    assert {"xetra/daily_bars", "kraken/daily_bars", "broken/defs_yaml"} <= assets(found)
    assert not any(asset.startswith("mine/") for asset in assets(found))


def test_defs__of_the_users_folder_warn_of_nothing(own: Path) -> None:
    copy_vendor("kraken", own / "kraken" / "defs.yaml")
    catalog._described.cache_clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        defs()
    assert [str(each.message) for each in told if each.category is dg.BetaWarning] == []


def assets(found: dg.Definitions) -> set[str]:
    return {key.to_user_string() for key in found.resolve_asset_graph().get_all_asset_keys()}
