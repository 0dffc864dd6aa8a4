"""A source of bars as Dagster assets."""
