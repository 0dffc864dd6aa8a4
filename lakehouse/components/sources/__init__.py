"""A source of any kind as Dagster assets: what its datasets, tables and checks are follows from its description."""
