"""Market data: bars, quotes, corporate actions."""

from __future__ import annotations

from functools import cache, partial

from lakehouse.derive.domain import Domain, Kind
from lakehouse.domains.market import model_inputs, model_reach
from lakehouse.domains.market.bars import source as bars
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.resolve import bar_source
from lakehouse.domains.market.contracts import contracts
from lakehouse.domains.market.quotes import feed as quotes
from lakehouse.domains.market.quotes.config import FeedConfig
from lakehouse.domains.market.quotes.resolve import TABLES, feed_of
from lakehouse.domains.market.reconciliation.views import reconciliation_breaks
from lakehouse.lake.contract import Contract


def _of(tables: tuple[str, ...]) -> dict[str, Contract]:
    return {table: contracts()[table] for table in tables}


@cache
def _of_one_market() -> dict[str, Contract]:
    """The contracts of a source with one market."""
    return {
        name: contract.bound({}, without=("mic",)) if "mic" in contract.column_names else contract
        for name, contract in _of((*bars.TABLES, bars.SYMBOLS)).items()
    }


DOMAIN = Domain(
    name="market",
    kinds=(
        Kind(
            name=bars.KIND,
            component="MarketSource",
            model=SourceConfig,
            resolve=bar_source,
            contracts=partial(_of, (*bars.TABLES, bars.SYMBOLS)),
            usual=_of_one_market,
            over_all=("daily_bars", "official_daily", "corporate_actions"),
            marts=("market", "warehouse"),
            attach=model_inputs.attach_market,
            joins=(model_reach.REFERENCE_DATA,),
            reach=model_reach.reach,
        ),
        Kind(
            name=quotes.KIND,
            component="QuoteFeed",
            model=FeedConfig,
            resolve=feed_of,
            contracts=partial(_of, TABLES),
            marts=("quotes", "feed_warehouse"),
            attach=model_inputs.attach_feeds,
            reads=(quotes.WINDOWS,),
            of_days_over=True,
            reach=lambda *_: (),
        ),
    ),
    views=lambda: {"reconciliation_breaks": (contracts()["reconciliation_breaks"], reconciliation_breaks)},
    reserved=(model_inputs.CALENDAR,),
)
