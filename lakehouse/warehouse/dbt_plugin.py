"""The dbt-duckdb plugin that lets dbt's models read the lake.

It attaches the lake's tables to the DuckDB that dbt builds with, as the catalogue `lakehouse`, which lives in memory:
the models read `lakehouse.<source>.<table>`, and the file that dbt builds holds nothing of it. What the catalogue
contains is said in `sources`; what is built from it, in the dbt project. The profile's `config` names the installation
that the lake belongs to.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbt.adapters.duckdb.plugins import BasePlugin

from lakehouse.settings import settings
from lakehouse.warehouse.sources import attach_lake

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CATALOG = "lakehouse"


class Plugin(BasePlugin):
    """Attaches the lake once to each DuckDB instance that dbt opens.

    All cursors of an instance share its catalogues, so that the first one attaches and the others find it. The models
    of a run therefore read one and the same state of the lake, whatever is committed to it meanwhile.
    """

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Keeps the settings, with the home and the lake that the profile names."""
        place = {"home": Path(plugin_config["home"]), "lake_uri": plugin_config["lake"]}
        self._settings = settings().model_copy(update=place)

    def configure_cursor(self, cursor: DuckDBPyConnection) -> None:
        """Attaches the lake unless another cursor of this instance has. dbt opens its cursors one at a time."""
        attach_lake(cursor, self._settings, catalog=CATALOG)
