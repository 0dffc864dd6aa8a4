"""Migrations of tables in a bucket: one of several runs at once makes it, as in a folder."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from assets_tests.support.made_up_contracts import with_contract, written
from assets_tests.support.servers.ministack import MinistackS3
from assets_tests.support.typed_values import contract_with
from lakehouse.api import Lake
from lakehouse.lake.migration import due, migrate_table

NAME = "shop/made_up"
STEP = {"from_version": 1, "changes": "c1 is twice c0", "rows": "SELECT *, (2 * c0)::DECIMAL(18, 4) AS c1 FROM stored"}


def test_a_table_in_a_bucket_is_migrated_once(ministack_s3: MinistackS3, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = f"migrated-{uuid.uuid4().hex[:8]}"
    ministack_s3.create_bucket(bucket)
    for name, value in ministack_s3.environment().items():
        monkeypatch.setenv(name, value)
    lake = Lake(f"s3://{bucket}/lake")
    written(lake, NAME, contract_with("bigint"), *({"part": "p", "id": n, "c0": n} for n in range(5)))
    with with_contract(contract_with("bigint", "decimal(18,4)", version=2, migrations=[STEP])):
        assert [table.name for table in due(lake)] == [NAME]
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(lambda _: migrate_table(lake, NAME), range(2)))
        assert sorted(done) == [0, 5]
        assert lake.table(NAME).to_polars().sort("id")["c1"].to_list() == [0, 2, 4, 6, 8]
        assert due(lake) == []
