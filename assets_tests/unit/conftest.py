"""What several unit tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assets_tests.support.scripted_vendor import Vendor, running
from lakehouse.ingest.http import connection as api_module
from lakehouse.settings import PROJECT_ROOT

if TYPE_CHECKING:
    import dagster as dg


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    monkeypatch.setattr(api_module, "FIRST_WAIT_S", 0.005)
    with running(Vendor()) as server:
        yield server


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance with the project's own dagster.yaml."""
    import dagster as dg

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_bytes((PROJECT_ROOT / "dagster.yaml").read_bytes())
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made
