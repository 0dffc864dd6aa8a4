"""A seeded bank, on each PostgreSQL that is supported."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assets_tests.support.bank import assert_sound, bank_at, make_seeded
from assets_tests.support.servers.postgres import EmbeddedPostgres, copy_of
from lakehouse.domains.banking.database.calls import Bank
from lakehouse.servers.postgres import Database


@pytest.fixture
def embedded_bank(embedded_postgres: EmbeddedPostgres) -> Iterator[Bank]:
    """A seeded bank on the embedded server alone."""
    copy = copy_of(embedded_postgres.server, "seeded_bank", make_seeded)
    with copy as database, bank_at(database) as opened:
        yield opened
        assert_sound(opened)


@pytest.fixture
def bank(any_postgres: Database) -> Iterator[Bank]:
    """A seeded bank, which has to be sound when the test is over."""
    with copy_of(any_postgres, "seeded_bank", make_seeded) as database, bank_at(database) as opened:
        yield opened
        assert_sound(opened)
