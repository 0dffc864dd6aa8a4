"""Errors that several packages share, and what delta-rs says as a person can read it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class SourceError(ValueError):
    """A source's YAML or settings can't work as they stand; the message names the entry and the fix."""


class SourceUnavailable(RuntimeError):
    """The bucket or folder could not be listed or read; usually a passing fault or a wrong address. Worth
    another try.
    """


class ObjectReplaced(SourceUnavailable):
    """An object is no longer the version that was listed, or no longer there; the next listing has its new one."""


class ObjectUnreadable(Exception):
    """The store keeps one object back: no permission, archived, a damaged disk. Others may be read. The message names
    the object, the cause and the fix.
    """


class AnswerRefused(Exception):
    """The vendor refuses this request for good: an unknown symbol, a wrong key, another 4xx. Asking again changes
    nothing. The message names the source, the request, the cause and the fix.
    """


class NoAnswer(Exception):
    """No try brought an answer: time-outs, 5xx, 429, resets, cut answers, rate notes. A later run may have more
    luck. The message says what the last try met and how many tries there were.
    """


class Unreachable(NoAnswer):
    """No connection could be made: the rest need not be asked."""


class RunOver(NoAnswer):
    """The time for which a run may ask is over: the rest is left to the next run."""


class QuotaExhausted(NoAnswer):
    """The key's quota is used up, or its plan doesn't cover the request: the rest need not be asked."""


class StaleSnapshot(RuntimeError):
    """Another writer changed what this commit was made from. Take a new snapshot and do the work again."""


class LakeUnavailable(RuntimeError):
    """The lake's folder or bucket is not there, doesn't answer, or refuses the credentials."""


class HomeUnavailable(LakeUnavailable):
    """The folder of everything local can't be used: it is a file, or its disk is full or read-only."""


class MartsUnavailable(LakeUnavailable):
    """The published file of the marts is damaged."""


class ReleaseError(LakeUnavailable):
    """A release can't be made, served, restored or dropped as asked; the message says why and what to do."""


class TableDamaged(LakeUnavailable):
    """A file of a table's log is empty, cut off or missing; the message names it."""


class TableMissing(LookupError):
    """A table was asked for that has never been written."""


class QueryNotAllowed(RuntimeError):
    """A query asks for more than a locked lake answers; the message says what."""


class QueryLimitReached(QueryNotAllowed):
    """A query on a locked lake took more time or memory than it may; the message names the limit and what to do."""


class TableOutdated(RuntimeError):
    """A stored table is not as its contract says: an older version of this project wrote it."""


class TableNewer(RuntimeError):
    """A stored table was written by a newer version of its contract than this project has: it can't be written."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'xetra'?`, or nothing where no known name is like the one given."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.7)
    return f"; did you mean {' or '.join(repr(each) for each in close)}?" if close else ""


def in_one_line(error: Exception) -> str:
    """What delta-rs tells in a coloured tree, as one line; of S3's XML answer only the code."""
    lines = [line.strip(" ↳") for line in re.sub(r"\x1b\[\d+m", "", str(error)).splitlines()]
    codes = re.findall(r"<Code>(\w+)</Code>", str(error))
    return ": ".join([line for line in lines if line and "<" not in line] + codes[:1])
