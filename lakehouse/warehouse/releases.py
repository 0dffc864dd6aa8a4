"""Creates, uses, restores and drops releases of the lake's tables with the published marts.

`lake.releases` describes what a release is and where it is stored. A command that is cut off leaves a state that the
next one completes or cleans up: a release exists once its rows in the lake are written, which is the last step; only
the file `in_use` decides what readers of the lake are served.
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
"""Name of the present state in `use`."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def create(config: Settings, name: str) -> Release:
    """Creates a release of the current tables and published marts.

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
    """Serves a release, or (`latest`) the present state, to readers. Loads, derivations and publications go on.

    Raises:
        ReleaseError: the lake has no such release, or its marts are in another home.
    """
    lake = lake_of(config)
    with publishing(config):
        # Look it up here, since another command may have dropped it before the lock was taken.
        release = None if name == LATEST else release_named(lake, name)
        marts = None if release is None else marts_file(config, release)
        latest = release_folder(config) / "latest.duckdb"
        if release_in_use(config) is None:
            # A file left by a command that was cut off is older than what is published.
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
    """Restores the tables of a release by new commits, and publishes the marts again.

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
    """Deletes a release; the next housekeeping deletes the files that only it kept.

    Raises:
        ReleaseError: the lake has no such release, or it is being served.
    """
    lake = lake_of(config)
    with publishing(config):
        release_named(lake, name)
        if release_in_use(config) == name:
            raise ReleaseError(f"readers are served release {name}: run `lakehouse release use {LATEST}` first")
        drop_release(lake, name)
        _remove_leftovers(config, lake)


def _serve(served: Path, marts: Path | None) -> None:
    """Puts marts in the place of the published file; without marts, removes the file."""
    if marts is None:
        served.unlink(missing_ok=True)
        return
    staged = served.with_suffix(".part")
    staged.unlink(missing_ok=True)
    _share(marts, staged)
    replace_marts(served, staged)
    # Replacing a file by another name of the same file keeps both names.
    staged.unlink(missing_ok=True)


def _share(source: Path, target: Path) -> None:
    """Gives a published file, which never changes, another name; copies it if the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)
        target.chmod(0o444)


def _remove_leftovers(config: Settings, lake: Lake) -> None:
    """Removes marts of releases that were never recorded or are dropped. The caller holds the lock `publishing`."""
    known = {release.marts for release in releases(lake)}
    for path in release_folder(config).glob("*-????????.duckdb"):
        if path.name not in known:
            with suppress(FileNotFoundError):
                path.unlink()
