"""Making, serving, restoring and dropping releases: the lake's tables together with the published marts.

What a release is and where it is kept is described in `lake.releases`. Each step here leaves a state that the next
command completes or cleans up, wherever it was cut off: a release counts from its rows in the lake on, which are
written last; readers of the lake are served by the file `in_use` alone.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from lakehouse.catalog import lake_of
from lakehouse.errors import ReleaseError
from lakehouse.lake.lake import Lake
from lakehouse.lake.releases import (
    Release,
    drop_release,
    marts_file,
    present_marts,
    record_release,
    release_folder,
    release_in_use,
    release_named,
    releases,
    restore_tables,
    set_in_use,
)
from lakehouse.settings import Settings
from lakehouse.warehouse.publish import publish, publishing, replace_marts

LATEST = "latest"
"""What `use` calls the present."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def create(config: Settings, name: str) -> Release:
    """Makes a release of the tables and the published marts as they are now.

    Raises:
        ReleaseError: the name can't be used or is taken, the lake is empty, or its tables change too fast.
    """
    if not _NAME.fullmatch(name) or name.lower() == LATEST:
        raise ReleaseError(
            f"{name!r} can't be the name of a release: use letters, digits, '.', '_' and '-', at most 64 of them, "
            f"beginning with a letter or digit, and not {LATEST!r}"
        )
    lake = lake_of(config)
    with publishing(config):
        _remove_leftovers(config, lake)
        published = present_marts(config)
        marts = f"{name}-{uuid4().hex[:8]}.duckdb" if published.is_file() else None
        if marts is not None:
            _share(published, release_folder(config) / marts)
        try:
            return record_release(lake, name, marts)
        except ReleaseError:
            _remove_leftovers(config, lake)
            raise


def use(config: Settings, name: str) -> None:
    """Serves readers a release, or (`latest`) the present, from now on. Loads, derivations and publications go on.

    Raises:
        ReleaseError: the lake has no such release, or its marts are in another home.
    """
    lake = lake_of(config)
    with publishing(config):
        # Another command may have dropped the release until now.
        release = None if name == LATEST else release_named(lake, name)
        marts = None if release is None else marts_file(config, release)
        latest = release_folder(config) / "latest.duckdb"
        if release_in_use(config) is None:
            # One that a command left which was cut off is older than what is published.
            latest.unlink(missing_ok=True)
            if release is not None and config.warehouse.is_file():
                _share(config.warehouse, latest)
        if release is not None:
            set_in_use(config, release.name)
            _serve(config.warehouse, marts)
        elif release_in_use(config) is not None:
            _serve(config.warehouse, latest if latest.is_file() else None)
            set_in_use(config, None)
            latest.unlink(missing_ok=True)


def restore(config: Settings, name: str) -> None:
    """Makes the present tables what a release pins, by new commits, and publishes the marts again.

    Raises:
        ReleaseError: the lake has no such release, or its marts are in another home.
        AuditFailed: a model or test failed: the tables are restored, the published marts stay as they were.
    """
    lake = lake_of(config)
    release = release_named(lake, name)
    marts = marts_file(config, release)
    restore_tables(lake, release)
    publish(config, base=marts)


def drop(config: Settings, name: str) -> None:
    """Forgets a release. What it alone kept of the tables goes with the next housekeeping.

    Raises:
        ReleaseError: the lake has no such release, or readers are served it.
    """
    lake = lake_of(config)
    with publishing(config):
        release_named(lake, name)
        if release_in_use(config) == name:
            raise ReleaseError(f"readers are served release {name}: run `lakehouse release use {LATEST}` first")
        drop_release(lake, name)
        _remove_leftovers(config, lake)


def _serve(served: Path, marts: Path | None) -> None:
    """Puts marts into the place where readers open the published file; without any, nothing is there."""
    if marts is None:
        served.unlink(missing_ok=True)
        return
    staged = served.with_suffix(".part")
    staged.unlink(missing_ok=True)
    _share(marts, staged)
    replace_marts(served, staged)
    # A file that takes the place of itself keeps both names.
    staged.unlink(missing_ok=True)


def _share(source: Path, target: Path) -> None:
    """Gives a published file, which never changes, another name; where the file system can't, copies it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)
        target.chmod(0o444)


def _remove_leftovers(config: Settings, lake: Lake) -> None:
    """Removes marts of releases that were never recorded, or are dropped; for who holds `publishing`."""
    known = {release.marts for release in releases(lake)}
    for path in release_folder(config).glob("*-????????.duckdb"):
        if path.name not in known:
            with suppress(FileNotFoundError):
                path.unlink()
