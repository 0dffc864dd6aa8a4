"""The parts of the marts: the models of a domain, which are built, tested and published by themselves into the one
file, so that a fault of one domain doesn't hold back another.

A part is a folder of models, `dbt_project/models/marts/<name>`, that a kind of sources names (`derive.domain.Kind`).
What its models read is in `sources`; how it is published, in `publish`; its assets are made by `components.marts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.catalog import kinds


@dataclass(frozen=True)
class Part:
    """The models of one domain.

    Attributes:
        name: the models' folder.
        schema: dbt's source that has the domain's tables over all of its sources, as contracts name the domain.
        group: the group of the part's assets in Dagster.
    """

    name: str
    schema: str
    group: str

    @property
    def selector(self) -> str:
        """What selects the part's models, in dbt and in Dagster."""
        return f"fqn:lakehouse.marts.{self.name}"

    def has(self, fqn: Sequence[str]) -> bool:
        """Whether a model is of the part, by its fully qualified name in dbt."""
        return list(fqn[1:3]) == ["marts", self.name]

    @property
    def selection(self) -> tuple[str, ...]:
        """The arguments by which a dbt command works on this part alone."""
        return ("--select", self.selector)


def parts() -> tuple[Part, ...]:
    """Every part, by the kinds of sources that there are."""
    return tuple(Part(kind.marts[0], kind.name, kind.marts[1]) for kind in kinds().values() if kind.marts)


def part_of(kind: str) -> Part:
    """The part that is made of a kind of sources."""
    return next(part for part in parts() if part.schema == kind)


MARKET_MARTS = part_of("market")
QUOTE_MARTS = part_of("feed")
"""They have many rows, and news but once a day; those of the market follow each load of bars."""
