"""What a source offers and the lake has not taken yet, by session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from lakehouse.lake.lake import Lake
from lakehouse.lake.ledger import ledger_of, pending
from lakehouse.market.calendar import SessionCalendar
from lakehouse.sources.config import BarFileConfig
from lakehouse.sources.objects import ObjectStoreSource


@dataclass(frozen=True)
class PendingObject:
    """An object version that is to be loaded; `tag` tells whether it is still the one that was listed."""

    name: str
    version: str
    size: int
    published_at: datetime
    tag: str | None
    day: date
    """The date that its name carries."""
    session: date
    """The session whose partition takes it in: that of `day`, or the next one."""


def pending_objects(
    lake: Lake, config: BarFileConfig, calendar: SessionCalendar, *, retry_failed: bool
) -> list[PendingObject]:
    """The object versions at the source that the lake hasn't taken yet, oldest session first.

    Objects that are not the source's by their names, or lie before its first session, are none.

    Args:
        retry_failed: offer versions again that could not be read, since somebody asks for them.

    Raises:
        SourceUnavailable: the source can't be listed.
    """
    listed = ObjectStoreSource(config.url()).list()
    waiting = pending(listed, ledger_of(lake, config.source), retry_failed=retry_failed)
    found = []
    for row in waiting.iter_rows(named=True):
        dated = config.object_hour(row["name"])
        session = calendar.session_on_or_after(dated[0]) if dated else None
        if dated and session:
            found.append(
                PendingObject(
                    row["name"], row["version"], row["size"], row["published_at"], row["tag"], dated[0], session
                )
            )
    return sorted(found, key=lambda item: (item.session, item.name))
