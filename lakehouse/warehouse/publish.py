"""Write, audit, publish: dbt builds what changed into a private copy (see `build`), which replaces the published file
in one atomic step when every model and test has passed.

Readers keep the file that they opened: a new publication is another file of the same name. One publisher works at a
time. The file is read-only; `lake.published` describes what other programs may do to it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lakehouse.catalog import lake_of
from lakehouse.errors import LakehouseError, MartsUnavailable
from lakehouse.lake.published import attach_published, log_of
from lakehouse.lake.registry import SHARED_SCHEMA
from lakehouse.lake.releases import present_marts
from lakehouse.lake.sql import difference_of, literal
from lakehouse.lake.stored_table import Pins
from lakehouse.settings import Settings, settings
from lakehouse.warehouse.build import BUILD, build, settle
from lakehouse.warehouse.dbt import Event, build_path, run_dbt
from lakehouse.warehouse.empty_marts import empty_marts
from lakehouse.warehouse.inputs import HELD_BACK_MART, inputs_of
from lakehouse.warehouse.last_descriptions import keep_descriptions
from lakehouse.warehouse.news import news_of
from lakehouse.warehouse.parts import Part, parts
from lakehouse.warehouse.reading import reading
from lakehouse.warehouse.soundness import is_sound, remember_sound
from lakehouse.warehouse.sources import require_descriptions

if TYPE_CHECKING:
    import duckdb

_log = logging.getLogger(__name__)


class AuditFailed(LakehouseError):
    """A model or test failed, so the published file stays as it was. The message names what failed."""


@contextmanager
def publication(config: Settings) -> Iterator[Path]:
    """Publishes at the end of the block the private file that was built in it (see `build_part`), whose path it yields,
    unless the block raises. Where nothing was built, the published file stays.
    """
    with _private_build(config) as private:
        # Under the lock, since the path is another one while a release is served.
        published = present_marts(config)
        yield private
        if not private.exists() and log_of(published).exists():
            shutil.copyfile(published, private)
        if private.exists():
            settle(private)
            replace_marts(published, private)
            remember_sound(config, published)
        keep_descriptions(config)


def start_of(config: Settings, base: Path | None = None) -> Path | None:
    """The file that a build starts from: `base`, by default the published one; None if it is missing or damaged."""
    start = base or present_marts(config)
    if not start.exists():
        return None
    if not is_sound(config, start):
        _log.warning("%s is damaged: the marts are built from scratch", start)
        return None
    return start


def _beside(published: Path, private: Path) -> Path:
    """The finished file, copied to the published one's file system if it was built in a temporary folder."""
    if private.is_relative_to(published.parent):
        return private
    staged = published.with_suffix(".part")
    staged.unlink(missing_ok=True)
    shutil.copyfile(private, staged)
    return staged


def replace_marts(published: Path, finished: Path) -> None:
    """Replaces a published file by a finished one, in an order that a crash of the machine can't reverse.

    A log that another program has left beside the old file is deleted first, so that it never lies beside the new file;
    for a moment readers see the old file as it was published.
    """
    finished = _beside(published, finished)
    finished.chmod(0o444)
    _sync(finished)
    log_of(published).unlink(missing_ok=True)
    os.replace(finished, published)
    _sync(published.parent)


