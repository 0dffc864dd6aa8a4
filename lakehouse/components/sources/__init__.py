"""A source of any kind as Dagster assets; its datasets, tables and checks follow from its `Source`."""
