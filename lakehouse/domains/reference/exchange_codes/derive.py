"""The table of exchange codes."""

from __future__ import annotations

from lakehouse.derive.revisions import RevisionRule
from lakehouse.domains.reference.shared.winning import winning

DATASET = "exchange_codes"
_FACTS = (
    "mic",
    "operating_mic",
    "mic_name",
    "corporate_exchange",
    "exch_code",
    "exch_name",
    "composite_code",
    "country",
)

EXCHANGE_CODES = winning(
    DATASET,
    "raw_exchange_codes",
    "exchange_codes",
    "Exchange codes and the markets that they mean.",
    # Neither a market nor a code is unique, and 84 of the 434 rows that OpenFIGI publishes have no market.
    RevisionRule(key=("object", "row_number"), content=_FACTS, part="part"),
)
