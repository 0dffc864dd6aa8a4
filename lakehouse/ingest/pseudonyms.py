"""Pseudonyms for personal values, put in their place before anything is landed or stored.

A person (a value, such as a customer's number, of a source) has a random key of its own in the key map, a SQLite file
apart from the lake. The pseudonym is a keyed hash (HMAC-SHA256) of the value by that key and the installation's. So
neither the lake, nor the key map, nor the installation's key alone tells whose a pseudonym is. Once a person is erased
from the key map, nobody can tell, in whatever table, landed object or backup it is. Should the value come again, it is
a new person with a new pseudonym. docs/decisions/0016-pseudonyms.md gives the reasons.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.errors import SourceError
from lakehouse.ingest.formats import Received
from lakehouse.ingest.variables import Variables

if TYPE_CHECKING:
    import polars as pl

    from lakehouse.ingest.dataset import Dataset

VARIABLE = "LAKEHOUSE_PSEUDONYM_KEY"
KEY_MAP = "pseudonyms.sqlite"
WITHHELD = "(not kept, since it may hold personal data; the object and the row's number say where it is)"
"""The text of rows in which the personal values can't be found."""
_FORM = re.compile(r"pn_[0-9a-f]{24}")
_WHOLE_NUMBER = re.compile(r"([0-9]+)\.0+")
_WAIT_S = 60


@dataclass(frozen=True)
class Pseudonyms:
    """The pseudonyms of a source's persons.

    Args:
        source: name of the source: equal values of two sources are two persons.
        path: of the key map.
        key: of the installation.
    """

    source: str
    path: Path
    key: str = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Tells one installation's key from another."""
        return self._hash(b"fingerprint")[:8]

    def of(self, values: Iterable[str]) -> dict[str, str]:
        """The pseudonym of each value. Values that are pseudonyms already stand for themselves."""
        wanted = set(values)
        found = {value: value for value in wanted if _FORM.fullmatch(value)}
        persons = sorted(wanted - found.keys())
        if not persons:
            return found
        with self._opened() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO persons VALUES (?, ?, ?)",
                [(self.source, value, secrets.token_bytes(16)) for value in persons],
            )
            connection.execute("CREATE TEMP TABLE wanted (value TEXT PRIMARY KEY)")
            connection.executemany("INSERT INTO wanted VALUES (?)", [(value,) for value in persons])
            keys = connection.execute(
                "SELECT value, person_key FROM persons JOIN wanted USING (value) WHERE source = ?", [self.source]
            ).fetchall()
        return found | {value: self._pseudonym(value, person) for value, person in keys}

    def known(self, value: str) -> str | None:
        """The pseudonym of a value; None if it has none."""
        with self._opened() as connection:
            row = connection.execute(
                "SELECT person_key FROM persons WHERE source = ? AND value = ?", [self.source, value]
            ).fetchone()
        return None if row is None else self._pseudonym(value, row[0])

    def values(self) -> dict[str, str]:
        """The value behind each pseudonym."""
        with self._opened() as connection:
            persons = connection.execute("SELECT value, person_key FROM persons WHERE source = ?", [self.source])
            return {self._pseudonym(value, person): value for value, person in persons.fetchall()}

    def erase(self, value: str) -> bool:
        """Deletes the key of a person, so that nothing leads from the pseudonym to the value; False if it has none."""
        with self._opened() as connection:
            connection.execute("PRAGMA secure_delete = ON")
            gone = connection.execute("DELETE FROM persons WHERE source = ? AND value = ?", [self.source, value])
            return gone.rowcount > 0

    def _pseudonym(self, value: str, person: bytes) -> str:
        return f"pn_{self._hash(person + value.encode())[:24]}"

    def _hash(self, content: bytes) -> str:
        return hmac.new(self.key.encode(), self.source.encode() + b"\0" + content, hashlib.sha256).hexdigest()

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A transaction on the key map, which no other process writes meanwhile; the file is the user's alone."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            with closing(sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS persons (source TEXT, value TEXT, person_key BLOB, "
                    "PRIMARY KEY (source, value))"
                )
                yield connection
                connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise SourceError(f"the key map {self.path} can't be used: {error}; restore it from a backup") from error


def pseudonyms_of(source: str, variables: Variables) -> Pseudonyms | None:
    """The pseudonyms of a source; None on an installation without a key for them."""
    key = variables.secret(VARIABLE)
    return None if key is None else Pseudonyms(source, variables.home / KEY_MAP, key)


def without_persons(received: Received, dataset: Dataset) -> Received:
    """The rows with pseudonyms for the values of personal columns, in the texts for the quarantine too."""
    pseudonyms = dataset.pseudonyms
    if pseudonyms is None or received.frame is None:
        return received
    frame = received.frame
    for name in dataset.personal:
        frame = _replaced(frame, dataset.rows.columns[name], pseudonyms)
    malformed = {number: (WITHHELD, reason) for number, (_, reason) in received.malformed.items()}
    return received.with_frame(frame, malformed)


def _replaced(frame: pl.DataFrame, column: str, pseudonyms: Pseudonyms) -> pl.DataFrame:
    import polars as pl

    texts = frame[column].unique().drop_nulls().to_list()
    found = pseudonyms.of(map(plain, texts))
    named = {text: found[plain(text)] for text in texts}
    return frame.with_columns(pl.col(column).replace_strict(named, default=None, return_dtype=pl.String))


def plain(text: str) -> str:
    """A value as people write it: some writers spell numbers such as 17850 as 17850.0."""
    match = _WHOLE_NUMBER.fullmatch(text)
    return match[1] if match else text
