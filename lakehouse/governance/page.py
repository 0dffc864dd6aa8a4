"""The catalogue as one HTML page that works without a server and without a network: its data, style and script are in
the file.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from string import Template

from lakehouse.governance.catalogue import column_rows, table_rows
from lakehouse.governance.figures import figures
from lakehouse.governance.inherited import catalogued
from lakehouse.lake.lake import Lake
from lakehouse.settings import Settings
from lakehouse.whole_file import write_whole

_TEMPLATE = Path(__file__).with_name("page.html")


def write_page(lake: Lake, config: Settings, output: Path) -> None:
    """Writes the page to a file, which it replaces in one step."""
    write_whole(output, page(lake, config))


def page(lake: Lake, config: Settings) -> str:
    """The page of the lake's tables."""
    tables = catalogued(lake, config)
    columns: dict[tuple[str, str], list[dict[str, object]]] = {}
    for row in column_rows(tables):
        said = {name: value for name, value in row.items() if value not in (None, False)}
        columns.setdefault((row["schema_name"], row["table_name"]), []).append(said)
    rules = {table.sql_name: [rule for rule in table.rules if not rule[0].endswith("_present")] for table in tables}
    data = [
        {
            **row,
            "columns": columns.get((row["schema_name"], row["table_name"]), []),
            "rules": rules[f"{row['schema_name']}.{row['table_name']}"],
        }
        for row in table_rows(tables, figures(lake, tables))
    ]
    # In a script element only `</` and `<!--` would end or change it.
    written = json.dumps(data, default=_text, separators=(",", ":")).replace("<", "\\u003c")
    made_at = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(data=written, made_at=made_at)


def _text(value: object) -> str:
    return f"{value:%Y-%m-%d %H:%M} UTC" if isinstance(value, datetime) else str(value)
