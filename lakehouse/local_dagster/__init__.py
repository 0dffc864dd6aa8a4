"""Dagster on this machine: its instance, runs in this process, and `lakehouse dev`."""
