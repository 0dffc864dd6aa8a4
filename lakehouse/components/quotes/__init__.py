"""A feed of quotes as Dagster assets."""
