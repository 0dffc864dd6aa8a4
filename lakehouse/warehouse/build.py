"""Builds into the private file, from a file to start from, what changed of some parts: `news` tells what changed,
`differences` which models it reaches.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from lakehouse.catalog import lake_of
from lakehouse.lake.lake import Lake
from lakehouse.lake.releases import keep_log, present_marts
from lakehouse.settings import Settings
from lakehouse.warehouse.dbt import Event, build_path, run_dbt
from lakehouse.warehouse.differences import selected
from lakehouse.warehouse.inputs import Inputs, inputs_of, record
from lakehouse.warehouse.last_descriptions import last_described
from lakehouse.warehouse.news import news_of, record_contents
from lakehouse.warehouse.parts import Part
from lakehouse.warehouse.reading import reading
from lakehouse.warehouse.sources import part_tables, require_descriptions

# dbt's unit tests test the models' SQL, not the data: the test suite runs them.
BUILD = ("build", "--exclude-resource-type", "unit_test")

_log = logging.getLogger(__name__)


def build(
    config: Settings,
    parts: Sequence[Part],
    command: Sequence[str],
    start: Path | None,
    on_event: Callable[[Event], None] | None = None,
) -> list[str]:
    """Runs a dbt command in the private file, a copy of `start`, on what changed of some parts; records their inputs in
    the file, and returns what failed. Without changes dbt is not even imported, and a private file is made only where
    `start` isn't the published one.

    Raises:
        SourceError: see `require_descriptions`.
    """
    import duckdb

    lake, published, private = lake_of(config), present_marts(config), build_path(config)
    require_descriptions(lake, parts)
    inputs = inputs_of(lake, parts, start or published)
    _tell_of_held(lake, config, parts, inputs)
    found = news_of(lake, config, parts, inputs, start)
    is_news = any(news.is_any for news in found)
    if start is not None and (is_news or start != published):
        shutil.copyfile(start, private)
    if not is_news:
        return []
    with duckdb.connect(str(private)) as connection:
        # To attach what no model reads takes as long as a small build.
        with reading(connection, inputs.pins, kinds={kind for part in parts for kind in part.kinds}):
            wanted = selected(config, connection, found)
            failures = run_dbt((*command, "--select", *wanted), config, on_event) if wanted else []
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


def settle(private: Path) -> None:
    """Folds the write-ahead log into the file, so that the file is complete by itself. Creates its schema, even if no
    model was built.
    """
    import duckdb

    with duckdb.connect(str(private)) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS marts; CHECKPOINT")
