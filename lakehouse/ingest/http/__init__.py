"""Asking a vendor's REST API: its settings, its limits, and what its answers mean."""
