"""The lake: Delta tables with contracts, atomic commits, SQL over them, reading as of a moment, housekeeping."""

from lakehouse.lake.lake import Lake as Lake
