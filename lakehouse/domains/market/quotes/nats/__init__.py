"""Quotes that a NATS broker pushes."""
