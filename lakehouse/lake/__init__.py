"""The lake: Delta tables with contracts, atomic commits, SQL over them, reading as of a moment, housekeeping."""
