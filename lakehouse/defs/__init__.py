"""Orchestration only, one folder a domain: what Dagster shows. A vendor is a `defs.yaml` here; how it works
stands in `lakehouse.components` and the packages below.
"""
