"""The warehouse: dbt's star schema over the lake, and its publication as one DuckDB file. The models are in
`dbt_project`, their Dagster assets in `components.marts`.
"""
