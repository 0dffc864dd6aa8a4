"""What a `defs.yaml` says about a source of bars, of an official daily series, or of both. With the settings it becomes
a `BarSource` (see `source`), which everything below works on. Its products are described in `products`.
"""

from __future__ import annotations

from datetime import date, time
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from lakehouse.derive.table_report import TableTarget
from lakehouse.domains.market.api import SymbolsApi
from lakehouse.domains.market.bars.products import Bars, OfficialDaily, Product
from lakehouse.domains.market.calendar import CalendarSpec
from lakehouse.domains.market.calendar_codes import CalendarCode, calendar_codes, canonical
from lakehouse.ingest.access import Access
from lakehouse.ingest.entry_types import DateFormat, TimeOfDay, Zone
from lakehouse.ingest.object_store import TARGET_PLACES, require_known
from lakehouse.ingest.strict import Description, Strict
from lakehouse.ingest.thresholds import Refusals


class Venue(Strict):
    """Where the bars were made."""

    mic: str = Field(pattern=r"^[A-Z0-9]{4}$", description="Market identifier code (ISO 10383).")
    name: str
    country: str = Field(pattern=r"^[A-Z]{2}$", description="ISO 3166 alpha-2.")
    time_zone: Zone = Field(description="The exchange's own time zone, which decides on which day a bar falls.")
    currency: str = Field(
        pattern=r"^[A-Z]{3,5}$",
        description="Usual trading currency (ISO 4217), and that of products that say no `currency` of their own.",
    )


class FurtherVenue(Strict):
    """Another market whose bars come in the same objects."""

    mic: str = Field(pattern=r"^[A-Z0-9]{4}$", description="Market identifier code (ISO 10383).")
    name: str
    calendar: CalendarCode | None = Field(
        None,
        description="Its calendar; default: the one that exchange_calendars has by its MIC, else the source's.",
    )

    def own_calendar(self, default: str) -> str:
        """The code of its calendar."""
        return canonical(self.calendar or (self.mic if self.mic in calendar_codes() else default))


class ExtraSession(Strict):
    """A session that the calendar lacks, or has with other hours, on the venue's clock."""

    session: date
    opens: TimeOfDay
    closes: TimeOfDay


class Calendar(Strict):
    """The sessions of an exchange: those of a calendar, and what differs from it."""

    code: CalendarCode = Field(description="Code of exchange_calendars, such as XETR, XNYS, 24/7 or 24/5.")
    also: tuple[date | ExtraSession, ...] = Field(
        (),
        description="Sessions that the calendar lacks: dates (with the hours of the session before), or `session`, "
        "`opens` and `closes`, which also replace the hours of a session that it has.",
    )
    closed: tuple[date, ...] = Field((), description="Days that were no sessions, though the calendar has them.")
    day_starts: TimeOfDay | None = Field(
        None,
        description="24/7 and 24/5 only: when a day begins on the venue's clock (default: midnight). From noon on it "
        "is the evening before: with 17:00 Monday's session begins on Sunday at 17:00.",
    )

    @model_validator(mode="before")
    @classmethod
    def _is_code(cls, value: object) -> object:
        return {"code": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_of_one_mind(self) -> Calendar:
        days = [*self.sessions_added, *self.closed]
        if twice := sorted({str(day) for day in days if days.count(day) > 1}):
            raise ValueError(f"also and closed name {', '.join(twice)} more than once")
        return self

    @property
    def sessions_added(self) -> dict[date, tuple[time, time] | None]:
        """`also`: day -> opening and close, if they are given."""
        return {
            each.session if isinstance(each, ExtraSession) else each: (each.opens, each.closes)
            if isinstance(each, ExtraSession)
            else None
            for each in self.also
        }

    def spec(self, source: str, time_zone: str) -> CalendarSpec:
        """The calendar of a source at a venue; it has the source's name where it isn't the one of that code."""
        also = tuple(self.sessions_added.items())
        return CalendarSpec(self.code, time_zone, f"{self.code}/{source}", also, self.closed, self.day_starts)


class Report(Strict):
    """The daily report: one object per session, with the target's own column names; also a table, where it is said."""

    url: str | None = Field(
        None,
        description="Target folder or s3:// URL; LAKEHOUSE_<SOURCE>_REPORT_URL takes precedence. "
        "Default: <home>/reports/<source>.",
    )
    access: Access | None = Field(None, description="Endpoint and credentials of its own.")
    key: str = Field(description="Object name; {session} is filled in by date_format.")
    date_format: DateFormat = "%Y-%m-%d"
    format: Literal["parquet", "csv"] = "parquet"
    columns: dict[str, str] = Field(description="Target column -> column of daily_bars, in the target's order.")
    table: TableTarget | None = Field(None, description="A table of PostgreSQL that gets the same rows.")

    @model_validator(mode="after")
    def _table_has_its_columns(self) -> Report:
        if self.table is not None:
            if unknown := [name for name in self.table.key if name not in self.columns]:
                raise ValueError(f"table.key names {', '.join(unknown)}, which is none of the columns")
            if "session" not in self.columns.values():
                raise ValueError("a report with a table needs the column session, by which its rows are replaced")
        return self

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str | None) -> str | None:
        if url is not None:
            require_known(url, TARGET_PLACES)
        return url


