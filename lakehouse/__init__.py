"""Lakehouse: market data from vendors' files, APIs and feeds to checked, partitioned, published tables.

The rooms: `lake` (tables and their promises), `sources` (adapters to the outside), `market` (the domain's
    rules), `pipeline` (the steps from one to the other), `warehouse` (dbt's star schema and its publication),
    `components` and `defs` (Dagster), `cli`, `simulators`.
"""
