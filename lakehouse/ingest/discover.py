"""What a source offers and the lake has not taken yet, by session."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from zoneinfo import ZoneInfo

from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.calendar import SessionCalendar
from lakehouse.ingest.dataset import Product
from lakehouse.ingest.landing import Landing
from lakehouse.ingest.ledger import ledger_of, pending, stored_version
from lakehouse.ingest.object_store import ObjectSource, objects_at
from lakehouse.ingest.reading import reading_of
from lakehouse.ingest.skipped import Skipped, skipped
from lakehouse.ingest.withheld import Asking, readable_again
from lakehouse.lake.lake import Lake


@dataclass(frozen=True)
class PendingObject:
    """An object version that is to be loaded; `path` and `tag` are what it is fetched by."""

    name: str
    version: str
    """The version that the source lists, with the reading (see `lakehouse.ingest.ledger`)."""
    size: int
    published_at: datetime
    path: str
    tag: str | None
    first_day: date
    """The first day that the object is about."""
    last_day: date
    first_session: date
    """The session on `first_day`, or the next one; so it is with `last_session`, but never beyond the last day."""
    last_session: date
    values: dict[str, str] = field(default_factory=dict)
    """What its name says beside the day."""
    slot: int = 0
    """Of a version that the store kept back, the slot in which it was asked for again (see `withheld`)."""

    @property
    def is_one_day(self) -> bool:
        """Whether all of its rows are of one storage partition."""
        return self.first_day == self.last_day


def store_of(lake: Lake, config: SourceConfig, product: Product) -> ObjectSource | Landing:
    """Where the objects of a product are: its bucket, or the landed answers of its API."""
    return Landing(lake.uri, config.source) if product.request else objects_at(config.url(), config.access(product))


@dataclass(frozen=True)
class Discovery:
    """What a look at a source found: `pending` objects, oldest session first, the versions of an object in the order
    of their publication; and what it skipped (of a folder or bucket; an API has only what was asked for).
    """

    pending: list[PendingObject]
    skipped: tuple[Skipped, ...] = ()


def discover(
    lake: Lake,
    config: SourceConfig,
    product: Product,
    calendar: SessionCalendar,
    *,
    retry_failed: bool | Asking,
    sessions: Sequence[date] | None = None,
    reread: bool = False,
) -> Discovery:
    """Looks for the object versions at the source that the lake hasn't taken yet. Objects before the source's first
    session are none.

    Args:
        retry_failed: offer versions again that could not be read, since a person asks for them; or, of a folder or
            bucket, those that the store kept back, that are due, and that can be read by now.
        sessions: leave out objects that are about none of these.
        reread: offer what the source holds again where it was read by other settings.

    Raises:
        SourceUnavailable: the source can't be listed.
    """
    import polars as pl

    store = store_of(lake, config, product)
    listed = store.list(prefixes(product, sessions)) if isinstance(store, Landing) else store.list()
    ledger = ledger_of(lake, config.source)
    reading = reading_of(config, product)
    waiting = pending(
        listed.objects,
        ledger,
        retry_failed=retry_failed is True,
        answers=product.request is not None,
        reading=reading if reread else None,
    )
    if isinstance(retry_failed, Asking) and not isinstance(store, Landing):
        again = readable_again(store, listed.objects, ledger, retry_failed)
        waiting = pl.concat([waiting, again], how="diagonal")
    wanted = None if sessions is None else set(sessions)
    found = []
    for row in waiting.iter_rows(named=True):
        item = _described(row | {"version": stored_version(row["version"], reading)}, config, product, calendar)
        if item and (wanted is None or not item.is_one_day or item.first_session in wanted):
            found.append(item)
    found.sort(key=lambda item: (item.first_session, item.name, item.published_at))
    if product.request:
        return Discovery(found)
    # What was loaded once has matched a pattern, which the YAML may no longer have.
    new = waiting.join(ledger.select("object").unique().collect(), left_on="name", right_on="object", how="anti")
    unmatched = skipped("no pattern", _unmatched(new["name"], config, calendar))
    return Discovery(found, (unmatched, skipped("not listed", map(str, listed.passed_over))))


def _unmatched(names: Iterable[str], config: SourceConfig, calendar: SessionCalendar) -> Iterator[str]:
    """The names that belong to no product in a folder or bucket, or to a day that the calendar doesn't reach, without
    those that the YAML ignores.
    """
    products = [product for product in config.products if product.objects is not None]
    ignored = [re.compile(product.objects.ignore) for product in products if product.objects and product.objects.ignore]
    for name in names:
        if any(expression.fullmatch(name) for expression in ignored):
            continue
        named = next(filter(None, (product.named_in(name) for product in products)), None)
        if named is None or named.first_day > calendar.sessions[-1]:
            yield name


def prefixes(product: Product, sessions: Sequence[date] | None) -> list[str]:
    """The beginnings of the names of an API's objects about `sessions` (None: about any)."""
    if not product.by_month or sessions is None:
        return [product.name]
    return [f"{product.name}/{month}" for month in sorted({f"{session:%Y-%m}" for session in sessions})]


def _described(
    row: dict[str, object], config: SourceConfig, product: Product, calendar: SessionCalendar
) -> PendingObject | None:
    published = row["published_at"]
    assert isinstance(published, datetime)
    named = product.named_in(str(row["name"]))
    if named is None:
        return None
    first_day = named.first_day if named.first_day == named.last_day else max(named.first_day, config.first_session)
    first = calendar.session_on_or_after(first_day)
    if first is None:
        return None
    # An object can't be about sessions after its publication.
    today = published.astimezone(ZoneInfo(config.venue.time_zone)).date()
    between = calendar.between(first, min(named.last_day, today))
    facts = {name: row[name] for name in ("name", "version", "size", "published_at", "path", "tag")}
    return PendingObject(
        **facts,  # type: ignore[arg-type]
        first_day=first_day,
        last_day=named.last_day,
        first_session=first,
        last_session=between[-1] if between else first,
        values=named.values,
        slot=row.get("slot") or 0,  # type: ignore[arg-type]
    )
