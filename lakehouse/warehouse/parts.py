"""The parts of the marts: the models of a domain, which are built, tested and published by themselves into the one
file, so that a fault of one domain doesn't hold back another.

A part is a folder of models, `dbt_project/models/marts/<name>`, tagged with its name in `dbt_project.yml`, and a line
here. What its models read is in `sources`; how it is published, in `publish`; its assets are made by
`components.marts`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """The models of one domain.

    Attributes:
        name: the models' folder and tag.
        schema: dbt's source that has the domain's tables over all of its sources, as contracts name the domain.
        group: the group of the part's assets in Dagster.
    """

    name: str
    schema: str
    group: str

    @property
    def tag(self) -> str:
        """What selects the part's models, in dbt and in Dagster."""
        return f"tag:{self.name}"

    @property
    def selection(self) -> tuple[str, ...]:
        """The arguments by which a dbt command works on this part alone."""
        return ("--select", self.tag)


MARKET_MARTS = Part("market", "market", "warehouse")
QUOTE_MARTS = Part("quotes", "feed", "feed_warehouse")
"""They have many rows, and news but once a day; those of the market follow each load of bars."""
PARTS = (MARKET_MARTS, QUOTE_MARTS)
