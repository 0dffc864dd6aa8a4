"""Dagster on the local machine: its instance, in-process runs, and `lakehouse dev`."""
