"""HTTP/1.1 on loopback for a simulated quote vendor: many small answers on few connections, from one thread.

Which answer a request gets belongs in `quote_feed`. `http.server` answers some thousand requests a second at best,
with a thread a connection; here one event loop has all of them.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any, Literal, NamedTuple, cast

_RESET = struct.pack("ii", 1, 0)  # linger for no time: closing the socket resets the connection
_HEAD_END = b"\r\n\r\n"
_LONGEST_HEAD = 16 * 1024
_FAREWELL_SECONDS = 0.01
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Answer(NamedTuple):
    """What a request gets.

    `manner` says how it is sent: whole, not at all with a connection that closes after a while, or not at all with one
    that is reset at once. `note` is given to the server's `handed` when the answer has been handed to the socket.
    """

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    manner: Literal["whole", "timeout", "reset"] = "whole"
    note: object = None


class _Bad(Exception):
    """A request that isn't understood; its connection ends with this answer."""

    def __init__(self, status: int, *headers: tuple[str, str]) -> None:
        self.answer = Answer(_REASONS[status].encode(), status, "text/plain", headers)


class QuoteServer:
    """Answers GET requests on a port of 127.0.0.1, with keep-alive and pipelining, in a thread of its own.

    Args:
        answer: from a request's target (path and query) to its answer; called by the server's thread alone.
        handed: called by that thread with the `note` of each answer whose last byte the socket has taken. Nothing is
            noted of an answer that was cut off by the end of its connection.
        now: the time in UTC for the `Date` header.
        slow_seconds: how long a connection stays open whose answer never comes.
        port: where to listen; 0 for a free port.

    Raises:
        OSError: if the port can't be had.
    """

    def __init__(
        self,
        answer: Callable[[str], Answer],
        handed: Callable[[Any], None],
        now: Callable[[], datetime],
        slow_seconds: float,
        port: int = 0,
    ) -> None:
        self.answer, self.handed, self.slow_seconds = answer, handed, slow_seconds
        self.connections: set[asyncio.Transport] = set()
        # Held while an answer is sent and noted: who has the answer, and takes this lock, finds its note.
        self.lock = threading.Lock()
        self.ending = False
        self._now = now
        self._date = (0, "")
        self._socket = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="quote server", daemon=True)
        self._ready = threading.Event()

    def start(self) -> None:
        """Serve, in a thread of its own."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Take no more requests, and end every connection."""
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join()
        self._loop.close()

    def date(self) -> str:
        """The `Date` of an answer that is sent now."""
        now = self._now()
        second = int(now.timestamp())
        if self._date[0] != second:
            self._date = (second, format_datetime(now, usegmt=True))
        return self._date[1]

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        listening = self._loop.create_server(lambda: _Connection(self), sock=self._socket, backlog=1024)
        self._server = self._loop.run_until_complete(listening)
        self._ready.set()
        self._loop.run_forever()

    def _end(self) -> None:
        self.ending = True
        self._server.close()
        for transport in tuple(self.connections):
            transport.abort()
        # After what the connections do on their end, and the beginning of those that were just accepted.
        self._loop.call_later(_FAREWELL_SECONDS, self._loop.stop)


class _Connection(asyncio.Protocol):
    """One client. Requests are answered in their order, those that came together with a single write."""

    def __init__(self, server: QuoteServer) -> None:
        self._server = server
        self._received = bytearray()
        self._unsent: list[Answer] = []
        self._finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport.set_write_buffer_limits(high=0)  # told by pause_writing and resume_writing what is unsent
        self._server.connections.add(self._transport)
        if self._server.ending:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self._transport)
        self._finished = True

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        with self._server.lock:
            self._note(self._unsent)
        self._unsent = []
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._finished:
            return
        self._received += data
        chunks: list[bytes] = []
        answers: list[Answer] = []
        closing = False
        manner = "whole"
        while not closing and (request := self._next_request()) is not None:
            answer, closing = request
            manner = answer.manner
            if manner != "whole":
                break
            chunks.append(self._message(answer, closing))
            answers.append(answer)
        if chunks:
            self._send(b"".join(chunks), answers)
        if manner == "timeout":
            self._finished = True
            asyncio.get_running_loop().call_later(self._server.slow_seconds, self._transport.close)
        elif manner == "reset":
            self._finished = True
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()
        elif closing:
            self._finished = True
            self._transport.close()

    def _next_request(self) -> tuple[Answer, bool] | None:
        """The next whole request's answer, and whether the connection ends with it."""
        end = self._received.find(_HEAD_END)
        try:
            if max(end, 0) > _LONGEST_HEAD or (end < 0 and len(self._received) > _LONGEST_HEAD):
                raise _Bad(431)
            if end < 0:
                return None
            head = bytes(self._received[:end])
            del self._received[: end + len(_HEAD_END)]
            target, closing = _read_head(head.lstrip(b"\r\n"))
        except _Bad as bad:
            return bad.answer, True
        return self._server.answer(target), closing

    def _send(self, message: bytes, answers: list[Answer]) -> None:
        with self._server.lock:
            self._transport.write(message)
            if self._transport.is_closing():
                return
            if self._transport.get_write_buffer_size() == 0:
                self._note(answers)
                return
        self._unsent += answers

    def _note(self, answers: list[Answer]) -> None:
        for answer in answers:
            if answer.note is not None:
                self._server.handed(answer.note)

    def _message(self, answer: Answer, closing: bool) -> bytes:
        lines = [
            f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}",
            f"Date: {self._server.date()}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            *(f"{name}: {value}" for name, value in answer.headers),
        ]
        if closing:
            lines.append("Connection: close")
        return "\r\n".join(lines).encode("latin-1") + _HEAD_END + answer.body


def _read_head(head: bytes) -> tuple[str, bool]:
    """A request's target, and whether its connection ends with the answer.

    Raises:
        _Bad: for what isn't a GET request of HTTP/1 without a body.
    """
    request_line, _, fields = head.decode("latin-1").partition("\r\n")
    words = request_line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        raise _Bad(400)
    method, target, version = words
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise _Bad(505)
    if method != "GET":
        raise _Bad(405, ("Allow", "GET"))
    values: dict[str, str] = {}
    for line in fields.split("\r\n") if fields else ():
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise _Bad(400)
        values[name.lower()] = value.strip()
    if "transfer-encoding" in values or values.get("content-length", "0") != "0":
        raise _Bad(400)  # where the next request starts would be a guess
    if version == "HTTP/1.0":
        return target, True
    if "host" not in values:
        raise _Bad(400)
    return target, "close" in values.get("connection", "").lower()
