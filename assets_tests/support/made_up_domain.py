"""A domain that the project doesn't have, as another package would bring it: takings of shops, a file a day.

It is written to a folder as a package with two contracts, a YAML, a mart and its rules, and becomes part of the project
by one entry in the catalogue. What a domain gets of the kernel is said by the tests.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lakehouse import catalog
from lakehouse.settings import settings
from lakehouse.warehouse import dbt

PACKAGE = "made_up_shops"

_PROVENANCE = """
  - {name: object, type: string, description: Object.}
  - {name: object_version, type: string, description: Version.}
  - {name: row_number, type: bigint, description: Row.}
  - {name: published_at, type: timestamp, description: When it was published.}
  - {name: ingested_at, type: timestamp, description: When the lake came to know it.}
"""
_COLUMNS = """
  - {name: day, type: date, description: Day of the takings.}
  - {name: shop, type: string, description: Name of the shop.}
  - {name: amount, type: "decimal(12,2)", unit: EUR, description: What was taken.}
"""
_FILES = {
    "contracts/raw_takings.yaml": f"""
table: raw_takings
description: Takings as received.
key: [object, object_version, row_number]
partition_by: [day]
known_at: ingested_at
by_ledger: true
columns:{_COLUMNS.rstrip()}{_PROVENANCE.rstrip()}
rules:
  - {{name: not_negative, holds: "amount >= 0", reason: the amount is negative}}
""",
    "contracts/takings.yaml": f"""
table: takings
description: What counts of the takings.
key: [day, shop]
partition_by: [day]
columns:{_COLUMNS.rstrip()}
""",
    "rules.py": '''
from lakehouse.derive.revisions import RevisionRule, winners

TAKINGS = RevisionRule(key=("day", "shop"), content=("amount",), part="day")


def takings(source, connection, raw: str, ledger: str) -> str:
    """One row per day and shop: the last that was said."""
    return f"SELECT day, shop, amount FROM ({winners(raw, ledger, TAKINGS)})"
''',
    "domain.py": """
from datetime import date
from functools import partial
from pathlib import Path

from lakehouse.derive.by_partition import derive_by_partition, partitions_as_of
from lakehouse.derive.checks import conservation_holds, of_every_dataset, of_every_table
from lakehouse.derive.domain import Domain, Kind
from lakehouse.derive.source import DerivedTable, Source, Winners
from lakehouse.ingest.times import day_of
from lakehouse.ingest.dataset import Dataset, ObjectOrigin
from lakehouse.ingest.names import Objects
from lakehouse.ingest.object_store import objects_at
from lakehouse.ingest.partitioning import Part, Periods
from lakehouse.ingest.reading import reading_digest
from lakehouse.ingest.row_format import RowFormat
from lakehouse.ingest.strict import Description
from lakehouse.ingest.thresholds import Refusals
from lakehouse.lake.contract import read_contracts
from made_up_shops.rules import TAKINGS, takings

contracts = partial(read_contracts, Path(__file__).parent, "shops")


class ShopsConfig(Description):
    first_day: date
    objects: Objects
    rows: RowFormat


MADE = DerivedTable(
    name="takings",
    description="What counts.",
    depends_on=("raw_takings",),
    derive=partial(derive_by_partition, "takings", "takings", takings),
    as_of=partial(partitions_as_of, "takings", takings),
    keeps=Winners("takings", TAKINGS),
)


def shops(config, variables):
    known = contracts()
    dataset = Dataset(
        source=config.source,
        name="takings",
        description="Takings of shops",
        table=f"{config.source}/raw_takings",
        contract=known["raw_takings"],
        rows=config.rows,
        origin=ObjectOrigin(
            partial(objects_at, variables.source_variable(config.source, "url")), config.objects, (config.objects,)
        ),
        partitioning=Periods("day", config.first_day),
        partition_column="day",
        part=Part("day"),
        times=lambda text: text.select(day=day_of(config.rows.time)),
        reading=reading_digest(known["raw_takings"], {"rows": config.rows.model_dump(mode="json")}),
        refusals=Refusals(),
    )
    checks = (
        *of_every_dataset(known["raw_takings"], "takings"),
        *of_every_table(known["takings"]),
        conservation_holds(MADE),
    )
    return Source(
        name=config.source,
        kind="shops",
        description="Shops",
        contracts=known,
        datasets=(dataset,),
        tables=(MADE,),
        checks=checks,
    )


DOMAIN = Domain(
    "shops",
    (
        Kind(
            name="shops",
            component="made_up_shops.component.Shops",
            model=ShopsConfig,
            resolve=shops,
            contracts=contracts,
            over_all=("takings",),
            marts=("shops", "shops_warehouse"),
        ),
    ),
)
""",
    "component.py": """
from lakehouse.components.sources.component import SourceComponent
from lakehouse.settings import settings
from made_up_shops.domain import ShopsConfig, shops


class Shops(SourceComponent):
    model = ShopsConfig

    def resolve(self):
        return shops(self.config, settings())
""",
}
YAML = """
type: made_up_shops.component.Shops
attributes:
  source: corner
  first_day: 2024-01-01
  objects: {pattern: 'takings-(?P<date>.*)\\.csv', holds: day}
  rows:
    format: csv
    time: {columns: [taken], format: "%Y-%m-%d"}
    columns: {shop: shop, amount: eur}
"""
_MODELS = {
    "models/staging/shops/_sources.yml": """
sources:
  - name: shops
    database: lakehouse
    tables:
      - name: takings
""",
    "models/marts/shops/fct_takings.sql": """
select source, day, sum(amount) as amount
from {{ source('shops', 'takings') }} group by all
""",
    "models/marts/shops/_core.yml": """
models:
  - name: fct_takings
    description: Takings a day.
    columns:
      - {name: source, data_type: varchar, data_tests: [not_null]}
      - {name: day, data_type: date}
      - {name: amount, data_type: "decimal(38,2)"}
""",
}


@contextmanager
def made_up_domain(folder: Path) -> Iterator[Any]:
    """In the block the project has the domain, and its source `corner` reads `folder/feed`; the package's domain
    module.
    """
    _write(folder / PACKAGE, {"__init__.py": "", **_FILES})
    _write(folder / "defs", {"corner/defs.yaml": YAML})
    project = Path(
        shutil.copytree(dbt.PROJECT, folder / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    )
    _write(project, _MODELS)
    (folder / "feed").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        module = importlib.import_module(f"{PACKAGE}.domain")
        patch.setattr(catalog, "DOMAINS", (*catalog.DOMAINS, module.DOMAIN))
        patch.setattr(catalog, "DEFS", folder / "defs")
        patch.setattr(dbt, "PROJECT", project)
        patch.setenv("LAKEHOUSE_CORNER_URL", str(folder / "feed"))
        settings.cache_clear()
        try:
            yield module
        finally:
            settings.cache_clear()
            for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
                del sys.modules[name]


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip("\n"))
