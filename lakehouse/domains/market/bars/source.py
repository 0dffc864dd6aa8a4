"""A source of market data, resolved: its YAML and the settings made into what the steps of the pipeline work on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import cache, partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from lakehouse.derive.source import Source
from lakehouse.domains.market.api import Symbols
from lakehouse.domains.market.bars.config import Calendar, SourceConfig
from lakehouse.domains.market.bars.products import Bars, OfficialDaily, Product, bar_faults, bar_times, daily_times
from lakehouse.domains.market.calendar import SessionCalendar
from lakehouse.domains.market.contracts import contracts
from lakehouse.domains.market.sessions import Sessions
from lakehouse.errors import SourceError
from lakehouse.ingest.access import FROM_ENVIRONMENT, ResolvedAccess
from lakehouse.ingest.dataset import ApiOrigin, Dataset, ObjectOrigin
from lakehouse.ingest.http.config import Endpoint
from lakehouse.ingest.http.requests import Requests
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.object_store import TARGET_PLACES, objects_at, require_known
from lakehouse.ingest.reading import reading_digest
from lakehouse.ingest.recent import day_folders
from lakehouse.ingest.variables import Variables
from lakehouse.lake.contract import Contract
from lakehouse.servers.postgres import Place

if TYPE_CHECKING:
    import polars as pl

KIND = "market"
_ROWS = {
    Bars.name: "every revision of every bar",
    OfficialDaily.name: "every revision of every row of the vendor's official daily series",
}
_SPANS = {
    "raw_bars": ("start_at", "end_at"),
    "bars": ("start_at", "end_at"),
    "daily_bars": ("first_bar_at", "last_bar_at"),
}


@dataclass(frozen=True, kw_only=True)
class BarSource(Source):
    """A source of bars, of an official daily series, or of both: its datasets `bars` and `official_daily` are those
    that the YAML has.
    """

    config: SourceConfig
    sessions: Sessions
    report_url: str
    report_access: ResolvedAccess
    report_database: Place

    @property
    def calendar(self) -> SessionCalendar:
        """The exchange's calendar from the source's first session on."""
        return self.sessions.calendar

    @property
    def has_bars(self) -> bool:
        """Whether the source delivers intraday bars."""
        return self.config.bars is not None

    @property
    def bars(self) -> Dataset:
        """The intraday bars.

        Raises:
            SourceError: the source has none.
        """
        return self.dataset(self.bars_config.name)

    @property
    def bars_config(self) -> Bars:
        """What the YAML says of the intraday bars.

        Raises:
            SourceError: the source has none.
        """
        if self.config.bars is None:
            raise SourceError(f"{self.name} has no bars, only {', '.join(each.name for each in self.datasets)}")
        return self.config.bars

    @property
    def official_daily(self) -> Dataset | None:
        """The official daily series, where there is one."""
        return None if self.config.official_daily is None else self.dataset(OfficialDaily.name)

    @property
    def by_market(self) -> bool:
        """Whether its bars are of several markets, each of which they name."""
        return bool(self.config.venues)

    def require_settings(self, *, asks: bool = True) -> None:
        super().require_settings(asks=asks)
        require_known(self.report_url, TARGET_PLACES)

    def none_between(self, first: date, last: date) -> str:
        return f"{self.sessions.spec.code} has had no session from {first} to {last}"

    def span_of(self, table: str) -> tuple[str, str] | None:
        return _SPANS.get(table)

    def facts(self, table: str) -> dict[str, object]:
        """Which prices a table has."""
        found: dict[str, object] = {}
        if not self.has_bars:
            return found
        if self.bars.is_asked and table in _SPANS:
            found["prices"] = (
                "arrive adjusted for splits and dividends as of each answer" if self.is_adjusted else "arrive as traded"
            )
        return found

    @property
    def is_adjusted(self) -> bool:
        """Whether the bars are asked for with prices that the vendor has adjusted.

        Raises:
            SourceError: the settings say neither yes nor no.
        """
        origin = self.bars.origin
        return isinstance(origin, ApiOrigin) and origin.requests.parameters().get("adjusted") == "true"

    def regular_end(self, session: date) -> datetime:
        """When the session's regular segment is over, the closing auction included."""
        return self.sessions.over_at(session)

    def expected_objects(self, session: date) -> list[tuple[date, int | None]]:
        """The (date, hour) of the objects that a session needs to be complete, on the clock of the objects' names.

        Hours and days are expected in which the regular segment trades; a day's object has no hour.
        """
        objects, clock = self.bars_config.objects, self.bars.clock
        assert objects is not None
        if clock is None and objects.holds != "hour":
            return [(session, None)]
        zone, opens = ZoneInfo(clock or self.bars_config.time.zone), self.calendar.hours(session)[0]
        last = self.regular_end(session) - timedelta(microseconds=1)
        if objects.holds == "day":
            first_day, last_day = (moment.astimezone(zone).date() for moment in (opens, last))
            return [(first_day + timedelta(days=day), None) for day in range((last_day - first_day).days + 1)]
        # On the clock of the names: in India, hours begin at the half hours of UTC.
        hour = opens.astimezone(zone).replace(minute=0, second=0).astimezone(UTC)
        expected: dict[tuple[date, int | None], None] = {}
        while hour <= last:
            local = hour.astimezone(zone)
            expected[session if clock is None else local.date(), local.hour] = None
            hour += timedelta(hours=1)
        return list(expected)


