"""A second opinion on rows with two times, in plain Python: what whole publications say of each key."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import datetime

Row = tuple[object, ...]
"""Key, content, valid_from, valid_to, known_from, known_to."""


def expected(publications: Mapping[datetime, Mapping[Hashable, object]]) -> set[Row]:
    """The rows that publications (moment -> key -> content) give, in whatever order they are loaded.

    A version is true from its publication's day on, until further notice; the publication that says something else, or
    nothing, makes known that it has ended. None is the content of a key that a publication lacks.
    """
    found: set[Row] = set()
    for key in {key for rows in publications.values() for key in rows}:
        versions: list[tuple[datetime, object]] = []
        for moment in sorted(publications):
            content = publications[moment].get(key)
            if (versions and versions[-1][1] != content) or (not versions and content is not None):
                versions.append((moment, content))
        for number, (moment, content) in enumerate(versions):
            if content is None:
                continue
            following = versions[number + 1][0] if number + 1 < len(versions) else None
            found.add((key, content, moment.date(), None, moment, following))
            if following is not None:
                found.add((key, content, moment.date(), following.date(), following, None))
    return found
