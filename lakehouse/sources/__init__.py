"""Adapters to the outside: what vendors offer, as the lake wants it. No Dagster; nothing here decides what a
daily bar is.
"""
