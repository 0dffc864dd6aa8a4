"""The manifest in a home is that of the project that runs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from lakehouse.settings import settings
from lakehouse.warehouse import dbt

pytestmark = pytest.mark.slow


def models_of(manifest: Path) -> set[str]:
    return {node["name"] for node in json.loads(manifest.read_bytes())["nodes"].values()}


def test_manifest_path__of_another_project_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of this version are older than what the other one made: its clone was updated later."""
    for name, models in {"this": ("a", "b"), "other": ("a",)}.items():
        (tmp_path / name / "models").mkdir(parents=True)
        for file in ("dbt_project.yml", "profiles.yml"):
            shutil.copyfile(dbt.PROJECT / file, tmp_path / name / file)
        for model in models:
            path = tmp_path / name / "models" / f"{model}.sql"
            path.write_text("select 1 as one")
            os.utime(path, (0, 0))
    for name, models in {"other": {"a"}, "this": {"a", "b"}}.items():
        monkeypatch.setattr(dbt, "PROJECT", tmp_path / name)
        assert models_of(dbt.manifest_path(settings())) == models
    made = dbt.manifest_path(settings()).stat().st_mtime_ns
    assert dbt.manifest_path(settings()).stat().st_mtime_ns == made
