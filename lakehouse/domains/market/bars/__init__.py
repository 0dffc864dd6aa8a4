"""Intraday bars and the daily bars made of them."""
