"""Prices of exchanges and vendors: sessions, bars, quotes, corporate actions, and series held against each other."""
