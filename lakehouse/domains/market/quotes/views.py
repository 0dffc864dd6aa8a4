"""SQL views over a feed's closed windows. They store nothing and reflect each commit of `quote_windows`.

`derive` makes the windows; `rules` defines the ranking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.domains.market.quotes.feed import GAINS, TOP, WINDOWS, Feed
from lakehouse.domains.market.quotes.rules import ranked_by_price
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, relation_of

if TYPE_CHECKING:
    import duckdb


def top_stocks(lake: Lake, connection: duckdb.DuckDBPyConnection, feed: Feed) -> str:
    """The query for `<feed>.top_stocks`: the highest ranks of each window, newest window first."""
    ranked = ranked_by_price(relation_of(wanted_windows(lake, connection, feed)))
    return f"""
        SELECT {_columns(feed, TOP)} FROM ({ranked}) WHERE price_rank <= {feed.config.windows.top}
        ORDER BY window_end DESC, resolution_minutes, price_rank, symbol
    """


def percentage_gains(lake: Lake, connection: duckdb.DuckDBPyConnection, feed: Feed) -> str:
    """The query for `<feed>.percentage_gains`, newest window first."""
    return f"""
        SELECT {_columns(feed, GAINS)} FROM ({wanted_windows(lake, connection, feed)})
        ORDER BY window_end DESC, resolution_minutes, symbol
    """


def wanted_windows(lake: Lake, connection: duckdb.DuckDBPyConnection, feed: Feed) -> Query:
    """The query for a feed's closed windows of the lengths in its YAML. The table may also hold windows of lengths
    that the YAML no longer lists.
    """
    lengths = ", ".join(map(str, feed.config.windows.resolutions_minutes))
    stored = lake.select(feed.table(WINDOWS), connection)
    return Query(f"SELECT * FROM ({stored}) WHERE resolution_minutes IN ({lengths})")


def _columns(feed: Feed, table: str) -> str:
    return ", ".join(feed.contract(table).column_names)
