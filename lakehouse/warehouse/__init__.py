"""The warehouse: dbt's star schema over the lake, and its publication as one DuckDB file. The models themselves
are in `dbt_project`; no Dagster here.
"""
