"""Where notices go, of orders to customers and alerts to those who run the lake: a file, a mail server, or a webhook.

Each notice has a key, which goes along, so that a receiver can tell a notice that is sent again after a
crash: as the header Idempotency-Key, in mails also as the Message-ID. To a file each key is appended once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import smtplib
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from lakehouse.errors import LakehouseError
from lakehouse.urls import without_password

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S = 10.0
_TAIL_BYTES = 4 * 2**20
"""End of a file that is searched for keys: many times what is appended before it is marked as sent."""
_PASSING = {408, 425, 429}
"""Answers of a webhook that don't refuse the notice for good, besides those from 500 on."""
_LONGEST_ID = 200
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class SinkFault(LakehouseError):
    """The setting of a sink can't be used."""


class SinkUnavailable(LakehouseError):
    """The sink doesn't take notices now; whether it took this one is unknown."""


class NoticeRefused(LakehouseError):
    """The sink refuses this notice for good."""


class Notice(Protocol):
    """Something to be told, under a key that is the same whenever it is sent.

    `origin` is a word for those who tell it, `document` the notice as JSON.
    """

    @property
    def key(self) -> str: ...

    @property
    def origin(self) -> str: ...

    @property
    def subject(self) -> str: ...

    @property
    def text(self) -> str: ...

    @property
    def made_at(self) -> datetime: ...

    @property
    def email(self) -> str: ...

    @property
    def document(self) -> Mapping[str, str]: ...


class Outlet(Protocol):
    """An opened sink."""

    def send(self, notice: Notice) -> None:
        """Sends a notice.

        Raises:
            SinkUnavailable: not now.
            NoticeRefused: never.
        """


@dataclass(frozen=True)
class Sink:
    """A sink as a setting describes it: a file's path, or the URL of a mail server or a webhook.

    Args:
        variable: the setting's name, for errors.

    Raises:
        SinkFault: it is neither.
    """

    setting: str
    variable: str = "LAKEHOUSE_ORDERS_NOTICES"

    def __post_init__(self) -> None:
        scheme = self._url.scheme
        if "://" not in self.setting:
            return
        if scheme not in ("smtp", "smtps", "http", "https") or not self._url.hostname:
            raise SinkFault(
                f"{self.variable} is {without_password(self.setting)!r}, which is no sink",
                "Set it to a file's path, smtp://host:port?from=ADDRESS, or https://host/path",
            )
        if scheme == "smtp" and self._url.username and self._url.hostname not in _LOOPBACK and not self._starts_tls:
            raise SinkFault(
                f"{self.variable} is {without_password(self.setting)!r}, which sends a password unencrypted",
                "Use smtps://, or add starttls=yes to its query",
            )

    @property
    def _url(self) -> SplitResult:
        return urlsplit(self.setting)

    @property
    def _starts_tls(self) -> bool:
        return self._of_query("starttls") == "yes"

    def _of_query(self, name: str) -> str | None:
        return next(iter(parse_qs(self._url.query).get(name, [])), None)

    @contextmanager
    def opened(self) -> Iterator[Outlet]:
        """The sink, ready to take notices.

        Raises:
            SinkUnavailable: it can't be opened.
        """
        if "://" not in self.setting:
            with _opened_file(Path(self.setting).expanduser()) as outlet:
                yield outlet
        elif self._url.scheme.startswith("http"):
            with _webhook(self.setting) as outlet:
                yield outlet
        else:
            with self._mail_server() as server:
                yield _Mail(server, self._of_query("from"), self._of_query("to"))

    @contextmanager
    def _mail_server(self) -> Iterator[smtplib.SMTP]:
        url = self._url
        try:
            if url.scheme == "smtps":
                encrypted = ssl.create_default_context()
                server: smtplib.SMTP = smtplib.SMTP_SSL(
                    url.hostname or "", url.port or 465, timeout=_TIMEOUT_S, context=encrypted
                )
            else:
                server = smtplib.SMTP(url.hostname or "", url.port or 25, timeout=_TIMEOUT_S)
            if self._starts_tls:
                server.starttls(context=ssl.create_default_context())
            if url.username:
                server.login(unquote(url.username), unquote(url.password or ""))
        except OSError as error:  # SMTPException is an OSError
            raise SinkUnavailable(f"The mail server {url.hostname} can't be used: {error}") from None
        try:
            yield server
        finally:
            server.close()


