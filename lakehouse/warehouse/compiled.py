"""The SQL of dbt's models as it runs on an empty lake, and that of the tables that they read: for lineage.

dbt compiles with a home and a lake of its own, so that nothing of the installation is opened or written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from lakehouse.settings import Settings
from lakehouse.warehouse.dbt import build_path, compile_models
from lakehouse.warehouse.sources import CATALOG, attach_lake

Columns = dict[str, str]
"""Column -> type."""


@dataclass(frozen=True)
class Compiled:
    """What dbt's models are made of.

    Attributes:
        models: model -> its query.
        views: name of a table that models read, such as `market.daily_bars` -> its query, where it is a view.
        tables: name of a table that models read -> its columns.
    """

    models: Mapping[str, str]
    views: Mapping[str, str]
    tables: Mapping[str, Columns]


def compiled(config: Settings) -> Compiled:
    """Compiles the models: some four seconds.

    Raises:
        DbtFailed: dbt could not compile them.
    """
    import duckdb

    with TemporaryDirectory(prefix="lakehouse-lineage-") as folder:
        home = Path(folder)
        (home / "lake").mkdir()
        empty = config.model_copy(update={"home": home, "lake_uri": str(home / "lake")})
        build_path(empty)
        models = compile_models(empty, manifest_of=config)
        with duckdb.connect() as connection:
            attach_lake(connection, empty, CATALOG)
            of_catalog = f"WHERE database_name = '{CATALOG}' AND NOT internal"
            views = connection.execute(
                f"SELECT schema_name || '.' || view_name, sql FROM duckdb_views() {of_catalog}"
            ).fetchall()
            columns = connection.execute(
                f"SELECT schema_name || '.' || table_name, column_name, data_type FROM duckdb_columns() {of_catalog} "
                "ORDER BY ALL"
            ).fetchall()
    tables: dict[str, Columns] = {}
    for table, column, kind in columns:
        tables.setdefault(table, {})[column] = kind
    # After `CREATE VIEW <name> AS `.
    return Compiled(models, {name: sql.partition(" AS ")[2].rstrip("; \n") for name, sql in views}, tables)