class Updates(Strict):
    """When an API is asked without anybody asking for it, on the venue's clock."""

    after_close: str = Field(
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$",
        description="Time of day at which each session is fetched, after its close.",
    )
    sweep_day: int = Field(3, ge=1, le=28, description="Day of the month on which earlier months are fetched again.")
    sweep_months: int = Field(2, ge=1, description="How many months before the current one the sweep fetches again.")


class Reconciliation(Strict):
    """A second, independent series that daily bars are held against."""

    against: str = Field(
        pattern=r"^([a-z][a-z0-9_]*\.)?[a-z][a-z0-9_]*$",
        description="Table of daily prices: `official_daily` of the same source, or another source's table such as "
        "`xetra.daily_bars`.",
    )
    match: Literal["instrument_id", "symbol"] = Field(
        "instrument_id", description="By which column both name their instruments."
    )
    price_bp: float = Field(1.0, gt=0, description="Open, high and low agree within this many basis points.")
    close_bp: float = Field(50.0, gt=0, description="The closes do (one may lack the closing auction).")
    volume_min: float = Field(description="Least ratio of the bars' volume to the other's.")
    volume_max: float = Field(description="Greatest ratio of the bars' volume to the other's.")
    severity: Literal["warn", "block"] = Field(
        "warn", description="Whether breaks are a warning, or hold back the publication of the marts."
    )


_PRODUCTS = (Bars.name, OfficialDaily.name)


def _in_currency(product: Any, currency: str) -> Any:
    """What a YAML says of a product, with the currency as a constant where nothing gives one."""
    if not isinstance(product, dict):
        return product
    entries = [product.get(name) or {} for name in ("columns", "constants", "named")]
    if not all(isinstance(entry, dict) for entry in entries) or any("currency" in entry for entry in entries):
        return product
    return {**product, "constants": {**entries[1], "currency": currency}}


