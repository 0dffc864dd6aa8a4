"""Guesses the `defs.yaml` of a source of bars from a sample of its objects."""
