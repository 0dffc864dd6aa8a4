"""The published marts, and the sensor that lets their automation conditions run."""

import dagster as dg

from lakehouse.components.marts import mart_definitions


@dg.definitions
def warehouse() -> dg.Definitions:
    """Every part of the marts, and what they read beside the lake."""
    return mart_definitions()
