"""The job that runs any analysis of the lake, and the sensor that updates the assets of described ones."""

import dagster as dg

from lakehouse.components.analyses import analysis_automation, run_analysis


@dg.definitions
def analyses() -> dg.Definitions:
    """The job and the sensor."""
    return dg.Definitions(jobs=[run_analysis], sensors=[analysis_automation()])
