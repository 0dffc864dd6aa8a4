"""Dividends and splits, the official daily series that has them, and prices adjusted by them."""
