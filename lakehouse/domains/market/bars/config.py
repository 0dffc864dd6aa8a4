"""What a `defs.yaml` says about a source: the one description that loading, deriving, checking and Dagster
share. Its products are described in `ingest.dataset`, its API in `ingest.http`; orchestration is the matter of
`lakehouse.components`.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from lakehouse.domains.market.calendar import SessionCalendar
from lakehouse.errors import SourceError
from lakehouse.ingest.access import FROM_ENVIRONMENT, Access, ResolvedAccess
from lakehouse.ingest.dataset import Bars, OfficialDaily, Product, Strict
from lakehouse.ingest.defs_yaml import DEFS, MARKET_SOURCE, Descriptions, described
from lakehouse.ingest.http.config import Api, symbols_of
from lakehouse.ingest.object_store import SOURCE_PLACES, TARGET_PLACES, require_known
from lakehouse.lake.contract import Contract, contract_of
from lakehouse.settings import Settings, settings

_TAKEN = ("lake", "marts", "market", "feed", "calendar", "warehouse")


def not_taken(source: str) -> str:
    """A source's name, which becomes an SQL schema."""
    if source in _TAKEN:
        raise ValueError(f"source {source!r} is a schema of the lake's own; {', '.join(_TAKEN)} are taken")
    return source


class Venue(Strict):
    """Where the bars were made."""

    mic: str = Field(pattern=r"^[A-Z0-9]{4}$", description="Market identifier code (ISO 10383).")
    name: str
    country: str = Field(pattern=r"^[A-Z]{2}$", description="ISO 3166 alpha-2.")
    time_zone: str = Field(description="The exchange's own time zone, which decides on which day a bar falls.")
    currency: str = Field(pattern=r"^[A-Z]{3,5}$", description="Usual trading currency (ISO 4217).")


class Report(Strict):
    """The daily report: one object a session, with the target's own column names."""

    url: str | None = Field(
        None,
        description="Target folder or s3:// URL; LAKEHOUSE_<SOURCE>_REPORT_URL takes precedence. "
        "Default: <home>/reports/<source>.",
    )
    access: Access | None = Field(None, description="Endpoint and credentials of its own.")
    key: str = Field(description="Object name; {session} is filled in by date_format.")
    date_format: str = "%Y-%m-%d"
    format: Literal["parquet", "csv"] = "parquet"
    columns: dict[str, str] = Field(description="Target column -> column of daily_bars, in the target's order.")

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str | None) -> str | None:
        if url is not None:
            require_known(url, TARGET_PLACES)
        return url


class Updates(Strict):
    """When an API is asked without anybody asking for it, on the venue's clock."""

    after_close: str = Field(
        pattern=r"^\d{2}:\d{2}$", description="Time of day at which each session is fetched, after its close."
    )
    sweep_day: int = Field(3, ge=1, le=28, description="Day of the month on which earlier months are fetched again.")
    sweep_months: int = Field(2, ge=1, description="How many months before the current one the sweep fetches again.")


class RefusalWarning(Strict):
    """How much of what a vendor sends may be refused without a word."""

    warn_pct: float = Field(1.0, gt=0, le=100, description="From this share on a run warns.")


class Refusals(RefusalWarning):
    """How much of what a source sends may be refused, rows outside the calendar's sessions not counted."""

    fail_pct: float = Field(
        20.0,
        gt=0,
        le=100,
        description="From this share on a run fails, and the source is not published; likewise where an object with "
        "rows kept none.",
    )
    fail_rows: int = Field(100, ge=1, description="Fewer rows than these fail only where an object kept none.")