def bound_contracts(config: SourceConfig) -> dict[str, Contract]:
    """The contracts of the source's tables as they bind it: identifier standard, currencies, rules that it waives, and
    whether it has volumes.
    """
    # A source of bars may be reconciled with another's daily series: its own is empty then.
    tables = TABLES if config.bars is not None else OFFICIAL_TABLES
    bars, daily, mics = config.bars, config.official_daily, config.mics
    unit = Fraction(str(bars.volume_unit_before)) if bars else Fraction(1)

    def bound(name: str) -> Contract:
        product = daily if name in OFFICIAL_TABLES else bars
        has_volumes = product is not None and product.volume is None
        return _bound(name, config.identifier, config.currencies, config.negative_prices, has_volumes, unit, bool(mics))

    return {name: bound(name) for name in (*tables, SYMBOLS)}


@cache
def _bound(
    name: str,
    identifier: str | None,
    currencies: tuple[str, ...] | None,
    negative_prices: bool,
    has_volumes: bool,
    volume_unit: Fraction,
    by_market: bool,
) -> Contract:
    """One of the contracts, made once a process: sources are resolved each time that they are looked up."""
    waived, further = {"negative_prices"} if negative_prices else set(), {}
    if currencies is not None:
        codes = ", ".join(f"'{code}'" for code in currencies)
        further["known_currency"] = (
            f"currency IN ({codes})",
            f"currency is none of {codes.replace(chr(39), '')}",
        )
        waived.add("currency")
    required = ("volume", "turnover") if has_volumes else ()
    # Exactly rounded: a power of ten is a double, and its inverse is not.
    parameters = {"volume": f"volume * {volume_unit.numerator}::DOUBLE / {volume_unit.denominator}::DOUBLE"}
    formats = {"instrument_id": identifier}
    without = () if by_market else ("mic",)
    return contracts()[name].bound(
        formats, waived, required=required, without=without, parameters=parameters, **further
    )


OFFICIAL_TABLES = ("raw_daily", "official_daily", "corporate_actions")
TABLES = ("raw_bars", "bars", "daily_bars", *OFFICIAL_TABLES)
"""The tables that a source of bars may have; without bars, it has the `OFFICIAL_TABLES`."""
SYMBOLS = "symbols"
"""A view that every source has."""


def datasets_of(config: SourceConfig, sessions: Sessions, variables: Variables) -> tuple[Dataset, ...]:
    """What the source delivers, bars first."""
    bound = bound_contracts(config)
    bars, daily = config.bars, config.official_daily
    made = []
    if bars is not None:
        times = partial(bar_times, bars, sessions, mics=config.mics)
        made.append(_dataset(config, bars, times, bound, sessions, variables))
    if daily is not None:
        made.append(_dataset(config, daily, partial(daily_times, daily), bound, sessions, variables))
    return tuple(made)


