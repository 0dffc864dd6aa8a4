"""Write, audit, publish: dbt builds what changed into a private copy, which replaces the published file in one atomic
step when every model and test has passed. `news` tells what changed, `differences` which models it reaches.

Readers keep the file that they opened: a new publication is another file of the same name. One publisher works at a
time. The file is read-only; `lake.published` describes what other programs may do to it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lakehouse.catalog import lake_of
from lakehouse.errors import LakehouseError, MartsUnavailable
from lakehouse.lake.lake import Lake
from lakehouse.lake.published import attach_published, log_of
from lakehouse.lake.registry import SHARED_SCHEMA
from lakehouse.lake.releases import keep_log, present_marts
from lakehouse.lake.sql import literal
from lakehouse.lake.stored_table import Pins
from lakehouse.settings import Settings, settings
from lakehouse.warehouse.dbt import Event, build_path, run_dbt
from lakehouse.warehouse.differences import selected
from lakehouse.warehouse.inputs import HELD_BACK_MART, Inputs, inputs_of, record
from lakehouse.warehouse.last_descriptions import keep_descriptions, last_described
from lakehouse.warehouse.news import news_of, record_contents
from lakehouse.warehouse.parts import Part, parts
from lakehouse.warehouse.reading import reading
from lakehouse.warehouse.soundness import is_sound, remember_sound
from lakehouse.warehouse.sources import part_tables, require_descriptions

if TYPE_CHECKING:
    import duckdb

# dbt's unit tests test the models' SQL, not the data: the test suite runs them.
BUILD = ("build", "--exclude-resource-type", "unit_test")

_log = logging.getLogger(__name__)


class AuditFailed(LakehouseError):
    """A model or test failed, so the published file stays as it was. The message names what failed."""


@contextmanager
def publication(config: Settings, *, base: Path | None = None) -> Iterator[Path]:
    """Publishes at the end of the block the private file that was built in it (see `build_part`), whose path it yields,
    unless the block raises. Where nothing was built, the published file stays, but `base` replaces it.
    """
    with _private_build(config) as build:
        # Under the lock, since the path is another one while a release is served.
        published = present_marts(config)
        yield build
        if not build.exists() and (base is not None or log_of(published).exists()):
            shutil.copyfile(base or published, build)
        if build.exists():
            _settle(build)
            replace_marts(published, build)
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


def _beside(published: Path, build: Path) -> Path:
    """The finished file, copied to the published one's file system if it was built in a temporary folder."""
    if build.is_relative_to(published.parent):
        return build
    staged = published.with_suffix(".part")
    staged.unlink(missing_ok=True)
    shutil.copyfile(build, staged)
    return staged


