"""The components of sources of reference data."""
