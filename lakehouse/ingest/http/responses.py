"""Interprets a response of a REST vendor by its status, headers and bytes: answer or refusal, when it was made, how
long to wait before the next try.

Pure functions. Requests, waits and retries belong in `connection`; the meaning of the rows is not known here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

_LONGEST_PAUSE_S = 120.0
# Besides 5xx: the server's own time-out, "too early", and "too many requests".
PASSING_STATUS = {408, 425, 429}
_VERDICT_STATUS = {400, 404, 410, 422}


@dataclass(frozen=True)
class Refusal:
    """Why a response is not an answer. `permanent`: the same request will be refused again; `quota`: so will every
    other one, until the quota is renewed or the plan changed; `passing`: worth another try. `text`: the vendor's whole
    text. `is_verdict`: the vendor itself says, by its text or status, that it has nothing of that kind.
    """

    kind: Literal["permanent", "quota", "passing"]
    text: str
    is_verdict: bool = False


def refusal_in(
    status: int,
    body: bytes,
    datatype: str | None,
    error_members: Mapping[str, str],
    quota_patterns: Sequence[str],
    *,
    is_whole: bool,
) -> Refusal | None:
    """The refusal in a response; None if it is an answer.

    Args:
        datatype: `csv` or `json`, if the answer must be one of these.
        error_members: member of a JSON object -> `permanent` or `rate`: how the vendor refuses with status 200.
        quota_patterns: regular expressions of refusals that no other try today can change.
        is_whole: whether HTTP told the length of the body. Otherwise a body whose last line has no end counts as cut.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    if status != 200:
        return _refused_status(status, body, quota_patterns)
    start = body.lstrip()
    if not start:
        return Refusal("passing", "an empty answer")
    if start.startswith(b"<"):
        return Refusal("passing", f"a web page instead of data: {_quoted(start)}")
    # A damaged header may begin with a brace ("{,timestamp,open"): JSON goes on with a name or ends.
    if datatype == "json" or re.match(rb"[{\[][ \t]*([\"{}\[\]\r\n]|$)", start):
        return _refusing_json(start, datatype, error_members, quota_patterns)
    if not is_whole and not body.endswith((b"\n", b"\r")):
        return Refusal("passing", f"an answer that was cut: after {len(body):,} bytes its last line has no end")
    return None


def _refused_status(status: int, body: bytes, quota_patterns: Sequence[str]) -> Refusal:
    text = f"status {status}: {_quoted(body) or 'no text'}"
    if status == 402 or (400 <= status < 500 and _is_quota(text, quota_patterns)):
        return Refusal("quota", text)
    passing = status >= 500 or status in PASSING_STATUS or status < 300
    return Refusal("passing" if passing else "permanent", text, is_verdict=status in _VERDICT_STATUS)


def _refusing_json(
    body: bytes, datatype: str | None, error_members: Mapping[str, str], quota_patterns: Sequence[str]
) -> Refusal | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        # An error of the vendor may be damaged too: the object's first member tells it from data that were cut.
        names = "|".join(map(re.escape, error_members))
        said = re.match(rf"\{{\s*\"?({names})\b", body.decode(errors="replace")) if names else None
        if said is None:
            return Refusal("passing", f"JSON that was cut or damaged after {len(body):,} bytes: {_quoted(body)}")
        return _said_no(error_members[said[1]], _quoted(body), quota_patterns)
    refusal = refusing_member(document, error_members, quota_patterns)
    if refusal is None and datatype == "csv":
        return Refusal("permanent", f"JSON where CSV was asked for: {_quoted(body)}")
    return refusal


def refusing_member(document: Any, error_members: Mapping[str, str], quota_patterns: Sequence[str]) -> Refusal | None:
    """Why a JSON document is a refusal: the first of its `error_members`. None if it has none of them."""
    if isinstance(document, dict):
        for member, kind in error_members.items():
            if document.get(member):
                return _said_no(kind, f"{member}: {document[member]}", quota_patterns)
    return None


def _said_no(kind: str, text: str, quota_patterns: Sequence[str]) -> Refusal:
    if _is_quota(text, quota_patterns):
        return Refusal("quota", text)
    return Refusal("permanent", text, is_verdict=True) if kind == "permanent" else Refusal("passing", text)


def _is_quota(text: str, quota_patterns: Sequence[str]) -> bool:
    return any(re.search(words, text, re.IGNORECASE) for words in quota_patterns)


def _quoted(body: bytes) -> str:
    """A body on one line, for an error, which shortens it after removing the key: half a key would not be found."""
    return " ".join(body.decode(errors="replace").split())


def published_at(date: str | None, now: datetime) -> datetime:
    """When an answer was made (UTC): its Date header (RFC 9110, 6.6.1), or `now` if that is earlier or there is no
    readable header.
    """
    return min(_http_date(date) or now, now)


def pause_s(retry_after: str | None, now: datetime) -> float:
    """How many seconds the vendor asks to wait: Retry-After in seconds or as a date (RFC 9110, 10.2.3), at most two
    minutes; 0 without the header.
    """
    text = (retry_after or "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return min(float(text), _LONGEST_PAUSE_S)
    until = _http_date(text)
    return min(max((until - now).total_seconds(), 0.0), _LONGEST_PAUSE_S) if until else 0.0


def _http_date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
