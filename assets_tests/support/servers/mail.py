"""A mail server on loopback, as far as a client that sends needs one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import cast


@dataclass
class MailServer:
    """What came in; recipients in `unknown` are refused, those in `busy` put off."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    busy: set[str] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while line := await reader.readline():
            command, _, rest = line.decode().strip().partition(" ")
            match command.upper():
                case "EHLO" | "MAIL" | "RSET":
                    writer.write(b"250 ok\r\n")
                case "RCPT":
                    recipient = rest.partition("<")[2].partition(">")[0]
                    writer.write(
                        b"550 no such user\r\n"
                        if recipient in self.unknown
                        else b"451 later\r\n"
                        if recipient in self.busy
                        else b"250 ok\r\n"
                    )
                case "DATA":
                    writer.write(b"354 go on\r\n")
                    content = await reader.readuntil(b"\r\n.\r\n")
                    self.mails.append(cast("EmailMessage", message_from_bytes(content[:-3], policy=policy.default)))
                    writer.write(b"250 ok\r\n")
                case _:
                    writer.write(b"221 bye\r\n" if command.upper() == "QUIT" else b"502 unknown\r\n")
            await writer.drain()
        writer.close()


@contextmanager
def mail_server() -> Iterator[MailServer]:
    found, loop = MailServer(), asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(found.serve, "127.0.0.1", 0))
    found.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield found
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()
