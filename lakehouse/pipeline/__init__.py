"""The steps of a source from object to mart, without Dagster: load, derive, check, report, rebuild. Each reads
the lake, asks `sources` and `market`, and commits.
"""
