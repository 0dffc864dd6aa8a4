"""The tree of errors, and what delta-rs says as a person can read it. Errors of a single module are defined there, as
branches of `LakehouseError`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class LakehouseError(Exception):
    """The root of the errors that explain themselves: the thing and the cause in `message`, and in `hint` what to do,
    where that is a sentence of its own. `str()` gives both. The command line shows it without a traceback.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}. {hint}")
        self.message = message
        self.hint = hint


class SourceError(LakehouseError, ValueError):
    """A source's YAML or settings are invalid; the message names the entry and the fix."""


class SourceUnavailable(LakehouseError):
    """The bucket or folder could not be listed or read; usually a passing fault or a wrong address. Worth
    another try.
    """


class ObjectReplaced(SourceUnavailable):
    """An object is no longer the version that was listed, or no longer there; the next listing has its new one."""


class ObjectUnreadable(LakehouseError):
    """The store keeps one object back: no permission, archived, a damaged disk. Others may be read. The message names
    the object, the cause and the fix.
    """


class AnswerRefused(LakehouseError):
    """The vendor refuses this request for good: an unknown symbol, a wrong key, another 4xx. Asking again changes
    nothing. The message names the source, the request, the cause and the fix.

    `is_verdict`: the vendor itself says so about what was asked for, and not this side about the vendor's answer.
    """

    is_verdict = False


class NoAnswer(LakehouseError):
    """No try brought an answer: time-outs, 5xx, 429, resets, cut answers, rate notes. A later run may have more
    luck. The message says what the last try met and how many tries there were.
    """


class Unreachable(NoAnswer):
    """No connection could be made: the rest need not be asked."""


class RunOver(NoAnswer):
    """The time for which a run may ask is over: the rest is left to the next run."""


class QuotaExhausted(NoAnswer):
    """The key's quota is used up, or its plan doesn't cover the request: the rest need not be asked."""


class StaleSnapshot(LakehouseError):
    """Another writer changed what this commit was made from. Take a new snapshot and do the work again."""


class LakeUnavailable(LakehouseError):
    """The lake's folder or bucket is not there, doesn't answer, or refuses the credentials."""


class HomeUnavailable(LakeUnavailable):
    """The folder of everything local can't be used: it is a file, or its disk is full or read-only."""


class MartsUnavailable(LakeUnavailable):
    """The published file of the marts is damaged."""


class ReleaseError(LakeUnavailable):
    """A release can't be made, served, restored or dropped as asked; the message says why and what to do."""


class TableDamaged(LakeUnavailable):
    """A file of a table's log is empty, cut off or missing; the message names it."""


class TableMissing(LakehouseError):
    """A table was asked for that has never been written."""


class DatabaseUnavailable(LakehouseError):
    """PostgreSQL can't be started, doesn't answer, or refuses the user; the message says why and what to do."""


class QueryNotAllowed(LakehouseError):
    """A query asks for more than a locked lake answers; the message says what."""


class QueryLimitReached(QueryNotAllowed):
    """A query on a locked lake took more time or memory than it may; the message names the limit and what to do."""


class TableOutdated(LakehouseError):
    """A stored table is not as its contract says: an older version of this project wrote it."""


class TableNewer(LakehouseError):
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
