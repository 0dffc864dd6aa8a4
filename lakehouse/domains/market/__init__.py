"""Prices of exchanges and vendors: sessions, bars, quotes, corporate actions, and reconciliation of series."""
