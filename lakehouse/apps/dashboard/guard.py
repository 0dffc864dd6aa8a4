"""What every answer of the dashboard has to have: headers that keep a text of the data from running as a script, and
an answer for known hosts only, so that a foreign web page can't read it through a name that it points at this machine.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_READING = ("GET", "HEAD")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine as it calls itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Adds the headers, and refuses what isn't read, and hosts that the dashboard isn't known by.

    On a loopback address these are the names of the machine itself. On any other address it is up to the proxy in front
    of it which names it has.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._only_loopback = is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refused = self._refused(scope)
        await (refused or self._app)(scope, receive, with_headers)

    def _refused(self, scope: Scope) -> ASGIApp | None:
        if scope["method"] not in _READING:
            return PlainTextResponse("The dashboard only reads.", 405, {"Allow": ", ".join(_READING)})
        host = Headers(scope=scope).get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if self._only_loopback and not is_loopback(name):
            return PlainTextResponse("The dashboard answers on the names of this machine only.", 421)
        return None
