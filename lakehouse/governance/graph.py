"""The lineage of everything that an installation has: of the lake's tables and of the marts."""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse.governance.described import DescribedTable
from lakehouse.governance.from_contracts import lineage_of_contracts
from lakehouse.governance.from_models import lineage_of_models
from lakehouse.governance.lineage import Lineage
from lakehouse.settings import Settings


def whole_lineage(tables: Sequence[DescribedTable], config: Settings) -> Lineage:
    """The lineage by column of all tables and marts.

    Raises:
        DbtFailed: dbt could not compile the models.
    """
    of_lake = {
        table.sql_name: [column.name for column in table.columns] for table in tables if table.contract is not None
    }
    return lineage_of_contracts(tables).joined(lineage_of_models(config, of_lake))
