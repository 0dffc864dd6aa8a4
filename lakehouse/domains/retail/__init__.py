"""Retail: invoice lines, and items and customers over time."""
