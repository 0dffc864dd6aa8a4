"""Organisations, their instruments and these' quotes, by PermID: what a search API answers."""
