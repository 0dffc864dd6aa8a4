"""Measurements of whole processes on real data; see README.md in this folder."""
