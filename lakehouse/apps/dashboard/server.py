"""Serves the dashboard's pages by Starlette and uvicorn, which Dagster's own webserver is built with.

Each request opens the lake anew, so a page shows what is stored and published at that moment. Nothing is written.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from lakehouse.api import Lake
from lakehouse.apps.charts.page import STATIC as CHARTS
from lakehouse.apps.charts.svg import short
from lakehouse.apps.dashboard.answer import Answer, Asked, Page, UnknownValue
from lakehouse.apps.dashboard.guard import Guard
from lakehouse.apps.dashboard.pages import PAGES
from lakehouse.apps.dashboard.reading import utc
from lakehouse.domains.market.bars.chart import ChartError, price, quantity
from lakehouse.errors import LakehouseError
from lakehouse.printable import printable

OpenLake = Callable[[], Lake]
_HERE = Path(__file__).parent
_log = logging.getLogger(__name__)


class AddressUnavailable(LakehouseError):
    """The dashboard can't listen on an address; the message names it."""


def dashboard(open_lake: OpenLake = Lake.open, host: str = "127.0.0.1") -> ASGIApp:
    """The application.

    Args:
        open_lake: opens the lake of a request.
        host: the address that it listens on.
    """
    routes: list[Route | Mount] = [
        Route(page.path, partial(_answer, open_lake, page), name=page.title) for page in PAGES
    ]
    routes.append(Route("/chart.js", partial(_static, CHARTS / "chart.js", "text/javascript")))
    routes.append(Route("/chart.css", partial(_static, CHARTS / "chart.css", "text/css")))
    routes.append(Mount("/static", StaticFiles(directory=_HERE / "static")))
    pages = Starlette(
        routes=routes,
        middleware=[Middleware(GZipMiddleware, minimum_size=1024)],
        exception_handlers={HTTPException: _unknown_page, Exception: _failed_page},
    )
    # Around the whole: Starlette answers for a fault outside its middleware.
    return Guard(pages, host)


def _static(path: Path, kind: str, request: Request) -> Response:
    return Response(path.read_bytes(), media_type=kind, headers={"Cache-Control": "no-cache"})


def _answer(open_lake: OpenLake, page: Page, request: Request) -> Response:
    """The page, or the error that explains what is wrong. Runs in a thread."""
    try:
        return _rendered(page, page.make(open_lake(), Asked(request.query_params)))
    except (UnknownValue, ChartError) as error:
        return _rendered(page, Answer("error.html", {"error": error}), 404)
    except LakehouseError as error:
        return _rendered(page, Answer("error.html", {"error": error}), 503)


def _failed_page(request: Request, error: Exception) -> Response:
    """What is shown for a fault of the dashboard; the server prints where it happened."""
    shown = f"{type(error).__name__}: the page could not be made; the terminal of the dashboard says why."
    return _error_page(request, "Failed", shown, 500)


def _unknown_page(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return _error_page(request, "Not found", "There is nothing at this address.", status)


def _error_page(request: Request, title: str, error: str, status: int) -> Response:
    page = Page(request.url.path, title, lambda lake, asked: Answer("error.html"))
    return _rendered(page, Answer("error.html", {"error": error}), status)


def _rendered(page: Page, answer: Answer, status: int = 200) -> Response:
    text = _environment().get_template(answer.template).render(page=page, groups=_groups(), **answer.values)
    return HTMLResponse(text, status, headers={"Cache-Control": "no-store"})


@cache
def _groups() -> dict[str, list[Page]]:
    """The navigation: heading -> pages."""
    found: dict[str, list[Page]] = {}
    for page in PAGES:
        if page.group is not None:
            found.setdefault(page.group, []).append(page)
    return found


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    filters: dict[str, Callable[..., str]] = {
        "price": lambda value: "" if value is None else price(value),
        "quantity": lambda value: "" if value is None else quantity(value),
        "money": lambda value: "" if value is None else f"{value:,.2f}",
        "count": lambda value: "" if value is None else f"{value:,.0f}",
        "short": lambda value: "" if value is None else short(float(value)),
        "pct": lambda value: "" if value is None else f"{value:+,.2f}%",
        "moment": _moment,
        "clock": _clock,
        "size": _size,
        "duration": _duration,
    }
    environment.filters |= filters
    return environment


def _shown(value: Any) -> Any:
    """A value as a page shows it: texts without control characters, nothing for None."""
    if value is None:
        return ""
    return printable(value, keep="\n\t") if type(value) is str else value


def _moment(value: datetime | date | None) -> str:
    if value is None:
        return ""
    if not isinstance(value, datetime):
        return str(value)
    return f"{utc(value):%Y-%m-%d %H:%M} UTC"


def _clock(value: datetime | None) -> str:
    """The time of a moment (UTC), with its date unless that is today's."""
    moment = utc(value)
    if moment is None:
        return ""
    return f"{moment:%H:%M:%S}" if moment.date() == datetime.now(UTC).date() else f"{moment:%Y-%m-%d %H:%M}"


def _size(value: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.1f} s"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0 takes a free one.

    Raises:
        AddressUnavailable: the port is taken, or the host isn't one of this machine's.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, proto)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        raise AddressUnavailable(
            f"the dashboard can't listen on {host}:{port}: {os.strerror(error.errno) if error.errno else error}",
            "Choose another port by --port, or an address of this machine by --host",
        ) from None
    return listening


def _warm() -> None:
    """Makes the first page once, so that its visitor doesn't wait for imports and calendars."""
    try:
        PAGES[0].make(Lake.open(), Asked({}))
    except LakehouseError as error:
        _log.debug("The first page could not be made ahead: %s", error)


def serve(listening: socket.socket, host: str) -> None:
    """Answers requests until Ctrl-C or SIGTERM."""
    import uvicorn

    threading.Thread(target=_warm, daemon=True).start()
    config = uvicorn.Config(
        dashboard(host=host), log_level="warning", access_log=False, server_header=False, lifespan="off"
    )
    uvicorn.Server(config).run(sockets=[listening])
