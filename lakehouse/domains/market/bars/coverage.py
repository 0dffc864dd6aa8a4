"""The coverage of a source by session: whether it is complete, and if not, why. `status` finds out what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, cast

from lakehouse.domains.market.bars.status import Status

_NAMED = 4
"""Maximum of objects or symbols that a reason names."""


class State(StrEnum):
    """The state of a session, the gravest last."""

    complete = "complete"
    empty = "empty"
    incomplete = "incomplete"
    missing = "missing"
    failed = "failed"


@dataclass(frozen=True)
class Covered:
    """A session's state, with the reason unless it is complete."""

    session: date
    state: State
    reason: str


def coverage(found: Status, sessions: Sequence[date]) -> list[Covered]:
    """The state of each of the calendar's `sessions` from the first to the last loaded one.

    A session with a failed object is failed, whatever else it misses; one without any object is missing.
    """
    if found.first_session is None or found.last_session is None:
        return []
    failed = _failed(found, sessions)
    missing, empty = set(found.missing), set(found.empty_sessions)
    covered = []
    for session in sessions:
        if not found.first_session <= session <= found.last_session:
            continue
        if session in failed:
            made = Covered(session, State.failed, _named("could not be read", failed[session]))
        elif session in missing:
            made = Covered(session, State.missing, "nothing came")
        elif session in found.incomplete:
            made = Covered(session, State.incomplete, _named("missing", found.incomplete[session]))
        elif session in found.ending_early:
            made = Covered(session, State.incomplete, _named("bars end early", found.ending_early[session]))
        elif session in empty:
            made = Covered(session, State.empty, "every object was empty")
        else:
            made = Covered(session, State.complete, "")
        covered.append(made)
    return covered


def _failed(found: Status, sessions: Sequence[date]) -> dict[date, list[str]]:
    """Session -> its objects whose newest version could not be read."""
    failed: dict[date, list[str]] = {}
    for each in cast("list[dict[str, Any]]", found.failed_objects):
        for session in sessions:
            if each["first_session"] <= session <= each["last_session"]:
                failed.setdefault(session, []).append(str(each["object"]))
    return failed


def _named(what: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{what}: {', '.join(names[:_NAMED])}{more}"
