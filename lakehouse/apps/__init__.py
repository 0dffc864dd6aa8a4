"""Faces for a browser and for programs: pages and charts that only read."""
