"""A server of MongoDB's wire protocol (OP_MSG, and OP_QUERY for the first greeting) whose answers are scripted: for the
errors that a real server gives only after days, or in other versions.
"""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Callable
from typing import Any, Self

import bson

Answer = Callable[[dict[str, Any]], dict[str, Any] | None]
"""From a command to its reply; None: the connection is closed instead."""
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_HELLO = {
    "helloOk": True,
    "ismaster": True,
    "isWritablePrimary": True,
    "maxBsonObjectSize": 2**24,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "ok": 1.0,
}


def failure(code: int, name: str) -> dict[str, Any]:
    """The reply of a command that failed."""
    return {"ok": 0.0, "code": code, "codeName": name, "errmsg": f"{name} by script"}


def cursor(batch: list[dict[str, Any]], **further: Any) -> dict[str, Any]:
    """The reply with all documents of a query."""
    return {"ok": 1.0, "cursor": {"id": 0, "ns": "shop.customer-transactions", "firstBatch": batch, **further}}


class ScriptedMongo:
    """The server while its context is open.

    Args:
        answer: called with each command but greetings, by several threads.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._server = _Server(self)

    @property
    def url(self) -> str:
        """Its address, with a database."""
        return f"mongodb://127.0.0.1:{self._server.server_address[1]}/shop?directConnection=true"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, script: ScriptedMongo) -> None:
        self.script = script
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        while len(head := self.rfile.read(16)) == 16:
            length, request, _, opcode = struct.unpack("<4i", head)
            body = self.rfile.read(length - 16)
            command = _command(opcode, body)
            is_greeting = next(iter(command)).lower() in ("hello", "ismaster")
            reply = _HELLO if is_greeting else self.server.script.answer(command)
            if reply is None:
                return
            self.wfile.write(_message(opcode, request, reply))


def _command(opcode: int, body: bytes) -> dict[str, Any]:
    if opcode == _OP_QUERY:
        # Flags, the collection's name, and two numbers are before the query.
        start = body.index(b"\0", 4) + 1 + 8
        return bson.decode(body[start:])
    (length,) = struct.unpack_from("<i", body, 5)
    return bson.decode(body[5 : 5 + length])


def _message(opcode: int, request: int, reply: dict[str, Any]) -> bytes:
    document = bson.encode(reply)
    if opcode == _OP_QUERY:
        answered, body = _OP_REPLY, struct.pack("<iqii", 0, 0, 0, 1) + document
    else:
        answered, body = _OP_MSG, struct.pack("<IB", 0, 0) + document
    return struct.pack("<4i", 16 + len(body), 0, request, answered) + body
