"""Fetching: an API is asked about the sessions of a run, and its answers are landed.

A run always asks: nobody else can know whether the vendor has corrected something. Only answers that say
something new are landed: other rows, or that a session which has closed since, or an answer that failed, brought
none. What was asked for longest ago is asked for first, so that a quota that is used up
before the end lets the next run go on where this one stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from itertools import product as product_of
from threading import Event
from typing import Any

from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.calendar import SessionCalendar
from lakehouse.errors import AnswerRefused, NoAnswer, QuotaExhausted, RunOver, Unreachable
from lakehouse.ingest.dataset import Product
from lakehouse.ingest.discover import prefixes
from lakehouse.ingest.http.client import ApiClient
from lakehouse.ingest.http.config import symbols_of
from lakehouse.ingest.landing import Landing, published
from lakehouse.ingest.ledger import UNANSWERED, ledger_of, newest_entries
from lakehouse.lake.lake import Lake
from lakehouse.progress import Progress

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Request:
    """A question to the API: about a symbol and, where the product is asked by month, a month (its first day)."""

    name: str
    """Of the object that holds the answers."""
    parameters: dict[str, str]
    month: date | None
    newest: str | None
    """Version of the newest landed answer."""


def fetch(
    lake: Lake,
    config: SourceConfig,
    product: Product,
    sessions: Sequence[date],
    calendar: SessionCalendar,
    *,
    run_id: str | None,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Asks about all symbols and the months of `sessions`, and lands what is new.

    Returns: a row of the ledger, with the error, for each request without an answer, unless the ledger's last news
        of it is that same error.

    Raises:
        SourceError: the key is missing, or the settings name no symbol.
        SourceUnavailable: the landing can't be read or written.
    """
    assert config.api is not None
    landing = Landing(lake.uri, config.source)
    failed, last_news = _last_news(lake, config)
    requests = _requests(landing, config, product, sessions)
    # What had no answer, or was not asked for, comes first: an answer without news leaves no trace to go on from.
    requests.sort(key=lambda request: (request.name not in failed, last_news.get(request.name, _NEVER)))
    unanswered: list[dict[str, Any]] = []
    pointless = Event()

    with ApiClient(config.source, config.api) as client, ThreadPoolExecutor(config.api.concurrency) as pool:

        def ask(request: Request) -> str | None:
            """Why there is no answer; None where there is one."""
            if pointless.is_set():
                return "not asked: the vendor answered nothing more, or the run's time is over; the next run asks again"
            try:
                answer = client.get(request.parameters)
            except (QuotaExhausted, RunOver, Unreachable) as error:
                pointless.set()
                return str(error)
            except (AnswerRefused, NoAnswer) as error:
                return str(error)
            old = request.name not in failed and not _outdated(request, answer.published_at, config, calendar)
            landing.put(request.name, answer.body, answer.published_at, request.newest, unless_known=old)
            return None

        progress(f"answers of {config.source}", 0, len(requests))
        # One request goes first: where the vendor can't be reached, no other waits for its turn to find that out.
        first = [ask(request) for request in requests[:1]]
        errors = chain(first, pool.map(ask, requests[1:]))
        for done, (request, error) in enumerate(zip(requests, errors, strict=True), start=1):
            if error is not None and error != failed.get(request.name):
                unanswered.append(_failed(config, product, request, error, calendar, run_id))
            progress(f"answers of {config.source}", done, len(requests))
    return unanswered


def _last_news(lake: Lake, config: SourceConfig) -> tuple[dict[str, str], dict[str, datetime]]:
    """By object, from the ledger: the error of those that failed last, and the moment of the last news of any."""
    rows = newest_entries(ledger_of(lake, config.source)).select("object", "error", "ingested_at").collect().rows()
    failed = {name: error for name, error, _ in rows if error is not None}
    return failed, {name: ingested_at for name, _, ingested_at in rows}


def _requests(landing: Landing, config: SourceConfig, product: Product, sessions: Sequence[date]) -> list[Request]:
    assert config.api is not None
    parameters, symbols = config.parameters(product), symbols_of(config.source, config.api)
    listed = landing.list(prefixes(product, sessions)).objects.sort("version").group_by("name").last()
    newest = dict(listed.select("name", "version").iter_rows())
    months: list[date | None] = [None]
    if product.by_month:
        months = [*sorted({session.replace(day=1) for session in sessions})]
    found = []
    for month, symbol in product_of(months, symbols):
        name = product.object_name(parameters, symbol, month)
        found.append(Request(name, product.filled_in(parameters, symbol, month), month, newest.get(name)))
    return found


def _outdated(request: Request, now: datetime, config: SourceConfig, calendar: SessionCalendar) -> bool:
    """Whether a session of the request's month closed after its newest answer, and up to `now`."""
    if request.month is None or request.newest is None:
        return False
    known = published(request.newest)
    month = calendar.between(request.month, (request.month + timedelta(days=31)).replace(day=1) - timedelta(days=1))
    return any(known < config.regular_end(session, calendar) <= now for session in month)


def _failed(
    config: SourceConfig,
    product: Product,
    request: Request,
    error: str,
    calendar: SessionCalendar,
    run_id: str | None,
) -> dict[str, Any]:
    now = datetime.now(UTC)
    named = product.named_in(request.name)
    assert named is not None
    begun = calendar.until_today(max(named.first_day, config.first_session))
    inside = [session for session in begun if session <= named.last_day] or [max(named.first_day, config.first_session)]
    return {
        "source": config.source,
        "object": request.name,
        "object_version": f"{now:%Y%m%dT%H%M%S.%fZ}{UNANSWERED}",
        "sequence": None,
        "reading": None,
        "product": product.name,
        "size": 0,
        "status": "failed",
        "error": error,
        "first_session": inside[0],
        "last_session": inside[-1],
        "rows_received": 0,
        "rows_quarantined": 0,
        "parts": [],
        "published_at": now,
        "ingested_at": now,
        "run_id": run_id,
    }