def _sync(path: Path) -> None:
    """Waits until a file, or the list of files in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def build_part(config: Settings, part: Part, on_event: Callable[[Event], None] | None = None) -> list[str]:
    """Builds and tests inside a `publication` what changed of a part of the models; returns what failed. The other
    parts stay as published, unless nothing sound is published yet: then all are built.

    Raises:
        SourceError: see `require_descriptions`.
    """
    start = start_of(config)
    return build(config, [part] if start else parts(), BUILD, start or empty_marts(config), on_event)


def is_current(config: Settings, kind: str) -> bool:
    """Whether a publication of what is made from a kind of sources would change nothing."""
    lake, start = lake_of(config), start_of(config)
    of_kind = [part for part in parts() if kind in part.kinds]
    inputs = inputs_of(lake, of_kind, start or present_marts(config))
    return not any(news.is_any for news in news_of(lake, config, of_kind, inputs, start))


def publish(config: Settings, *, full_refresh: bool = False, base: Path | None = None) -> None:
    """Builds and tests what changed, or (`full_refresh`) everything, and publishes. `base` is a file to start from
    instead of the published one.

    Raises:
        AuditFailed: a model or test failed; nothing was published.
        SourceError: see `require_descriptions`.
    """
    require_descriptions(lake_of(config), parts())
    with publication(config):
        start = None if full_refresh else start_of(config, base) or empty_marts(config)
        failures = build(config, parts(), BUILD, start)
        if failures:
            raise AuditFailed("not published: " + "; ".join(failures))


class MartsAsOf:
    """The marts as of a past moment, in a file that is deleted with this object."""

    def __init__(self, private: Path) -> None:
        self._folder = TemporaryDirectory(prefix="marts-as-of-")
        self.path = Path(self._folder.name) / "warehouse.duckdb"
        shutil.move(private, self.path)


def marts_as_of(
    moment: datetime,
    models: Collection[str] | None = None,
    pin: Pins = lambda path: None,
    config: Settings | None = None,
) -> MartsAsOf:
    """Builds the marts as of `moment` from the lake of `config` (default: the settings), all or the named models with
    their inputs. Publishes nothing. `pin` returns the versions of tables in a release.

    Raises:
        AuditFailed: a model failed.
        SourceError: see `require_descriptions`.
    """
    import duckdb

    config = config or settings()
    lake = lake_of(config)
    require_descriptions(lake, parts(), are_kept=False)
    paths = [table if schema == SHARED_SCHEMA else f"{schema}/{table}" for schema, table in lake.tables()]
    pins = {path: fixed for path in paths if (fixed := pin(path))}
    with _private_build(config) as private:
        wanted = () if models is None else ("--select", *(f"+{model}" for model in sorted(models)))
        with duckdb.connect(str(private)) as connection, reading(connection, pins, moment.astimezone(UTC)):
            failures = run_dbt(("run", *wanted), config)
        if failures:
            raise AuditFailed(f"the marts can't be built as of {moment}: " + "; ".join(failures))
        settle(private)
        return MartsAsOf(private)


@contextmanager
def publishing(config: Settings) -> Iterator[None]:
    """A lock: in the block, no other process builds or publishes marts, or changes what readers are served."""
    from filelock import FileLock

    with FileLock(build_path(config).with_suffix(".lock")):
        yield


@contextmanager
def _private_build(config: Settings) -> Iterator[Path]:
    """Deletes the private file and yields its path, under the lock `publishing`."""
    private = build_path(config)
    with publishing(config):
        private.unlink(missing_ok=True)
        log_of(private).unlink(missing_ok=True)
        yield private


def differing_marts(config: Settings, part: Part | None = None) -> list[str]:
    """The models (of a part, or all) whose published rows differ from a rebuild from scratch. All of them if nothing is
    published yet, or the published file is damaged.

    Raises:
        AuditFailed: a model failed.
        SourceError: see `require_descriptions`.
    """
    import duckdb

    with _private_build(config) as private:
        failures = build(config, [part] if part else parts(), ["run"], None)
        if failures:
            raise AuditFailed("; ".join(failures))
        settle(private)
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH {literal(str(private))} AS built (READ_ONLY)")
            models = [
                name
                for (name,) in connection.execute(
                    "SELECT table_name FROM duckdb_tables() "
                    "WHERE (database_name, schema_name) = ('built', 'marts') ORDER BY 1"
                ).fetchall()
                if name != HELD_BACK_MART
            ]
            published = present_marts(config)
            if not published.exists():
                return models
            try:
                attach_published(connection, published, "published")
            except MartsUnavailable as error:
                _log.warning("%s", error)
                return models
            return [name for name in models if _differ(connection, f"built.marts.{name}", f"published.marts.{name}")]


def _differ(connection: duckdb.DuckDBPyConnection, one: str, other: str) -> bool:
    import duckdb

    try:
        row = connection.execute(f"SELECT count(*) FROM {difference_of(f'FROM {one}', f'FROM {other}')}").fetchone()
    except duckdb.Error:
        return True
    return bool(row and row[0])