class _File:
    """Appends a line of JSON for each notice whose key isn't there yet."""

    def __init__(self, descriptor: int, name: Path, keys: set[str]) -> None:
        self._descriptor, self._name, self._keys = descriptor, name, keys

    def send(self, notice: Notice) -> None:
        if notice.key in self._keys:
            return
        line = f"{json.dumps(notice.document, ensure_ascii=False)}\n".encode()
        try:
            # One write, so that a kill leaves all of the line or none.
            written = os.write(self._descriptor, line)
        except OSError as error:
            raise SinkUnavailable(f"{self._name} can't be written: {error.strerror}") from None
        if written < len(line):
            raise SinkUnavailable(f"{self._name} takes only a part of a line")


@contextmanager
def _opened_file(path: Path) -> Iterator[_File]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise SinkUnavailable(f"{path} can't be written: {error.strerror}") from None
    try:
        try:
            # Another process that still appends would not be seen by the search for keys.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SinkUnavailable(f"Another process writes to {path}") from None
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, _TAIL_BYTES, max(size - _TAIL_BYTES, 0))
        if tail and not tail.endswith(b"\n"):
            os.write(descriptor, b"\n")
        yield _File(descriptor, path, set(filter(None, map(_key_of, tail.split(b"\n")))))
    finally:
        os.close(descriptor)


def _key_of(line: bytes) -> str | None:
    """The key in a line of the file; None in one that is cut."""
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return document.get("key") if isinstance(document, dict) else None


class _Mail:
    def __init__(self, server: smtplib.SMTP, sender: str | None, recipient: str | None) -> None:
        self._server, self._sender, self._recipient = server, sender, recipient

    def send(self, notice: Notice) -> None:
        message = EmailMessage()
        message["From"] = self._sender or f"{notice.origin}@localhost"
        message["To"] = notice.email or self._recipient
        message["Subject"] = notice.subject
        message["Date"] = notice.made_at
        message["Message-ID"] = message_id(notice.key, notice.origin)
        message["Idempotency-Key"] = header_key(notice.key)
        message.set_content(notice.text)
        try:
            self._server.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            raise _refused(*next(iter(error.recipients.values()))) from None
        except smtplib.SMTPResponseException as error:
            raise _refused(error.smtp_code, error.smtp_error) from None
        except smtplib.SMTPNotSupportedError as error:
            raise NoticeRefused(f"the mail server can't take it: {error}") from None
        except OSError as error:  # SMTPException is an OSError
            raise SinkUnavailable(f"The mail server doesn't answer: {error}") from None


def _refused(code: int, said: bytes | str) -> LakehouseError:
    """The error of a mail server's answer: for good from 500 on."""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    answer = f"the mail server answers {code} {text}"
    return NoticeRefused(answer) if code >= 500 else SinkUnavailable(answer)


def header_key(key: str) -> str:
    """A key as a header can hold it: percent-encoded but for letters, digits and -._~:"""
    return quote(key, safe=":")


def message_id(key: str, origin: str = "orders") -> str:
    """The Message-ID of a notice, the same whenever it is sent."""
    local = quote(key, safe="").replace(".", "%2E")
    if len(local) > _LONGEST_ID:
        local = hashlib.sha256(key.encode()).hexdigest()
    return f"<{local}@{origin}.lakehouse>"


@contextmanager
def _webhook(url: str) -> Iterator[_Webhook]:
    import httpx

    with httpx.Client(timeout=_TIMEOUT_S) as client:
        yield _Webhook(url, client)


class _Webhook:
    def __init__(self, url: str, client: httpx.Client) -> None:
        self._url, self._client = url, client

    def send(self, notice: Notice) -> None:
        import httpx

        headers = {"Idempotency-Key": header_key(notice.key)}
        try:
            answer = self._client.post(self._url, json=notice.document, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SinkUnavailable(f"The webhook doesn't answer: {error}") from None
        if answer.is_success:
            return
        if answer.status_code >= 500 or answer.status_code in _PASSING:
            raise SinkUnavailable(f"The webhook answers with status {answer.status_code}")
        raise NoticeRefused(f"the webhook answers with status {answer.status_code}")
