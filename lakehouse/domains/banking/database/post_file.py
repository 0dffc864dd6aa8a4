"""Posts a file of JSON lines.

A line is {"key", "type", "entries": [{"account", "amount"}], "effective_at"?, "employee"?, "batch"?}.
The lines of one batch are one transaction of the database, all or nothing; a line without a batch is one of its own.
Every line gets a report. A file can be posted again: what was posted before is reported as replayed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.domains.banking.database.calls import Bank, Refused

_AMOUNT = re.compile(r"[+-]?\d+(\.\d+)?")
_MEMBERS = {"key": True, "type": True, "entries": True, "effective_at": False, "employee": False, "batch": False}
"""Members of a line -> whether it needs them."""
_MALFORMED = "22023"
"""SQLSTATE invalid_parameter_value, for a line that isn't sent to the database."""


@dataclass(frozen=True)
class LineReport:
    """What became of a line: posted, replayed or refused (then with a code, an SQLSTATE, and an error)."""

    line: int
    key: str | None
    status: str
    batch: str | None = None
    transaction: int | None = None
    code: str | None = None
    error: str | None = None

    def to_json(self) -> str:
        return json.dumps({name: value for name, value in vars(self).items() if value is not None}, ensure_ascii=False)


@dataclass(frozen=True)
class _Line:
    """A line as it was read; `fault` says why it isn't a request."""

    number: int
    request: Mapping[str, Any]
    fault: str | None = None

    @property
    def key(self) -> str | None:
        return self.request.get("key") if isinstance(self.request.get("key"), str) else None

    @property
    def batch(self) -> str | None:
        return str(self.request["batch"]) if self.request.get("batch") is not None else None


def post_lines(bank: Bank, lines: Iterable[str]) -> Iterator[LineReport]:
    """Posts lines batch by batch, in the order in which the batches begin, and reports on each line.

    Raises:
        DatabaseUnavailable: the database doesn't answer; what was reported is posted.
    """
    for batch in _batches([_read(number, text) for number, text in enumerate(lines, 1) if text.strip()]):
        yield from _posted(bank, batch)


def _posted(bank: Bank, batch: list[_Line]) -> list[LineReport]:
    faulty = {
        line.number: Refused(line.fault, code=_MALFORMED, key=line.key) for line in batch if line.fault is not None
    }
    if faulty:
        return _refused(batch, faulty)
    try:
        made = bank.post([{k: v for k, v in line.request.items() if k != "batch"} for line in batch])
    except Refused as refusal:
        to_blame = [line.number for line in batch if len(batch) == 1 or line.key == refusal.key]
        return _refused(batch, dict.fromkeys(to_blame or [line.number for line in batch], refusal))
    return [
        LineReport(line.number, line.key, "replayed" if replayed else "posted", line.batch, transaction)
        for line, (transaction, replayed) in zip(batch, made, strict=True)
    ]


def _refused(batch: list[_Line], faulty: Mapping[int, Refused]) -> list[LineReport]:
    """A batch of which nothing was posted: the lines to blame have the reason, the others name them."""
    named = ", ".join(map(str, faulty))
    found = []
    for line in batch:
        refusal = faulty.get(line.number)
        error = refusal.message if refusal else f"nothing of its batch was posted: see line {named}"
        code = refusal.code if refusal else None
        found.append(LineReport(line.number, line.key, "refused", line.batch, code=code, error=error))
    return found


def _batches(lines: list[_Line]) -> list[list[_Line]]:
    """The lines by batch. A line that is no JSON may belong to the batch before it or after it, so it refuses both."""
    found: dict[str, list[_Line]] = {}
    unread: list[tuple[int, _Line]] = []
    for place, line in enumerate(lines):
        if line.fault is not None and not line.request:
            unread.append((place, line))
        found.setdefault(f"batch {line.batch}" if line.batch is not None else f"line {line.number}", []).append(line)
    for place, line in unread:
        for neighbour in lines[max(place - 1, 0) : place + 2]:
            if neighbour.batch is not None:
                spoilt = found[f"batch {neighbour.batch}"]
                fault = f"line {line.number} beside it is no JSON, and may belong to its batch"
                spoilt[:] = [_Line(each.number, each.request, each.fault or fault) for each in spoilt]
    return list(found.values())


def _read(number: int, text: str) -> _Line:
    try:
        request = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return _Line(number, {}, "the line is no JSON")
    if not isinstance(request, dict):
        return _Line(number, {}, "the line is no JSON object")
    return _Line(number, request, _fault_of(request))


def _fault_of(request: Mapping[str, Any]) -> str | None:
    """Why an object isn't a request, or None. What needs the database is left to it."""
    if unknown := request.keys() - _MEMBERS.keys():
        return f"{sorted(unknown)[0]} is no member of a posting; they are {', '.join(_MEMBERS)}"
    for member, is_needed in _MEMBERS.items():
        if is_needed and request.get(member) in (None, "", []):
            return f"it has no {member}"
    if not isinstance(request["key"], str) or not isinstance(request["type"], str):
        return "key and type have to be text"
    if not isinstance(request["entries"], list):
        return "entries has to be a list of accounts and amounts"
    for place, entry in enumerate(request["entries"], 1):
        if not isinstance(entry, dict) or entry.keys() != {"account", "amount"}:
            return f"entry {place} has to be an account and an amount"
        if not isinstance(entry["account"], str):
            return f"entry {place}: the account has to be its number, as text"
        if not isinstance(entry["amount"], str) or not _AMOUNT.fullmatch(entry["amount"]):
            return f'entry {place}: the amount has to be decimal text, such as "-12.50"'
    return None
