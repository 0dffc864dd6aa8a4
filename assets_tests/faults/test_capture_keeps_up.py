"""Capture beside a bank that posts at full speed: it is through soon after the last posting, within bounded memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.support.bank import bank_at, customer_accounts, make_seeded, transfer
from assets_tests.support.servers.postgres import EmbeddedPostgres, copy_of
from assets_tests.support.soak import SOAKS, soak_count
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive.capture_rounds import CaptureRounds
from lakehouse.derive.captured import CapturedSource
from lakehouse.ingest.postgres.verify import verify

pytestmark = [pytest.mark.faults, pytest.mark.soak]
BATCH = 100
POST = "from lakehouse.cli.app import app; app()"


def test_capture__keeps_up_with_posting(
    embedded_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    batches, chance, file = soak_count(10, 2_000), Random(15), tmp_path / "postings.jsonl"
    with copy_of(embedded_postgres.server, "seeded_bank", make_seeded) as database:
        monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", database.url)
        with bank_at(database) as bank:
            accounts = [*customer_accounts(bank)[:5], "CASH-USD"]
        with file.open("w") as lines:
            for number in range(batches * BATCH):
                pair = chance.sample(accounts, 2)
                lines.write(f"{json.dumps(transfer(f'{number}', *pair, '0.01', batch=f'{number // BATCH}'))}\n")
        source = described_source("banking")
        assert isinstance(source, CapturedSource)
        lags, transactions = [], 0
        with CaptureRounds(Lake.present(), source) as rounds:
            assert rounds.capture() is not None
            memory, worked, begun = (
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
                time.process_time(),
                time.monotonic(),
            )
            command = [sys.executable, "-c", POST, "banking", "post", str(file)]
            with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL) as posting:
                while posting.poll() is None or not lags:
                    if (result := rounds.capture()) is not None and result.batches:
                        transactions += result.transactions
                        lags.append(result.lag)
            posted = time.monotonic() - begun
            assert posting.returncode == 0
            spent = time.process_time() - worked
            last = rounds.capture()
        transactions += last.transactions if last is not None else 0
        assert transactions == batches
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 2**10 < 1_000
        compared = verify(Lake.present(), source.of)
        assert compared.is_equal
        assert compared.lag is not None
        assert all(lag is not None for lag in lags)
        if SOAKS:
            # One core is enough, however busy the machine is.
            assert spent <= posted
