"""The parts of the marts: models that are built, tested and published separately into the one file, so that a failure
of one doesn't hold back another.

A part is a folder of models, `dbt_project/models/marts/<name>`, that a kind of sources names (`derive.domain.Kind`).
`sources` defines what its models read, `publish` publishes it, and `components.marts` makes its assets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.catalog import kinds


@dataclass(frozen=True)
class Part:
    """The models made from a kind of sources.

    Attributes:
        name: the models' folder.
        schema: name of the kind, and of the dbt source with its tables over all sources.
        group: the group of the part's assets in Dagster.
        joins: names of the other kinds whose tables the models join.
    """

    name: str
    schema: str
    group: str
    joins: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of sources whose tables the models read."""
        return (self.schema, *self.joins)

    @property
    def selector(self) -> str:
        """The selector of the part's models, in dbt and in Dagster."""
        return f"fqn:lakehouse.marts.{self.name}"

    def has(self, fqn: Sequence[str]) -> bool:
        """Whether a model belongs to the part, by its fully qualified name in dbt."""
        return list(fqn[1:3]) == ["marts", self.name]

    @property
    def selection(self) -> tuple[str, ...]:
        """The arguments that restrict a dbt command to this part."""
        return ("--select", self.selector)


def parts() -> tuple[Part, ...]:
    """The parts of all kinds of sources."""
    return tuple(
        Part(kind.marts[0], kind.name, kind.marts[1], tuple(join.kind for join in kind.joins))
        for kind in kinds().values()
        if kind.marts
    )


def part_of(kind: str) -> Part:
    """The part whose models read the tables of a kind of sources."""
    return next(part for part in parts() if kind in part.kinds)


MARKET_MARTS = part_of("market")
QUOTE_MARTS = part_of("feed")
"""These have many rows and change once a day; the market's change with each load of bars."""
