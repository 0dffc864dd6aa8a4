"""A migration that is killed while it writes: the table is as it was, and the next run makes it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.support.made_up_contracts import with_contract, written
from assets_tests.support.typed_values import contract_with
from lakehouse.api import Lake
from lakehouse.lake.migration import migrate_table

NAME = "shop/made_up"
STEP = {"from_version": 1, "changes": "doubled", "rows": "SELECT * REPLACE (2 * c0 AS c0) FROM stored"}
BEFORE, AFTER = contract_with("bigint"), contract_with("bigint", version=2, migrations=[STEP])
KILLED = f"""
import os, sys
from assets_tests.faults.test_migration_kill import AFTER, NAME
from assets_tests.support.made_up_contracts import with_contract
from lakehouse.api import Lake
from lakehouse.lake.migration import migrate_table

def kill(name, done, total):
    if done:
        os.kill(os.getpid(), {int(signal.SIGKILL)})

with with_contract(AFTER):
    migrate_table(Lake(sys.argv[1]), NAME, kill)
"""


def test_a_killed_migration_has_changed_nothing_and_is_made_once_by_the_next(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    rows = [{"part": "p", "id": number, "c0": number} for number in range(10)]
    version = written(lake, NAME, BEFORE, *rows).stored().version
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=PROJECT_ROOT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    with with_contract(BEFORE):
        assert lake.table(NAME).snapshot().version == version
        assert lake.table(NAME).to_polars().sort("id").to_dicts() == rows
    with with_contract(AFTER):
        assert (migrate_table(lake, NAME), migrate_table(lake, NAME)) == (10, 0)
        assert lake.table(NAME).to_polars().sort("id")["c0"].to_list() == [2 * number for number in range(10)]