def _dataset(
    config: SourceConfig,
    product: Product,
    times: Callable[[pl.DataFrame], pl.DataFrame],
    bound: Mapping[str, Contract],
    sessions: Sessions,
    variables: Variables,
) -> Dataset:
    contract = bound[product.raw_table]
    return Dataset(
        source=config.source,
        name=product.name,
        description=f"{config.description}: {_ROWS[product.name]}",
        table=f"{config.source}/{product.raw_table}",
        contract=contract,
        rows=product,
        origin=_origin(config, product, variables),
        partitioning=sessions,
        partition_column="session",
        part=product.part,
        times=times,
        reading=reading_digest(
            contract,
            {
                "product": product.model_dump(mode="json", exclude={"objects", "request"}, exclude_defaults=True),
                "time_zone": config.venue.time_zone,
                "calendar": _calendar_read_by(config.calendar),
                # What is asked by month or as a whole is read from the first session on.
                "first_session": str(config.first_session) if product.request else None,
                **({"mics": config.mics} if config.mics else {}),
            },
        ),
        refusals=config.refusals,
        faults=bar_faults(product, sessions, config.mics) if isinstance(product, Bars) else {},
        clock=product.clock,
        units=_units(product, contract),
        object_max_bytes=variables.object_max_bytes,
    )


def _calendar_read_by(calendar: Calendar) -> str | dict[str, object]:
    """What the reading of rows says of the calendar: its code, where there is nothing else to say."""
    said = calendar.model_dump(mode="json", exclude_defaults=True)
    return said if len(said) > 1 else calendar.code


def _units(product: Product, contract: Contract) -> Mapping[str, Fraction]:
    """The units of the columns that are in a currency."""
    unit = Fraction(str(product.price_unit))
    return {} if unit == 1 else {column.name: unit for column in contract.columns if column.unit == "currency"}


def _origin(config: SourceConfig, product: Product, variables: Variables) -> ObjectOrigin | ApiOrigin:
    if product.request is None:
        assert product.objects is not None
        beside = tuple(each.objects for each in (config.bars, config.official_daily) if each and each.objects)
        of_bars = config.bars.objects if config.bars is not None else None
        url = variables.source_variable(config.source, "url") or (of_bars or product.objects).url
        # As the product says itself, or as the bars do, whose URL it shares.
        own = [each.access for each in (product.objects, of_bars) if each and each.access]
        access = own[0].resolve(variables.secret) if own else FROM_ENVIRONMENT
        days = day_folders(product.objects)
        return ObjectOrigin(partial(_place, config.source, url, access), product.objects, beside, days=days)
    assert config.api is not None
    symbols = Symbols(config.source, config.api.symbols, variables.source_variable(config.source, "symbols"))
    kept = tuple(dict.fromkeys(product.named.values()))
    said = {name: variables.source_variable(config.source, name) for name in kept if name in product.request}
    chosen = {name: value for name, value in said.items() if value is not None and name != "symbol"}
    requests = Requests(
        product.name,
        product.request,
        "symbol",
        symbols,
        kept,
        partial(_chosen, config, product, chosen),
        zone=config.venue.time_zone,
    )
    return ApiOrigin(Endpoint.of(config.source, config.api, variables), requests)


def _place(source: str, url: str | None, access: ResolvedAccess) -> ObjectSource:
    """Where the objects are.

    Raises:
        SourceError: neither the settings nor the YAML say it, or objects are not read from a URL of that kind.
    """
    if url is None:
        raise SourceError(
            f"it is not known where the objects of {source} are: set LAKEHOUSE_{source.upper()}_URL "
            "to a folder or an s3:// URL, or objects.url in its defs.yaml"
        )
    return objects_at(url, access)


def _chosen(config: SourceConfig, product: Product, chosen: Mapping[str, str]) -> Mapping[str, str]:
    """The parameters of an API's request that LAKEHOUSE_<SOURCE>_<PARAMETER> says otherwise, as
    LAKEHOUSE_ALPHA_VANTAGE_ADJUSTED does: those that stay with the rows.

    Raises:
        SourceError: one that stays with the rows as a boolean is neither true nor false.
    """
    contract = contracts()[product.raw_table]
    for column, name in product.named.items():
        if chosen.get(name, "true") not in ("true", "false") and contract.column(column).type.kind == "boolean":
            raise SourceError(
                f"LAKEHOUSE_{config.source.upper()}_{name.upper()} is {chosen[name]!r}; set it to true or false, or "
                "unset it"
            )
    return chosen
