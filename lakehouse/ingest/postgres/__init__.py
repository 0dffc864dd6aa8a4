"""PostgreSQL as a source: its tables are captured by its log, or by snapshots that are diffed. Knows no domain."""
