"""Reconciliation of daily bars with a second, independent series."""
