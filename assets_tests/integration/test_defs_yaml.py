"""A broken defs.yaml leaves the other sources to Dagster."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import dagster as dg
import pytest

from lakehouse import definitions
from lakehouse.catalog import DEFS, descriptions, faulty_files, warn_of
from lakehouse.errors import SourceError


def test_dagster_loads_the_sound_sources(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What is left out is one folder; all others are loaded each by itself."""
    path = DEFS / "market" / "binance" / "defs.yaml"
    warn_of.cache_clear()
    monkeypatch.setattr(definitions, "faulty_files", lambda: {path: SourceError(f"{path}, line 7: no YAML")})
    loaded = definitions.defs()
    keys = {key.path[0] for key in loaded.resolve_asset_graph().get_all_asset_keys()}
    assert {"xetra", "alpha_vantage", "iex", "marts"} <= keys
    assert "line 7: no YAML" in caplog.text
    shown = loaded.resolve_asset_graph().get(dg.AssetKey(["binance", "defs_yaml"]))
    assert "line 7: no YAML" in (shown.description or "")
    assert not [job.name for job in loaded.resolve_all_job_defs() if job.name.startswith("binance")]


def test_a_source_without_partitions_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A valid YAML whose calendar ends before its first session."""
    written = descriptions()
    kind, said = written.found["binance"]
    late = said.model_copy(update={"first_session": date(2099, 1, 1)})
    changed = replace(written, found={**written.found, "binance": (kind, late)})
    monkeypatch.setattr("lakehouse.catalog.descriptions", lambda: changed)
    ((path, error),) = faulty_files().items()
    assert path == DEFS / "market" / "binance" / "defs.yaml"
    assert str(error).startswith(f"{path}: the calendar 24/7 has no sessions from 2099-01-01 on")