def replace_marts(published: Path, build: Path) -> None:
    """Replaces a published file by a finished one, in an order that a crash of the machine can't reverse.

    A log that another program has left beside the old file is deleted first, so that it never lies beside the new file;
    for a moment readers see the old file as it was published.
    """
    build = _beside(published, build)
    build.chmod(0o444)
    _sync(build)
    log_of(published).unlink(missing_ok=True)
    os.replace(build, published)
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
    parts stay as published, unless the publication starts without a file: then all are built.

    Raises:
        SourceError: see `require_descriptions`.
    """
    start = start_of(config)
    return _build(config, [part] if start else parts(), BUILD, start, on_event)


def is_current(config: Settings, kind: str) -> bool:
    """Whether a publication of what is made from a kind of sources would change nothing."""
    lake, start = lake_of(config), start_of(config)
    of_kind = [part for part in parts() if kind in part.kinds]
    inputs = inputs_of(lake, of_kind, start or present_marts(config))
    return not any(news_of(lake, config, part, inputs, start).is_any for part in of_kind)


def publish(config: Settings, *, full_refresh: bool = False, base: Path | None = None) -> None:
    """Builds and tests what changed, or (`full_refresh`) everything, and publishes. `base` is a file to start from
    instead of the published one.

    Raises:
        AuditFailed: a model or test failed; nothing was published.
        SourceError: see `require_descriptions`.
    """
    require_descriptions(lake_of(config), parts())
    with publication(config, base=base):
        failures = _build(config, parts(), BUILD, None if full_refresh else start_of(config, base))
        if failures:
            raise AuditFailed("not published: " + "; ".join(failures))


def _build(
    config: Settings,
    parts: Sequence[Part],
    command: Sequence[str],
    start: Path | None,
    on_event: Callable[[Event], None] | None = None,
) -> list[str]:
    """Runs a dbt command in the private file, a copy of `start`, on what changed of some parts; records their inputs in
    the file, and returns what failed. Without changes there is no private file, and dbt is not even imported.
    """
    import duckdb

    lake = lake_of(config)
    require_descriptions(lake, parts)
    inputs, build = inputs_of(lake, parts, start or present_marts(config)), build_path(config)
    _tell_of_held(lake, config, parts, inputs)
    found = [news_of(lake, config, part, inputs, start) for part in parts]
    if not any(news.is_any for news in found):
        return []
    if start is not None:
        shutil.copyfile(start, build)
    # To attach what no model reads takes as long as a small build.
    with reading(build, inputs.pins, kinds={kind for part in parts for kind in part.kinds}):
        wanted = selected(config, build, found)
        failures = run_dbt((*command, "--select", *wanted), config, on_event) if wanted else []
    with duckdb.connect(str(build)) as connection:
        record(connection, inputs)
        record_contents(connection, found)
    return failures


def _tell_of_held(lake: Lake, config: Settings, parts: Sequence[Part], inputs: Inputs) -> None:
    """Logs which sources keep their published rows, and keeps the log of their tables, so that they can be read."""
    for source in {hold.source for hold in inputs.held}:
        for name in {name for part in parts for name in part_tables(part).get(source, [])}:
            keep_log(lake.table(name))
    for hold in inputs.held:
        _log.warning("The marts show the rows of %s as they were published before: %s", hold.source, hold)
    for source in {source.name for part in parts for source in last_described(part.schema, config)}:
        _log.warning("The marts show the rows of %s as they were published before: its defs.yaml has a fault", source)


class MartsAsOf:
    """The marts as of a past moment, in a file that is deleted with this object."""

    def __init__(self, build: Path) -> None:
        self._folder = TemporaryDirectory(prefix="marts-as-of-")
        self.path = Path(self._folder.name) / "warehouse.duckdb"
        shutil.move(build, self.path)


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
    config = config or settings()
    lake = lake_of(config)
    require_descriptions(lake, parts(), are_kept=False)
    paths = [table if schema == SHARED_SCHEMA else f"{schema}/{table}" for schema, table in lake.tables()]
    pins = {path: fixed for path in paths if (fixed := pin(path))}
    with _private_build(config) as build:
        wanted = () if models is None else ("--select", *(f"+{model}" for model in sorted(models)))
        with reading(build, pins, moment.astimezone(UTC)):
            failures = run_dbt(("run", *wanted), config)
        if failures:
            raise AuditFailed(f"the marts can't be built as of {moment}: " + "; ".join(failures))
        _settle(build)
        return MartsAsOf(build)


@contextmanager
def publishing(config: Settings) -> Iterator[None]:
    """A lock: in the block, no other process builds or publishes marts, or changes what readers are served."""
    from filelock import FileLock

    with FileLock(build_path(config).with_suffix(".lock")):
        yield


@contextmanager
def _private_build(config: Settings) -> Iterator[Path]:
    """Deletes the private file and yields its path, under the lock `publishing`."""
    build = build_path(config)
    with publishing(config):
        build.unlink(missing_ok=True)
        log_of(build).unlink(missing_ok=True)
        yield build


def differing_marts(config: Settings, part: Part | None = None) -> list[str]:
    """The models (of a part, or all) whose published rows differ from a rebuild from scratch. All of them if nothing is
    published yet, or the published file is damaged.

    Raises:
        AuditFailed: a model failed.
        SourceError: see `require_descriptions`.
    """
    import duckdb

    with _private_build(config) as build:
        failures = _build(config, [part] if part else parts(), ["run"], None)
        if failures:
            raise AuditFailed("; ".join(failures))
        _settle(build)
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH {literal(str(build))} AS built (READ_ONLY)")
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
        row = connection.execute(
            f"""
            SELECT count(*)
            FROM ((FROM {one} EXCEPT ALL FROM {other}) UNION ALL (FROM {other} EXCEPT ALL FROM {one}))
            """
        ).fetchone()
    except duckdb.Error:
        return True
    return bool(row and row[0])


def _settle(build: Path) -> None:
    """Folds the write-ahead log into the file, so that the file is complete by itself. Creates its schema, even if no
    model was built.
    """
    import duckdb

    with duckdb.connect(str(build)) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS marts; CHECKPOINT")
