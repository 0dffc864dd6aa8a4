"""What an answer of a REST vendor means, told from its status, headers and bytes: whether it is one, how long to
wait before asking again.

Pure functions on one answer. Requests, waits and retries belong in `client`; what the rows inside mean is not
known here.
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
_PASSING_STATUS = {408, 425, 429}
_VERDICT_STATUS = {400, 404, 410, 422}


@dataclass(frozen=True)
class Refusal:
    """Why an answer is none. `permanent`: the same request is refused again; `quota`: every further one is, until
    the quota is renewed or the plan changed; `passing`: worth another try. `text`: the vendor's words, whole.
    `is_verdict`: the vendor itself says that there is nothing of that kind, in its own words or by the status.
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
    """Why an HTTP answer does not hold what was asked for; None where it does.

    Args:
        datatype: `csv` or `json`, where the request said which.
        error_members: member of a JSON object -> `permanent` or `rate`: how the vendor refuses with status 200.
        quota_patterns: regular expressions for refusals that no further try of today can change.
        is_whole: whether HTTP said how long the answer is. Where it didn't, only a last line with an end tells an
            answer from a cut one.
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
    passing = status >= 500 or status in _PASSING_STATUS or status < 300
    return Refusal("passing" if passing else "permanent", text, is_verdict=status in _VERDICT_STATUS)


def _refusing_json(
    body: bytes, datatype: str | None, error_members: Mapping[str, str], quota_patterns: Sequence[str]
) -> Refusal | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        # The vendor's error may be damaged as well; what an object begins with tells it from data that were cut.
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
    """A body on one line, for an error, which shortens it when the key is out: half a key couldn't be found."""
    return " ".join(body.decode(errors="replace").split())


def published_at(date: str | None, now: datetime) -> datetime:
    """When an answer was made: its Date header (RFC 9110, 6.6.1), but never later than `now`, which is also the
    answer where the header is absent or unreadable. UTC.
    """
    return min(_http_date(date) or now, now)


def pause_s(retry_after: str | None, now: datetime) -> float:
    """How many seconds the vendor asks to be left alone: Retry-After as seconds or as a date (RFC 9110, 10.2.3),
    two minutes at most; 0 where it doesn't say.
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
