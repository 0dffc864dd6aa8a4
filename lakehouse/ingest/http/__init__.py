"""Requests to a vendor's REST API: its settings, its limits, and the meaning of its answers."""
