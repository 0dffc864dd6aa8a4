"""Listings of instruments, by FIGI: what a mapping API answers about ISINs and markets."""
