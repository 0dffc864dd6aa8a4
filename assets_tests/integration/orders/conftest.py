"""A shop without orders, on each PostgreSQL that is supported."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assets_tests.support.servers.postgres import DebianPostgres, EmbeddedPostgres, copy_of
from assets_tests.support.shop_orders import empty_shop, make_shop
from lakehouse.servers.postgres import Database


@pytest.fixture(scope="module", params=["embedded_postgres", "debian_postgres"])
def made_shop(request: pytest.FixtureRequest) -> Iterator[Database]:
    server: EmbeddedPostgres | DebianPostgres = request.getfixturevalue(request.param)
    with copy_of(server.server, "orders_shop", make_shop) as database:
        yield database


@pytest.fixture
def shop(made_shop: Database) -> Database:
    """The same database for all tests of a module, emptied: to copy one takes seconds on a busy machine."""
    empty_shop(made_shop)
    return made_shop
