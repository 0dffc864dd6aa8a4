"""The settings of a lake that is named by its place."""

from __future__ import annotations

import os
from pathlib import Path

from lakehouse.errors import LakeUnavailable
from lakehouse.settings import Settings
from lakehouse.urls import scheme_of


def settings_at(place: str | os.PathLike[str]) -> Settings:
    """The settings of the home at `place`, or of the lake whose tables are there."""
    if not os.fspath(place).strip():
        raise LakeUnavailable(
            "'' names no lake; name a home (LAKEHOUSE_HOME), the folder of its tables or an s3:// URI"
        )
    if scheme_of(os.fspath(place)) not in (None, "file"):
        return Settings(lake_uri=os.fspath(place))
    folder = Path(place).expanduser().absolute()
    if not os.path.isdir(folder):
        raise LakeUnavailable(f"{folder} is no folder; name a home (LAKEHOUSE_HOME), or the folder of a lake's tables")
    if (folder / "lake").is_dir():
        return Settings(home=folder, lake_uri=str(folder / "lake"))
    return Settings(home=folder.parent, lake_uri=str(folder))
