"""Bank accounts: the domain as the catalogue knows it."""

from __future__ import annotations

from functools import partial

from lakehouse.derive.captured_models import attach_clocks
from lakehouse.derive.domain import Domain, Kind
from lakehouse.domains.banking.config import BankConfig
from lakehouse.domains.banking.model_inputs import MODEL_TABLES
from lakehouse.domains.banking.source import KIND, bank_source, contracts

DOMAIN = Domain(
    name="banking",
    kinds=(
        Kind(
            name=KIND,
            component="DatabaseCapture",
            model=BankConfig,
            resolve=bank_source,
            contracts=contracts,
            over_all=MODEL_TABLES,
            marts=("banking", "bank_warehouse"),
            attach=partial(attach_clocks, KIND),
        ),
    ),
)