class Reconciliation(Strict):
    """A second, independent series that daily bars are held against."""

    against: str = Field(
        description="Table of daily prices: `official_daily` of the same source, or another source's table such as "
        "`xetra.daily_bars`."
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


class SourceConfig(Strict):
    """A source of market data, whole."""

    source: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description="Name of the source; the first part of its assets' keys and its SQL schema.",
    )
    description: str
    owners: list[str] = Field([])
    tags: dict[str, str] = Field({})
    venue: Venue
    calendar: str = Field(description="Code of exchange_calendars, such as XETR, XNYS or 24/7.")
    first_session: date = Field(description="First session that is a partition.")
    minutes_after_close: int = Field(
        0,
        ge=0,
        description="Minutes after the calendar's close that still belong to the regular segment (the auction).",
    )
    api: Api | None = Field(None, description="The API that products with a `request` are asked from.")
    bars: Bars
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

    _is_no_schema_of_its_own = field_validator("source")(not_taken)

    @model_validator(mode="after")
    def _requests_have_an_api(self) -> SourceConfig:
        if self.api is None and any(product.request for product in self.products):
            raise ValueError("a product with a `request` needs the entry `api`, which says whom to ask")
        return self

    @property
    def products(self) -> list[Product]:
        """What the source delivers, bars first."""
        return [product for product in (self.bars, self.official_daily) if product is not None]

    def table(self, name: str) -> str:
        """The path of this source's table, such as `xetra/bars`."""
        return f"{self.source}/{name}"

    def contract(self, table: str) -> Contract:
        """The contract of a table as it binds this source (identifier standard, rules that it waives)."""
        waived = {"negative_prices"} if self.negative_prices else set()
        if self.currencies is None:
            return contract_of(table).for_source(self.identifier, frozenset(waived))
        codes = ", ".join(f"'{code}'" for code in self.currencies)
        return contract_of(table).for_source(
            self.identifier,
            frozenset({*waived, "currency"}),
            known_currency=(f"currency IN ({codes})", f"currency is none of {codes.replace(chr(39), '')}"),
        )

    def url(self, config: Settings | None = None) -> str:
        """Where the objects, or the API, are.

        Raises:
            SourceError: neither the environment nor the YAML says it, or objects are not read from a URL of that kind.
        """
        declared = self.api.url if self.api else self.bars.objects.url if self.bars.objects else None
        found = (config or settings()).source_variable(self.source, "url") or declared
        if found is None:
            raise SourceError(
                f"nobody says where the objects of {self.source} are: set LAKEHOUSE_{self.source.upper()}_URL "
                "to a folder or an s3:// URL, or objects.url in its defs.yaml"
            )
        if self.api is None:
            require_known(found, SOURCE_PLACES)
        return found

    def access(self, product: Product, config: Settings | None = None) -> ResolvedAccess:
        """How to get at the objects of a product: as it says itself, or as the bars do, whose URL it shares."""
        said = [each.objects.access for each in (product, self.bars) if each.objects and each.objects.access]
        return said[0].resolve((config or settings()).secret) if said else FROM_ENVIRONMENT

    def parameters(self, product: Product, config: Settings | None = None) -> dict[str, str]:
        """The parameters of an API's request, before a symbol and month are filled in. LAKEHOUSE_<SOURCE>_<PARAMETER>
        takes precedence for those that stay with the rows, as LAKEHOUSE_ALPHA_VANTAGE_ADJUSTED does.

        Raises:
            SourceError: one that stays with the rows as a boolean is neither true nor false.
        """
        own = config or settings()
        chosen = {name: own.source_variable(self.source, name) for name in product.choices if name != "symbol"}
        contract = contract_of(product.raw_table)
        for column, name in product.named.items():
            value = chosen.get(name)
            if value not in (None, "true", "false") and contract.column(column).type.kind == "boolean":
                raise SourceError(
                    f"LAKEHOUSE_{self.source.upper()}_{name.upper()} is {value!r}; set it to true or false, or unset it"
                )
        return (product.request or {}) | {name: value for name, value in chosen.items() if value is not None}

    def asks_for(self, product: Product, name: str, config: Settings | None = None) -> bool:
        """Whether the API would be asked for an object of that name: not for a symbol that was taken out, nor with
        other parameters. Objects in a bucket are always asked for.
        """
        named = product.named_in(name)
        if self.api is None or product.request is None or named is None:
            return True
        parameters = self.parameters(product, config)
        return named.values["symbol"] in symbols_of(self.source, self.api) and all(
            named.values[choice] == parameters[choice]
            for choice in product.choices
            if choice not in ("symbol", "month")
        )

    def calendar_frame(self, config: Settings | None = None) -> SessionCalendar:
        """The source's exchange calendar from its first session on."""
        from lakehouse.domains.market.calendar_cache import load_calendar

        return load_calendar(
            self.calendar, self.first_session, self.venue.time_zone, (config or settings()).home / "cache"
        )

    def sessions_together(self, sessions: list[date], calendar: SessionCalendar) -> list[date]:
        """`sessions` and those that share an object with them, up to today: what a load of their objects brings
        news about. Ascending.
        """
        if not self.bars.by_month or not sessions:
            return sorted(sessions)
        months = {session.replace(day=1) for session in sessions}
        begun = calendar.until_today(min(months))
        return [session for session in begun if session.replace(day=1) in months]

    def expected_objects(self, session: date, calendar: SessionCalendar) -> list[tuple[date, int | None]]:
        """The (date, hour) of the objects that a session needs to be complete, on the clock of the objects' names.

        Hourly objects are expected for every hour in which the regular segment trades; a day's object has no hour.
        """
        assert self.bars.objects is not None
        if self.bars.objects.per_session == "day":
            return [(session, None)]
        zone, hour = ZoneInfo(self.bars.time.zone), calendar.hours(session)[0].replace(minute=0)
        last = self.regular_end(session, calendar) - timedelta(microseconds=1)
        expected: list[tuple[date, int | None]] = []
        while hour <= last:
            local = hour.astimezone(zone)
            expected.append((local.date(), local.hour))
            hour += timedelta(hours=1)
        return expected

    def regular_end(self, session: date, calendar: SessionCalendar) -> datetime:
        """When the session's regular segment is over, the closing auction included."""
        return calendar.hours(session)[1] + timedelta(minutes=self.minutes_after_close)


@cache
def configured_sources(folder: Path = DEFS) -> dict[str, SourceConfig]:
    """Every source of bars that a `defs.yaml` below `folder` describes, by name; broken files are left out."""
    return described_sources(folder).found


@cache
def described_sources(folder: Path = DEFS) -> Descriptions[SourceConfig]:
    """The sources of bars, and which `defs.yaml` can't be read."""
    return described(MARKET_SOURCE, SourceConfig, folder)


def source_named(name: str) -> SourceConfig:
    """The source of that name.

    Raises:
        SourceError: no defs.yaml describes it, or its own is broken.
    """
    return described_sources().named(name, "source")