class SourceConfig(Description):
    """A source of market data, whole."""

    description: str
    venue: Venue
    venues: tuple[FurtherVenue, ...] = Field(
        (),
        description="Further markets whose bars come in the same objects, such as XNAS and ARCX beside XNYS: `bars` "
        "says by the column `mic` of which one a bar is. They have the sessions, time zone, country and currency of "
        "`venue`.",
    )
    calendar: Calendar = Field(
        description="The exchange's sessions: a code of exchange_calendars, such as XETR, XNYS or 24/7, or an entry "
        "with `code` and what differs from it."
    )
    first_session: date = Field(
        ge=date(1800, 1, 1),
        description="First session that is a partition; the calendar has to reach back to it.",
    )
    partitions_begin: Literal["data", "first_session"] = Field(
        "data",
        description="With what the partitions begin that Dagster's pages show: with the first session in the lake, or "
        "with first_session, so that any session can be backfilled from the pages. `lakehouse backfill` takes any.",
    )
    minutes_after_close: int = Field(
        0,
        ge=0,
        le=1_440,
        description="Minutes after the calendar's close that still belong to the regular segment (the auction).",
    )
    api: SymbolsApi | None = Field(None, description="The API that products with a `request` are asked from.")
    bars: Bars | None = Field(None, description="Intraday bars; a source may have an official daily series alone.")
    official_daily: OfficialDaily | None = None
    identifier: Literal["isin", "figi", "cusip"] | None = Field(
        None, description="Standard of instrument_id whose check digit is verified."
    )
    currencies: tuple[str, ...] | None = Field(
        None, description="The codes that prices may be in, where not all of them are ISO 4217 (USDT)."
    )
    negative_prices: bool = Field(False, description="Whether zero and negative prices are legal (futures spreads).")
    refusals: Refusals = Refusals()
    reconciliation: Reconciliation | None = None
    updates: Updates | None = Field(None, description="Schedules of an API; objects in a bucket have a sensor.")
    report: Report | None = None

    @model_validator(mode="before")
    @classmethod
    def _in_the_venues_currency(cls, given: Any) -> Any:
        venue = given.get("venue") if isinstance(given, dict) else None
        currency = venue.get("currency") if isinstance(venue, dict) else None
        if currency is None:
            return given
        return {name: _in_currency(entry, currency) if name in _PRODUCTS else entry for name, entry in given.items()}

    @model_validator(mode="after")
    def _requests_have_an_api(self) -> SourceConfig:
        if self.api is None and any(product.request for product in self.products):
            raise ValueError("a product with a `request` needs the entry `api`, which says whom to ask")
        has_records = self.api is not None and self.api.records is not None
        if wrong := [each.name for each in self.products if each.request and has_records != (each.format == "jsonl")]:
            raise ValueError(
                f"{', '.join(wrong)}: an API's records, which `api.records` finds in its JSON, are read by the format "
                "jsonl, and that format needs `api.records`"
            )
        return self

    @model_validator(mode="after")
    def _has_what_its_entries_need(self) -> SourceConfig:
        if not self.products:
            raise ValueError("the source delivers nothing: describe `bars`, `official_daily` or both")
        needing = [name for name in ("reconciliation", "updates", "report") if getattr(self, name) is not None]
        if self.bars is None and needing:
            raise ValueError(f"{', '.join(needing)} needs `bars`, which the source doesn't have")
        return self

    @model_validator(mode="after")
    def _markets_are_told_apart(self) -> SourceConfig:
        gives = self.bars is not None and "mic" in {**self.bars.columns, **self.bars.constants, **self.bars.named}
        if not self.venues:
            if gives:
                raise ValueError(f"bars give a mic: name the markets besides {self.venue.mic} in `venues`")
            return self
        if not gives:
            raise ValueError(
                "venues: bars give no mic; map it to a column of the object, or to a part of the object's name, and "
                "the vendor's codes to MICs by `values`"
            )
        if self.official_daily is not None:
            raise ValueError(
                "venues: official_daily has no mic; describe the official series as a source of its own, a venue each"
            )
        mics = [each.mic for each in self.markets]
        if twice := sorted({mic for mic in mics if mics.count(mic) > 1}):
            raise ValueError(f"venue and venues name {', '.join(twice)} more than once")
        own = canonical(self.calendar.code)
        if other := [each for each in self.venues if each.own_calendar(own) != own]:
            said = ", ".join(f"{each.mic} (calendar {each.own_calendar(own)})" for each in other)
            raise ValueError(
                f"venues: {said} has other sessions than {self.venue.mic} (calendar {own}), and a source has one "
                "calendar; describe it as a source of its own"
            )
        return self

    @property
    def markets(self) -> tuple[Venue, ...]:
        """Every market whose bars the source delivers, `venue` first."""
        further = (self.venue.model_copy(update={"mic": each.mic, "name": each.name}) for each in self.venues)
        return self.venue, *further

    @property
    def mics(self) -> tuple[str, ...]:
        """The markets of a source that has several; otherwise none is named in its bars."""
        return tuple(each.mic for each in self.markets) if self.venues else ()

    @property
    def products(self) -> list[Product]:
        """What the source delivers, bars first."""
        return [product for product in (self.bars, self.official_daily) if product is not None]
