"""A broken defs.yaml leaves the other sources to Dagster."""

from __future__ import annotations

import pytest

from lakehouse import definitions
from lakehouse.catalog import DEFS
from lakehouse.errors import SourceError


def test_dagster_loads_the_sound_sources(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What is left out is one folder; all others are loaded each by itself."""
    path = DEFS / "market" / "binance" / "defs.yaml"
    monkeypatch.setattr(definitions, "broken_files", lambda: {path: SourceError(f"{path}, line 7: no YAML")})
    loaded = definitions.defs()
    keys = {key.path[0] for key in loaded.resolve_asset_graph().get_all_asset_keys()}
    assert {"xetra", "alpha_vantage", "iex", "marts"} <= keys
    assert "line 7: no YAML" in caplog.text
    assert not [job.name for job in loaded.resolve_all_job_defs() if job.name.startswith("binance")]
