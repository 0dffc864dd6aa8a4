"""The published marts, and the sensor that evaluates their automation conditions."""

import dagster as dg

from lakehouse.components.marts import mart_definitions


@dg.definitions
def warehouse() -> dg.Definitions:
    """Every part of the marts, and their inputs other than the lake."""
    return mart_definitions()
