"""The lake: Delta tables with contracts, atomic commits, the ledger, the quarantine, reading as of a moment,
housekeeping. No Dagster, no market rules.
"""

from lakehouse.lake.lake import Lake as Lake
