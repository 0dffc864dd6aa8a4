"""Chains of publications: whole files, and files of changes that reach back for a while. Pure functions.

A file of changes has all that changed since the publication before it only if it reaches back that far. Where none
does, there is a gap, which a whole file closes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from itertools import pairwise

from lakehouse.ingest.differences import DELTA, TIME
from lakehouse.ingest.names import ObjectName

SPANS = {
    "intra-day": timedelta(hours=8),
    "last-day": timedelta(days=1),
    "last-week": timedelta(days=7),
    "last-month": timedelta(days=31),
}
"""What a file of changes is about: the time before its publication, by the word in its name."""


def due(held: Mapping[str, ObjectName], offered: Mapping[str, ObjectName]) -> list[str]:
    """The offered files to be taken: of each publication after the last one held, the shortest file of changes that
    reaches back to the one before. If the newest publication isn't reached that way, its whole file, or the newest
    that there is, and the changes after it.

    Args:
        held: the files that were taken, by their names; `offered` likewise.
    """
    last = max(map(moment, held.values()), default=None)
    fresh = {name: named for name, named in offered.items() if last is None or moment(named) > last}
    if not fresh:
        return []
    chain = _changes_since(last, fresh)
    newest = max(map(moment, fresh.values()))
    if chain and moment(fresh[chain[-1]]) == newest:
        return chain
    whole = [name for name, named in fresh.items() if DELTA not in named.values]
    if not whole:
        return chain
    full = max(whole, key=lambda name: moment(fresh[name]))
    return [*chain, full, *_changes_since(moment(fresh[full]), fresh)]


def _changes_since(last: datetime | None, offered: Mapping[str, ObjectName]) -> list[str]:
    """The files of changes that lead from a publication to later ones, without a gap."""
    chain: list[str] = []
    changes = [name for name, named in offered.items() if DELTA in named.values]
    for name in sorted(changes, key=lambda name: (moment(offered[name]), SPANS[offered[name].values[DELTA]])):
        published = moment(offered[name])
        if last is not None and last < published and published - SPANS[offered[name].values[DELTA]] <= last:
            chain.append(name)
            last = published
    return chain


def gaps(names: Sequence[ObjectName]) -> list[dict[str, object]]:
    """The files of changes that don't reach back to the publication before them, and after which no full file came."""
    published = sorted((moment(named), DELTA not in named.values, named.values.get(DELTA, "")) for named in names)
    fulls = [number for number, (_, is_full, _) in enumerate(published) if is_full]
    found: list[dict[str, object]] = []
    for before, (at, is_full, span) in pairwise(published):
        is_last = not fulls or published[fulls[-1]][0] < at
        if is_last and not is_full and before[0] < at - SPANS[span]:
            found.append({"published": at, "changes": span, "publication_before": before[0]})
    return found


def moment(named: ObjectName) -> datetime:
    """When a file was published, by its name."""
    digits = named.values.get(TIME, "").ljust(6, "0")
    return datetime.combine(named.first_day, time(int(digits[:2]), int(digits[2:4]), int(digits[4:6])))
