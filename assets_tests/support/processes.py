"""Processes of tests that work at the same time, or until they are killed.

There is one fork server in a process, which loads what the last call of `set_forkserver_preload` named, so all of it is
named here.
"""

from __future__ import annotations

import multiprocessing

WORKERS = multiprocessing.get_context("forkserver")
WORKERS.set_forkserver_preload(
    [
        "assets_tests.integration.test_broker",
        "assets_tests.integration.test_quotes_stored_once",
        "assets_tests.support.writers",
        *("deltalake", "duckdb", "obstore", "polars", "pyarrow", "pycountry", "stdnum.isin"),
    ]
)
