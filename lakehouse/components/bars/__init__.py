"""A source of market data as Dagster assets."""
