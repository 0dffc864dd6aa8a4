"""The dbt-duckdb plugin that lets dbt's models read the lake.

It attaches the lake's tables to the DuckDB that dbt builds with, as the in-memory catalogue `lakehouse`: models read
`lakehouse.<source>.<table>`, and the file that dbt builds contains none of it. `sources` defines the catalogue. The
profile's `config` names the installation that the lake belongs to.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbt.adapters.duckdb.plugins import BasePlugin

from lakehouse.settings import settings
from lakehouse.warehouse.sources import CATALOG, attach_lake

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class Plugin(BasePlugin):
    """Attaches the lake once to each DuckDB instance that dbt opens.

    All cursors of an instance share its catalogues: the first one attaches the lake, the others find it. So all models
    of a run read the same state of the lake, whatever is committed meanwhile.
    """

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Keeps the settings, with the home and the lake that the profile names, if it does."""
        home, lake = plugin_config["home"], plugin_config["lake"]
        place = {**({"home": Path(home)} if home else {}), **({"lake_uri": lake} if lake else {})}
        self._settings = settings().model_copy(update=place)

    def configure_cursor(self, cursor: DuckDBPyConnection) -> None:
        """Attaches the lake, unless another cursor of this instance has done so. dbt opens cursors one at a time."""
        attach_lake(cursor, self._settings, catalog=CATALOG)
