"""Errors that the modules of this room share. One that belongs to a single module stands there."""

from __future__ import annotations


class SourceError(ValueError):
    """A source's YAML or settings can't work as they stand; the message names the entry and the mend."""


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
    nothing. The message names the source, the request, the cause and the mend.
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
